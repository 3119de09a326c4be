"""h2 as we use it: with our limits from the first frame on, and lenient where the C core is.

DATA frames, nearly all that a connection carries, do not go through h2's frame objects, which take
ten times as long as the sending itself: they are written and read by hand, while h2 still decides
whether they may come or go, and keeps the windows.
"""

import logging
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any, cast

import h2.events as e
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import StreamClosedError, StreamIDTooLowError, TooManyStreamsError
from h2.settings import SettingCodes, Settings
from h2.stream import H2Stream, StreamState
from hpack import Decoder, HeaderTuple

from aelf_p2p.core.options import KIB
from aelf_p2p.transports.net.limits import WireLimits

MAX_HEADER_LIST_BYTES = 16 * KIB
ENCODER_TABLE_BYTES = 4 * KIB
"""HTTP/2's initial size. Whatever more the other side allows is not used: hpack searches the table
entry by entry for each header."""

_DATA = 0  # the type of a frame (RFC 9113 §6.1)
_frame_header = struct.Struct(">BHBBL")  # length in two parts, type, flags, stream

_MAY_SEND = {StreamState.OPEN, StreamState.HALF_CLOSED_REMOTE}
_MAY_RECEIVE = {StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL}

# hpack logs every header, session ids among them, and those are never logged.
logging.getLogger("hpack").setLevel(logging.INFO)


class Http2(H2Connection):
    """One connection, greeted; headers are bytes."""

    MAX_CLOSED_STREAMS = 4096  # h2 remembers how streams ended; its own 65,536 weigh 8 MB

    def __init__(self, limits: WireLimits, *, is_client: bool) -> None:
        super().__init__(
            H2Configuration(
                client_side=is_client,
                header_encoding=None,
                # What we send is made right; looking at it again takes as long as packing it.
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.decoder = _LenientDecoder()
        self.decoder.max_header_list_size = MAX_HEADER_LIST_BYTES
        self.local_settings = Settings(
            client=is_client,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.max_calls,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST_BYTES,
                SettingCodes.INITIAL_WINDOW_SIZE: limits.call_window_bytes,
            },
        )
        _slim(self.local_settings)
        _slim(self.remote_settings)
        for coder in (self.encoder, self.decoder):
            coder.header_table.dynamic_entries = cast(Any, _Short())
        self.initiate_connection()

    def data_frames(self, stream_id: int, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """Send data within the windows as frames, which belong behind what ``data_to_send`` gives.

        Raises h2's errors where ``send_data`` would; nothing for no data, which h2 itself cannot
        send on a stream that it has forgotten.
        """
        if not data:
            return
        stream = self.streams.get(stream_id)
        if stream is None or stream.state_machine.state not in _MAY_SEND:
            self.send_data(stream_id, data)  # says what is wrong
            return
        most = self.max_outbound_frame_size
        data = memoryview(data)
        for at in range(0, len(data), most):
            piece = data[at : at + most]
            size = len(piece)
            self.outbound_flow_control_window -= size
            stream.outbound_flow_control_window -= size
            yield _frame_header.pack(size >> 16, size & 0xFFFF, _DATA, 0, stream_id)
            yield piece

    def take_data_frame(self, stream_id: int, size: int) -> bool:
        """A DATA frame of so many bytes came, without flags. True when that is right and counted,
        so that h2 need not see it; False when it should: its answer may be an error.

        Raises FlowControlError when a window has no room for it.
        """
        stream = self.streams.get(stream_id)
        if stream is None or not _takes_data(stream):
            return False
        try:
            windows = self._inbound_flow_control_window_manager, stream._inbound_window_manager
        except AttributeError:  # an h2 that keeps them elsewhere
            return False
        for window in windows:
            window.window_consumed(size)
        return True

    def bound_their_settings(self, event: e.RemoteSettingsChanged) -> None:
        """Settings of the other side cost us nothing."""
        for code in event.changed_settings:
            if not isinstance(code, SettingCodes):  # h2 would keep them all, 0.8 KiB each
                self.remote_settings.pop(code, None)
        _slim(self.remote_settings)  # some came that had no value yet
        self.encoder.header_table_size = min(self.encoder.header_table_size, ENCODER_TABLE_BYTES)


def still_open() -> AbstractContextManager[None]:
    """Around what is said on a stream: h2 may know of its end, whose event was not taken yet, or
    have forgotten the stream; headers then look to it like those of a new one."""
    return suppress(StreamClosedError, StreamIDTooLowError, TooManyStreamsError)


def _takes_data(stream: H2Stream) -> bool:
    machine = stream.state_machine
    return bool(
        machine.state in _MAY_RECEIVE
        and machine.headers_received
        and not machine.trailers_received
        and getattr(stream, "_expected_content_length", 0) is None  # else h2 counts what comes
    )


class _Short(list[Any]):
    """What h2 and hpack keep in deques: sixteen of a connection, with an entry or a few in each.
    A deque weighs 0.7 KiB however short it is; these were a tenth of what an idle peer takes."""

    __slots__ = ()

    def popleft(self) -> Any:
        """As a deque's."""
        return self.pop(0)

    def appendleft(self, entry: Any) -> None:
        """As a deque's."""
        self.insert(0, entry)


def _slim(settings: Settings) -> None:
    kept: dict[SettingCodes | int, Any] = getattr(settings, "_settings", {})
    for code, values in kept.items():
        if isinstance(values, deque):
            kept[code] = _Short(values)


class _LenientDecoder(Decoder):
    """The C core sends text as it is, and h2 ends the connection for a space at either end of it
    (RFC 9113 §8.2.1); those spaces mean nothing in HTTP."""

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """Always raw, as h2 asks for."""
        headers = super().decode(data, raw=True)
        return [type(header)(header[0], header[1].strip(b" \t")) for header in headers]
