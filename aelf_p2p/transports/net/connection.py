"""A codec run over a stream: the tasks that read and write, and the calls in between.

Only the writer sends, so that nobody's cancellation cuts a TLS record or a frame; reader and writer
are shielded, so that what a cancelled peer says last still gets out, and ended by their owner.
"""

import logging
import math
from collections.abc import Callable

import trio

from aelf_p2p.contracts import Metadata
from aelf_p2p.core.errors import (
    ClosedByUsError,
    ConnectionLostError,
    MalformedError,
    ProtocolViolationError,
    RulesBrokenError,
    StatusCode,
)
from aelf_p2p.core.message_sizes import max_reply_bytes
from aelf_p2p.core.options import KIB
from aelf_p2p.core.single_error import single_error_as_itself
from aelf_p2p.transports.net.call_table import CallTable, Settings
from aelf_p2p.transports.net.calls import Call
from aelf_p2p.transports.net.codec import (
    BytesReceived,
    CallOpened,
    CallReset,
    Codec,
    Draining,
    Event,
    ReplyBegan,
    RequestEnded,
    StatusReceived,
    WindowOpened,
)
from aelf_p2p.transports.net.eager_stream import SendsNowait
from aelf_p2p.wire.methods import Method

log = logging.getLogger(__name__)

READ_BYTES = 64 * KIB
SHARE_BYTES = 128 * KIB
"""What one call sends before the others have their turn."""
WRITE_BYTES = SHARE_BYTES + 4 * KIB
"""What is written at once: a share with its frames' headers."""
ROUND_BYTES = 256 * KIB
"""What one write holds of all calls, a share over it at most."""


class Connection(CallTable):
    """One connection, either side. ``run_io`` is its life; ``shut_down`` ends it politely."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        codec: Codec,
        *,
        settings: Settings,
        is_client: bool,
        remote: str,
        on_call: Callable[[Call, CallOpened], None] = lambda call, opened: None,
        on_trust: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            settings=settings,
            is_client=is_client,
            remote=remote,
            on_call=on_call,
            on_trust=on_trust,
        )
        self._stream = stream
        self._eager = stream if isinstance(stream, SendsNowait) else None
        self._codec = codec
        self._unread_bytes = 0
        self._unsent = bytearray()  # what the codec said while the writer was busy
        self._unsent_answers = 0  # how much of it was said to what came in
        self._dirty = True  # the writer has to look; a codec greets at once
        self._writing = False
        self._writer_gone = False
        self._ends_sending = False
        self._writer_waits = trio.lowlevel.ParkingLot()
        self._flushed = trio.lowlevel.ParkingLot()
        self._io_scope = trio.CancelScope(shield=True)
        if not is_client:  # whom we dial we have chosen; what a reply may weigh its method says
            self._hold_as_stranger()

    # --- its life ---

    async def run_io(self) -> None:
        """Read and write until the other side is gone or we shut down; closes the stream."""
        with self._io_scope:
            try:
                with single_error_as_itself():
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._write)
                        await self._read()
                        # What tells the other side why: a GOAWAY, the status of a call.
                        with trio.move_on_after(self._limits.goodbye_timeout_s):
                            await self._wait_flushed()
                        nursery.cancel_scope.cancel()
            finally:
                self._lose(ClosedByUsError(f"the connection to {self.remote} was closed"))
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(self._stream)

    async def wait_begun(self) -> None:
        """Wait until calls can be made, which is at once."""
        await trio.lowlevel.checkpoint()

    async def shut_down(self, *, deadline: float = math.inf) -> None:
        """End it: no new calls, and what is queued goes out, in at most ``goodbye_timeout_s``.

        One that was ever trusted is given that time to read it: a socket that is closed with
        something unread resets the connection, and what was sent last is lost.
        """
        deadline = min(deadline, trio.current_time() + self._limits.goodbye_timeout_s)
        with trio.CancelScope(deadline=deadline, shield=True):
            self.drain()
            await self._wait_flushed()
            if self._was_trusted and self.lost is None:
                self._ends_sending = True
                self._wake()
                await self.ended.wait()
        self._lose(ClosedByUsError(f"the connection to {self.remote} was closed"))
        self._io_scope.cancel()

    def drain(self, why: str = "") -> None:
        """Tell the other side that we take no more calls."""
        self._codec.drain(why)
        self._wake()

    async def _wait_flushed(self) -> None:
        """Wait until everything that can be sent is sent."""
        while (self._dirty or self._writing) and not self._writer_gone:
            await self._flushed.park()

    # --- calls ---

    @property
    def is_open(self) -> bool:
        """Whether new calls can still be made."""
        return self.lost is None and self.draining is None

    def open_call(self, method: Method, metadata: Metadata, timeout_s: float | None) -> Call:
        """A client's. Raises TransportError."""
        if self.lost is not None:
            raise self.lost.with_traceback(None)  # it may be raised many times
        call_id = self._codec.open_call(method, metadata, timeout_s)
        call = self._add_call(call_id, method, max_reply_bytes(method, self._options))
        if not call.is_unary:  # else it leaves with the request
            self._wake()
        return call

    # --- what calls ask of their owner ---

    def send_soon(self, call: Call) -> None:
        """See ``CallOwner``. At once, when the writer has nothing to do: that saves a turn."""
        if call.call_id in self.calls:
            self._sending[call] = None
            writer_is_idle = bool(self._writer_waits) and not (self._dirty or self._writing)
            if writer_is_idle and self._eager is not None:
                self._send_nowait(self._eager)
            else:
                self._wake()

    def consumed(self, call: Call, count: int, credit: int) -> None:
        """See ``CallOwner``."""
        self._unread_bytes -= count
        self._budget.give(count)
        # A connection that is lost takes no commands: its codec may have failed half-way.
        if credit and self.lost is None and self._codec.consumed(call.call_id, credit):
            self._wake()

    def _reset(self, call_id: int) -> None:
        self._codec.reset(call_id)
        self._wake()

    def _widen(self, call_id: int) -> None:
        self._codec.trust(call_id)
        self._wake()

    # --- reading ---

    async def _read(self) -> None:
        """Until nothing more comes, or what comes breaks the rules."""
        try:
            while data := await self._stream.receive_some(READ_BYTES):
                await self._take_untrusted(bytes(data))
                if self.lost is not None:
                    return
            self._lose(ConnectionLostError(f"{self.remote} closed the connection"))
        except (MalformedError, ProtocolViolationError) as exc:
            log.debug("%s: dropped: %s", self.remote, exc)
            self._lose(RulesBrokenError(f"{self.remote} broke the protocol: {exc}"))
            self.drain(str(exc))  # tells it why, unless the codec has
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self._lose(_lost(self.remote, exc))

    async def _take_untrusted(self, data: bytes) -> None:
        """Raises MalformedError, ProtocolViolationError."""
        self._unsent += self._codec.data_to_send()  # what we said first is no answer to this
        for event in self._codec.receive_untrusted(data, trio.current_time()):
            if event is not None:
                self._take(event)
                if not isinstance(event, Draining):
                    continue  # else whoever waits for it goes before the end that may follow
            self._keep_answers()
            await trio.lowlevel.checkpoint()
            if self.lost is not None:
                return
            self._unsent += self._codec.data_to_send()
        self._keep_answers()

    def _keep_answers(self) -> None:
        """What the codec has said to what came. Raises ProtocolViolationError when it is much."""
        said = self._codec.data_to_send()
        if said:
            self._unsent += said
            self._unsent_answers += len(said)
            if self._writing and self._unsent_answers > self._limits.max_unsent_control_bytes:
                raise ProtocolViolationError("it does not read what it is answered")
            self._wake()

    def _take(self, event: Event) -> None:
        match event:
            case BytesReceived(call_id, data, credit):
                self._take_bytes(call_id, data, credit)
            case WindowOpened(call_id):
                self._take_window(call_id)
            case CallOpened():
                self._take_call(event)
            case ReplyBegan(call_id, encoding):
                if call_id in self.calls:
                    self.calls[call_id].inbox.encoding = encoding
            case RequestEnded(call_id):
                if call_id in self.calls:
                    self.calls[call_id].they_ended(StatusCode.OK, "")
            case StatusReceived(call_id, code, details):
                if ended := self._forget(call_id):
                    ended.end_sent()
                    ended.they_ended(code, details)
            case CallReset(call_id, why):
                if ended := self._forget(call_id):
                    ended.fail(ConnectionLostError(f"{ended.method.name} was {why}"))
            case Draining(last_call_id, why):
                self._take_draining(last_call_id, why)

    def _take_bytes(self, call_id: int, data: bytes, credit: int) -> None:
        call = self.calls.get(call_id)
        if call is None or call.error is not None:
            self._codec.consumed(call_id, credit)
            return
        count = len(data)
        self._unread_bytes += count
        if self._unread_bytes > self._limits.max_unread_bytes or not self._budget.take(count):
            self._unread_bytes -= count
            raise ProtocolViolationError("more bytes than can be held for it")
        call.received(data, credit)

    def _take_window(self, call_id: int | None) -> None:
        calls = self.calls.values() if call_id is None else (self.calls.get(call_id),)
        for call in calls:
            if call is not None and (call.queue or call.our_end):
                self._sending[call] = None
        self._wake()

    # --- writing ---

    async def _write(self) -> None:
        try:
            with trio.CancelScope() as scope:  # ended by its deadline alone, which each send moves
                await self._write_all(scope)
            if scope.cancelled_caught:
                timeout_s = self._limits.write_timeout_s
                raise trio.BrokenResourceError(f"nothing was taken for {timeout_s:g} s")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self._lose(_lost(self.remote, exc))
            self._io_scope.cancel()  # whatever is still to be read, nobody is there to hear it
        finally:
            self._writer_gone = True
            self._flushed.unpark_all()

    async def _write_all(self, scope: trio.CancelScope) -> None:
        """Until our half ends, or ``scope`` finds that nothing is taken any more."""
        while True:
            self._dirty = False
            data = self._next_bytes()
            if data or self._has_rest():
                await self._send(data, scope)
                continue
            scope.deadline = math.inf
            if self._ends_sending:
                await _half_close(self._stream)
                return
            self._flushed.unpark_all()
            await self._writer_waits.park()

    def _send_nowait(self, stream: SendsNowait) -> None:
        """A round in the writer's place; what the socket does not take is left to it."""
        data = self._next_bytes()
        if not data:
            return  # no window: the call has its turn when that opens
        try:
            all_sent = stream.send_nowait(data)
        except trio.BrokenResourceError as exc:
            self._lose(_lost(self.remote, exc))
            self._io_scope.cancel()
            return
        if self._sending or not all_sent:
            self._wake()

    def _has_rest(self) -> bool:
        return self._eager is not None and self._eager.has_rest

    async def _send(self, data: bytes, scope: trio.CancelScope) -> None:
        """In pieces, so that whoever reads slowly is not taken for one that does not read."""
        self._writing = True
        if self._has_rest():
            scope.deadline = trio.current_time() + self._limits.write_timeout_s
            await self._stream.send_all(b"")
        for at in range(0, len(data), WRITE_BYTES):
            piece = data[at : at + WRITE_BYTES]  # all of it, nearly always: no copy is made then
            scope.deadline = trio.current_time() + self._limits.write_timeout_s
            await self._stream.send_all(piece)
        self._writing = False

    def _wake(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._writer_waits.unpark()

    def _next_bytes(self) -> bytes:
        """What is to be sent next: a share of each call that has something, in turn."""
        room = ROUND_BYTES
        for call in list(self._sending):
            del self._sending[call]
            room -= self._send_share(call)
            if room <= 0:
                break
        said = self._codec.data_to_send()
        if not self._unsent:
            return said
        data = bytes(self._unsent) + said
        self._unsent.clear()
        self._unsent_answers = 0
        return data

    def _send_share(self, call: Call) -> int:
        """Give the codec what the call's window lets out, at most SHARE_BYTES; then its end.

        Returns how many bytes. The call has its turn again when it has more, or once its window
        opens.
        """
        codec, call_id = self._codec, call.call_id
        room = SHARE_BYTES
        if call.queue and not self._is_client:
            codec.begin_reply(call_id, gzip=call.compresses)
        while call.queue:
            window = min(codec.send_window(call_id), room)
            if not window:
                if not room:
                    self._sending[call] = None
                return SHARE_BYTES - room
            piece = call.queue[0]
            if len(piece) <= window:
                call.queue.popleft()
            else:
                rest = memoryview(piece)
                piece, call.queue[0] = rest[:window], rest[window:]
            codec.send(call_id, piece)
            room -= len(piece)
            call.sent(len(piece))
        if call.our_end is not None and not call.our_end_sent:
            self._end_half(call, *call.our_end)
        return SHARE_BYTES - room

    def _end_half(self, call: Call, code: StatusCode, details: str) -> None:
        if self._is_client:
            self._codec.end_request(call.call_id)
            call.end_sent()
        else:
            self._codec.end_reply(call.call_id, code, details)
            self._forget(call.call_id)
            call.end_sent()
            call.they_ended(StatusCode.OK, "")  # what it still sends is not read


async def _half_close(stream: trio.abc.Stream) -> None:
    """The other side reads an end of file, and can still be read."""
    if isinstance(stream, trio.abc.HalfCloseableStream):
        await stream.send_eof()


def _lost(remote: str, cause: Exception) -> ConnectionLostError:
    error = ConnectionLostError(f"the connection to {remote} broke: {cause}")
    error.__cause__ = cause
    return error
