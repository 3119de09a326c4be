"""One long gRPC call over HTTP/2, by hand: as little work a message as Python can do.

For sinks alone, which must not be what a benchmark measures: it trusts its server, keeps to no
limits, and does not even look at headers. No I/O.
"""

import re
import struct
from functools import cache

from hpack import Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from aelf_p2p.contracts import Metadata
from aelf_p2p.transports.grpc.frames import PREFACE
from aelf_p2p.transports.grpc.headers import request_headers
from aelf_p2p.wire.methods import Method

_CALL = 1
_FRAME_BYTES = 9
_MAX_DATA_BYTES = 16 * 1024
_LEAST_WINDOW = 64 * 1024 - 1
_MAX_WINDOW = (1 << 31) - 1
_REOPEN_BYTES = 1 << 30  # received before the windows, 2 GiB each, are opened again
_END_STREAM = 0x1
_LEAST_TOGETHER = 3  # frames that are worth it

_frame_start = struct.Struct(">IB")  # a length of 3 bytes and the type; the flags


class StreamEndedError(Exception):
    """The server has ended the call, or the connection."""


@cache
def _frames_like(header: bytes, content_bytes: int) -> tuple[re.Pattern[bytes], int]:
    """What frames with this header match, and how long they are."""
    pattern = re.compile(b"%b(.{%d})" % (re.escape(header), content_bytes), re.DOTALL)
    return pattern, _FRAME_BYTES + content_bytes


class StreamClient:
    """A client's connection with its only call."""

    def __init__(self, method: Method, *, authority: str, scheme: str, metadata: Metadata) -> None:
        pairs = request_headers(
            method, authority=authority, scheme=scheme, metadata=metadata, timeout_s=None
        )
        headers = HeadersFrame(_CALL, Encoder().encode(pairs), flags=["END_HEADERS"])
        settings = {
            SettingsFrame.ENABLE_PUSH: 0,
            SettingsFrame.HEADER_TABLE_SIZE: 0,
            SettingsFrame.INITIAL_WINDOW_SIZE: _MAX_WINDOW,
        }
        self._out = bytearray(PREFACE)
        self._say(SettingsFrame(0, settings))
        self._say(WindowUpdateFrame(0, _MAX_WINDOW - _LEAST_WINDOW))
        self._say(headers)
        self._connection_window = self._call_window = self._initial_window = _LEAST_WINDOW
        self._unsent = bytearray()  # messages that the windows hold back
        self._frames = bytearray()  # received, and perhaps not whole
        self._last_header = b""
        self._like_last: tuple[re.Pattern[bytes], int] | None = None
        self._received = 0
        self.unread = bytearray()
        """What came on the call, messages with their prefixes; whoever reads them deletes them."""

    def receive(self, data: bytes) -> None:
        """Take what came. Raises StreamEndedError."""
        frames = self._frames
        frames += data
        self._take_like_last()
        at = 0
        while len(frames) - at >= _FRAME_BYTES:
            length_and_kind, flags = _frame_start.unpack_from(frames, at)
            begin = at + _FRAME_BYTES
            end = begin + (length_and_kind >> 8)
            if end > len(frames):
                break
            if length_and_kind & 0xFF == DataFrame.type and not flags:
                self.unread += frames[begin:end]
                header = bytes(frames[at:begin])
                if header == self._last_header:
                    self._like_last = _frames_like(header, end - begin)
                self._last_header = header
            else:
                self._take_frame(bytes(frames[at:end]))
            at = end
        del frames[:at]
        self._received += len(data)
        if self._received >= _REOPEN_BYTES:
            self._say(WindowUpdateFrame(0, self._received))
            self._say(WindowUpdateFrame(_CALL, self._received))
            self._received = 0

    def send(self, messages: bytes) -> None:
        """Send messages with their prefixes, as far as the windows let them; the others later."""
        self._unsent += messages

    def data_to_send(self) -> bytes:
        """Take the bytes that wait to be sent."""
        while self._unsent:
            room = min(self._connection_window, self._call_window, _MAX_DATA_BYTES)
            if room <= 0:
                break
            piece = bytes(self._unsent[:room])
            del self._unsent[:room]
            self._connection_window -= len(piece)
            self._call_window -= len(piece)
            self._say(DataFrame(_CALL, piece))
        data = bytes(self._out)
        self._out.clear()
        return data

    def _take_like_last(self) -> None:
        """Take DATA frames of one size together, if nothing else is there: servers that send a
        frame for each message give hundreds in one read."""
        if self._like_last is None:
            return
        pattern, frame_bytes = self._like_last
        count = len(self._frames) // frame_bytes
        if count < _LEAST_TOGETHER:
            return
        contents = pattern.findall(self._frames, 0, count * frame_bytes)
        if len(contents) == count:  # they do not overlap, so no byte lies between them
            self.unread += b"".join(contents)
            del self._frames[: count * frame_bytes]

    def _take_frame(self, data: bytes) -> None:
        frame, _ = Frame.parse_frame_header(memoryview(data[:_FRAME_BYTES]))
        frame.parse_body(memoryview(data[_FRAME_BYTES:]))
        match frame:
            case RstStreamFrame() | GoAwayFrame():
                raise StreamEndedError(f"the sender ended it: {frame}")
            case HeadersFrame() | DataFrame() if data[4] & _END_STREAM:
                raise StreamEndedError("the sender ended the call")
            case PingFrame() if "ACK" not in frame.flags:
                self._say(PingFrame(0, frame.opaque_data, flags=["ACK"]))
            case SettingsFrame() if "ACK" not in frame.flags:
                initial = frame.settings.get(
                    SettingsFrame.INITIAL_WINDOW_SIZE, self._initial_window
                )
                self._call_window += initial - self._initial_window
                self._initial_window = initial
                self._say(SettingsFrame(0, flags=["ACK"]))
            case WindowUpdateFrame(stream_id=0):
                self._connection_window += frame.window_increment
            case WindowUpdateFrame():
                self._call_window += frame.window_increment

    def _say(self, frame: Frame) -> None:
        self._out += frame.serialize()
