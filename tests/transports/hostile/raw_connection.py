"""One end of a connection that keeps to no rules, whatever it speaks."""

import socket
import ssl
import struct
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Generic, Protocol, TypeVar

import trio

from aelf_p2p.core.endpoint import Endpoint

PATIENCE_S = 4.0
"""Within which everything here happens, on a machine that has other things to do as well."""


class Serializable(Protocol):
    """A frame of a library that knows its own bytes."""

    def serialize(self) -> bytes:
        """Those."""


Sendable = Serializable | bytes
EndingT = TypeVar("EndingT")


class RawConnection(ABC, Generic[EndingT]):
    """Sends any bytes. Cuts what it reads into frames, and says what they were at the end."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream

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

    async def attack(self, pieces: Iterable[Sendable]) -> EndingT:
        """Send while it is taken, and read to the end."""
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.send_while_taken, pieces)
                ending = await self.read_to_end()
                nursery.cancel_scope.cancel()
        return ending

    async def read_to_end(self) -> EndingT:
        was_reset = False
        with trio.fail_after(PATIENCE_S):
            try:
                while await self.read_some():
                    pass
            except trio.BrokenResourceError:
                was_reset = True
        return self._ended(was_reset=was_reset)

    async def read_until(self, happened: Callable[[], bool]) -> None:
        """Read on until something is so; the connection must not end before."""
        with trio.fail_after(PATIENCE_S):
            while not happened():
                assert await self.read_some(), "the connection ended"

    async def read_some(self) -> bool:
        """Read what is there, or comes next; False at the end of file."""
        received = await self.stream.receive_some(64 * 1024)
        self._take(bytes(received))
        return bool(received)

    @abstractmethod
    def _take(self, received: bytes) -> None:
        """Cut what came."""

    @abstractmethod
    def _ended(self, *, was_reset: bool) -> EndingT:
        """What came until the end, which was TCP's reset, or else an end of file."""


def _bytes(what: Sendable) -> bytes:
    return what if isinstance(what, bytes) else what.serialize()


def for_ever(make: Callable[[int], Sendable], batch: int = 64) -> Iterator[bytes]:
    """``make(0)``, ``make(1)``, …, some at a time."""
    at = 0
    while True:
        yield b"".join(_bytes(make(each)) for each in range(at, at + batch))
        at += batch


def message(payload: bytes, compressed: int = 0) -> bytes:
    """A message with its prefix, which is gRPC's on every socket."""
    return struct.pack(">BI", compressed, len(payload)) + payload


def close_with_reset(sock: trio.socket.SocketType) -> None:
    """SO_LINGER of 0 s: closing sends RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@asynccontextmanager
async def connect_with_tls(
    endpoint: Endpoint, *alpn: str
) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
    """As a TLS client that checks nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    plain = await trio.open_tcp_stream(endpoint.host, endpoint.port)
    async with plain:
        stream = trio.SSLStream(plain, context, https_compatible=True)
        await stream.do_handshake()
        yield stream
