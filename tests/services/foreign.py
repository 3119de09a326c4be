"""A node of another make: it knows AElf's own messages, through google.protobuf, and no more."""

import hashlib
import random
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import network_types_pb2 as types
import peer_service_pb2 as service
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from aelf_p2p.contracts import IncomingCall, MessageStream, Metadata, RpcChannel
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.node import Node, open_node
from aelf_p2p.testing.conditions import ConditionedHub
from aelf_p2p.transports.memory import MemoryHub
from aelf_p2p.wire import methods as m
from tests.services.support import CHAIN_ID, identity, wall_ns

PORT = 6800
_numbers = count()
NODE = Endpoint("node", PORT)


@asynccontextmanager
async def open_test_node(
    hub: MemoryHub, host: str = "node", number: int = 1, **arguments: Any
) -> AsyncIterator[Node]:
    """One of our nodes on a host of the hub, with the key of a small number."""
    wall_ns()  # the clock on the wall begins here, if it has not begun
    async with open_node(
        identity=identity(number),
        transport=hub.transport(host),
        wall_ns=wall_ns,
        rng=random.Random(number),
        **arguments,
    ) as node:
        await wait_all_tasks_blocked()  # it is initialised, unless it dials boot nodes
        yield node


def take_anything(stream: MessageStream) -> None:
    """AElf's nodes take 100 MiB from anyone, at any time (protocol §3.4)."""
    stream.trust()
    stream.limit_messages(100 * 2**20)


class ForeignNode:
    """Its key, what it says of itself, and the session id that it announces."""

    def __init__(
        self, number: int = 2, *, host: str = "foreign", node_version: str = "1.12.3.0"
    ) -> None:
        self.identity = identity(number)
        self.key = self.identity.public_key
        self.host = host
        self.node_version = node_version
        self.session = bytes([number % 256]) * 5  # five bytes, as C# makes them
        self.best_height = 0
        self.lib_height = 0

    def handshake(
        self,
        *,
        time_ns: int | None = None,
        signature: bytes | None = None,
        session_id: bytes | None = None,
        drop: Iterable[str] = (),
        **changes: Any,
    ) -> types.Handshake:
        """A signed handshake of this moment, with changes."""
        data = types.HandshakeData(
            chain_id=CHAIN_ID,
            version=1,
            listening_port=PORT,
            pubkey=self.key,
            best_chain_height=self.best_height,
            last_irreversible_block_height=self.lib_height,
            node_version=self.node_version,
        )
        data.best_chain_hash.value = b"b" * 32
        data.last_irreversible_block_hash.value = b"l" * 32
        data.time.FromNanoseconds(wall_ns() if time_ns is None else time_ns)
        for name, value in changes.items():
            setattr(data, name, value)
        for name in drop:
            data.ClearField(name)
        # No two are the same, as with a real clock: an unknown field, which is signed too.
        data.MergeFromString(b"\x82\x7d\x04" + next(_numbers).to_bytes(4, "big"))
        if signature is None:
            signature = self.identity.sign(hashlib.sha256(data.SerializeToString()).digest())
        return types.Handshake(
            handshake_data=data,
            signature=signature,
            session_id=self.session if session_id is None else session_id,
        )

    def request(self, **changes: Any) -> bytes:
        """A HandshakeRequest."""
        return types.HandshakeRequest(handshake=self.handshake(**changes)).SerializeToString()

    def reply(self, **changes: Any) -> bytes:
        """A HandshakeReply that accepts."""
        return types.HandshakeReply(handshake=self.handshake(**changes)).SerializeToString()

    @property
    def metadata(self) -> dict[str, str | bytes]:
        """Of every call."""
        return {"public-key": self.key.hex()}

    @asynccontextmanager
    async def dial(
        self, hub: MemoryHub, to: Endpoint = NODE, *, host: str | None = None
    ) -> AsyncIterator[RpcChannel]:
        async with hub.transport(host or self.host).dial(to, timeout_s=3) as channel:
            yield channel

    async def do_handshake(self, channel: RpcChannel, **changes: Any) -> types.HandshakeReply:
        request = self.request(**changes)
        reply = await channel.call(m.DO_HANDSHAKE, request, metadata=self.metadata, timeout_s=6)
        return types.HandshakeReply.FromString(reply)

    @asynccontextmanager
    async def open_stream(
        self, channel: RpcChannel, *, metadata: Metadata | None = None
    ) -> AsyncIterator["ForeignStream"]:
        shown = self.metadata if metadata is None else metadata
        async with channel.open_stream(m.REQUEST_BY_STREAM, metadata=shown) as stream:
            take_anything(stream)
            yield ForeignStream(self, stream)

    @asynccontextmanager
    async def connect(
        self,
        hub: MemoryHub,
        to: Endpoint = NODE,
        *,
        host: str | None = None,
        confirm: bool = True,
    ) -> AsyncIterator["ForeignPeer"]:
        """A whole connection, as a C# dialer makes it."""
        async with self.dial(hub, to, host=host) as channel:
            assert (await self.do_handshake(channel)).error == types.HANDSHAKE_OK
            async with self.open_stream(channel) as stream:
                reply = await stream.shake_hands()
                assert reply.error == types.HANDSHAKE_OK, reply.error
                if confirm:
                    await stream.ask(service.CONFIRM_HAND_SHAKE)
                    await trio.testing.wait_all_tasks_blocked()  # it has told whom it concerns
                yield ForeignPeer(self, channel, stream)


class ForeignStream:
    """A RequestByStream, from either side."""

    def __init__(self, node: ForeignNode, stream: MessageStream) -> None:
        self.node = node
        self.stream = stream
        self.session: bytes | None = None
        """What the other side announced: it goes on our requests."""
        self.requests: list[service.StreamMessage] = []
        """What the other side asked while we waited for something else."""
        self._inbox: deque[service.StreamMessage] = deque()
        self._ids = 0

    def meta(self) -> dict[str, str]:
        meta = {"public-key": self.node.key.hex(), "peer-info": "a foreign node"}
        if self.session is not None:
            meta["session-id-bin"] = self.session.hex()
        return meta

    async def send(
        self, message_type: int, payload: bytes = b"", *, meta: dict[str, str] | None = None
    ) -> str:
        """Send a request; its id."""
        self._ids += 1
        message = service.StreamMessage(
            stream_type=service.REQUEST,
            message_type=message_type,  # type: ignore[arg-type]
            request_id=f"1700000000000_{self._ids}",
            message=payload,
            meta=self.meta() if meta is None else meta,
        )
        await self.stream.send_many([message.SerializeToString()])
        return message.request_id

    async def reply(self, request: service.StreamMessage, payload: bytes = b"") -> None:
        message = service.StreamMessage(
            stream_type=service.REPLY,
            message_type=request.message_type,
            request_id=request.request_id,
            message=payload,
        )
        await self.stream.send_many([message.SerializeToString()])

    async def receive(self) -> service.StreamMessage | None:
        """The next message, or None at the end."""
        while not self._inbox:
            messages = await self.stream.receive_many()
            if not messages:
                return None
            self._inbox.extend(map(service.StreamMessage.FromString, messages))
        return self._inbox.popleft()

    async def ask(
        self, message_type: int, payload: bytes = b"", *, meta: dict[str, str] | None = None
    ) -> service.StreamMessage:
        """Send a request and wait for its reply."""
        request_id = await self.send(message_type, payload, meta=meta)
        while (message := await self.receive()) is not None:
            if message.stream_type == service.REPLY and message.request_id == request_id:
                assert message.message_type == message_type
                return message
            if message.stream_type == service.REQUEST:
                self.requests.append(message)
        raise AssertionError("the stream ended before the reply")

    async def shake_hands(self, request: bytes | None = None) -> types.HandshakeReply:
        """The handshake on the stream."""
        request = self.node.request() if request is None else request
        answer = await self.ask(service.HAND_SHAKE, request)
        reply = types.HandshakeReply.FromString(answer.message)
        self.session = reply.handshake.session_id
        return reply

    async def wait_for(self, message_type: int) -> service.StreamMessage:
        """The next request of a type."""
        while (message := await self.receive()) is not None:
            if message.stream_type == service.REQUEST and message.message_type == message_type:
                return message
        raise AssertionError("the stream ended before it was asked")

    async def answer_all(self) -> None:
        """Be alive: answer every request with nothing, until the stream ends."""
        while (message := await self.receive()) is not None:
            if message.stream_type == service.REQUEST:
                self.requests.append(message)
                if message.message_type != service.DISCONNECT:
                    await self.reply(message)


class ForeignPeer:
    """A connection that a foreign node dialed."""

    def __init__(self, node: ForeignNode, channel: RpcChannel, stream: ForeignStream) -> None:
        self.node = node
        self.channel = channel
        self.stream = stream

    @property
    def metadata(self) -> dict[str, str | bytes]:
        assert self.stream.session is not None
        return {**self.node.metadata, "session-id-bin": self.stream.session}

    async def call(
        self, method: m.Method, request: bytes = b"", *, metadata: Metadata | None = None
    ) -> bytes:
        """A unary call of the session."""
        shown = self.metadata if metadata is None else metadata
        return await self.channel.call(method, request, metadata=shown, timeout_s=3)


class ForeignServer:
    """A scripted foreign node that is dialed. Override the two steps of the handshake."""

    def __init__(self, node: ForeignNode) -> None:
        self.node = node
        self.calls: list[str] = []
        self.streams: list[ForeignStream] = []

    async def serve(self, hub: ConditionedHub, *, task_status: trio.TaskStatus[Endpoint]) -> None:
        transport = hub.transport(self.node.host)
        await transport.serve("0.0.0.0", PORT, self.handle, task_status=task_status)

    async def handle(self, call: IncomingCall) -> None:
        self.calls.append(call.method.name)
        take_anything(call.stream)
        if call.method == m.DO_HANDSHAKE:
            [request] = await call.stream.receive_many()
            await call.stream.send_many([await self.answer_handshake(request)])
        elif call.method == m.REQUEST_BY_STREAM:
            stream = ForeignStream(self.node, call.stream)
            self.streams.append(stream)
            await self.serve_stream(stream)

    async def answer_handshake(self, request: bytes) -> bytes:
        """The reply to DoHandshake."""
        return self.node.reply()

    async def serve_stream(self, stream: ForeignStream) -> None:
        """The stream, from the handshake on."""
        opening = await stream.wait_for(service.HAND_SHAKE)
        asked = types.HandshakeRequest.FromString(opening.message)
        stream.session = asked.handshake.session_id
        await stream.reply(opening, await self.answer_stream_handshake(opening.message))
        await stream.answer_all()

    async def answer_stream_handshake(self, request: bytes) -> bytes:
        """The reply to HAND_SHAKE."""
        return self.node.reply()
