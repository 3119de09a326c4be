"""A call that has a row of bytes for itself, such as a connection of its own.

Each half is frames, back to back: a byte, 255 for a message or else the status that ends the half;
a length of four bytes, big-endian; and so many bytes, of the message or of the status's details. A
caller's first message is its opening: JSON of the method's path and the metadata, bytes in hex, or
of null and metadata where it is no call but stands for the channel. The bytes travel in a subclass.
"""

import errno
import json
import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Self

import trio

from aelf_p2p.contracts import CallHandler, IncomingCall, Metadata
from aelf_p2p.core.errors import (
    CallFailedError,
    ClosedByUsError,
    ConnectionLostError,
    DeadlineExceededError,
    MalformedError,
    MisuseError,
    StatusCode,
    TransportError,
)
from aelf_p2p.core.message_sizes import (
    MAX_MESSAGE_BYTES,
    before_trust,
    max_reply_bytes,
    max_request_bytes,
)
from aelf_p2p.core.options import KIB, NetworkOptions
from aelf_p2p.transports.handlers import Outcome, run_handler
from aelf_p2p.wire.methods import METHODS, Method

MAX_OPENING_BYTES = 16 * KIB
OPENING_S = 10.0
"""How long a caller may take to say what it wants."""
END_S = 30.0
"""How long it may take to read what was left to send when the handler had ended."""
GOODBYE_S = 0.5
"""How long it may take to read that no more calls are taken."""

_HEAD = struct.Struct(">BI")
_MESSAGE = 255
_CODES = {code.value: code for code in StatusCode}
_MAX_DETAILS_BYTES = KIB
_TOGETHER_BYTES = 64 * KIB  # messages leave in one go until they weigh so much


class ByteCall(ABC):
    """Either end of such a call: a MessageStream. A subclass sends, receives and closes.

    Beyond what carries the bytes it holds a message and 64 KiB each way.
    """

    def __init__(self, what: str, options: NetworkOptions) -> None:
        self.what = what
        """For errors, such as "Ping to 127.0.0.1:6800"."""
        self._options = options
        self._is_client = False
        self._max_bytes = self._trusted_max_bytes = MAX_OPENING_BYTES
        self._unsent = bytearray()
        self._unread = bytearray()
        self._we_ended = False
        self._their_end: Outcome | None = None
        self._refusal: CallFailedError | None = None

    # --- what carries the bytes ---

    @abstractmethod
    async def send_some(self, data: bytearray) -> int:
        """Send at least one byte from the beginning of ``data``; returns how many.

        Waits for room; when that is cancelled, nothing was sent. An OSError, and trio's errors of
        streams that are broken or closed, become ours.
        """

    @abstractmethod
    async def receive_some(self) -> bytes:
        """What has come, some 64 KiB of it at most; waits for the first byte. Empty when the other
        side has closed. Nothing is lost when it is cancelled. Errors are those of ``send_some``.
        """

    @abstractmethod
    async def wait_left(self) -> None:
        """Wait until the other side has closed, however much of it is unread; then return."""

    @abstractmethod
    def close(self) -> None:
        """Close both ways at once: the other side is told, whoever waits here gets an error.

        What was sent before it is still read. Without effect when repeated.
        """

    # --- the caller's part ---

    @asynccontextmanager
    async def opened(self, method: Method | None, metadata: Metadata) -> AsyncIterator[Self]:
        """Say what the call is, and close it when the block is left.

        Without a method it is no call, but what the server holds (``hold``). Raises
        TransportError, and MisuseError for metadata that cannot be sent.
        """
        self._is_client = True
        try:
            await self.send_many([_encode_opening(method, metadata)])
            self._begin(method, max_reply_bytes)
            yield self
        finally:
            self.close()

    # --- the server's part ---

    async def receive_opening(
        self, *, timeout_s: float = OPENING_S
    ) -> tuple[Method | None, dict[str, str | bytes]]:
        """The method that is called, None where a channel is to be held, and the metadata.

        Raises MalformedError for what is no opening, and TransportError.
        """
        with trio.move_on_after(timeout_s):
            messages = await self._receive(most=1)
            if not messages:
                raise MalformedError("a call that ends without an opening")
            method, metadata = _parse_opening_untrusted(messages[0])
            self._begin(method, max_request_bytes)
            return method, metadata
        raise DeadlineExceededError(f"no call was opened within {timeout_s:g} s")

    async def serve(self, handler: CallHandler, incoming: IncomingCall) -> None:
        """Run the handler, cancelled when the caller leaves, and end the call as it ended.

        Raises TransportError when the caller was not there to be told.
        """
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_left, scope)
            outcome = await run_handler(handler, incoming, scope)
            nursery.cancel_scope.cancel()
        if outcome is not None:
            with trio.move_on_after(END_S):
                await self.end(*outcome)

    async def _cancel_when_left(self, scope: trio.CancelScope) -> None:
        await self.wait_left()
        if not self.is_over:  # else the handler does what concerns no caller, and may
            scope.cancel()

    async def hold(self) -> None:
        """Wait until the caller has left; when we are cancelled, end our half first.

        So the caller learns that no more calls are taken. Raises TransportError.
        """
        try:
            await self.wait_left()
        except trio.Cancelled:
            deadline = trio.current_time() + GOODBYE_S
            with trio.CancelScope(deadline=deadline, shield=True), suppress(TransportError):
                await self.end(StatusCode.OK)
            raise

    # --- either's ---

    def _begin(self, method: Method | None, limit: Callable[[Method, NetworkOptions], int]) -> None:
        """From here on the other side's messages may weigh what the method allows."""
        if method is not None:
            self._trusted_max_bytes = limit(method, self._options)
            self._max_bytes = before_trust(method, self._trusted_max_bytes, self._options)

    @property
    def they_ended(self) -> bool:
        """Whether the end of their half was read."""
        return self._their_end is not None

    @property
    def is_over(self) -> bool:
        """Whether we have ended our half, and read the end of theirs."""
        return self._we_ended and self._their_end is not None

    async def end(self, code: StatusCode, details: str = "") -> None:
        """End our half, unless it has ended: a server's with the call's status, a caller's with OK.

        Details are shortened to 1 KiB.
        """
        if not self._we_ended:
            self._we_ended = True
            told = details.encode(errors="replace")[:_MAX_DETAILS_BYTES]
            self._unsent += _HEAD.pack(code.value, len(told)) + told
        await self._flush()

    # --- MessageStream ---

    async def send_many(self, messages: Sequence[bytes]) -> None:
        """See ``MessageStream``."""
        await self._flush()  # what a cancelled send has left goes first: no message is cut
        if self._we_ended:
            raise MisuseError("a message sent after the end of its stream")
        for message in messages:
            if len(message) > MAX_MESSAGE_BYTES:
                await self._flush()
                raise _too_large(len(message), MAX_MESSAGE_BYTES)
            self._unsent += _HEAD.pack(_MESSAGE, len(message))
            self._unsent += message
            if len(self._unsent) >= _TOGETHER_BYTES:
                await self._flush()
        await self._flush()

    def send_nowait(self, message: bytes) -> bool:
        """See ``MessageStream``: never."""
        return False

    async def receive_many(self) -> list[bytes]:
        """See ``MessageStream``."""
        return await self._receive(most=sys.maxsize)

    async def send_eof(self) -> None:
        """See ``MessageStream``. A server's half ends with the status OK."""
        await self.end(StatusCode.OK)

    def trust(self) -> None:
        """See ``MessageStream``."""
        self._max_bytes = self._trusted_max_bytes

    def limit_messages(self, max_bytes: int) -> None:
        """See ``MessageStream``."""
        self._max_bytes = self._trusted_max_bytes = max_bytes

    # --- helpers ---

    async def _flush(self) -> None:
        await trio.lowlevel.checkpoint()
        while self._unsent:
            with _our_errors(self.what):
                sent = await self.send_some(self._unsent)
            del self._unsent[:sent]

    async def _receive(self, most: int) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        while not (messages := self._take_untrusted(most)):
            if self._their_end is not None:
                code, details = self._their_end
                if code is StatusCode.OK:
                    return []
                raise CallFailedError(code, details)
            with _our_errors(self.what):
                received = await self.receive_some()
            if not received:
                raise ConnectionLostError(f"{self.what} was left by the other side")
            self._unread += received
        return messages

    def _take_untrusted(self, most: int) -> list[bytes]:
        """Messages that are here as a whole, up to the end of their half or one over the limit.

        That one is refused when it is the next, and again whenever asked.
        """
        messages: list[bytes] = []
        at = 0
        while self._refusal is None and self._their_end is None and len(messages) < most:
            begin = at + _HEAD.size
            if begin > len(self._unread):
                break
            kind, size = _HEAD.unpack_from(self._unread, at)
            limit = self._max_bytes if kind == _MESSAGE else _MAX_DETAILS_BYTES
            if size > limit:
                if not messages:
                    self._refuse(_too_large(size, limit))
                break
            if begin + size > len(self._unread):
                break
            at = begin + size
            payload = bytes(self._unread[begin:at])
            if kind == _MESSAGE:
                messages.append(payload)
            else:
                code = _CODES.get(kind, StatusCode.UNKNOWN)
                self._their_end = code, payload.decode(errors="replace")
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)  # it may be raised many times
        del self._unread[:at]
        return messages

    def _refuse(self, refusal: CallFailedError) -> None:
        """What comes next is too large: a server can still answer, a caller's call is over."""
        self._refusal = refusal
        self._unread.clear()
        if self._is_client:
            self.close()


@contextmanager
def _our_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
        closed = isinstance(error, trio.ClosedResourceError)
        if closed or (isinstance(error, OSError) and error.errno == errno.EBADF):
            raise ClosedByUsError(f"{what} was closed") from error
        raise ConnectionLostError(f"{what} is lost: {error}") from error


def _too_large(size: int, limit: int) -> CallFailedError:
    return CallFailedError(
        StatusCode.RESOURCE_EXHAUSTED, f"a message of {size} bytes, over {limit}"
    )


def _encode_opening(method: Method | None, metadata: Metadata) -> bytes:
    texts: dict[str, str] = {}
    for key, value in metadata.items():
        text = value.hex() if isinstance(value, bytes) else value
        if not text.isascii() or isinstance(value, bytes) != key.endswith("-bin"):
            raise MisuseError(f"metadata that cannot be sent, key {key!a}")
        texts[key] = text
    opening = json.dumps([method and method.path, texts]).encode()
    if len(opening) > MAX_OPENING_BYTES:
        raise MisuseError(f"{len(opening)} bytes of metadata, over {MAX_OPENING_BYTES}")
    return opening


def _parse_opening_untrusted(opening: bytes) -> tuple[Method | None, dict[str, str | bytes]]:
    try:
        path, texts = json.loads(opening)
        method = None if path is None else METHODS[path]
        metadata: dict[str, str | bytes] = {}
        for key, text in texts.items():
            if not text.isascii():
                raise ValueError(f"the value of {key!a} is not ASCII")
            metadata[key] = bytes.fromhex(text) if key.endswith("-bin") else text
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MalformedError(f"no opening of a call: {error}") from error
    return method, metadata
