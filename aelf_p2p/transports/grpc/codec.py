"""gRPC over HTTP/2 as a codec: h2 does HTTP/2, this does gRPC and the limits.

Source: gRPC's PROTOCOL-HTTP2 and RFC 9113. What a caller asks for and cannot have (an unknown
method, a bad header) is answered here, and the connection never hears of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import h2.events as e
from h2.errors import ErrorCodes
from h2.exceptions import H2Error, TooManyStreamsError
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame, RstStreamFrame

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
from aelf_p2p.transports.grpc import headers
from aelf_p2p.transports.grpc.frames import DataPiece, FrameScanner
from aelf_p2p.transports.grpc.http2 import Http2, still_open
from aelf_p2p.transports.grpc.receive_windows import (
    LEAST_WINDOW_BYTES,
    CallWindow,
    ReceiveWindows,
)
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
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.wire.methods import METHODS, Method

ASSUMED_CALLS = 100
"""At once, before a server has said how many it takes: no server should take fewer (RFC 9113)."""

_FRAME_HEADER_BYTES = 9


@dataclass(slots=True)
class _Call:
    """A call whose stream is open in at least one direction."""

    window: CallWindow
    reply_began: bool = False
    we_ended: bool = False
    they_ended: bool = False

    @property
    def over(self) -> bool:
        return self.we_ended and self.they_ended


class GrpcCodec:
    """One gRPC connection, either side. See ``Codec``."""

    def __init__(
        self, *, is_client: bool, limits: WireLimits, authority: str = "", scheme: str = "https"
    ) -> None:
        if limits.call_window_bytes < LEAST_WINDOW_BYTES:
            raise MisuseError(f"call_window_bytes must be at least {LEAST_WINDOW_BYTES} for grpc")
        self._is_client = is_client
        self._limits = limits
        self._authority = authority
        self._scheme = scheme
        self._scanner = FrameScanner(
            limits, expects_preface=not is_client, takes_data=self._takes_data
        )
        self._provoked_resets = EventBudget(limits.provoked_resets)
        self._resets = EventBudget(limits.resets)
        self._informational = EventBudget(limits.empty_frames)
        self._late_frames = EventBudget(limits.late_frames)
        self._calls: dict[int, _Call] = {}
        self._we_drain = False
        self._they_drain: str | None = None
        self._now = 0.0
        self._out: list[bytes | memoryview] = []
        self._greeted = False  # their SETTINGS came
        self._h2 = Http2(limits, is_client=is_client)
        self._windows = ReceiveWindows(self._h2, limits)

    # --- from the other side ---

    def receive_untrusted(self, data: bytes, now: float) -> Iterator[Event | None]:
        """See ``Codec``."""
        self._now = now
        try:
            for piece in self._scanner.scan_untrusted(data, now):
                if piece is None:
                    yield None
                elif isinstance(piece, DataPiece):
                    yield from self._take_bytes(piece.stream_id, piece.data, len(piece.data))
                elif isinstance(piece, GoAwayFrame):
                    yield self._take_goaway(piece)
                else:
                    yield from self._feed_untrusted(piece)
        except (MalformedError, ProtocolViolationError) as exc:
            if not self._we_drain:
                self._go_away(ErrorCodes.ENHANCE_YOUR_CALM, str(exc))
            raise

    def _feed_untrusted(self, piece: bytes) -> list[Event]:
        self._flush()
        events: list[Event] = []
        try:
            for event in self._h2.receive_data(piece):
                take = self._TAKERS.get(type(event))
                if take is not None:
                    events += take(self, event)
        except H2Error as exc:
            self._flush()  # h2 has said GOAWAY by itself
            self._we_drain = True
            raise ProtocolViolationError(f"HTTP/2: {exc}") from exc
        answer = self._h2.data_to_send()
        if answer:
            self._count_resets(answer)
            self._out.append(answer)
        return events

    def _count_resets(self, answer: bytes) -> None:
        """h2 resets a stream for each frame that comes on it after its end."""
        at = 0
        while at < len(answer):
            if answer[at + 3] == RstStreamFrame.type and not self._late_frames.spend(self._now):
                raise ProtocolViolationError("too many frames of calls that are over")
            at += _FRAME_HEADER_BYTES + int.from_bytes(answer[at : at + 3], "big")

    def _take_request(self, event: e.Event) -> Iterator[Event]:
        assert isinstance(event, e.RequestReceived)
        if self._is_client:  # h2 lets it, though it refuses a push
            raise ProtocolViolationError("a call by the server")
        call_id = event.stream_id
        call = self._calls[call_id] = _Call(self._windows.open(call_id))
        if self._we_drain:
            self._reset(call_id, ErrorCodes.REFUSED_STREAM)
            return
        call.they_ended = event.stream_ended is not None
        try:
            request = headers.parse_request_untrusted(event.headers)
        except headers.BadRequest as exc:
            self._refuse(call_id, headers.trailers_only(exc.code, exc.details, exc.http_status))
            return
        except MalformedError:
            self._provoked()
            self._reset(call_id, ErrorCodes.PROTOCOL_ERROR)
            return
        method = METHODS.get(request.path)
        if method is None:
            details = "the peer service has no such method"
            self._refuse(call_id, headers.trailers_only(StatusCode.UNIMPLEMENTED, details))
            return
        yield CallOpened(
            call_id,
            method,
            request.metadata,
            request.timeout_s,
            request.encoding,
            request.accepts_gzip,
        )

    def _take_response(self, event: e.Event) -> Iterator[Event]:
        assert isinstance(event, e.ResponseReceived)
        call_id = event.stream_id
        if call_id not in self._calls:
            return
        try:
            reply = headers.parse_reply_untrusted(event.headers)
            status = headers.parse_trailers_untrusted(event.headers) if event.stream_ended else None
        except MalformedError as exc:
            yield from self._fail(call_id, StatusCode.INTERNAL, f"malformed headers: {exc}")
            return
        if status is not None:
            yield from self._end_with(call_id, *status)
        elif reply.http_status != 200:
            code = headers.status_of_http(reply.http_status)
            yield from self._fail(call_id, code, f"HTTP status {reply.http_status}")
        elif not reply.content_type_ok:
            yield from self._fail(call_id, StatusCode.UNKNOWN, "the answer is not gRPC")
        else:
            yield ReplyBegan(call_id, reply.encoding)

    def _take_informational(self, event: e.Event) -> Iterator[Event]:
        """A response may be announced by any number of 1xx ones, which mean nothing to gRPC."""
        if not self._informational.spend(self._now):
            raise ProtocolViolationError("too many informational responses")
        yield from ()

    def _take_trailers(self, event: e.Event) -> Iterator[Event]:
        assert isinstance(event, e.TrailersReceived)
        if not self._is_client or event.stream_id not in self._calls:
            return  # a caller's mean nothing; the end that they bring is an event of its own
        try:
            status = headers.parse_trailers_untrusted(event.headers)
        except MalformedError as exc:
            status = (StatusCode.INTERNAL, f"malformed trailers: {exc}")
        if status is not None:
            yield from self._end_with(event.stream_id, *status)

    def _takes_data(self, call_id: int, size: int) -> bool:
        """Whether a DATA frame is given to us as it is; h2 then knows of it, and sees it not."""
        if call_id not in self._calls:
            return False
        try:
            return self._h2.take_data_frame(call_id, size)
        except H2Error as exc:
            self._go_away(ErrorCodes.FLOW_CONTROL_ERROR, str(exc))
            raise ProtocolViolationError(f"HTTP/2: {exc}") from exc

    def _take_data(self, event: e.Event) -> Iterator[Event]:
        assert isinstance(event, e.DataReceived)
        yield from self._take_bytes(event.stream_id, event.data, event.flow_controlled_length)

    def _take_bytes(self, call_id: int, data: bytes, credit: int) -> Iterator[Event]:
        self._windows.arrived(credit)
        if call_id not in self._calls:
            self.consumed(call_id, credit)
        elif credit:
            yield BytesReceived(call_id, data, credit)

    def _take_end(self, event: e.Event) -> Iterator[Event]:
        assert isinstance(event, e.StreamEnded)
        call_id = event.stream_id
        call = self._calls.get(call_id)
        if call is None:
            return
        if self._is_client:
            yield from self._end_with(call_id, StatusCode.INTERNAL, "ended without a status")
            return
        call.they_ended = True
        if call.over:
            del self._calls[call_id]
        yield RequestEnded(call_id)

    def _take_reset(self, event: e.Event) -> Iterator[Event]:
        assert isinstance(event, e.StreamReset)
        if not event.remote_reset:
            self._provoked()
        if self._calls.pop(event.stream_id, None) is not None:
            if event.remote_reset and not self._resets.spend(self._now):
                raise ProtocolViolationError("too many resets")
            by = "reset by the other side" if event.remote_reset else "broken by the other side"
            yield CallReset(event.stream_id, f"{by}: {_error_name(event.error_code)}")

    def _take_window_update(self, event: e.Event) -> Iterator[Event]:
        assert isinstance(event, e.WindowUpdated)
        yield WindowOpened(event.stream_id or None)

    def _take_settings(self, event: e.Event) -> Iterator[Event]:
        assert isinstance(event, e.RemoteSettingsChanged)
        self._greeted = True
        self._h2.bound_their_settings(event)
        if SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings:
            yield WindowOpened(None)

    def _take_goaway(self, frame: GoAwayFrame) -> Draining:
        why = _error_name(frame.error_code)
        if frame.additional_data:
            why += ": " + frame.additional_data[:100].decode("ascii", "backslashreplace")
        self._they_drain = why
        return Draining(frame.last_stream_id, why)

    # One table for all: of bound methods, each connection's would weigh a KiB.
    _TAKERS: ClassVar[dict[type[e.Event], Callable[["GrpcCodec", e.Event], Iterator[Event]]]] = {
        e.RequestReceived: _take_request,
        e.ResponseReceived: _take_response,
        e.InformationalResponseReceived: _take_informational,
        e.TrailersReceived: _take_trailers,
        e.DataReceived: _take_data,
        e.StreamEnded: _take_end,
        e.StreamReset: _take_reset,
        e.WindowUpdated: _take_window_update,
        e.RemoteSettingsChanged: _take_settings,
    }

    # --- a client's commands ---

    def open_call(self, method: Method, metadata: Metadata, timeout_s: float | None) -> int:
        """See ``Codec``."""
        if self._they_drain is not None:
            raise ConnectionLostError(f"the server takes no more calls: {self._they_drain}")
        pairs = headers.request_headers(
            method,
            authority=self._authority,
            scheme=self._scheme,
            metadata=metadata,
            timeout_s=timeout_s,
        )
        if not self._greeted and len(self._calls) >= min(ASSUMED_CALLS, self._limits.max_calls):
            raise CallFailedError(
                StatusCode.RESOURCE_EXHAUSTED, "the server has not said how many calls it takes"
            )
        try:
            call_id = self._h2.get_next_available_stream_id()
            self._h2.send_headers(call_id, pairs)
        except TooManyStreamsError as exc:
            raise CallFailedError(
                StatusCode.RESOURCE_EXHAUSTED, "the server takes no more calls at once"
            ) from exc
        except H2Error as exc:
            raise ConnectionLostError(f"no more calls on this connection: {exc}") from exc
        self._calls[call_id] = _Call(self._windows.open(call_id))
        return call_id

    def end_request(self, call_id: int) -> None:
        """See ``Codec``."""
        call = self._calls.get(call_id)
        if call is not None and not call.we_ended:
            with still_open():
                self._h2.end_stream(call_id)
            self._end_our_half(call_id, call)

    # --- a server's commands ---

    def begin_reply(self, call_id: int, *, gzip: bool) -> None:
        """See ``Codec``."""
        call = self._calls.get(call_id)
        if call is not None and not call.reply_began:
            call.reply_began = True
            with still_open():
                self._h2.send_headers(call_id, headers.reply_headers(gzip=gzip))

    def end_reply(self, call_id: int, code: StatusCode, details: str) -> None:
        """See ``Codec``."""
        call = self._calls.get(call_id)
        if call is None:
            return
        make = headers.trailers if call.reply_began else headers.trailers_only
        self._end_stream(call_id, call, make(code, details))

    def _refuse(self, call_id: int, trailers: list[tuple[bytes, bytes]]) -> None:
        """Answer a call that the connection never hears of."""
        if not self._calls[call_id].they_ended:
            self._provoked()  # else a flood of them would be one of resets
        self._end_stream(call_id, self._calls[call_id], trailers)

    def _end_stream(self, call_id: int, call: _Call, trailers: list[tuple[bytes, bytes]]) -> None:
        with still_open():
            self._h2.send_headers(call_id, trailers, end_stream=True)
            if not call.they_ended:
                # RFC 9113 §8.1: so a server says that it needs no more of the request
                self._h2.reset_stream(call_id, ErrorCodes.NO_ERROR)
        self._calls.pop(call_id, None)

    # --- both sides' commands ---

    def send_window(self, call_id: int) -> int:
        """See ``Codec``."""
        call = self._calls.get(call_id)
        if call is None or call.we_ended:
            return 0
        try:
            return max(0, self._h2.local_flow_control_window(call_id))
        except H2Error:
            return 0

    def send(self, call_id: int, data: bytes | memoryview) -> None:
        """See ``Codec``."""
        self._flush()
        with still_open():
            self._out += self._h2.data_frames(call_id, data)

    def reset(self, call_id: int) -> None:
        """See ``Codec``."""
        if call_id in self._calls:
            self._reset(call_id, ErrorCodes.CANCEL)

    def consumed(self, call_id: int, credit: int) -> bool:
        """See ``Codec``."""
        return self._windows.consumed(self._receiving(call_id), credit)

    def trust(self, call_id: int) -> None:
        """See ``Codec``."""
        windows = [call.window for call in self._calls.values()]
        self._windows.trust(self._receiving(call_id), windows)

    def _receiving(self, call_id: int) -> CallWindow | None:
        call = self._calls.get(call_id)
        return None if call is None or call.they_ended else call.window

    def drain(self, why: str = "") -> None:
        """See ``Codec``."""
        if not self._we_drain:
            self._go_away(ErrorCodes.NO_ERROR, why)

    def data_to_send(self) -> bytes:
        """See ``Codec``."""
        self._flush()
        data = b"".join(self._out)
        self._out.clear()
        return data

    # --- helpers ---

    def _flush(self) -> None:
        if said := self._h2.data_to_send():
            self._out.append(said)

    def _end_our_half(self, call_id: int, call: _Call) -> None:
        call.we_ended = True
        if call.over:
            del self._calls[call_id]

    def _end_with(self, call_id: int, code: StatusCode, details: str) -> Iterator[Event]:
        """The server has ended the call; should our half still be open, nobody reads it."""
        call = self._calls.get(call_id)
        if call is not None:
            if call.we_ended:
                del self._calls[call_id]
            else:
                self._reset(call_id, ErrorCodes.CANCEL)
            yield StatusReceived(call_id, code, details)

    def _fail(self, call_id: int, code: StatusCode, details: str) -> Iterator[Event]:
        """The server's answer makes no sense: the call ends here."""
        self._reset(call_id, ErrorCodes.CANCEL)
        yield StatusReceived(call_id, code, details)

    def _reset(self, call_id: int, code: ErrorCodes) -> None:
        self._calls.pop(call_id, None)
        with still_open():
            self._h2.reset_stream(call_id, code)

    def _provoked(self) -> None:
        if not self._provoked_resets.spend(self._now):
            raise ProtocolViolationError("too many calls that had to be reset")

    def _go_away(self, code: ErrorCodes, why: str) -> None:
        self._we_drain = True
        frame = GoAwayFrame(0)
        frame.last_stream_id = self._h2.highest_inbound_stream_id
        frame.error_code = code
        frame.additional_data = why.encode("ascii", "replace")[:200]
        self._flush()
        self._out.append(frame.serialize())


def _error_name(code: int) -> str:
    try:
        return ErrorCodes(code).name
    except ValueError:
        return f"error {code}"
