"""One call of a socket connection: the MessageStream that its caller or its handler holds."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import trio

from aelf_p2p.core.errors import (
    CallFailedError,
    ConnectionLostError,
    MisuseError,
    StatusCode,
    TransportError,
)
from aelf_p2p.core.message_sizes import MAX_MESSAGE_BYTES
from aelf_p2p.core.options import KIB
from aelf_p2p.transports.net.messages import (
    MessageBuffer,
    compress,
    frame_messages,
    message_prefix,
)
from aelf_p2p.wire.methods import Method

TURN_BYTES = 1024 * KIB
"""What one task sends on a call, to a socket that takes it all, before others have their turn."""

APART_BYTES = 32 * KIB
"""A message of this size is queued as it is, apart from its prefix, rather than copied."""

_COMPRESS_IN_THREAD_BYTES = 32 * KIB


class CallOwner(Protocol):
    """What a call asks of its connection."""

    def send_soon(self, call: "Call") -> None:
        """The call has bytes or an end to send."""

    def consumed(self, call: "Call", count: int, credit: int) -> None:
        """The call's user has taken ``count`` received bytes, which took ``credit``."""

    def refused(self, call: "Call", error: CallFailedError) -> None:
        """What the other side sent on the call cannot be taken."""

    def trust(self, call: "Call") -> None:
        """The other side has proved who it is."""


class Call:
    """Both halves of a call, on either side. The connection tells it what comes, and sends its
    queue, in which ``send_buffer_bytes`` wait at most and as many again, or one message more."""

    def __init__(
        self,
        owner: CallOwner,
        call_id: int,
        method: Method,
        inbox: MessageBuffer,
        *,
        send_buffer_bytes: int,
        limit_bytes: int,
        trusted_limit_bytes: int,
    ) -> None:
        self.call_id = call_id
        self.method = method
        self.inbox = inbox
        self.compresses = False
        """Whether what is sent is compressed; set before the first message."""
        self.queue: deque[bytes | memoryview] = deque()
        self.queued_bytes = 0
        self.our_end: tuple[StatusCode, str] | None = None
        """How our half ends once the queue is sent; a caller's always ends with OK."""
        self.our_end_sent = False
        self.error: TransportError | None = None
        self.scope = trio.CancelScope(shield=True)
        """Of the handler on a server: the connection alone ends it."""
        self._owner = owner
        self._send_buffer_bytes = send_buffer_bytes
        self._limit_bytes = limit_bytes
        self._trusted_limit_bytes = trusted_limit_bytes
        self._bytes_of_turn = 0  # queued since others had their turn
        self._counted_bytes = 0  # received, and not yet given back to the owner's count
        self._their_end: tuple[StatusCode, str] | None = None
        self._readable = trio.lowlevel.ParkingLot()
        self._writable = trio.lowlevel.ParkingLot()

    # --- MessageStream ---

    async def send_many(self, messages: Sequence[bytes]) -> None:
        """See ``MessageStream``. Others have their turn when there is no room, or much was sent."""
        if self._bytes_of_turn < TURN_BYTES:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            self._bytes_of_turn = 0
            await trio.lowlevel.checkpoint()
        if self.compresses:
            for message in messages:
                await self._wait_room()
                await self._put_compressed(message)
        else:
            for run in _runs(messages, self._send_buffer_bytes):
                await self._wait_room()
                self._put_run(run)

    def send_nowait(self, message: bytes) -> bool:
        """See ``MessageStream``. A large message, and one to be compressed, takes a while."""
        is_over = self.error is not None or self.our_end is not None or self.our_end_sent
        if is_over or self.queue or self.compresses or len(message) >= APART_BYTES:
            return False
        self._put(frame_messages([message]))
        return True

    async def receive_many(self) -> list[bytes]:
        """See ``MessageStream``."""
        if self._is_readable():
            await trio.lowlevel.checkpoint()
        else:
            if self.queue:
                self._owner.send_soon(self)  # a unary request whose end does not come yet
            await self._readable.park()
        while True:
            messages = self._take_untrusted()
            if messages:
                return messages
            if self.inbox.has_work:
                await trio.lowlevel.checkpoint()  # a long decompression, step by step
            elif self.error is not None:
                raise self.error.with_traceback(None)  # it may be raised many times
            elif self._their_end is not None:
                self._raise_unless_ended_well(*self._their_end)
                return []
            else:
                await self._readable.park()

    async def send_eof(self) -> None:
        """See ``MessageStream``. A server's half ends with its status, OK; no more is read then."""
        await trio.lowlevel.checkpoint()
        self.end(StatusCode.OK, "")

    def trust(self) -> None:
        """See ``MessageStream``."""
        self._limit_bytes = max(self._limit_bytes, self._trusted_limit_bytes)
        self._owner.trust(self)

    def limit_messages(self, max_bytes: int) -> None:
        """See ``MessageStream``."""
        self._limit_bytes = self._trusted_limit_bytes = max_bytes

    # --- what the connection does with it ---

    @property
    def is_unary(self) -> bool:
        """Whether each side sends one message."""
        return not (self.method.client_streaming or self.method.server_streaming)

    @property
    def sends_nothing_more(self) -> bool:
        """Whether the queue and the end of our half are sent, or never will be."""
        return self.error is not None or self.our_end_sent

    def received(self, data: bytes, credit: int) -> None:
        """The next bytes of their half."""
        self.inbox.append(data, credit)
        self._counted_bytes += len(data)
        self._readable.unpark_all()

    def they_ended(self, code: StatusCode, details: str) -> None:
        """Their half is complete: of a caller with OK, of a server with its status."""
        self._their_end = self._their_end or (code, details)
        self._readable.unpark_all()
        self._writable.unpark_all()

    def end(self, code: StatusCode, details: str) -> None:
        """Our half ends, once the queue is sent."""
        if self.our_end is None and self.error is None:
            self.our_end = (code, details)
            self._owner.send_soon(self)

    def sent(self, count: int) -> None:
        """The writer has taken bytes from the queue."""
        self.queued_bytes -= count
        self._writable.unpark_all()

    def end_sent(self) -> None:
        """Nothing of our half is left to send, or the other side reads no more of it."""
        self.queue.clear()
        self.queued_bytes = 0
        self.our_end_sent = True
        self._writable.unpark_all()

    def fail(self, error: TransportError) -> None:
        """End it at once: whoever waits gets the error, and what is unread or unsent is lost."""
        if self.error is not None:
            return
        self.error = error
        self.queue.clear()
        self.queued_bytes = 0
        self.drop_unread()
        self.scope.cancel()
        self._readable.unpark_all()
        self._writable.unpark_all()

    def drop_unread(self) -> None:
        """Nobody will read what has come."""
        self._give_back(self.inbox.close())

    async def wait_sent(self, timeout_s: float) -> bool:
        """Wait until ``sends_nothing_more``; False when nothing moved for ``timeout_s``."""
        while not self.sends_nothing_more:
            with trio.move_on_after(timeout_s) as scope:
                await self._writable.park()
            if scope.cancelled_caught:
                return False
        return True

    # --- helpers ---

    def _is_readable(self) -> bool:
        return self.inbox.has_work or bool(self.error or self._their_end)

    def _take_untrusted(self) -> list[bytes]:
        if not self.inbox.has_work:
            return []
        try:
            messages, credit = self.inbox.take_untrusted(self._limit_bytes)
        except CallFailedError as exc:
            self.drop_unread()
            self._owner.refused(self, exc)
            raise
        self._give_back(credit)
        return messages

    def _give_back(self, credit: int) -> None:
        """Tell the owner what is not unread any more: read, dropped, or refused by the inbox."""
        count = self._counted_bytes - self.inbox.unread_bytes
        self._counted_bytes -= count
        self._owner.consumed(self, count, credit)

    def _raise_unless_ended_well(self, code: StatusCode, details: str) -> None:
        if code is not StatusCode.OK:
            raise CallFailedError(code, details)
        if self.inbox.in_message:
            raise CallFailedError(StatusCode.INTERNAL, "the stream ended inside a message")

    async def _wait_room(self) -> None:
        while True:
            self._raise_unless_sendable()
            if self.queued_bytes < self._send_buffer_bytes:
                return
            await self._writable.park()

    def _raise_unless_sendable(self) -> None:
        if self.error is not None:
            raise self.error.with_traceback(None)
        if self.our_end is not None:
            raise MisuseError("a message sent after the end of its stream")
        if self.our_end_sent:
            raise ConnectionLostError(f"{self.method.name} was ended by the other side")

    def _put_run(self, run: Sequence[bytes]) -> None:
        size = len(run[0])
        if size < APART_BYTES:
            self._put(frame_messages(run))
        else:
            _check_size(size)
            self._put(message_prefix(size), run[0])

    async def _put_compressed(self, message: bytes) -> None:
        _check_size(len(message))
        if len(message) < _COMPRESS_IN_THREAD_BYTES:
            compressed = compress(message)
        else:
            compressed = await trio.to_thread.run_sync(compress, message, abandon_on_cancel=True)
        self._raise_unless_sendable()  # it may have ended meanwhile
        self._put(message_prefix(len(compressed), compressed=True), compressed)

    def _put(self, *pieces: bytes) -> None:
        self.queue.extend(pieces)
        size = sum(map(len, pieces))
        self.queued_bytes += size
        self._bytes_of_turn += size
        # The end of a unary call's half comes right behind its message, and leaves with it.
        if not self.is_unary or self.queued_bytes >= self._send_buffer_bytes:
            self._owner.send_soon(self)


def _runs(messages: Sequence[bytes], run_bytes: int) -> Iterable[Sequence[bytes]]:
    """Messages in the runs in which they are queued: small ones together, while they weigh less
    than ``run_bytes`` or with the one that they reach it with, a large one alone."""
    sizes = list(map(len, messages))
    if sizes and sum(sizes) <= run_bytes and max(sizes) < APART_BYTES:
        return (messages,)
    return _cut_runs(messages, run_bytes)


def _cut_runs(messages: Sequence[bytes], run_bytes: int) -> Iterator[Sequence[bytes]]:
    run: list[bytes] = []
    room = run_bytes
    for message in messages:
        is_large = len(message) >= APART_BYTES
        if run and (is_large or room <= 0):
            yield run
            run, room = [], run_bytes
        if is_large:
            yield (message,)
        else:
            run.append(message)
            room -= len(message)
    if run:
        yield run


def _check_size(size: int) -> None:
    if size > MAX_MESSAGE_BYTES:
        raise CallFailedError(
            StatusCode.RESOURCE_EXHAUSTED,
            f"a message of {size} bytes, and at most {MAX_MESSAGE_BYTES} can be sent",
        )
