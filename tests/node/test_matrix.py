"""Every message type and every method: {stream, unary} x {dialer, acceptor} x {memory, grpc, tcp}.

The other side speaks AElf's own protobuf messages over the transport, and holds a session with our
node that was made by either side's dial.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

import network_types_pb2 as types
import peer_service_pb2 as service
import pytest
import trio

from aelf_p2p.contracts import IncomingCall, MessageStream, Metadata, RpcChannel, Transport
from aelf_p2p.core.announcements import Announcement, LibAnnouncement
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import CallFailedError, StatusCode, TransportError
from aelf_p2p.core.network_events import AnnouncementReceived, BlockReceived, TransactionsReceived
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.node import Node, open_node
from aelf_p2p.services.events import Subscription
from aelf_p2p.transports.grpc import GrpcTransport
from aelf_p2p.transports.memory import MemoryHub
from aelf_p2p.transports.tcp import TcpTransport
from aelf_p2p.wire import methods as m
from tests.services.foreign import ForeignNode, ForeignStream, take_anything
from tests.services.support import EPOCH_NS, identity, make_chain, make_transaction, stored

WAIT_S = 10.0
CHAIN = make_chain(12, producer=identity(5))
OPTIONS = NetworkOptions(dial_private=True, goodbye_timeout_s=0.1)
NEW, OLD = "1.12.3.0", "1.3.0.0"

KINDS = ["stream", "unary"]
DIRECTIONS = ["it dials", "we dial"]
TRANSPORTS: dict[str, Callable[[], tuple[Transport, Transport]]] = {
    "memory": lambda: _on_memory(MemoryHub()),
    "grpc": lambda: (GrpcTransport(options=OPTIONS), GrpcTransport()),
    "tcp": lambda: (TcpTransport(options=OPTIONS), TcpTransport()),
}


def _on_memory(hub: MemoryHub) -> tuple[Transport, Transport]:
    return hub.transport("127.0.0.1"), hub.transport("127.0.0.2")


@dataclass
class Session:
    """The other side of a connection."""

    node: Node
    other: ForeignNode
    channel: RpcChannel
    """From the other side to our node."""
    session: bytes
    """What our node announced."""
    stream: ForeignStream | None
    events: Subscription
    calls: list[IncomingCall] = field(default_factory=list)

    @property
    def metadata(self) -> Metadata:
        return {**self.other.metadata, "session-id-bin": self.session}

    async def call(self, method: m.Method, request: bytes = b"") -> bytes:
        return await self.channel.call(method, request, metadata=self.metadata, timeout_s=WAIT_S)

    async def open_and_read(self, method: m.Method) -> bytes:
        async with self.channel.open_stream(method, metadata=self.metadata) as stream:
            return b"".join(await stream.receive_many())

    async def next_event(self, kind: type) -> object:
        async for event in self.events:
            if isinstance(event, kind):
                return event
        raise AssertionError(f"the node ended before {kind.__name__}")


class OtherNode:
    """Serves what our node calls: Ping, the handshakes, and whatever else with nothing."""

    def __init__(self, foreign: ForeignNode) -> None:
        self.foreign = foreign
        self.calls: list[IncomingCall] = []
        self.stream: ForeignStream | None = None
        self.announced = b""
        """The session id that our node announced when it dialed."""
        self.connected = trio.Event()

    async def handle(self, call: IncomingCall) -> None:
        self.calls.append(call)
        take_anything(call.stream)
        if call.method == m.REQUEST_BY_STREAM:
            await self.serve_stream(call.stream)
        elif call.method.client_streaming:
            while await call.stream.receive_many():
                pass
        else:
            [request] = await call.stream.receive_many()
            reply = b""
            if call.method == m.DO_HANDSHAKE:
                asked = types.HandshakeRequest.FromString(request).handshake
                self.announced = asked.session_id
                reply = types.HandshakeReply(handshake=self.handshake()).SerializeToString()
            elif call.method == m.CONFIRM_HANDSHAKE:
                self.connected.set()
            await call.stream.send_many([reply])

    async def serve_stream(self, stream: MessageStream) -> None:
        ours = self.stream = ForeignStream(self.foreign, stream)
        opening = await ours.wait_for(service.HAND_SHAKE)
        asked = types.HandshakeRequest.FromString(opening.message).handshake
        self.announced = ours.session = asked.session_id
        reply = types.HandshakeReply(handshake=self.handshake()).SerializeToString()
        await ours.reply(opening, reply)
        await ours.reply(await ours.wait_for(service.CONFIRM_HAND_SHAKE))
        self.connected.set()
        await trio.sleep_forever()

    def handshake(self) -> types.Handshake:
        return self.foreign.handshake(time_ns=trio_wall_ns(), listening_port=self.foreign_port or 1)

    foreign_port = 0


_began = count()


def trio_wall_ns() -> int:
    """A clock on the wall for both sides: it never says the same twice."""
    return EPOCH_NS + next(_began) * 1000


@asynccontextmanager
async def connected(kind: str, direction: str, transport: str) -> AsyncIterator[Session]:
    """A connection made by either side's dial, confirmed."""
    ours, theirs = TRANSPORTS[transport]()
    foreign = ForeignNode(2, node_version=NEW if kind == "stream" else OLD)
    other = OtherNode(foreign)
    with trio.fail_after(3 * WAIT_S):
        async with trio.open_nursery() as nursery:
            listens: Endpoint = await nursery.start(theirs.serve, "127.0.0.1", 0, other.handle)
            other.foreign_port = listens.port
            async with (
                open_node(
                    identity=identity(1),
                    transport=ours,
                    host="127.0.0.1",
                    port=0,
                    store=await stored(CHAIN),
                    options=OPTIONS,
                    wall_ns=trio_wall_ns,
                ) as node,
                theirs.dial(node.endpoint, timeout_s=WAIT_S) as channel,
            ):
                await node.wait_initialized()
                with node.subscribe() as events:
                    session = Session(node, foreign, channel, b"", None, events, other.calls)
                    if direction == "we dial":
                        await node.connect(listens)
                        await other.connected.wait()
                        session.session, session.stream = other.announced, other.stream
                        yield session
                    elif kind == "unary":
                        reply = await do_handshake(session, listens.port)
                        session.session = reply.session_id
                        await session.call(m.CONFIRM_HANDSHAKE)
                        yield session
                    else:
                        await do_handshake(session, listens.port)
                        async with channel.open_stream(
                            m.REQUEST_BY_STREAM, metadata=foreign.metadata
                        ) as stream:
                            take_anything(stream)
                            session.stream = ForeignStream(foreign, stream)
                            request = request_of(foreign, listens.port)
                            reply = (await session.stream.shake_hands(request)).handshake
                            session.session = reply.session_id
                            await session.stream.ask(service.CONFIRM_HAND_SHAKE)
                            yield session
            nursery.cancel_scope.cancel()


def request_of(foreign: ForeignNode, port: int) -> bytes:
    handshake = foreign.handshake(time_ns=trio_wall_ns(), listening_port=port)
    return types.HandshakeRequest(handshake=handshake).SerializeToString()


async def do_handshake(session: Session, port: int) -> types.Handshake:
    foreign = session.other
    answer = await session.channel.call(
        m.DO_HANDSHAKE,
        request_of(foreign, port),
        metadata=foreign.metadata,
        timeout_s=WAIT_S,
    )
    reply = types.HandshakeReply.FromString(answer)
    assert reply.error == types.HANDSHAKE_OK
    return reply.handshake


# --- what is asked, and what must come of it ------------------------------------------------------

BLOCK = make_chain(1, after=CHAIN[-1], producer=identity(2))[0]


def block_request() -> bytes:
    request = types.BlockRequest()
    request.hash.value = CHAIN[3].hash
    return request.SerializeToString()


def blocks_request() -> bytes:
    request = types.BlocksRequest(count=5)
    request.previous_block_hash.value = CHAIN[3].hash
    return request.SerializeToString()


NODES_REQUEST = types.NodesRequest(max_count=10).SerializeToString()
GOODBYE = types.DisconnectReason().SerializeToString()


def is_the_block(reply: bytes) -> bool:
    block = types.BlockReply.FromString(reply).block
    return block.header.height == 4 and block.SerializeToString() != b""


def are_the_blocks(reply: bytes) -> bool:
    blocks = types.BlockList.FromString(reply).blocks
    return [block.header.height for block in blocks] == [5, 6, 7, 8, 9]


def is_empty(reply: bytes) -> bool:
    return reply == b""


Asked = tuple[bytes, Callable[[bytes], bool]]
REQUESTS: dict[str, Asked] = {
    "PING": (b"", is_empty),
    "HEALTH_CHECK": (b"", is_empty),
    "CONFIRM_HAND_SHAKE": (b"", is_empty),
    "REQUEST_BLOCK": (block_request(), is_the_block),
    "REQUEST_BLOCKS": (blocks_request(), are_the_blocks),
    "GET_NODES": (NODES_REQUEST, is_empty),
    "ANY": (b"", is_empty),
}
METHODS = {
    "PING": m.PING,
    "HEALTH_CHECK": m.CHECK_HEALTH,
    "CONFIRM_HAND_SHAKE": m.CONFIRM_HANDSHAKE,
    "REQUEST_BLOCK": m.REQUEST_BLOCK,
    "REQUEST_BLOCKS": m.REQUEST_BLOCKS,
    "GET_NODES": m.GET_NODES,
}
BROADCASTS = {
    "BLOCK_BROADCAST": (m.BLOCK_BROADCAST_STREAM, BLOCK.encode(), BlockReceived),
    "TRANSACTION_BROADCAST": (
        m.TRANSACTION_BROADCAST_STREAM,
        make_transaction().raw,
        TransactionsReceived,
    ),
    "ANNOUNCEMENT_BROADCAST": (
        m.ANNOUNCEMENT_BROADCAST_STREAM,
        Announcement(b"a" * 32, 13).encode(),
        AnnouncementReceived,
    ),
    "LIB_ANNOUNCEMENT_BROADCAST": (
        m.LIB_ANNOUNCEMENT_BROADCAST_STREAM,
        LibAnnouncement(b"\0" * 32, 1).encode(),
        None,
    ),
}

everywhere = pytest.mark.parametrize(
    ("kind", "direction", "transport"),
    [
        (kind, direction, transport)
        for kind in KINDS
        for direction in DIRECTIONS
        for transport in TRANSPORTS
    ],
)
on_streams = pytest.mark.parametrize(
    ("direction", "transport"),
    [(direction, transport) for direction in DIRECTIONS for transport in TRANSPORTS],
)


@everywhere
@pytest.mark.parametrize("asked", METHODS)
async def test_every_unary_method(kind: str, direction: str, transport: str, asked: str) -> None:
    request, is_right = REQUESTS[asked]
    async with connected(kind, direction, transport) as session:
        assert is_right(await session.call(METHODS[asked], request))


@everywhere
async def test_the_unary_goodbye(kind: str, direction: str, transport: str) -> None:
    async with connected(kind, direction, transport) as session:
        [peer] = session.node.peers()
        assert await session.call(m.DISCONNECT, GOODBYE) == b""
        await peer.wait_closed()
        assert peer.close_reason is CloseReason.DISCONNECTED_BY_PEER
        with pytest.raises(CallFailedError) as raised:
            await session.call(m.CHECK_HEALTH)
        assert raised.value.code is StatusCode.CANCELLED


@everywhere
@pytest.mark.parametrize("broadcast", BROADCASTS)
async def test_every_client_stream(
    kind: str, direction: str, transport: str, broadcast: str
) -> None:
    method, payload, event = BROADCASTS[broadcast]
    async with (
        connected(kind, direction, transport) as session,
        session.channel.open_stream(method, metadata=session.metadata) as stream,
    ):
        await stream.send_many([payload])
        if event is not None:
            await session.next_event(event)
        await stream.send_eof()
        assert await stream.receive_many() == [b""]


@on_streams
@pytest.mark.parametrize("asked", REQUESTS)
async def test_every_request_on_the_stream(direction: str, transport: str, asked: str) -> None:
    request, is_right = REQUESTS[asked]
    async with connected("stream", direction, transport) as session:
        assert session.stream is not None
        reply = await session.stream.ask(service.MessageType.Value(asked), request)
        assert is_right(reply.message)


@on_streams
@pytest.mark.parametrize("broadcast", BROADCASTS)
async def test_every_broadcast_on_the_stream(
    direction: str, transport: str, broadcast: str
) -> None:
    _, payload, event = BROADCASTS[broadcast]
    async with connected("stream", direction, transport) as session:
        assert session.stream is not None
        reply = await session.stream.ask(service.MessageType.Value(broadcast), payload)
        assert reply.message == b""
        if event is not None:
            await session.next_event(event)


@on_streams
@pytest.mark.parametrize("what", ["DISCONNECT", "HAND_SHAKE"])
async def test_what_ends_the_stream(direction: str, transport: str, what: str) -> None:
    """A goodbye, and a second handshake on one stream."""
    async with connected("stream", direction, transport) as session:
        assert session.stream is not None
        [peer] = session.node.peers()
        payload = GOODBYE if what == "DISCONNECT" else request_of(session.other, 6800)
        await session.stream.send(service.MessageType.Value(what), payload)
        await peer.wait_closed()
        expected = {
            "DISCONNECT": CloseReason.DISCONNECTED_BY_PEER,
            "HAND_SHAKE": CloseReason.VIOLATION,
        }
        assert peer.close_reason is expected[what]


@everywhere
async def test_without_the_session_all_but_two_are_cancelled(
    kind: str, direction: str, transport: str
) -> None:
    async with connected(kind, direction, transport) as session:
        session.session = b"wrong"
        for method in m.METHODS.values():
            if method in (m.PING, m.DO_HANDSHAKE, m.REQUEST_BY_STREAM):
                continue
            make = session.open_and_read if method.client_streaming else session.call
            with pytest.raises(CallFailedError) as raised:
                await make(method)
            assert raised.value.code is StatusCode.CANCELLED, method
        assert len(session.node.peers()) == 1


# --- and what our node says by itself -------------------------------------------------------------


@everywhere
async def test_what_our_node_asks_and_sends(kind: str, direction: str, transport: str) -> None:
    """Each of the other side's methods is called, or its message type sent on the stream."""
    async with connected(kind, direction, transport) as session:
        node = session.node
        [peer] = node.peers()
        expected = {
            service.BLOCK_BROADCAST: m.BLOCK_BROADCAST_STREAM,
            service.TRANSACTION_BROADCAST: m.TRANSACTION_BROADCAST_STREAM,
            service.ANNOUNCEMENT_BROADCAST: m.ANNOUNCEMENT_BROADCAST_STREAM,
            service.LIB_ANNOUNCEMENT_BROADCAST: m.LIB_ANNOUNCEMENT_BROADCAST_STREAM,
            service.HEALTH_CHECK: m.CHECK_HEALTH,
            service.REQUEST_BLOCK: m.REQUEST_BLOCK,
            service.REQUEST_BLOCKS: m.REQUEST_BLOCKS,
            service.GET_NODES: m.GET_NODES,
            service.DISCONNECT: m.DISCONNECT,
        }
        node.network.broadcast_transaction(make_transaction())
        node.network.announce_lib(b"l" * 32, 1)
        fresh = make_chain(2, time_ns=trio_wall_ns())
        node.network.broadcast_block(fresh[0])
        node.network.announce_block(fresh[1])
        async with trio.open_nursery() as nursery:
            if session.stream is not None:
                nursery.start_soon(answer_all, session.stream)
            await peer.check_health(timeout_s=WAIT_S)
            assert await peer.request_block(b"h" * 32) is None
            assert await peer.request_blocks(b"h" * 32, 1) == []
            assert await peer.request_nodes(10) == []
            await node.disconnect(peer.info.public_key)
        if session.stream is None:
            assert set(expected.values()) <= {call.method for call in session.calls}
        else:
            assert set(expected) <= {each.message_type for each in session.stream.requests}


async def answer_all(stream: ForeignStream) -> None:
    """Until our node has ended the stream, whichever side dialed."""
    with suppress(TransportError):
        await stream.answer_all()
