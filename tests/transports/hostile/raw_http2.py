"""A server of ours, a neighbour that keeps calling it, and a peer that sends any bytes it likes.

The peer's frames are hyperframe's or made by hand, its header blocks hpack's: none of the code
under test has a part in them.
"""

import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
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

from aelf_p2p.contracts import IncomingCall, RpcChannel
from aelf_p2p.core.budgets import Rate
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import CallFailedError, StatusCode, TransportError
from aelf_p2p.transports.grpc import GrpcTransport
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM, Method

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4
HURRIED = WireLimits(
    goodbye_timeout_s=0.3, drain_timeout_s=0.1, stranger_calls=Rate(20_000, 20_000)
)
"""The usual limits, but nobody is waited for long at the end, and strangers may make many calls,
since that limit would come before most others."""
GRPC = "application/grpc"
PATIENCE_S = 4.0
"""Within which everything here happens, on a machine that has other things to do as well."""
NEIGHBOUR_PATIENCE_S = 3.0
NEIGHBOURS = {"do": "keep trust"}
"""The metadata of the call by which the neighbour is no stranger."""

AnyFrame = TypeVar("AnyFrame", bound=Frame)
Sendable = Frame | bytes

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


def message(payload: bytes, compressed: int = 0) -> bytes:
    """A gRPC message with its prefix."""
    return struct.pack(">BI", compressed, len(payload)) + payload


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


class RawPeer:
    """One end of a connection, without rules."""

    def __init__(self, stream: trio.abc.Stream, *, is_server: bool = False) -> None:
        self.stream = stream
        self._skip_bytes = len(PREFACE) if is_server else 0  # the caller's preface
        self.headers = Headers()
        self.frames: list[Frame] = []
        self._decoder = Decoder()
        self._buffer = bytearray()
        self.blocks: dict[int, list[dict[str, str]]] = {}
        """The header blocks of each stream, in order."""

    @property
    def socket(self) -> trio.socket.SocketType:
        assert isinstance(self.stream, trio.SocketStream)
        return self.stream.socket

    async def send(self, *what: Sendable) -> None:
        await self.stream.send_all(b"".join(map(_bytes, what)))

    async def send_while_taken(self, pieces: Iterable[Sendable]) -> None:
        """Send, until the other side has dropped us."""
        with suppress(trio.BrokenResourceError):
            for piece in pieces:
                await self.send(piece)

    async def attack(self, pieces: Iterable[Sendable]) -> Ending:
        """Send while it is taken, and read to the end."""
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.send_while_taken, pieces)
                ending = await self.read_to_end()
                nursery.cancel_scope.cancel()
        return ending

    async def read_to_end(self) -> Ending:
        was_reset = False
        with trio.fail_after(PATIENCE_S):
            try:
                while await self.read_some():
                    pass
            except trio.BrokenResourceError:
                was_reset = True
        return Ending(self.frames, was_reset)

    async def read_until(self, happened: Callable[[], bool]) -> None:
        """Read on until something is so; the connection must not end before."""
        with trio.fail_after(PATIENCE_S):
            while not happened():
                assert await self.read_some(), "the connection ended"

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

    async def read_some(self) -> bool:
        """Read what is there, or comes next; False at the end of file."""
        received = await self.stream.receive_some(64 * 1024)
        self._buffer += received
        if len(self._buffer) < self._skip_bytes:
            return bool(received)
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
        return bool(received)


def _bytes(what: Sendable) -> bytes:
    return what if isinstance(what, bytes) else what.serialize()


def for_ever(make: Callable[[int], Sendable], batch: int = 64) -> Iterator[bytes]:
    """``make(0)``, ``make(1)``, …, some at a time."""
    at = 0
    while True:
        yield b"".join(_bytes(make(each)) for each in range(at, at + batch))
        at += batch


# --- the server under attack ----------------------------------------------------------------------


@dataclass
class Handlers:
    """What the server's handlers do, as the caller's ``do`` says, and what became of them.

    Those of the neighbour, which says nothing, are not counted.
    """

    running: int = 0
    cancelled: int = 0
    most_running: int = 0
    sent_bytes: int = 0
    received: list[bytes] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    release: trio.Event = field(default_factory=trio.Event)
    _changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    async def __call__(self, call: IncomingCall) -> None:
        counted = _is_attackers(call)
        self.running += counted
        self.most_running = max(self.most_running, self.running)
        self._changed.unpark_all()
        try:
            await self._act(call, str(call.metadata.get("do", "answer")))
        except trio.Cancelled:
            self.cancelled += counted
            raise
        except TransportError as exc:
            self.errors.append(exc)
            raise
        finally:
            self.running -= counted
            self._changed.unpark_all()

    async def wait_until(self, happened: Callable[[], object]) -> None:
        """Look after each beginning and end of a call, of which the neighbour makes many."""
        with trio.fail_after(PATIENCE_S):
            while not happened():
                await self._changed.park()

    async def _act(self, call: IncomingCall, do: str) -> None:
        stream = call.stream
        match do:
            case "trust":
                stream.trust()
                await self._answer(call)
            case "keep trust":  # NEIGHBOURS
                stream.trust()
                await stream.send_many([b"trusted"])
                await trio.sleep_forever()
            case "sleep":
                await trio.sleep_forever()
            case "wait":
                await self.release.wait()
                await self._answer(call)
            case "pour":
                while True:
                    await stream.send_many([bytes(16 * 1024)])
                    self.sent_bytes += 16 * 1024
            case "end and sleep":
                await stream.send_eof()
                await trio.sleep_forever()
            case "refuse":
                raise CallFailedError(StatusCode.PERMISSION_DENIED, "no")
            case "echo":
                while messages := await stream.receive_many():
                    await stream.send_many(messages)
            case "fail":
                raise ValueError("a secret")
            case _:
                await self._answer(call)

    async def _answer(self, call: IncomingCall) -> None:
        """As a unary handler: what comes in, and one message out."""
        while messages := await call.stream.receive_many():
            if _is_attackers(call):
                self.received += messages
        await call.stream.send_many([b"pong"])


def _is_attackers(call: IncomingCall) -> bool:
    return call.metadata.get("do", "trust") not in ("trust", NEIGHBOURS["do"])


@dataclass
class Target:
    """A server, and a neighbour of whoever attacks it."""

    endpoint: Endpoint
    handlers: Handlers
    neighbour: RpcChannel
    _serving: trio.CancelScope
    faults: list[tuple[str, str]]
    """What was told of callers that broke the rules: their host, and what they did."""
    _asking: trio.CancelScope = field(default_factory=trio.CancelScope)
    neighbour_calls_s: list[float] = field(default_factory=list)
    """How long each took."""

    @asynccontextmanager
    async def attacker(self) -> AsyncIterator[RawPeer]:
        """A connection that has sent nothing yet."""
        stream = await trio.open_tcp_stream(self.endpoint.host, self.endpoint.port)
        async with stream:
            yield RawPeer(stream)

    @asynccontextmanager
    async def http2_attacker(self, *settings_pairs: tuple[int, int]) -> AsyncIterator[RawPeer]:
        """A connection on which HTTP/2 was greeted properly."""
        async with self.attacker() as peer:
            await peer.send(PREFACE, settings(*settings_pairs))
            await peer.read_until(lambda: peer.has(SettingsFrame, 0))
            yield peer

    async def ask_neighbour(self, method: Method = PING) -> None:
        """The neighbour makes a call, and gets its answer in time."""
        began = trio.current_time()
        with trio.fail_after(NEIGHBOUR_PATIENCE_S):
            timeout_s = 2 * NEIGHBOUR_PATIENCE_S
            reply = await self.neighbour.call(method, b"", metadata={}, timeout_s=timeout_s)
        assert reply == b"pong"
        self.neighbour_calls_s.append(trio.current_time() - began)

    @property
    def neighbour_p99(self) -> str:
        """Of what the neighbour waited for its calls, for a report."""
        calls_s = sorted(self.neighbour_calls_s)
        return f"{calls_s[len(calls_s) * 99 // 100] * 1000:.0f} ms"

    def stop_serving(self) -> None:
        """The server ends, and the neighbour's calls with it."""
        self._asking.cancel()
        self._serving.cancel()

    async def wait_no_handlers(self) -> None:
        """Until only the neighbour could still be served."""
        await self.handlers.wait_until(lambda: not self.handlers.running)

    async def _keep_asking(self) -> None:
        with self._asking:
            while True:
                await self.ask_neighbour()
                await trio.sleep(0.005)


@asynccontextmanager
async def open_target(
    limits: WireLimits = HURRIED, *, insecure: bool = True
) -> AsyncIterator[Target]:
    """Serve, and have a neighbour call all the time; at the end nothing may be left over."""
    handlers = Handlers()
    server = GrpcTransport(limits=limits, insecure=insecure)
    # A neighbour is not one of those that are timed or counted out.
    client = GrpcTransport(limits=replace(limits, stranger_timeout_s=60.0), insecure=insecure)
    descriptors = open_descriptors()
    with trio.fail_after(20):
        async with trio.open_nursery() as outer:
            serving = trio.CancelScope()

            faults: list[tuple[str, str]] = []

            async def serve(*, task_status: trio.TaskStatus[Endpoint]) -> None:
                with serving:
                    await server.serve(
                        "127.0.0.1",
                        0,
                        handlers,
                        on_fault=lambda host, why: faults.append((host, why)),
                        task_status=task_status,
                    )

            endpoint: Endpoint = await outer.start(serve)
            async with client.dial(endpoint, timeout_s=5) as neighbour:
                target = Target(endpoint, handlers, neighbour, serving, faults)
                async with (
                    neighbour.open_stream(REQUEST_BY_STREAM, metadata=NEIGHBOURS) as trusted,
                    trio.open_nursery() as asking,
                ):
                    await trusted.receive_many()
                    asking.start_soon(target._keep_asking)
                    yield target
                    if not serving.cancel_called:
                        await target.ask_neighbour()
                    asking.cancel_scope.cancel()
            serving.cancel()
    assert handlers.running == 0
    assert open_descriptors() == descriptors


def open_descriptors() -> int:
    """How many file descriptors this process has; those of finished threads may lag behind."""
    return len(list(Path("/proc/self/fd").iterdir()))


# --- a server that does anything ------------------------------------------------------------------


@asynccontextmanager
async def open_hostile_server(
    script: Callable[[RawPeer], Awaitable[object]],
) -> AsyncIterator[Endpoint]:
    """Does what ``script`` says to each caller, and then reads until the caller goes."""

    async def serve(stream: trio.SocketStream) -> None:
        peer = RawPeer(stream, is_server=True)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await script(peer)
            while await stream.receive_some():
                pass

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            serving = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
            [listener] = await nursery.start(serving)
            port = listener.socket.getsockname()[1]
            yield Endpoint("127.0.0.1", port)
            nursery.cancel_scope.cancel()


async def answer_with(peer: RawPeer, answer: Callable[[RawPeer], bytes]) -> None:
    """Greet the caller, wait for its first call, and answer that."""
    await peer.send(settings())
    await peer.read_until(lambda: peer.first_call() == 1)
    await peer.send(answer(peer))


@asynccontextmanager
async def dial_hostile_server(
    script: Callable[[RawPeer], Awaitable[object]], limits: WireLimits = HURRIED
) -> AsyncIterator[RpcChannel]:
    """A connection of ours to such a server."""
    async with open_hostile_server(script) as endpoint:
        client = GrpcTransport(limits=limits, insecure=True)
        async with client.dial(endpoint, timeout_s=5) as channel:
            yield channel
