"""What purerpc reads from and writes to, in place of a socket of anyio's."""

from collections.abc import Callable
from contextlib import suppress

import anyio
import trio

from aelf_p2p.transports.net.connection import WRITE_BYTES
from aelf_p2p.transports.net.eager_stream import EagerStream
from aelf_p2p.transports.net.tls_stream import TlsStream


class Pipe:
    """As much of a stream as purerpc asks for. A write that fails, or is not taken within its time,
    is told; what is written behind it goes nowhere. While ``goes_on``, nothing is read."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        write_timeout_s: float,
        goes_on: Callable[[], bool],
        on_progress: Callable[[], None],
        on_broken: Callable[[Exception], None],
    ) -> None:
        self.unsent_bytes = 0
        self._stream = stream
        self._write_timeout_s = write_timeout_s
        self._goes_on = goes_on
        self._on_progress = on_progress
        self._on_broken = on_broken
        self._broken = False

    def extra(self, _attribute: object) -> trio.socket.SocketType:
        """The socket, on which purerpc sets what it likes: keepalive, and no delay."""
        stream = self._stream
        if isinstance(stream, TlsStream):
            return stream.socket_stream.socket
        assert isinstance(stream, EagerStream)
        return stream.socket

    async def receive(self, most: int) -> bytes:
        self._on_progress()
        if self._goes_on():
            await trio.lowlevel.checkpoint()
            return b""  # purerpc passes it on, and so comes to the rest of what it has
        try:
            data = await self._stream.receive_some(most)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self._break(exc)
            raise anyio.BrokenResourceError from exc
        if not data:
            raise anyio.EndOfStream
        return bytes(data)

    async def send(self, data: bytes) -> None:
        self.unsent_bytes = len(data)
        for at in range(0, len(data), WRITE_BYTES):
            if not self._broken:
                await self._send_piece(data[at : at + WRITE_BYTES])
            self.unsent_bytes = max(0, len(data) - at - WRITE_BYTES)
            self._on_progress()

    async def _send_piece(self, piece: bytes) -> None:
        try:
            with trio.move_on_after(self._write_timeout_s) as scope:
                await self._stream.send_all(piece)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self._break(exc)
        if scope.cancelled_caught:
            self._break(TimeoutError(f"nothing was taken for {self._write_timeout_s:g} s"))

    async def end_sending(self) -> None:
        assert isinstance(self._stream, trio.abc.HalfCloseableStream)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.send_eof()

    def _break(self, cause: Exception) -> None:
        self._broken = True
        self._on_broken(cause)
