"""A look at each HTTP/2 frame's header on its way to h2: floods are counted, GOAWAY is taken off.

h2 raises on every frame of the streams still open once it has seen a GOAWAY, so it never sees one.
It also keeps a frame until it is whole before it looks at its length, and takes any number of
frames that mean nothing; both are limited here. Source: RFC 9113 §4.1, §6.
"""

from collections.abc import Iterator

from hyperframe.exceptions import HyperframeError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    SettingsFrame,
)

from aelf_p2p.core.errors import MalformedError, ProtocolViolationError
from aelf_p2p.core.options import KIB
from aelf_p2p.transports.net.budgets import EventBudget
from aelf_p2p.transports.net.limits import WireLimits

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_FRAME_BYTES = 16 * KIB
"""HTTP/2's least; a header block of many frames is kept until it is whole, so it stays small."""
MAX_HEADER_BLOCK_BYTES = 32 * KIB
SMALL_DATA_BYTES = 32

_HEADER_BYTES = 9
_GOAWAY_LEAST_BYTES = 8
_ACK = _END_STREAM = 0x1
_PADDED = 0x8


class FrameScanner:
    """Cuts what comes in into what h2 is to see and GOAWAY frames, in their order."""

    def __init__(self, limits: WireLimits, *, expects_preface: bool) -> None:
        self._passing = len(PREFACE) if expects_preface else 0  # bytes that are no frame header
        self._tail = b""  # of a frame header that is not whole
        self._goaway: bytearray | None = None
        self._header_block_bytes = 0
        self._small = EventBudget(limits.small_frames)
        self._empty = EventBudget(limits.empty_frames)
        self._by_type = {
            SettingsFrame.type: ("settings", EventBudget(limits.settings)),
            PingFrame.type: ("pings", EventBudget(limits.pings)),
        }

    def scan_untrusted(self, data: bytes, now: float) -> Iterator[bytes | GoAwayFrame]:
        """Raises ProtocolViolationError at a flood, MalformedError at a frame that is too long."""
        if self._tail:
            data = self._tail + data
            self._tail = b""
        begin = at = 0  # where what h2 is to see begins, and how far we have looked
        while at < len(data):
            if self._passing:
                step = min(self._passing, len(data) - at)
                self._passing -= step
                at += step
                if self._goaway is not None:
                    self._goaway += data[at - step : at]
                    begin = at
                    if not self._passing:
                        yield _parse_goaway_untrusted(bytes(self._goaway))
                        self._goaway = None
                continue
            if len(data) - at < _HEADER_BYTES:
                self._tail = data[at:]
                break
            length = int.from_bytes(data[at : at + 3], "big")
            kind, flags = data[at + 3], data[at + 4]
            if length > MAX_FRAME_BYTES:
                raise MalformedError(f"a frame of {length} bytes, over {MAX_FRAME_BYTES}")
            self._count(kind, flags, length, now)
            if kind == GoAwayFrame.type:
                if length < _GOAWAY_LEAST_BYTES:
                    raise MalformedError(f"a GOAWAY of {length} bytes")
                if begin < at:
                    yield data[begin:at]
                self._goaway = bytearray(data[at : at + _HEADER_BYTES])
                begin = at + _HEADER_BYTES
            at += _HEADER_BYTES
            self._passing = length
        if begin < at:
            yield data[begin:at]

    def _count(self, kind: int, flags: int, length: int, now: float) -> None:
        if kind == DataFrame.type:
            if length == 0 and not flags & _END_STREAM:
                _spend(self._empty, "empty frames", now)
            elif length <= SMALL_DATA_BYTES or flags & _PADDED:
                _spend(self._small, "small frames", now)
        elif kind in (HeadersFrame.type, ContinuationFrame.type):
            if length == 0:
                _spend(self._empty, "empty frames", now)
            if kind == HeadersFrame.type:
                self._header_block_bytes = 0
            self._header_block_bytes += length
            if self._header_block_bytes > MAX_HEADER_BLOCK_BYTES:
                raise ProtocolViolationError(f"headers of over {MAX_HEADER_BLOCK_BYTES} bytes")
        elif kind in self._by_type and not flags & _ACK:
            name, budget = self._by_type[kind]
            _spend(budget, name, now)
        else:
            _spend(self._small, "small frames", now)


def _spend(budget: EventBudget, what: str, now: float) -> None:
    if not budget.spend(now):
        raise ProtocolViolationError(f"too many {what}")


def _parse_goaway_untrusted(data: bytes) -> GoAwayFrame:
    try:
        frame, _ = GoAwayFrame.parse_frame_header(memoryview(data[:_HEADER_BYTES]))
        frame.parse_body(memoryview(data[_HEADER_BYTES:]))
    except HyperframeError as exc:
        raise MalformedError(f"a malformed GOAWAY: {exc}") from exc
    if not isinstance(frame, GoAwayFrame):
        raise MalformedError("a malformed GOAWAY")
    return frame
