"""The weak spots of the protocol as C# does it, each with what this node does about it.

A test for each row; what it is made of has tests of its own beside the code.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import network_types_pb2 as types
import peer_service_pb2 as service
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aelf_p2p.chain.memory_state import MemoryStateStore
from aelf_p2p.core.announcements import Announcement, LibAnnouncement
from aelf_p2p.core.broadcast import BroadcastKind, DropReason
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import CallFailedError, StatusCode
from aelf_p2p.core.known_items import KnownItems
from aelf_p2p.core.network_events import TransactionsReceived
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.node import Node, open_node
from aelf_p2p.testing.conditions import ConditionedHub
from aelf_p2p.transports.grpc import GrpcTransport
from tests.services.foreign import (
    PORT,
    ForeignNode,
    ForeignPeer,
    ForeignServer,
    open_test_node,
)
from tests.services.support import (
    identity,
    make_transaction,
    read_all,
)


@pytest.fixture
def hub() -> ConditionedHub:
    return ConditionedHub(latency_s=0.02)


@asynccontextmanager
async def connected(hub: ConditionedHub, **of_node: Any) -> AsyncIterator[tuple[Node, ForeignPeer]]:
    """Our node, and a foreign one that dialed it."""
    async with open_test_node(hub, **of_node) as node, ForeignNode().connect(hub) as peer:
        node.workers.discovery.pause()
        yield node, peer


@pytest.mark.fault(60)
async def test_a_peer_cannot_speak_as_another(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    """The session is checked for one key, and another is acted on."""
    async with connected(hub) as (node, peer), ForeignNode(3, host="third").connect(hub) as third:
        [ours, _] = node.peers()
        meta = {**peer.stream.meta(), "public-key": third.node.key.hex()}
        await peer.stream.send(service.DISCONNECT, meta=meta)
        await ours.wait_closed()
        assert ours.close_reason is CloseReason.VIOLATION
        assert [each.info.public_key for each in node.peers()] == [third.node.key]


@pytest.mark.fault(51)
async def test_a_handshake_that_is_shown_elsewhere_pushes_nobody_out(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    """It covers neither channel nor recipient: a third node, who saw it first, is probed for."""
    async with connected(hub) as (node, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.stream.answer_all)
        stolen = peer.node.request()  # told to somebody else, who relays it
        async with (
            peer.node.dial(hub, host="thief") as channel,
            peer.node.open_stream(channel) as stream,
        ):
            reply = await stream.shake_hands(stolen)
            assert reply.error == types.REPEATED_CONNECTION
        async with (
            peer.node.dial(hub, host="thief") as channel,
            peer.node.open_stream(channel) as stream,
        ):
            assert (await stream.shake_hands(stolen)).error == types.SIGNATURE_TIMEOUT
        [ours] = node.peers()
        assert ours.info.endpoint.host == "foreign"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("ahead_ms", "error"), [(1500, 0), (1501, types.SIGNATURE_TIMEOUT)])
async def test_a_handshake_from_the_future_is_refused(
    ahead_ms: int, error: int, autojump_clock: MockClock
) -> None:
    foreign, hub = ForeignNode(), ConditionedHub()
    async with open_test_node(hub) as node, foreign.dial(hub) as channel:
        time_ns = node._context.environment.wall_ns() + ahead_ms * 1_000_000
        reply = await foreign.do_handshake(channel, time_ns=time_ns)
        assert reply.error == error


async def test_a_session_id_is_long_secret_and_not_guessed(
    hub: ConditionedHub, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with connected(hub) as (node, peer):
        [ours] = node.peers()
        session = peer.stream.session
        assert session is not None
        assert len(session) == 16
        wrong = {**peer.stream.meta(), "session-id-bin": bytes(16).hex()}
        for count in (1, 2, 3):
            assert ours.close_reason is None, count
            await peer.stream.send(service.GET_NODES, meta=wrong)
            await trio.sleep(1)
        assert ours.close_reason is CloseReason.VIOLATION
    for secret in (session, peer.node.session):
        assert secret.hex() not in caplog.text
        assert repr(secret) not in caplog.text


async def test_a_message_makes_no_task_and_a_stranger_little_of_anything(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with connected(hub) as (_, peer):
        await peer.stream.ask(service.PING)
        tasks = trio.lowlevel.current_statistics().tasks_living
        for _ in range(500):
            await peer.stream.send(service.GET_NODES, types.NodesRequest().SerializeToString())
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == tasks
    foreign = ForeignNode(4, host="stranger")
    async with (
        open_test_node(hub),
        foreign.dial(hub) as channel,
        foreign.open_stream(channel) as silent,
        foreign.open_stream(channel) as loud,
    ):
        began = trio.current_time()
        await loud.send(service.HAND_SHAKE, bytes(64 * 1024 + 1))
        with pytest.raises(CallFailedError) as raised:
            await loud.receive()
        assert raised.value.code is StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(CallFailedError) as raised:
            await silent.receive()
        assert raised.value.code is StatusCode.DEADLINE_EXCEEDED
        assert trio.current_time() - began == pytest.approx(10, abs=0.1)


async def test_a_reply_counts_on_its_own_connection_only(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with connected(hub) as (node, peer), ForeignNode(3, host="third").connect(hub) as third:
        asked, _ = node.peers()

        async def answer_from_elsewhere() -> None:
            request = await peer.stream.wait_for(service.GET_NODES)
            lie = types.NodeList(nodes=[types.NodeInfo(endpoint="8.8.8.8:6800")])
            await third.stream.reply(request, lie.SerializeToString())
            await trio.sleep(1)
            await peer.stream.reply(request)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_from_elsewhere)
            assert await asked.request_nodes(10) == []
        assert node.peers()[1].statistics().ignored == {"reply to nothing": 1}


async def test_strangers_do_not_choose_whom_we_dial(autojump_clock: MockClock) -> None:
    """By the port that they name, and by the nodes that they tell of."""

    class Watched(ConditionedHub):
        def __init__(self) -> None:
            super().__init__()
            self.reached: list[str] = []

        async def reach(self, caller: Endpoint, callee: Endpoint) -> Any:
            if caller.host == "node":
                self.reached.append(callee.host)
            return await super().reach(caller, callee)

    hub = Watched()
    old = ForeignNode(5, host="10.0.0.7", node_version="1.3.0.0")
    async with open_test_node(hub) as node, ForeignNode().connect(hub) as peer:
        async with old.dial(hub) as channel:
            reply = await old.do_handshake(channel)
            assert reply.error == types.INVALID_CONNECTION

        async def tell() -> None:
            request = await peer.stream.wait_for(service.GET_NODES)
            told = ["10.0.0.7:22", "127.0.0.1:6379", "169.254.169.254:80", "inside.example:443"]
            nodes = types.NodeList(nodes=[types.NodeInfo(endpoint=each) for each in told])
            await peer.stream.reply(request, nodes.SerializeToString())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            done = await node.workers.discovery.step()
        assert (done.told, done.skipped) == (4, 4)
        assert hub.reached == []


async def test_inbound_peers_leave_half_of_the_places_and_a_full_node_is_still_of_use(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    options = NetworkOptions(max_peers=4, max_guests=1, guest_s=5.0)
    async with open_test_node(hub, options=options) as node, AsyncExitStack() as opened:
        node.workers.discovery.pause()
        for number in (2, 3):
            foreign = ForeignNode(number, host=f"host{number}")
            await opened.enter_async_context(foreign.connect(hub))
        guest = ForeignNode(4, host="guest")
        async with guest.connect(hub) as peer:
            reply = await peer.stream.ask(
                service.GET_NODES, types.NodesRequest(max_count=10).SerializeToString()
            )
            told = types.NodeList.FromString(reply.message).nodes
            assert sorted(each.endpoint for each in told) == ["host2:6800", "host3:6800"]
            late = ForeignNode(5, host="late")
            async with late.dial(hub) as channel, late.open_stream(channel) as stream:
                assert (await stream.shake_hands()).error == types.CONNECTION_REFUSED
            await peer.stream.wait_for(service.DISCONNECT)
        # and what we choose finds its place
        async with trio.open_nursery() as nursery:
            for number in (6, 7):
                server = ForeignServer(ForeignNode(number, host=f"chosen{number}"))
                await nursery.start(server.serve, hub)
                await node.connect(Endpoint(f"chosen{number}", PORT))
            assert len(node.peers()) == 4
            nursery.cancel_scope.cancel()


@pytest.mark.fault(69)
async def test_a_full_cache_forgets_the_oldest_and_a_full_queue_says_so(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    known = KnownItems(2, 1000.0)
    for number in range(3):
        assert known.add(bytes([number]), 1, 0.0)
    assert [known.mask(bytes([number]), 0.0) for number in range(3)] == [0, 1, 1]
    # Past the cache of 10,000 a flood of them does not keep new ones out.
    options = NetworkOptions(known_transactions=3, max_invalid_transactions=10_000)
    async with connected(hub, options=options) as (node, peer):
        with node.subscribe() as events:
            for number in range(10):
                await peer.stream.ask(service.TRANSACTION_BROADCAST, make_transaction(number).raw)
            got = [each for each in await read_all(events) if type(each) is TransactionsReceived]
            assert len(got) == 10
        hub.stall("foreign")
        # What the network holds back is bounded, and then its queue of 100 is.
        refused = [
            node.network.broadcast_transaction(make_transaction(100 + number)).dropped
            for number in range(101)
        ]
        assert refused == [None] * 100 + [{DropReason.QUEUE_FULL: 1}]


async def test_broadcasts_do_not_wait_for_the_answers_to_those_before(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with connected(hub) as (node, peer):
        [ours] = node.peers()
        began = trio.current_time()
        for number in range(50):
            node.network.broadcast_transaction(make_transaction(number))
        for _ in range(50):
            await peer.stream.wait_for(service.TRANSACTION_BROADCAST)
        assert trio.current_time() - began == pytest.approx(0.02)
        assert ours.statistics().unacknowledged == 50
        await trio.sleep(3.1)  # it answers none of them, and blocks nothing
        node.network.announce_lib(b"l" * 32, 1)
        await peer.stream.wait_for(service.LIB_ANNOUNCEMENT_BROADCAST)
        assert ours.statistics().dropped == {
            (BroadcastKind.TRANSACTION, DropReason.UNACKNOWLEDGED): 50
        }


async def test_a_dead_inbound_peer_is_found(hub: ConditionedHub, autojump_clock: MockClock) -> None:
    async with connected(hub) as (node, _):
        [ours] = node.peers()
        hub.stall("foreign")
        began = trio.current_time()
        await ours.wait_closed()
        assert ours.close_reason is CloseReason.SILENT
        assert trio.current_time() - began <= 30.1
        assert node.peers() == []


async def test_bans_are_by_host_or_key_extend_and_outlive_a_restart(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    state = MemoryStateStore()
    foreign = ForeignNode()
    async with open_test_node(hub, state=state) as node:
        node.operator.ban(foreign.key, for_s=100)
        node.operator.ban(foreign.key, for_s=300)
        node.operator.ban("198.51.100.7", for_s=100)
    async with open_test_node(hub, state=state) as node:
        assert {ban.subject for ban in node.operator.bans()} == {foreign.key.hex(), "198.51.100.7"}
        for host in ("foreign", "elsewhere"):
            async with (
                foreign.dial(hub, host=host) as channel,
                foreign.open_stream(channel) as stream,
            ):
                assert (await stream.shake_hands()).error == types.CONNECTION_REFUSED
        await trio.sleep(200)
        assert [ban.subject for ban in node.operator.bans()] == [foreign.key.hex()]
        assert node.operator.lift(foreign.key)
        async with foreign.connect(hub):
            assert len(node.peers()) == 1


async def test_a_lib_is_not_believed_above_what_the_peer_has(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    foreign.best_height, foreign.lib_height = 20, 2**40
    async with open_test_node(hub) as node, foreign.connect(hub) as peer:
        [ours] = node.peers()
        assert (ours.chain.best_height, ours.chain.lib_height) == (20, 20)
        payload = LibAnnouncement(b"l" * 32, 2**50).encode()
        await peer.stream.ask(service.LIB_ANNOUNCEMENT_BROADCAST, payload)
        assert ours.chain.lib_height == 20
        await peer.stream.ask(service.ANNOUNCEMENT_BROADCAST, Announcement(b"a" * 32, 25).encode())
        payload = LibAnnouncement(b"l" * 32, 24).encode()
        await peer.stream.ask(service.LIB_ANNOUNCEMENT_BROADCAST, payload)
        assert (ours.chain.best_height, ours.chain.lib_height) == (25, 24)


async def test_a_peer_may_have_an_ipv6_address() -> None:
    arguments: dict[str, Any] = {"host": "::1", "port": 0}
    with trio.fail_after(20):
        async with (
            open_node(identity=identity(1), transport=GrpcTransport(), **arguments) as alice,
            open_node(identity=identity(2), transport=GrpcTransport(), **arguments) as bob,
        ):
            peer = await alice.connect(str(bob.endpoint))
            assert str(peer.info.endpoint) == f"[::1]:{bob.endpoint.port}"
            [inbound] = bob.peers()
            assert str(inbound.info.endpoint) == f"[::1]:{alice.endpoint.port}"
