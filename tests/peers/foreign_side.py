"""A StreamPeer and the other end of its stream, which speaks by AElf's own protobuf messages."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

import peer_service_pb2 as theirs
import trio

from aelf_p2p.contracts import Peer, Taken
from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind
from aelf_p2p.core.budgets import ByteBudget
from aelf_p2p.core.chain_status import PeerChain
from aelf_p2p.core.duplicates import DialTimes
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.environment import Environment
from aelf_p2p.core.errors import ConnectionLostError
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.misbehaviour import Misbehaviour
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.payloads import BroadcastContent
from aelf_p2p.core.peer_info import PeerInfo
from aelf_p2p.core.sessions import Sessions
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.peers.stream_peer import StreamPeer
from aelf_p2p.transports.memory_pipe import MemoryPipe

REQUEST, REPLY = 1, 2
(
    ANY,
    HAND_SHAKE,
    PING,
    CONFIRM_HAND_SHAKE,
    HEALTH_CHECK,
    REQUEST_BLOCK,
    REQUEST_BLOCKS,
    GET_NODES,
    BLOCK_BROADCAST,
    TRANSACTION_BROADCAST,
    ANNOUNCEMENT_BROADCAST,
    LIB_ANNOUNCEMENT_BROADCAST,
    DISCONNECT,
) = range(13)

EPOCH_NS = 1_700_000_000_000_000_000
OUR_KEY = Identity.generate(Random("ours")).public_key
THEIR_KEY = Identity.generate(Random("theirs")).public_key
SESSIONS = Sessions(ours=bytes(range(0xA0, 0xB0)), theirs=b"\x01\x02\x03\x04\x05")
"""The other side is a C# node: it announced 5 bytes."""

META = {
    "public-key": THEIR_KEY.hex(),
    "peer-info": "ip: 10.0.0.2:6800",
    "session-id-bin": SESSIONS.ours.hex(),
}
"""What the other side puts on its requests."""

NO_SESSION = {key: value for key, value in META.items() if key != "session-id-bin"}
_numbers = count(1)


def make_item(kind: BroadcastKind = BroadcastKind.TRANSACTION, size: int = 50) -> BroadcastItem:
    number = next(_numbers)
    return BroadcastItem(kind, number.to_bytes(32), bytes(size), f"1700000000000_{number}")


def make_info(revision: int = 0) -> PeerInfo:
    return PeerInfo(
        public_key=THEIR_KEY,
        endpoint=Endpoint("10.0.0.2", 6800),
        inbound=True,
        node_version="1.12.3.0",
        protocol_version=1,
        connected_at_ns=EPOCH_NS,
        dial_times=DialTimes(EPOCH_NS, EPOCH_NS),
        uses_stream=True,
        revision=revision,
    )


@dataclass
class End:
    """One end of a stream made of two pipes."""

    incoming: MemoryPipe
    outgoing: MemoryPipe
    max_bytes: int = 0
    """What ``limit_messages`` was told last, 0 for nothing; transports keep to it."""

    async def send_many(self, messages: Sequence[bytes]) -> None:
        await self.outgoing.send_many(messages)

    def send_nowait(self, message: bytes) -> bool:
        return self.outgoing.send_nowait(message)

    async def receive_many(self) -> list[bytes]:
        return await self.incoming.receive_many()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        self.outgoing.end()

    def trust(self) -> None:
        raise AssertionError("whoever makes a peer trusts its stream before")

    def limit_messages(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes


class ForeignSide:
    """What a test writes and reads as the other node."""

    def __init__(self, end: End, peer_end: End) -> None:
        self.end = end
        self.peer_end = peer_end
        self._read: deque[Any] = deque()

    async def send_raw(self, *messages: bytes) -> None:
        await self.end.send_many(messages)

    async def request(
        self,
        message_type: int,
        payload: bytes = b"",
        *,
        meta: dict[str, str] = META,
        request_id: str | None = None,
    ) -> str:
        """Send a REQUEST; returns its id."""
        request_id = f"1700000000000_{next(_numbers)}" if request_id is None else request_id
        await self.send_raw(encode(REQUEST, message_type, request_id, payload, meta))
        return request_id

    async def reply(
        self, request: Any, payload: bytes = b"", *, message_type: int | None = None
    ) -> None:
        """Answer a message that was received."""
        kind = request.message_type if message_type is None else message_type
        await self.send_raw(encode(REPLY, kind, request.request_id, payload, {}))

    async def receive(self) -> Any:
        """The next message, or None at the end of the stream."""
        while not self._read:
            raw = await self.end.receive_many()
            if not raw:
                return None
            self._read += map(theirs.StreamMessage.FromString, raw)
        return self._read.popleft()

    async def receive_all(self) -> list[Any]:
        """What comes until the end of the stream."""
        messages = []
        while (message := await self.receive()) is not None:
            messages.append(message)
        return messages

    async def heard_within(self, seconds: float) -> list[Any]:
        """What comes in a time."""
        messages = []
        with trio.move_on_after(seconds):
            while (message := await self.receive()) is not None:
                messages.append(message)
        return messages

    async def end_stream(self) -> None:
        await self.end.send_eof()

    def reset(self) -> None:
        """The connection breaks."""
        error = ConnectionLostError("reset")
        self.end.incoming.fail(error, discard=True)
        self.end.outgoing.fail(error, discard=True)


def encode(
    stream_type: int, message_type: int, request_id: str, payload: bytes, meta: dict[str, str]
) -> bytes:
    """A StreamMessage's bytes; the types may be ones that AElf does not know."""
    message = theirs.StreamMessage(request_id=request_id, message=payload, meta=meta)
    message.stream_type = stream_type  # type: ignore[assignment]
    message.message_type = message_type  # type: ignore[assignment]
    return message.SerializeToString()


@dataclass
class Handler:
    """A SessionHandler that notes what arrives and answers what it is told to."""

    contents: list[BroadcastContent] = field(default_factory=list)
    together: list[int] = field(default_factory=list)
    """How many transactions came at once."""
    most: int = 0
    """Of these, as if they were relayed; 0 for all, and none is."""
    alone: int = 0
    """How many answers left by themselves."""
    faults: list[Misbehaviour] = field(default_factory=list)
    requests: list[tuple[int, bytes]] = field(default_factory=list)
    reply: Callable[[int, bytes], Awaitable[bytes]] | None = None

    def received(self, peer: Peer, content: BroadcastContent) -> None:
        self.contents.append(content)

    def misbehaved(self, peer: Peer, fault: Misbehaviour) -> None:
        self.faults.append(fault)

    def received_transactions(self, peer: Peer, transactions: Sequence[Transaction]) -> Taken:
        looked_at = min(len(transactions), self.most or len(transactions))
        self.contents += transactions[:looked_at]
        self.together.append(looked_at)
        return Taken(looked_at, relayed=self.most > 0)

    async def answer(self, peer: Peer, message_type: int, request: bytes) -> bytes:
        self.requests.append((message_type, request))
        if self.reply is None:
            return b"answer to " + request
        return await self.reply(message_type, request)


@dataclass
class Pair:
    """A peer, what it is connected to, and the task that it lives in."""

    peer: StreamPeer
    side: ForeignSide
    handler: Handler
    nursery: trio.Nursery

    @property
    def max_bytes(self) -> int:
        """What the peer let our messages weigh; 0 while it said nothing."""
        return self.side.peer_end.max_bytes

    @property
    def ignored(self) -> dict[str, int]:
        return dict(self.peer.statistics().ignored)

    def is_open(self) -> bool:
        return self.peer.close_reason is None

    async def closed(self) -> list[Any]:
        """Read as the other side until the peer is gone; returns what it still said."""
        said = await self.side.receive_all()
        await self.side.end_stream()
        await self.peer.wait_closed()
        return said


def make_peer(
    *,
    options: NetworkOptions = NetworkOptions(),  # noqa: B008 - it is frozen
    early: Iterable[bytes] = (),
    greeting: bytes | None = None,
    window_bytes: int = 256 * 1024,
    revision: int = 0,
) -> tuple[StreamPeer, ForeignSide, Handler]:
    ours, others = MemoryPipe(window_bytes), MemoryPipe(window_bytes)
    end = End(incoming=others, outgoing=ours)
    handler = Handler()
    start = trio.current_time()
    environment = Environment(
        lambda: EPOCH_NS + round((trio.current_time() - start) * 1e9), Random(1)
    )
    peer = StreamPeer(
        end,
        info=make_info(revision),
        chain=PeerChain(bytes(32), 0, bytes(32), 0),
        bit=1,
        sessions=SESSIONS,
        early=list(early),
        greeting=greeting,
        handler=handler,
        environment=environment,
        options=options,
        own_public_key=OUR_KEY,
        large_replies=ByteBudget(options.max_large_replies_bytes),
    )
    return peer, ForeignSide(End(incoming=ours, outgoing=others), end), handler


async def _live(peer: StreamPeer, side: ForeignSide) -> None:
    """The call of a transport: our half ends, at the latest, when its handler returns."""
    try:
        await peer.run()
    finally:
        side.end.incoming.end()


@asynccontextmanager
async def open_pair(
    *,
    confirmed: bool = True,
    options: NetworkOptions = NetworkOptions(),  # noqa: B008 - it is frozen
    early: Iterable[bytes] = (),
    greeting: bytes | None = None,
    window_bytes: int = 256 * 1024,
    revision: int = 0,
) -> AsyncIterator[Pair]:
    """A peer that lives until the block ends; a C# node unless it has a ``revision``."""
    peer, side, handler = make_peer(
        options=options,
        early=early,
        greeting=greeting,
        window_bytes=window_bytes,
        revision=revision,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_live, peer, side)
        if confirmed:
            peer.confirmed_by_peer()
        yield Pair(peer, side, handler, nursery)
        nursery.cancel_scope.cancel()
