"""The tcp transport's frames from a peer that sends any it likes, whichever side it is."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import trio

from aelf_p2p.contracts import RpcChannel
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.tcp import TcpTransport
from aelf_p2p.wire.methods import PING, Method
from tests.transports.hostile.raw_connection import PATIENCE_S, RawConnection, for_ever
from tests.transports.hostile.target import HURRIED, AnyTarget, serve_script, serve_target
from tests.transports.tcp.by_hand import (
    BYTES,
    GOAWAY,
    OPEN,
    PREFACE,
    SETTINGS,
    STATUS,
    data,
    frame,
    greeting,
    opening,
    pair,
    reply,
    status,
)

WINDOW = 64 * 1024 - 1
"""Of each half of a call, on both sides."""
CALLS = 100
"""At once."""


def request(
    call_id: int, do: str = "answer", method: Method = PING, *, timeout_ms: int = 0
) -> bytes:
    """The beginning of a good call; ``do`` is what the handler is to do."""
    metadata = pair(b"do", do.encode())
    return opening(call_id, method.path.encode(), metadata, timeout_ms=timeout_ms)


def random_frames(seed: int) -> Iterator[bytes]:
    """Of known kinds or not, for calls that are there or not, and rarely as they should be."""
    rng = Random(seed)
    return for_ever(
        lambda at: frame(rng.randrange(11), rng.randrange(4), rng.randbytes(rng.randrange(12)))
    )


# --- a peer that sends anything -------------------------------------------------------------------


class Frame(NamedTuple):
    kind: int
    call_id: int
    payload: bytes


@dataclass
class Ending:
    """What a connection said until its end."""

    frames: list[Frame]
    was_reset: bool
    """Whether TCP ended it with a reset; else it was an end of file."""

    @property
    def goaway(self) -> tuple[int, str]:
        """The last call and the reason of the only one."""
        [payload] = [each.payload for each in self.frames if each.kind == GOAWAY]
        return int.from_bytes(payload[:4], "big"), payload[4:].decode()


class RawPeer(RawConnection[Ending]):
    """One end of a connection, without rules."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self.frames: list[Frame] = []
        self._buffer = bytearray()
        self._preface_came = False

    def payloads(self, kind: int, call_id: int) -> list[bytes]:
        """Of all such frames that have come."""
        return [each.payload for each in self.frames if each[:2] == (kind, call_id)]

    def has(self, kind: int, call_id: int) -> bool:
        return bool(self.payloads(kind, call_id))

    def body(self, call_id: int) -> bytes:
        return b"".join(self.payloads(BYTES, call_id))

    def has_body(self, call_id: int, count: int) -> bool:
        """Whether so many bytes of a call have come, and no more."""
        return len(self.body(call_id)) == count

    async def read_status(self, call_id: int) -> tuple[int, str]:
        """The code that ends a call, and its details."""
        await self.read_until(lambda: self.has(STATUS, call_id))
        [payload] = self.payloads(STATUS, call_id)
        return payload[0], payload[1:].decode()

    def _take(self, received: bytes) -> None:
        buffer = self._buffer
        buffer += received
        if not self._preface_came:
            if len(buffer) < len(PREFACE):
                return
            assert buffer.startswith(PREFACE)
            del buffer[: len(PREFACE)]
            self._preface_came = True
        while len(buffer) >= len(frame(0, 0)):
            behind = len(frame(0, 0)) + int.from_bytes(buffer[:4], "big")
            if len(buffer) < behind:
                break
            call_id = int.from_bytes(buffer[5:9], "big")
            self.frames.append(Frame(buffer[4], call_id, bytes(buffer[9:behind])))
            del buffer[:behind]

    def _ended(self, *, was_reset: bool) -> Ending:
        return Ending(self.frames, was_reset)


# --- the server under attack ----------------------------------------------------------------------


class Target(AnyTarget):
    """A server on the tcp transport."""

    @asynccontextmanager
    async def attacker(self) -> AsyncIterator[RawPeer]:
        """A connection that has sent nothing yet."""
        async with await self.connect() as stream:
            yield RawPeer(stream)

    @asynccontextmanager
    async def greeted_attacker(self, window: int = WINDOW) -> AsyncIterator[RawPeer]:
        """A connection on which both sides have said what they should say first."""
        async with self.attacker() as peer:
            await peer.send(greeting(window, 0))
            await peer.read_until(lambda: peer.has(SETTINGS, 0))
            yield peer


def open_target(
    limits: WireLimits = HURRIED, *, tls: bool = False
) -> AbstractAsyncContextManager[Target]:
    """See ``serve_target``."""
    return serve_target(Target, lambda limits: TcpTransport(limits=limits, tls=tls), limits)


# --- a server that does anything ------------------------------------------------------------------

Script = Callable[[RawPeer], Awaitable[object]]


async def take_call(peer: RawPeer, window: int = WINDOW, calls: int = CALLS) -> None:
    """Greet the caller, and wait for its first call."""
    await peer.send(greeting(window, calls))
    await peer.read_until(lambda: peer.has(OPEN, 1))


def open_hostile_server(script: Script) -> AbstractAsyncContextManager[Endpoint]:
    """See ``serve_script``."""
    return serve_script(RawPeer, script)


def dial(
    endpoint: Endpoint, limits: WireLimits = HURRIED
) -> AbstractAsyncContextManager[RpcChannel]:
    """A connection of ours."""
    return TcpTransport(limits=limits, tls=False).dial(endpoint, timeout_s=PATIENCE_S)


@asynccontextmanager
async def dial_hostile_server(
    script: Script, limits: WireLimits = HURRIED
) -> AsyncIterator[RpcChannel]:
    """A connection of ours to such a server."""
    async with open_hostile_server(script) as endpoint, dial(endpoint, limits) as channel:
        yield channel


async def ask(channel: RpcChannel, timeout_s: float = 2 * PATIENCE_S) -> bytes:
    """A call that should end, well or not, long before it has to."""
    with trio.fail_after(PATIENCE_S):
        return await channel.call(PING, b"", metadata={}, timeout_s=timeout_s)


def answered(body: bytes, call_id: int = 1, *, gzip: bool = False) -> bytes:
    """The server's half of a call, which ends well."""
    return reply(call_id, gzip=gzip) + data(call_id, body) + status(call_id)


class Endings:
    """Of connections to a hostile server, which may see them later than we do."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Ending](1)

    def came(self, ending: Ending) -> None:
        self._send.send_nowait(ending)

    async def next(self) -> Ending:
        with trio.fail_after(PATIENCE_S):
            return await self._receive.receive()
