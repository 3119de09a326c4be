"""A peer that says nothing more, though its connection stands: in processes, over TLS."""

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from aelf_p2p import (
    Endpoint,
    GrpcTransport,
    Identity,
    NetworkOptions,
    Node,
    PeerDisconnected,
    PeerUnstableError,
    UnrecoverableError,
    open_node,
)
from aelf_p2p.contracts import Peer
from aelf_p2p.core.peer_info import CloseReason
from tests.faults.namespaces import INNER, namespace
from tests.faults.processes import other_process, read_line

HASTY = NetworkOptions(
    request_timeout_s=0.4, silence_probe_s=0.5, silence_probe_timeout_s=0.5, dial_timeout_s=10.0
)
PATIENCE_S = 20.0

Recorder = Callable[[str, object], None]


@asynccontextmanager
async def other_node(host: str, *before: str) -> AsyncIterator[tuple[trio.Process, Endpoint]]:
    """One in a process of its own."""
    async with other_process("tests.faults.other_node", host, before=before) as process:
        yield process, Endpoint(host, int(await read_line(process)))


@asynccontextmanager
async def connected(endpoint: Endpoint) -> AsyncIterator[tuple[Node, Peer]]:
    """Our node, and its peer that answers."""
    async with open_node(
        identity=Identity.generate(),
        transport=GrpcTransport(),
        host="0.0.0.0",
        port=0,
        options=HASTY,
    ) as node:
        node.workers.discovery.pause()
        node.workers.reconnection.pause()
        peer = await node.connect(endpoint)
        await peer.check_health(timeout_s=5)
        yield node, peer


async def find_silent(
    node: Node, peer: Peer, silence: Callable[[], object], record_property: Recorder
) -> None:
    """What is asked gets its error in time, and then the peer is let go."""
    with node.subscribe() as events:
        silence()
        began = trio.current_time()
        with pytest.raises((PeerUnstableError, UnrecoverableError)):
            await peer.request_block(bytes(32))
        record_property("a request failed after", f"{trio.current_time() - began:.2f} s")
        async for event in events:
            if isinstance(event, PeerDisconnected):
                assert event.reason is CloseReason.SILENT
                break
        record_property("found silent after", f"{trio.current_time() - began:.2f} s")
    assert node.peers() == []


@pytest.mark.fault(3)
async def test_a_process_that_is_stopped(record_property: Recorder) -> None:
    with trio.fail_after(PATIENCE_S):
        async with (
            other_node("127.0.0.1") as (process, endpoint),
            connected(endpoint) as (node, peer),
        ):
            stop = partial(process.send_signal, signal.SIGSTOP)
            await find_silent(node, peer, stop, record_property)


@pytest.mark.fault(5)
async def test_a_cable_that_is_pulled(record_property: Recorder) -> None:
    with namespace() as cable, trio.fail_after(PATIENCE_S):
        if cable is None:
            pytest.skip("no network namespaces here; a process that is stopped is as silent")
        async with (
            other_node(INNER, *cable.command) as (_, endpoint),
            connected(endpoint) as (node, peer),
        ):
            await find_silent(node, peer, cable.pull, record_property)
