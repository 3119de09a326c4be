"""Our node and a foreign one dial each other at once: one connection is left, on both sides.

The foreign node chooses as C# does (protocol §3.3), for both kinds.
"""

import itertools
from contextlib import suppress

import grpc  # type: ignore[import-untyped]
import network_types_pb2 as types
import peer_service_pb2 as service
import pytest
import trio

from aelf_p2p import NetworkError, Node, Peer
from tests.wire_foreign.foreign_connect import RefusedError
from tests.wire_foreign.foreign_node import NEW_VERSION, OLD_VERSION, ForeignNode
from tests.wire_foreign.foreign_pool import ForeignPeer
from tests.wire_foreign.foreign_stream import ForeignStream
from tests.wire_foreign.foreign_unary import ForeignUnaryPeer
from tests.wire_foreign.journal import WAIT_S
from tests.wire_foreign.old_support import open_ours_old
from tests.wire_foreign.support import in_thread, open_foreign

EARLIER_NS = 700_000_000
KINDS = list(itertools.product([NEW_VERSION, OLD_VERSION], repeat=2))

kinds = pytest.mark.parametrize(
    ("ours", "theirs"), KINDS, ids=[f"ours {ours} foreign {theirs}" for ours, theirs in KINDS]
)
dial_times = pytest.mark.parametrize(
    "age_ns", [0, EARLIER_NS], ids=["ours began first", "theirs began first"]
)


async def foreign_dials(
    node: Node,
    foreign: ForeignNode,
    age_ns: int,
    *,
    task_status: trio.TaskStatus[trio.Event] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Its handshake says that it was made ``age_ns`` ago. Tells an event that is set at the end."""
    ended = trio.Event()
    task_status.started(ended)
    try:
        await in_thread(foreign.connect, node.endpoint.port, age_ns=age_ns)
    except RefusedError as exc:  # as when ours keeps its own dial
        if exc.code not in (types.REPEATED_CONNECTION, types.CONNECTION_REFUSED):
            raise
    ended.set()


async def ours_dials(node: Node, foreign: ForeignNode) -> None:
    await node.connect(f"127.0.0.1:{foreign.port}")


async def wait_one_connection(node: Node, foreign: ForeignNode) -> tuple[Peer, ForeignPeer]:
    """Wait until each has one peer, and they reach each other: both ends of one connection."""
    with trio.fail_after(WAIT_S):
        while True:
            ours, theirs = node.peers(), foreign.pool.peers()
            if (
                len(ours) == len(theirs) == 1
                and ours[0].info.inbound is not theirs[0].inbound
                and await is_healthy(ours[0])
                and await in_thread(answers, theirs[0])
            ):
                return ours[0], theirs[0]
            await in_thread(lambda: None)


async def is_healthy(peer: Peer) -> bool:
    with suppress(NetworkError):
        await peer.check_health(timeout_s=1)
        return True
    return False


def answers(peer: ForeignPeer) -> bool:
    """Whether ours answers the foreign node's question."""
    gone = (grpc.RpcError, TimeoutError, EOFError, ValueError)  # the last for a closed channel
    with suppress(*gone):
        if isinstance(peer, ForeignStream):
            return peer.ask(service.HEALTH_CHECK, timeout_s=1) == b""
        if isinstance(peer, ForeignUnaryPeer):
            return peer.call("CheckHealth") == b""
    return False


@kinds
@dial_times
async def test_theirs_comes_while_ours_is_not_judged(ours: str, theirs: str, age_ns: int) -> None:
    """Theirs is through first: the foreign node then answers ours with REPEATED_CONNECTION, or
    takes our stream in its place."""
    async with (
        open_foreign(node_version=theirs) as foreign,
        open_ours_old(node_version=ours) as node,
    ):
        foreign.may_judge.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours_dials, node, foreign)
            await in_thread(
                foreign.server.calls.wait_for, lambda call: call.method == "DoHandshake"
            )
            ended = await nursery.start(foreign_dials, node, foreign, age_ns)
            with trio.move_on_after(1):  # ours may first want to know what becomes of its own
                await ended.wait()
            foreign.may_judge.set()
        first = await wait_one_connection(node, foreign)
        assert await wait_one_connection(node, foreign) == first


@kinds
@dial_times
async def test_theirs_comes_while_ours_is_not_answered(ours: str, theirs: str, age_ns: int) -> None:
    """Without a stream both have a peer by then; when it keeps ours, it confirms that before we
    have its answer. Two C# nodes lose both connections so."""
    async with (
        open_foreign(node_version=theirs) as foreign,
        open_ours_old(node_version=ours) as node,
    ):
        foreign.may_answer.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours_dials, node, foreign)
            await in_thread(
                foreign.server.calls.wait_for, lambda call: call.method == "DoHandshake"
            )
            if OLD_VERSION in (ours, theirs):
                await in_thread(foreign.pool.accepted.wait_for, lambda _: True)
            ended = await nursery.start(foreign_dials, node, foreign, age_ns)
            with trio.move_on_after(1):  # as above
                await ended.wait()
            foreign.may_answer.set()
        first = await wait_one_connection(node, foreign)
        assert await wait_one_connection(node, foreign) == first


@kinds
@dial_times
async def test_both_dial_at_once(ours: str, theirs: str, age_ns: int) -> None:
    """Whatever comes first."""
    async with (
        open_foreign(node_version=theirs) as foreign,
        open_ours_old(node_version=ours) as node,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(foreign_dials, node, foreign, age_ns)
            nursery.start_soon(ours_dials, node, foreign)
        first = await wait_one_connection(node, foreign)
        assert await wait_one_connection(node, foreign) == first
