"""The rules of the tcp transport over the layout in ``frames``: calls, windows, limits.

Call ids count from 1, and only clients open calls, so whether a call that is not open was once is
told by the highest id alone. What comes for one that is over was in flight when it ended, and is
ignored; an id that was never opened is a violation.

A half of a call is held back as in HTTP/2 (RFC 9113 §5.2), by bytes of payload: its sender begins
with the window of the other side's SETTINGS and gets more by CREDIT, told once half of the window
is free. There is no window of the connection. What a strange caller leaves unread of all its calls
is bounded by dropping it, and what trusted calls get beyond the first window by
``max_unread_bytes``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from aelf_p2p.contracts import Metadata
from aelf_p2p.core.budgets import EventBudget
from aelf_p2p.core.errors import (
    CallFailedError,
    ConnectionLostError,
    MalformedError,
    MisuseError,
    ProtocolViolationError,
    StatusCode,
)
from aelf_p2p.transports.net.codec import (
    FRAMES_A_TURN,
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
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.tcp import frames as f
from aelf_p2p.transports.tcp.frames import FrameKind
from aelf_p2p.wire.methods import METHODS, Method

MAX_WINDOW_BYTES = 2**31 - 1
"""The most that may be on its way in one half, as in HTTP/2."""

SMALL_BYTES = 32

_WHY_RESET: Mapping[f.ResetCause, str] = {
    f.ResetCause.ENDED: "reset by the other side",
    f.ResetCause.NEVER_STARTED: "refused before it was started",
}


@dataclass(slots=True)
class _Call:
    """A call that is not over, as one side sees it. Windows are in bytes."""

    send_window: int  # we may send
    receive_window: int  # they may send
    whole_window: int  # ``receive_window`` while nothing is unread
    freed: int = 0  # of it, and not told yet
    sending: bool = False  # our half has begun and is not complete
    receiving: bool = False  # theirs


class FrameCodec:
    """One connection of the tcp transport, either side. See ``Codec``."""

    def __init__(self, *, is_client: bool, limits: WireLimits) -> None:
        if limits.call_window_bytes > MAX_WINDOW_BYTES:
            raise MisuseError(f"call_window_bytes must be at most {MAX_WINDOW_BYTES}")
        self._is_client = is_client
        self._limits = limits
        self._reader = f.FrameReader()
        self._out: list[bytes] = [
            f.PREFACE,
            f.encode_settings(limits.call_window_bytes, 0 if is_client else limits.max_calls),
        ]
        self._events: list[Event] = []
        self._now = 0.0

        self._calls: dict[int, _Call] = {}
        self._last_id = 0  # the highest that was opened
        self._last_taken_id = 0  # the highest that came before we drained
        self._greeted = False  # their SETTINGS came
        self._first_send_window = 0
        self._max_calls = limits.max_calls
        self._draining = False
        self._they_drain: str | None = None
        self._stranger = not is_client  # a client has chosen whom it calls, and how often
        self._unread = 0  # bytes of all calls, those that are over too

        self._resets = EventBudget(limits.resets)
        self._provoked_resets = EventBudget(limits.provoked_resets)
        self._small_frames = EventBudget(limits.small_frames)
        self._late_frames = EventBudget(limits.late_frames)
        self._empty_frames = EventBudget(limits.empty_frames)

        # What the other side may send; it takes the call id and the payload.
        self._take: dict[FrameKind, Callable[[int, bytes], None]] = {
            FrameKind.SETTINGS: self._take_settings,
            FrameKind.BYTES: self._take_bytes,
            FrameKind.RESET: self._take_reset,
            FrameKind.CREDIT: self._take_credit,
            FrameKind.GOAWAY: self._take_goaway,
        }
        if is_client:
            self._take[FrameKind.REPLY] = self._take_reply
            self._take[FrameKind.STATUS] = self._take_status
        else:
            self._take[FrameKind.OPEN] = self._take_open
            self._take[FrameKind.END] = self._take_end

    # --- from the other side ---

    def receive_untrusted(self, data: bytes, now: float) -> Iterator[Event | None]:
        """See ``Codec``."""
        self._now = now
        frames = 0
        try:
            for kind, call_id, payload in self._reader.read_untrusted(data):
                frames += 1
                if frames % FRAMES_A_TURN == 0:
                    yield None
                take = self._take.get(kind)
                if take is None:
                    raise ProtocolViolationError(f"{kind.name} from the wrong side")
                if not self._greeted and kind is not FrameKind.SETTINGS:
                    raise ProtocolViolationError(f"{kind.name} before SETTINGS")
                take(call_id, payload)
                yield from self._events
                self._events.clear()
        except (MalformedError, ProtocolViolationError) as exc:
            self._go_away(str(exc))  # even if we drain: it should know that it is at fault
            raise

    def _take_settings(self, call_id: int, payload: bytes) -> None:
        window, max_calls = f.parse_settings_untrusted(payload)
        _check_no_call(FrameKind.SETTINGS, call_id)
        if self._greeted:
            raise ProtocolViolationError("SETTINGS twice")
        if window > MAX_WINDOW_BYTES:
            raise ProtocolViolationError(f"a window of {window} bytes")
        self._greeted = True
        self._first_send_window = window
        if self._is_client:
            self._max_calls = max_calls
            for call in self._calls.values():
                call.send_window = window
            self._events.append(WindowOpened(None))

    def _take_open(self, call_id: int, payload: bytes) -> None:
        if call_id != self._last_id + 1:
            raise ProtocolViolationError(f"OPEN of call {call_id} after call {self._last_id}")
        opening = f.parse_open_untrusted(payload)
        self._last_id = call_id
        if self._draining:  # the two have crossed, which is nobody's fault
            _spend(self._late_frames, self._now, "calls after a GOAWAY")
            self._out.append(f.encode_reset(call_id, f.ResetCause.NEVER_STARTED))
            return
        self._last_taken_id = call_id
        method = METHODS.get(opening.path)
        if method is None:
            why = f"no method {opening.path}"
            self._refuse(f.encode_status(call_id, StatusCode.UNIMPLEMENTED, why))
            return
        if len(self._calls) >= self._max_calls:
            why = f"over {self._max_calls} calls at once"
            self._refuse(f.encode_status(call_id, StatusCode.RESOURCE_EXHAUSTED, why))
            return
        self._calls[call_id] = self._new_call(receiving=True)
        self._events.append(
            CallOpened(
                call_id,
                method,
                opening.metadata,
                opening.timeout_s,
                encoding="identity",
                accepts_gzip=opening.accepts_gzip,
            )
        )

    def _take_reply(self, call_id: int, payload: bytes) -> None:
        gzip = f.parse_reply_untrusted(payload)
        call = self._find(FrameKind.REPLY, call_id)
        if call is None:
            self._count_small()
            return
        if call.receiving:
            raise ProtocolViolationError("REPLY twice")
        call.receiving = True
        self._events.append(ReplyBegan(call_id, "gzip" if gzip else "identity"))

    def _take_bytes(self, call_id: int, payload: bytes) -> None:
        if not payload:
            _spend(self._empty_frames, self._now, "empty frames")
        call = self._find(FrameKind.BYTES, call_id)
        if call is None:
            _spend(self._late_frames, self._now, "frames of calls that are over")
            return
        if len(payload) <= SMALL_BYTES:
            self._count_small()
        if not call.receiving:
            raise ProtocolViolationError("bytes before or after their half of a call")
        count = len(payload)
        if count > call.receive_window:
            raise ProtocolViolationError("more bytes than the window of a call")
        call.receive_window -= count
        self._unread += count
        if self._stranger and self._unread > self._limits.stranger_bytes:
            raise ProtocolViolationError(f"a stranger with {self._unread} unread bytes")
        if payload:
            self._events.append(BytesReceived(call_id, payload, count))

    def _take_end(self, call_id: int, _payload: bytes) -> None:
        call = self._find(FrameKind.END, call_id)
        if call is None:
            self._count_small()
            return
        if not call.receiving:
            raise ProtocolViolationError("END twice")
        call.receiving = False
        self._events.append(RequestEnded(call_id))

    def _take_status(self, call_id: int, payload: bytes) -> None:
        code, details = f.parse_status_untrusted(payload)
        if self._find(FrameKind.STATUS, call_id) is None:
            self._count_small()
            return
        del self._calls[call_id]
        self._events.append(StatusReceived(call_id, code, details))

    def _take_reset(self, call_id: int, payload: bytes) -> None:
        cause = f.parse_reset_untrusted(payload)
        if self._find(FrameKind.RESET, call_id) is None:
            self._count_small()
        else:
            _spend(self._resets, self._now, "resets")
            del self._calls[call_id]
            self._events.append(CallReset(call_id, _WHY_RESET[cause]))

    def _take_credit(self, call_id: int, payload: bytes) -> None:
        self._count_small()
        credit = f.parse_credit_untrusted(payload)
        call = self._find(FrameKind.CREDIT, call_id)
        if credit == 0:
            raise ProtocolViolationError("CREDIT of 0 bytes")
        if call is None:
            return
        if call.send_window + credit > MAX_WINDOW_BYTES:
            raise ProtocolViolationError(f"CREDIT of {credit} bytes overflows the window")
        call.send_window += credit
        self._events.append(WindowOpened(call_id))

    def _take_goaway(self, call_id: int, payload: bytes) -> None:
        self._count_small()
        last_call_id, why = f.parse_goaway_untrusted(payload)
        _check_no_call(FrameKind.GOAWAY, call_id)
        self._they_drain = why
        self._events.append(Draining(last_call_id, why))

    def _find(self, kind: FrameKind, call_id: int) -> _Call | None:
        """The call of a frame, or None when it is over."""
        if not 1 <= call_id <= self._last_id:
            raise ProtocolViolationError(f"{kind.name} for call {call_id}, which was never opened")
        return self._calls.get(call_id)

    def _refuse(self, answer: bytes) -> None:
        """End a call that the connection never hears of."""
        self._out.append(answer)
        _spend(self._provoked_resets, self._now, "calls that had to be refused")

    def _count_small(self) -> None:
        _spend(self._small_frames, self._now, "small frames")

    # --- a client's commands ---

    def open_call(self, method: Method, metadata: Metadata, timeout_s: float | None) -> int:
        """See ``Codec``. Raises ConnectionLostError too, after a GOAWAY and when there are no more
        call ids, and MisuseError for metadata that cannot be sent."""
        if self._they_drain is not None:
            raise ConnectionLostError(f"the server takes no more calls: {self._they_drain!r}")
        if self._last_id == f.MAX_NUMBER:
            raise ConnectionLostError("no more call ids on this connection")
        if len(self._calls) >= self._max_calls:
            raise CallFailedError(
                StatusCode.RESOURCE_EXHAUSTED, f"over {self._max_calls} calls at once"
            )
        call_id = self._last_id + 1
        opening = f.Opening(method.path, metadata, timeout_s, accepts_gzip=True)
        self._out.append(f.encode_open(call_id, opening))
        self._last_id = call_id
        self._calls[call_id] = self._new_call(sending=True)
        return call_id

    def end_request(self, call_id: int) -> None:
        """See ``Codec``."""
        call = self._calls.get(call_id)
        if call is not None and call.sending:
            call.sending = False
            self._out.append(f.encode_header(FrameKind.END, call_id, 0))

    # --- a server's commands ---

    def begin_reply(self, call_id: int, *, gzip: bool) -> None:
        """See ``Codec``."""
        call = self._calls.get(call_id)
        if call is not None and not call.sending:
            call.sending = True
            self._out.append(f.encode_reply(call_id, gzip=gzip))

    def end_reply(self, call_id: int, code: StatusCode, details: str) -> None:
        """See ``Codec``. Details are shortened to ``frames.MAX_TEXT_BYTES``."""
        if self._calls.pop(call_id, None) is not None:
            self._out.append(f.encode_status(call_id, code, details))

    # --- both sides' commands ---

    def send_window(self, call_id: int) -> int:
        """See ``Codec``."""
        call = self._calls.get(call_id)
        return 0 if call is None else call.send_window

    def send(self, call_id: int, data: bytes | memoryview) -> None:
        """See ``Codec``. Raises MisuseError when it is more than the window, and outside our
        half."""
        call = self._calls.get(call_id)
        if call is None:
            return
        if not call.sending or len(data) > call.send_window:
            raise MisuseError(f"{len(data)} bytes cannot be sent on call {call_id} now")
        call.send_window -= len(data)
        for at in range(0, len(data), f.MAX_SENT_BYTES):
            part = data[at : at + f.MAX_SENT_BYTES]
            # A copy, unless it is bytes in one frame: whoever owns a view may write to it again.
            self._out += (f.encode_header(FrameKind.BYTES, call_id, len(part)), bytes(part))

    def reset(self, call_id: int) -> None:
        """See ``Codec``."""
        if self._calls.pop(call_id, None) is not None:
            self._out.append(f.encode_reset(call_id, f.ResetCause.ENDED))

    def consumed(self, call_id: int, credit: int) -> bool:
        """See ``Codec``."""
        self._unread -= credit
        call = self._calls.get(call_id)
        if call is None:
            return False
        call.freed += credit
        return call.freed * 2 >= call.whole_window and self._give_credit(call_id, call)

    def trust(self, call_id: int) -> None:
        """See ``Codec``."""
        self._stranger = False
        call = self._calls.get(call_id)
        if call is None:
            return
        first = self._limits.call_window_bytes
        grown = sum(other.whole_window - first for other in self._calls.values())
        growth = self._limits.trusted_call_window_bytes - call.whole_window
        growth = min(growth, self._limits.growth_bytes - grown)
        growth = min(growth, MAX_WINDOW_BYTES - call.whole_window)
        if growth > 0:
            call.whole_window += growth
            call.freed += growth
            self._give_credit(call_id, call)

    def drain(self, why: str = "") -> None:
        """See ``Codec``. The reason is shortened to ``frames.MAX_TEXT_BYTES``."""
        if not self._draining:
            self._go_away(why)

    def data_to_send(self) -> bytes:
        """See ``Codec``."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def _new_call(self, *, sending: bool = False, receiving: bool = False) -> _Call:
        window = self._limits.call_window_bytes
        return _Call(self._first_send_window, window, window, 0, sending, receiving)

    def _give_credit(self, call_id: int, call: _Call) -> bool:
        """Tell what is free; False when their half is complete, so that it is of no use."""
        if not (call.receiving or self._is_client):
            return False
        call.receive_window += call.freed
        self._out.append(f.encode_credit(call_id, call.freed))
        call.freed = 0
        return True

    def _go_away(self, why: str) -> None:
        self._draining = True
        self._out.append(f.encode_goaway(self._last_taken_id, why))


def _check_no_call(kind: FrameKind, call_id: int) -> None:
    if call_id != 0:
        raise ProtocolViolationError(f"{kind.name} for call {call_id}")


def _spend(budget: EventBudget, now: float, what: str) -> None:
    if not budget.spend(now):
        raise ProtocolViolationError(f"too many {what}")
