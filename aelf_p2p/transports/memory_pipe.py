"""One way of a call of the memory transport: whole messages, held back by a window."""

from collections import deque
from collections.abc import Sequence

import trio

from aelf_p2p.core.errors import MisuseError, TransportError

DEFAULT_WINDOW_BYTES = 256 * 1024

MESSAGE_OVERHEAD_BYTES = 64
"""What a message takes of the window beside its own bytes, so that empty ones are bounded too."""


class MemoryPipe:
    """One way of one call: whole messages in order, about ``window_bytes`` of them unread.

    A sender that finds the window full waits for the reader, which is how a transport pushes back.
    The last message to enter may be of any size, so that one larger than the window still passes.
    """

    def __init__(self, window_bytes: int = DEFAULT_WINDOW_BYTES) -> None:
        self._window_bytes = window_bytes
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._ended = False
        self._error: TransportError | None = None
        self._sender_error: TransportError | None = None
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def unread_bytes(self) -> int:
        """What was sent and is not read yet, with MESSAGE_OVERHEAD_BYTES for each message."""
        return self._bytes

    async def send_many(self, messages: Sequence[bytes]) -> None:
        """Append messages, waiting for room; raises what the pipe was broken with."""
        await trio.lowlevel.checkpoint()
        for message in messages:
            while self._bytes >= self._window_bytes and self._sender_error is None:
                await self._changed.park()
            if self._sender_error is not None:
                raise self._sender_error.with_traceback(None)  # it may be raised many times
            if self._ended:
                raise MisuseError("a message sent after the end of its stream")
            self._add(message)

    def send_nowait(self, message: bytes) -> bool:
        """Append a message, unless there is no room, or the pipe has ended or is broken."""
        if self._bytes >= self._window_bytes or self._ended or self._sender_error is not None:
            return False
        self._add(message)
        return True

    def _add(self, message: bytes) -> None:
        self._put(message)
        self._bytes += len(message) + MESSAGE_OVERHEAD_BYTES
        self._changed.unpark_all()

    async def receive_many(self) -> list[bytes]:
        """All unread messages; an empty list at the end."""
        await trio.lowlevel.checkpoint()
        await self._wait_readable()
        if messages := self._take():
            self._bytes -= sum(len(message) + MESSAGE_OVERHEAD_BYTES for message in messages)
            self._changed.unpark_all()
            return messages
        if self._error is not None:
            raise self._error.with_traceback(None)
        return []

    def _put(self, message: bytes) -> None:
        """Append a message; ``testing`` overrides this, ``_take`` and ``_wait_readable``."""
        self._messages.append(message)

    def _take(self) -> list[bytes]:
        """Remove what can be read now."""
        messages = list(self._messages)
        self._messages.clear()
        return messages

    async def _wait_readable(self) -> None:
        """Wait until a message, the end or an error can be read."""
        while not self._messages and self._error is None and not self._ended:
            await self._changed.park()

    def end(self) -> None:
        """The sender's half is complete."""
        self._ended = True
        self._changed.unpark_all()

    def fail(
        self,
        error: TransportError,
        *,
        sender_error: TransportError | None = None,
        discard: bool = False,
    ) -> None:
        """Break the pipe, unless it ended before; ``discard`` what is unread, as a reset does.

        The reader gets ``error``; the sender ``sender_error``, when the two ends know it as
        different things.
        """
        if discard:
            self._messages.clear()
            self._bytes = 0
        if self._error is None and (discard or not self._ended):
            self._error = error
            self._sender_error = sender_error or error
        self._changed.unpark_all()
