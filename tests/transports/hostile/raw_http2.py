"""HTTP/2 as bytes: a peer that sends any it likes, to our grpc server or from a server of its own.

The peer's frames are hyperframe's or made by hand, its header blocks hpack's: none of the code
under test has a part in them.
"""

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import trio
from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from aelf_p2p.contracts import RpcChannel
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.transports.grpc import GrpcTransport
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.wire.methods import PING
from tests.transports.hostile.raw_connection import RawConnection
from tests.transports.hostile.target import HURRIED, AnyTarget, serve_script, serve_target

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4
GRPC = "application/grpc"

AnyFrame = TypeVar("AnyFrame", bound=Frame)

# --- bytes ----------------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"", length: int = -1) -> bytes:
    """A frame made by hand (RFC 9113 §4.1); ``length`` is a lie unless it is left out."""
    length = len(payload) if length < 0 else length
    return struct.pack(">I", length)[1:] + struct.pack(">BBI", kind, flags, stream_id) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SettingsFrame.type, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def data(stream_id: int, payload: bytes, *flags: str) -> bytes:
    return DataFrame(stream_id, payload, flags=flags).serialize()


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WindowUpdateFrame.type, 0, stream_id, struct.pack(">I", increment))


def reset(stream_id: int, code: int = 8) -> bytes:
    return RstStreamFrame(stream_id, code).serialize()


def ping() -> bytes:
    return PingFrame(0, b"12345678").serialize()


def flags_of(*, end_headers: bool, end_stream: bool) -> int:
    return 0x4 * end_headers | 0x1 * end_stream


Pairs = list[tuple[str | bytes, str | bytes]]


def request_pairs(path: str = PING.path, *, do: str = "answer", content_type: str = GRPC) -> Pairs:
    """The headers of a good request; ``do`` is what the handler is to do."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "test"),
        ("te", "trailers"),
        ("content-type", content_type),
        ("do", do),
    ]


def reply_pairs(*, status: str = "200", content_type: str = GRPC) -> Pairs:
    """The headers that begin a good reply."""
    return [(":status", status), ("content-type", content_type)]


class Headers:
    """Header blocks of one connection."""

    def __init__(self) -> None:
        self.encoder = Encoder()

    def __call__(
        self, stream_id: int, pairs: Pairs, *, end_stream: bool = False, end_headers: bool = True
    ) -> bytes:
        flags = flags_of(end_headers=end_headers, end_stream=end_stream)
        return frame(HeadersFrame.type, flags, stream_id, self.encoder.encode(pairs))


# --- a peer that sends anything -------------------------------------------------------------------


@dataclass
class Ending:
    """What a connection said until its end."""

    frames: list[Frame]
    was_reset: bool
    """Whether TCP ended it with a reset; else it was an end of file."""

    def all(self, kind: type[AnyFrame]) -> list[AnyFrame]:
        return [each for each in self.frames if isinstance(each, kind)]

    @property
    def goaway(self) -> GoAwayFrame:
        [*others, goaway] = self.all(GoAwayFrame)
        assert others == []
        return goaway


class RawPeer(RawConnection[Ending]):
    """One end of a connection, without rules."""

    def __init__(self, stream: trio.abc.Stream, *, is_server: bool = False) -> None:
        super().__init__(stream)
        self._skip_bytes = len(PREFACE) if is_server else 0  # the caller's preface
        self.headers = Headers()
        self.frames: list[Frame] = []
        self._decoder = Decoder()
        self._buffer = bytearray()
        self.blocks: dict[int, list[dict[str, str]]] = {}
        """The header blocks of each stream, in order."""

    async def read_status(self, stream_id: int) -> int:
        """The grpc-status that ends a call."""
        await self.read_until(lambda: "grpc-status" in self.last_block(stream_id))
        return int(self.last_block(stream_id)["grpc-status"])

    def last_block(self, stream_id: int) -> dict[str, str]:
        return self.blocks.get(stream_id, [{}])[-1]

    def first_call(self) -> int:
        """The stream of the first call that the other side has begun, or 0."""
        return next(iter(self.blocks), 0)

    def has(self, kind: type[Frame], stream_id: int) -> bool:
        return any(isinstance(each, kind) and each.stream_id == stream_id for each in self.frames)

    def body(self, stream_id: int) -> bytes:
        return b"".join(
            each.data
            for each in self.frames
            if isinstance(each, DataFrame) and each.stream_id == stream_id
        )

    def _take(self, received: bytes) -> None:
        self._buffer += received
        if len(self._buffer) < self._skip_bytes:
            return
        del self._buffer[: self._skip_bytes]
        self._skip_bytes = 0
        while len(self._buffer) >= 9:
            each, length = Frame.parse_frame_header(memoryview(self._buffer[:9]))
            if len(self._buffer) < 9 + length:
                break
            each.parse_body(memoryview(bytes(self._buffer[9 : 9 + length])))
            del self._buffer[: 9 + length]
            self.frames.append(each)
            if isinstance(each, HeadersFrame):
                block = {str(name): str(value) for name, value in self._decoder.decode(each.data)}
                self.blocks.setdefault(each.stream_id, []).append(block)

    def _ended(self, *, was_reset: bool) -> Ending:
        return Ending(self.frames, was_reset)


# --- the server under attack ----------------------------------------------------------------------


class Target(AnyTarget):
    """A grpc server."""

    @asynccontextmanager
    async def attacker(self) -> AsyncIterator[RawPeer]:
        """A connection that has sent nothing yet."""
        async with await self.connect() as stream:
            yield RawPeer(stream)

    @asynccontextmanager
    async def http2_attacker(self, *settings_pairs: tuple[int, int]) -> AsyncIterator[RawPeer]:
        """A connection on which HTTP/2 was greeted properly."""
        async with self.attacker() as peer:
            await peer.send(PREFACE, settings(*settings_pairs))
            await peer.read_until(lambda: peer.has(SettingsFrame, 0))
            yield peer


def open_target(
    limits: WireLimits = HURRIED, *, insecure: bool = True
) -> AbstractAsyncContextManager[Target]:
    """See ``serve_target``."""
    return serve_target(
        Target, lambda limits: GrpcTransport(limits=limits, insecure=insecure), limits
    )


# --- a server that does anything ------------------------------------------------------------------

Script = Callable[[RawPeer], Awaitable[object]]


def open_hostile_server(script: Script) -> AbstractAsyncContextManager[Endpoint]:
    """See ``serve_script``."""
    return serve_script(partial(RawPeer, is_server=True), script)


async def answer_with(peer: RawPeer, answer: Callable[[RawPeer], bytes]) -> None:
    """Greet the caller, wait for its first call, and answer that."""
    await peer.send(settings())
    await peer.read_until(lambda: peer.first_call() == 1)
    await peer.send(answer(peer))


@asynccontextmanager
async def dial_hostile_server(
    script: Script, limits: WireLimits = HURRIED
) -> AsyncIterator[RpcChannel]:
    """A connection of ours to such a server."""
    async with open_hostile_server(script) as endpoint:
        client = GrpcTransport(limits=limits, insecure=True)
        async with client.dial(endpoint, timeout_s=5) as channel:
            yield channel
