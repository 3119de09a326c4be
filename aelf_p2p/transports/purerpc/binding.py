"""purerpc's connection, with what it lacks told to us. This and ``http2`` alone import purerpc.

Used are the classes that purerpc's Server and its channels are made of: GRPCSocket with its tasks,
GRPCStream, and GRPCConnection, which speaks HTTP/2 and gRPC's headers. Its Server listens on all
addresses and shares its port, its stubs know no deadline, and its streams, left to themselves, wait
for ever when the other side resets a call, says GOAWAY or is gone; so those are ours.

Messages are cut by our MessageBuffer: purerpc's takes gzip for zlib, decompresses without bound,
ends the connection for one message that is too large, and gives credit for whole messages only.
"""

import datetime
import math
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import h2.events
import h2.exceptions
import trio
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame
from purerpc import Status
from purerpc.grpc_socket import GRPCSocket, GRPCStream, GRPCStreamState, SocketWrapper
from purerpc.grpclib import events as e
from purerpc.grpclib.config import GRPCConfiguration

from aelf_p2p.contracts import Metadata
from aelf_p2p.core.errors import CallFailedError, MisuseError, StatusCode
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
from aelf_p2p.transports.net.connection import READ_BYTES
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.purerpc.http2 import Http2, Reset, method_of
from aelf_p2p.transports.purerpc.pipe import Pipe
from aelf_p2p.wire.methods import Method

_MOST = 99_999_999  # of any unit: a grpc-timeout has eight digits at most
_ERRORS = {error.value for error in ErrorCodes}
_CODES = {code.value: code for code in StatusCode}


class Link(GRPCSocket):
    """One connection of purerpc's. Entered, it writes what it is told until it is left, and then
    what is still queued; ``read`` reads. What comes is given to ``on_event``.

    Commands only queue, as those of a codec, and have no effect on a call that is over. None may
    be given once ``read`` has raised, and none that sends from within ``on_event``: HTTP/2 is then
    further than the events are. ``on_progress`` is the time for it: what was read is told, or
    something was written.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        is_client: bool,
        limits: WireLimits,
        on_event: Callable[[Event], None],
        on_progress: Callable[[], None],
        on_broken: Callable[[Exception], None],
    ) -> None:
        self.on_event = on_event
        self._limits = limits
        config = GRPCConfiguration(
            client_side=is_client,
            message_accept_encoding=["identity", "gzip"],
            max_message_length=-(-limits.call_window_bytes // 2),  # the window is twice that
        )
        http2 = Http2(config, limits, on_goaway=self._take_goaway)
        self._pipe = Pipe(
            stream,
            write_timeout_s=limits.write_timeout_s,
            goes_on=lambda: http2.goes_on,
            on_progress=on_progress,
            on_broken=on_broken,
        )
        super().__init__(config, self._pipe, receive_buffer_size=READ_BYTES)
        self._http2 = self._grpc_connection = http2
        self._socket = SocketWrapper(self._http2, self._pipe)
        self._streams: _Streams = _Streams(self)

    @property
    def unsent_bytes(self) -> int:
        """What waits to be written, or is being written."""
        return len(self._http2.h2_connection._data_to_send) + self._pipe.unsent_bytes

    async def read(self) -> None:
        """Until nothing more comes. Raises MalformedError when it cannot be read on."""
        async for _ in self._listen():  # requests come in as events, like everything else
            pass

    async def _reader_thread(self) -> None:
        """purerpc's own on a client, which it ends before the goodbye is read."""

    async def end_sending(self) -> None:
        """The other side reads an end of file, and can still be read; after the link was left."""
        await self._pipe.end_sending()

    # --- commands ---

    def open_call(
        self,
        method: Method,
        metadata: Metadata,
        timeout_s: float | None,
        *,
        authority: str,
        scheme: str,
    ) -> int:
        """A client begins a call; returns its number. See ``Codec.open_call``.

        Raises MisuseError for metadata that cannot be sent.
        """
        _, service, name = method.path.split("/")
        call_id: int = self._http2.get_next_available_stream_id()
        try:
            _at_once(
                self.start_request(
                    scheme,
                    service,
                    name,
                    authority=authority,
                    timeout=None if timeout_s is None else _timedelta(timeout_s),
                    custom_metadata=tuple(metadata.items()),
                )
            )
        except (h2.exceptions.ProtocolError, ValueError) as exc:
            self.forget(call_id)
            if isinstance(exc, h2.exceptions.TooManyStreamsError):
                code = StatusCode.RESOURCE_EXHAUSTED
                raise CallFailedError(code, "the server takes no more calls at once") from exc
            raise MisuseError(f"{method.name} cannot be called: {exc}") from exc
        return call_id

    def send_window(self, call_id: int) -> int:
        """How many bytes ``send`` may take now; 0 for a call that is over."""
        if call_id not in self._streams:
            return 0
        window: int = self._http2.flow_control_window(call_id)
        return max(0, window)

    def send(self, call_id: int, data: bytes | memoryview, *, gzip: bool) -> None:
        """The next bytes of our half, at most ``send_window`` of them; ``gzip`` is the encoding of
        a server's flagged messages."""
        stream = self._streams[call_id]
        if not self.client_side and not stream.response_started:
            self._http2.config._message_encoding = "gzip" if gzip else None  # for the headers
            _at_once(stream.start_response())
        self._http2.send_data(call_id, data)
        self._flush()

    def end_request(self, call_id: int) -> None:
        """A client's half is complete."""
        if call_id in self._streams:
            _at_once(self._streams[call_id].close())

    def end_reply(self, call_id: int, code: StatusCode, details: str) -> None:
        """A server ends the call; what the caller still sends is not read."""
        if call_id in self._streams:
            _at_once(self._streams[call_id].close(Status(code.value, details)))
            self._reset(call_id, ErrorCodes.NO_ERROR)  # unless the caller's half has ended too

    def reset(self, call_id: int) -> None:
        """End the call at once, both ways."""
        self._reset(call_id, ErrorCodes.CANCEL)

    def consumed(self, call_id: int, credit: int) -> None:
        """That much received credit is free again; also for a call that is over."""
        self._http2.acknowledge_received_data(call_id, credit)
        self._flush()

    def trust(self, call_id: int) -> None:
        """The other side proved who it is on this call, which gets a large window."""
        stream = self._streams.get(call_id)
        more = self._limits.trusted_call_window_bytes - self._limits.call_window_bytes
        if stream is not None and not stream.has_large_window and more > 0:
            stream.has_large_window = True
            # An end of the caller's half may have come already; there is no window to open then.
            with suppress(h2.exceptions.ProtocolError):
                self._http2.h2_connection.increment_flow_control_window(more, call_id)
            self._flush()

    def drain(self) -> None:
        """Tell the other side that no new calls are taken; those under way go on."""
        self._http2.say_goaway(ErrorCodes.NO_ERROR, "")
        self._flush()

    # --- what purerpc and its streams ask ---

    def _stream_ctor(self, stream_id: int) -> "_Stream":
        return _Stream(self._http2, stream_id, self._socket, self)

    def forget(self, call_id: int) -> bool:
        """A call is over; whether it was not before."""
        self._http2.message_read_buffers.pop(call_id, None)
        return self._streams.pop(call_id, None) is not None

    def _reset(self, call_id: int, code: ErrorCodes) -> None:
        if self.forget(call_id):
            with suppress(h2.exceptions.ProtocolError):  # both halves have ended just now
                self._http2.reset_stream(call_id, code)
            self._flush()

    def _take_goaway(self, frame: GoAwayFrame) -> None:
        code = ErrorCodes(frame.error_code).name if frame.error_code in _ERRORS else "unknown"
        why = bytes(frame.additional_data)[:100].decode("ascii", "backslashreplace")
        self.on_event(Draining(frame.last_stream_id, f"{code}: {why}" if why else code))

    def _flush(self) -> None:
        _at_once(self._socket.flush())


class _Stream(GRPCStream):
    """A call as purerpc has it, whose events are not kept but told."""

    def __init__(self, connection: Any, stream_id: int, socket: Any, link: Link) -> None:
        super().__init__(connection, stream_id, socket, link)
        self._link = link
        self.has_large_window = False
        queue: Any = self._incoming_events
        for end in queue:  # it has no bound, and anyio warns of one that is left open
            end.close()
        self._incoming_events: Any = (self, None)

    @property
    def response_started(self) -> bool:
        return bool(self._response_started)

    async def send(self, event: Any) -> None:
        """What would go into the queue. Never waits, so that nothing happens within a read."""
        if isinstance(event, Reset):
            self._link.reset(self.stream_id)  # unless HTTP/2 has it that it is over
        if (told := _told(event)) is not None:
            self._link.on_event(told)
        else:
            self._refuse(event)

    async def _set_flow_control_update(self) -> None:
        self._link.on_event(WindowOpened(self.stream_id))

    def _close_remote(self) -> None:
        super()._close_remote()
        if self.client_side and self._state is GRPCStreamState.HALF_CLOSED_REMOTE:
            self._link.reset(self.stream_id)  # answered before we had said all

    def _refuse(self, request: Any) -> None:
        name = f"{request.service_name}/{request.method_name}"
        with suppress(h2.exceptions.ProtocolError):  # reset behind it, in the same read
            self._link.end_reply(
                self.stream_id, StatusCode.UNIMPLEMENTED, f"{name[:100]} is unknown"
            )


class _Streams(dict[int, Any]):
    """The calls by their numbers. purerpc asks for the call of each event of a read, and would stop
    reading for one that was over before it."""

    def __init__(self, link: Link) -> None:
        self._over = _Over(link)

    def __missing__(self, call_id: int) -> "_Over":
        return self._over


class _Over:
    """Takes what still comes for calls that are over."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._incoming_events = (self, None)

    async def send(self, event: Any) -> None:
        if isinstance(event, e.MessageReceived):
            self._link.consumed(event.stream_id, event.flow_controlled_length)

    def _close_remote(self) -> None:
        pass


def _told(event: Any) -> Event | None:
    """An event of purerpc's as ours; None for a request to an unknown method."""
    match event:
        case e.RequestReceived():
            if (method := method_of(event)) is None:
                return None
            return CallOpened(
                event.stream_id,
                method,
                dict(event.custom_metadata),
                None if event.timeout is None else event.timeout.total_seconds(),
                event.message_encoding or "identity",
                "gzip" in [each.strip() for each in event.message_accept_encoding or ()],
            )
        case e.ResponseReceived():
            return ReplyBegan(event.stream_id, event.message_encoding or "identity")
        case e.MessageReceived():
            return BytesReceived(event.stream_id, event.data, event.flow_controlled_length)
        case e.RequestEnded():
            return RequestEnded(event.stream_id)
        case e.ResponseEnded():
            status = event.status
            known = _CODES.get(status.int_value, StatusCode.UNKNOWN)
            return StatusReceived(event.stream_id, known, status.status_message)
        case Reset(stream_id, why):
            return CallReset(stream_id, why)
        case _:
            raise AssertionError(f"purerpc tells of {event!r}")


def _timedelta(timeout_s: float) -> datetime.timedelta:
    """In whole seconds where microseconds would take more digits than there are."""
    if timeout_s * 1e6 > _MOST:
        return datetime.timedelta(seconds=math.ceil(min(timeout_s, _MOST)))
    return datetime.timedelta(microseconds=max(1, int(timeout_s * 1e6)))


def _at_once(waiting: Awaitable[Any]) -> Any:
    """The result of a coroutine of purerpc's that only queues, and never waits."""
    assert isinstance(waiting, Coroutine)
    try:
        waiting.send(None)
    except StopIteration as done:
        return done.value
    waiting.close()
    raise AssertionError(f"{waiting} waits")
