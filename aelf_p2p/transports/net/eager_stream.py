"""A socket that can be written to at once, where a task of its own would come a turn later."""

import os
from typing import Final, Protocol, runtime_checkable

import trio


@runtime_checkable
class SendsNowait(Protocol):
    """A stream that can send without waiting."""

    @property
    def has_rest(self) -> bool:
        """Whether it keeps some of what it was given, for the next ``send_all`` to send first."""

    def send_nowait(self, data: bytes) -> bool:
        """Send at once what the other side has room for. Never blocks.

        False when some of it is kept: then call ``send_all``. Not while that is under way. Raises
        trio.BrokenResourceError.
        """


class EagerStream(trio.abc.HalfCloseableStream):
    """A trio stream over a socket, and ``SendsNowait``."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.socket: Final = stream.socket
        self._stream = stream
        self._kept = b""

    @property
    def has_rest(self) -> bool:
        """See ``SendsNowait``."""
        return bool(self._kept)

    def send_nowait(self, data: bytes) -> bool:
        """See ``SendsNowait``."""
        self._kept += data
        try:
            # The descriptor does not block: trio's own sends rely on that too.
            sent = os.write(self.socket.fileno(), self._kept)
        except BlockingIOError:
            return False
        except OSError as exc:
            raise trio.BrokenResourceError(f"cannot send: {exc.strerror}") from exc
        self._kept = self._kept[sent:]
        return not self._kept

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send what was kept, and all of this."""
        if self._kept:
            kept, self._kept = self._kept, b""
            await self._stream.send_all(kept)
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until ``send_all`` might not have to wait."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """What has come; waits for some. Empty at the end."""
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """End our half."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close both."""
        await self._stream.aclose()
