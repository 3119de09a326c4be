"""One long call over the frames of the tcp transport, by hand; see ``stream_client``. No I/O."""

import struct

from aelf_p2p.contracts import Metadata
from aelf_p2p.transports.tcp import frames as f
from aelf_p2p.transports.tcp.codec import MAX_WINDOW_BYTES
from aelf_p2p.transports.tcp.frames import FrameKind
from aelf_p2p.wire.methods import Method
from benchmarks.stream_client import StreamEndedError

_CALL = 1
_BYTES = int(FrameKind.BYTES)  # once, not for every frame
_REOPEN_BYTES = 1 << 30  # received before the window, 2 GiB, is opened again

_header = struct.Struct(">IBI")


class TcpClient:
    """A client's connection with its only call."""

    def __init__(self, method: Method, *, metadata: Metadata) -> None:
        opening = f.Opening(method.path, metadata, timeout_s=None, accepts_gzip=False)
        self._out = bytearray(f.PREFACE)
        self._out += f.encode_settings(MAX_WINDOW_BYTES, 0)
        self._out += f.encode_open(_CALL, opening)
        self._window = 0
        self._unsent = bytearray()  # messages that the window holds back
        self._frames = bytearray()  # received, and perhaps not whole
        self._preface_seen = False
        self._received = 0
        self.unread = bytearray()
        """What came on the call, messages with their prefixes; whoever reads them deletes them."""

    def receive(self, data: bytes) -> None:
        """Take what came. Raises StreamEndedError."""
        frames = self._frames
        frames += data
        if not self._preface_seen:
            if len(frames) < len(f.PREFACE):
                return
            del frames[: len(f.PREFACE)]
            self._preface_seen = True
        at = 0
        while len(frames) - at >= _header.size:
            length, kind, _ = _header.unpack_from(frames, at)
            begin = at + _header.size
            end = begin + length
            if end > len(frames):
                break
            if kind == _BYTES:
                self.unread += frames[begin:end]
                self._received += length
            else:
                self._take_frame(FrameKind(kind), bytes(frames[begin:end]))
            at = end
        del frames[:at]
        if self._received >= _REOPEN_BYTES:
            self._out += f.encode_credit(_CALL, self._received)
            self._received = 0

    def send(self, messages: bytes) -> None:
        """Send messages with their prefixes, as far as the window lets them; the others later."""
        self._unsent += messages

    def data_to_send(self) -> bytes:
        """Take the bytes that wait to be sent."""
        while self._unsent and self._window:
            piece = self._unsent[: min(self._window, f.MAX_SENT_BYTES)]
            del self._unsent[: len(piece)]
            self._window -= len(piece)
            self._out += f.encode_header(FrameKind.BYTES, _CALL, len(piece)) + piece
        data = bytes(self._out)
        self._out.clear()
        return data

    def _take_frame(self, kind: FrameKind, payload: bytes) -> None:
        match kind:
            case FrameKind.SETTINGS:
                self._window, _ = f.parse_settings_untrusted(payload)
            case FrameKind.CREDIT:
                self._window += f.parse_credit_untrusted(payload)
            case FrameKind.STATUS | FrameKind.RESET | FrameKind.GOAWAY:
                raise StreamEndedError(f"the sender ended it: {kind.name} {payload!r}")
