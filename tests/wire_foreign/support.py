"""One of our nodes on a real socket, and a foreign one whose threads trio waits for."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import network_types_pb2 as types
import trio

from aelf_p2p import (
    Block,
    Event,
    Identity,
    MemoryChainStore,
    Node,
    Peer,
    PeerConnected,
    Subscription,
    open_node,
)
from aelf_p2p.transports.grpc import GrpcTransport
from tests.wire_foreign.foreign_dial import ForeignDial, StreamEncoding
from tests.wire_foreign.foreign_node import ForeignNode
from tests.wire_foreign.foreign_stream import ForeignStream
from tests.wire_foreign.journal import WAIT_S

T = TypeVar("T")
E = TypeVar("E", bound=Event)


async def in_thread(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Run what blocks; it ends by itself, so cancellation waits for it."""
    return await trio.to_thread.run_sync(partial(function, *arguments, **named))


@asynccontextmanager
async def threaded(make: Callable[[], AbstractContextManager[T]]) -> AsyncIterator[T]:
    """A context manager that blocks, made, entered and left in threads."""
    manager = await in_thread(make)
    try:
        yield await in_thread(manager.__enter__)
    finally:
        with trio.CancelScope(shield=True):
            await in_thread(manager.__exit__, None, None, None)


@asynccontextmanager
async def open_ours(
    blocks: Iterable[types.BlockWithTransactions] = (), **arguments: Any
) -> AsyncIterator[Node]:
    """One of our nodes on a free port of 127.0.0.1, over TLS; it has ``blocks`` and is synced."""
    store = MemoryChainStore()
    for block in blocks:
        await store.put_block(Block.parse_untrusted(block.SerializeToString()))
    named = {"identity": Identity.generate(), "transport": GrpcTransport(), **arguments}
    async with open_node(host="127.0.0.1", port=0, store=store, **named) as node:
        node.workers.discovery.pause()  # what is asked here, the tests ask
        await node.wait_initialized()
        yield node


def open_foreign(**arguments: Any) -> AbstractAsyncContextManager[ForeignNode]:
    return threaded(partial(ForeignNode, **arguments))


async def wait_event(events: Subscription, kind: type[E], *, timeout_s: float = WAIT_S) -> E:
    """The next event of a kind."""
    with trio.fail_after(timeout_s):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"the node ended before {kind.__name__}")


@dataclass(frozen=True)
class Connection:
    """Our node and a foreign one, connected: each end of the one stream."""

    node: Node
    peer: Peer
    foreign: ForeignNode
    stream: ForeignStream
    events: Subscription
    """Of our node, from the beginning of the connection."""


@asynccontextmanager
async def foreign_dials(
    node: Node,
    foreign: ForeignNode,
    *,
    port: int | None = None,
    encoding: StreamEncoding = StreamEncoding.GZIP_NAMED,
) -> AsyncIterator[tuple[Connection, ForeignDial]]:
    """The foreign node dials ours, by way of another port if one is given."""
    with node.subscribe() as events:
        async with threaded(partial(foreign.dial, port or node.endpoint.port)) as dial:
            stream = await in_thread(dial.connect, encoding)
            await wait_event(events, PeerConnected)
            [peer] = node.peers()
            yield Connection(node, peer, foreign, stream, events), dial


@asynccontextmanager
async def ours_dials(
    node: Node, foreign: ForeignNode, *, port: int | None = None
) -> AsyncIterator[Connection]:
    """Our node dials the foreign one."""
    with node.subscribe() as events:
        peer = await node.connect(f"127.0.0.1:{port or foreign.port}")
        [stream] = foreign.server.streams.items
        yield Connection(node, peer, foreign, stream, events)


async def wait_acknowledged(peer: Peer) -> None:
    """Wait until what the peer has answered so far is counted: a reply comes behind them."""
    await peer.check_health(timeout_s=WAIT_S)
