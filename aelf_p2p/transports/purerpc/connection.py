"""A connection of purerpc's inside a nursery of ours, with an end to every wait.

The calls are those of the other socket transports, ``net.calls``: each has a queue, of which
purerpc is handed what it can send now, so that a cancelled sender leaves whole messages.
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
    TransportError,
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
    Draining,
    Event,
    ReplyBegan,
    RequestEnded,
    StatusReceived,
    WindowOpened,
)
from aelf_p2p.transports.purerpc.binding import Link
from aelf_p2p.wire.methods import Method

log = logging.getLogger(__name__)

SHARE_BYTES = 16 * KIB
"""What one call sends before the others have their turn."""


class Connection(CallTable):
    """One connection, either side. ``run_io`` is its life; ``shut_down`` ends it politely."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        settings: Settings,
        is_client: bool,
        remote: str,
        scheme: str = "",
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
        self.begun = trio.Event()
        """Set when calls can be made."""
        self._stream = stream
        self._scheme = scheme
        self._leaving = trio.Event()
        self._scope = trio.CancelScope(shield=True)
        self._link = Link(
            stream,
            is_client=is_client,
            limits=settings.limits,
            on_event=self._take,
            on_progress=self._go_on,
            on_broken=self._broken,
        )
        if not is_client:
            self._hold_as_stranger()

    # --- its life ---

    async def run_io(self) -> None:
        """Read and write until the other side is gone or we shut down; closes the stream.

        Shielded, so that what a cancelled peer says last gets out: its owner must shut it down.
        """
        with self._scope:
            try:
                with single_error_as_itself():
                    async with trio.open_nursery() as nursery:
                        async with self._link:  # leaving it sends what is queued
                            nursery.start_soon(self._read)
                            self.begun.set()
                            await self._leaving.wait()
                        if self._was_trusted and self.lost is None:
                            # A socket that is closed with something unread resets the connection,
                            # and what was sent last is lost.
                            await self._link.end_sending()
                            await self.ended.wait()
                        nursery.cancel_scope.cancel()
            finally:
                self.begun.set()
                self._lose(ClosedByUsError(f"the connection to {self.remote} was closed"))
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(self._stream)

    async def wait_begun(self) -> None:
        """Wait until calls can be made, or never."""
        await self.begun.wait()

    async def shut_down(self, *, deadline: float = math.inf) -> None:
        """End it: no new calls, and what is queued goes out, in at most ``goodbye_timeout_s``.

        Its task then ends. Never blocks; without effect when it has ended.
        """
        if self.lost is None and not self._leaving.is_set():
            self.drain()
        self._leave(deadline)

    def drain(self, why: str = "") -> None:
        """Tell the other side that we take no more calls; purerpc's GOAWAY says no more."""
        if self.lost is None:
            self._link.drain()

    async def _read(self) -> None:
        """Until nothing more comes, or what comes breaks the rules."""
        try:
            await self._link.read()
        except (MalformedError, ProtocolViolationError) as exc:
            log.debug("%s: dropped: %s", self.remote, exc)
            self._lose(RulesBrokenError(f"{self.remote} broke the protocol: {exc}"))
        else:
            self._lose(ConnectionLostError(f"{self.remote} closed the connection"))

    def _leave(self, deadline: float = math.inf) -> None:
        end = min(deadline, trio.current_time() + self._limits.goodbye_timeout_s)
        self._scope.deadline = min(self._scope.deadline, end)
        self._leaving.set()

    def _broken(self, cause: Exception) -> None:
        error = ConnectionLostError(f"the connection to {self.remote} broke: {cause}")
        error.__cause__ = cause
        self._lose(error)

    def _lose(self, error: TransportError) -> None:
        if self.lost is None:
            super()._lose(error)
            self._leave()

    # --- calls ---

    @property
    def is_open(self) -> bool:
        """Whether new calls can still be made."""
        return self.lost is None and self.draining is None and not self._leaving.is_set()

    def open_call(self, method: Method, metadata: Metadata, timeout_s: float | None) -> Call:
        """A client's. Raises TransportError, MisuseError for metadata that cannot be sent."""
        if self.lost is not None:
            raise self.lost.with_traceback(None)  # it may be raised many times
        if self._leaving.is_set():
            raise ClosedByUsError(f"the connection to {self.remote} is being closed")
        if self.draining is not None:
            raise ConnectionLostError(f"{self.remote} takes no more calls: {self.draining!a}")
        call_id = self._link.open_call(
            method, metadata, timeout_s, authority=self.remote, scheme=self._scheme
        )
        return self._add_call(call_id, method, max_reply_bytes(method, self._options))

    # --- what calls ask of their owner ---

    def send_soon(self, call: Call) -> None:
        """See ``CallOwner``."""
        if call.call_id in self.calls:
            self._sending[call] = None
            self._pump()

    def consumed(self, call: Call, count: int, credit: int) -> None:
        """See ``CallOwner``."""
        self._budget.give(count)
        if credit and self.lost is None:
            self._link.consumed(call.call_id, credit)

    def _reset(self, call_id: int) -> None:
        self._link.reset(call_id)

    def _widen(self, call_id: int) -> None:
        self._link.trust(call_id)

    # --- what comes, and what goes out ---

    def _take(self, event: Event) -> None:
        if self.lost is not None:  # by what came before it in the same read
            return
        match event:
            case BytesReceived(call_id, data, credit):
                self._take_bytes(call_id, data, credit)
            case CallOpened():
                self._take_call(event)
            case Draining(last_call_id, why):
                for call in self._take_draining(last_call_id, why):
                    self._link.reset(call.call_id)  # purerpc would keep its stream
            case _ if event.call_id in self.calls:
                self._take_of_call(self.calls[event.call_id], event)

    def _take_of_call(self, call: Call, event: Event) -> None:
        match event:
            case WindowOpened():
                if call.queue or call.our_end:
                    self._sending[call] = None
            case ReplyBegan(_, encoding):
                call.inbox.encoding = encoding
            case RequestEnded():
                call.they_ended(StatusCode.OK, "")
            case StatusReceived(_, code, details):
                self._forget(call.call_id)
                call.end_sent()
                call.they_ended(code, details)
            case CallReset(_, why):
                self._forget(call.call_id)
                call.fail(ConnectionLostError(f"{call.method.name} was {why}"))

    def _take_bytes(self, call_id: int, data: bytes, credit: int) -> None:
        call = self.calls.get(call_id)
        if call is None or call.error is not None:
            self._link.consumed(call_id, credit)
        elif self._budget.take(len(data)):
            call.received(data, credit)
        else:
            self._lose(ConnectionLostError(f"{self.remote} sends more bytes than can be held"))

    def _go_on(self) -> None:
        """What was read is told, or something was written."""
        most = self._limits.send_buffer_bytes + SHARE_BYTES + self._limits.max_unsent_control_bytes
        if self._link.unsent_bytes > most:
            self._lose(ConnectionLostError(f"{self.remote} does not read what it is answered"))
        self._pump()

    def _pump(self) -> None:
        """Hand purerpc what it can send now: a share of each call in turn, until enough waits to be
        written."""
        while self._sending and self._link.unsent_bytes < self._limits.send_buffer_bytes:
            call = next(iter(self._sending))
            del self._sending[call]
            self._send_share(call)

    def _send_share(self, call: Call) -> None:
        """What the call's window lets out, at most SHARE_BYTES; then its end. The call has its turn
        again when it has more, or once its window opens."""
        link, call_id = self._link, call.call_id
        room = SHARE_BYTES
        while call.queue:
            window = min(link.send_window(call_id), room)
            if not window:
                if not room:
                    self._sending[call] = None
                return
            piece = call.queue[0]
            if len(piece) <= window:
                call.queue.popleft()
            else:
                rest = memoryview(piece)
                piece, call.queue[0] = rest[:window], rest[window:]
            link.send(call_id, piece, gzip=call.compresses)
            room -= len(piece)
            call.sent(len(piece))
        if call.our_end is not None and not call.our_end_sent:
            self._end_half(call, *call.our_end)

    def _end_half(self, call: Call, code: StatusCode, details: str) -> None:
        if self._is_client:
            self._link.end_request(call.call_id)
            call.end_sent()
        else:
            self._link.end_reply(call.call_id, code, details)
            self._forget(call.call_id)
            call.end_sent()
            call.they_ended(StatusCode.OK, "")  # what it still sends is not read
