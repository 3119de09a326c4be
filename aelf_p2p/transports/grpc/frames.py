"""A look at each HTTP/2 frame's header on its way to h2: floods are counted, GOAWAY is taken off.

h2 raises on every frame of the streams still open once it has seen a GOAWAY, so it never sees one.
It also keeps a frame until it is whole before it looks at its length, and takes any number of
frames that mean nothing; both are limited here. Source: RFC 9113 §4.1, §6.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from hyperframe import exceptions
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    SettingsFrame,
)

from aelf_p2p.core.budgets import EventBudget
from aelf_p2p.core.errors import MalformedError, ProtocolViolationError
from aelf_p2p.core.options import KIB
from aelf_p2p.transports.net.codec import FRAMES_A_TURN
from aelf_p2p.transports.net.limits import WireLimits

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_FRAME_BYTES = 16 * KIB
"""HTTP/2's least; a header block of many frames is kept until it is whole, so it stays small."""
MAX_HEADER_BLOCK_BYTES = 32 * KIB
SMALL_DATA_BYTES = 32

_HEADER_BYTES = 9
_GOAWAY_LEAST_BYTES = 8
_ACK = _END_STREAM = 0x1
_END_HEADERS = 0x4
_PADDED = 0x8
_STREAM_ID = 0x7FFFFFFF  # the highest bit means nothing (RFC 9113 §4.1)
_PERHAPS_APART = {GoAwayFrame.type, DataFrame.type}


class DataPiece(NamedTuple):
    """Bytes of a DATA frame, perhaps not all of them."""

    stream_id: int
    data: bytes


class FrameScanner:
    """Cuts what comes in into what h2 is to see, GOAWAY frames, and DATA frames, in their order.

    ``takes_data(stream_id, size)`` is asked at the head of each DATA frame that has no flags, once
    all before it was given: whether it is to be given apart, or to h2.
    """

    def __init__(
        self,
        limits: WireLimits,
        *,
        expects_preface: bool,
        takes_data: Callable[[int, int], bool] = lambda stream_id, size: False,
    ) -> None:
        self._takes_data = takes_data
        self._passing = len(PREFACE) if expects_preface else 0  # bytes that are no frame header
        self._tail = b""  # of a frame header that is not whole
        self._apart: bytearray | int | None = None  # a GOAWAY so far, or the stream of DATA
        self._in_header_block = False
        self._header_block_bytes = 0
        self._small = EventBudget(limits.small_frames)
        self._empty = EventBudget(limits.empty_frames)
        self._by_type = {
            SettingsFrame.type: ("settings", EventBudget(limits.settings)),
            PingFrame.type: ("pings", EventBudget(limits.pings)),
        }

    def scan_untrusted(
        self, data: bytes, now: float
    ) -> Iterator[bytes | GoAwayFrame | DataPiece | None]:
        """None after every ``FRAMES_A_TURN`` frames. Raises ProtocolViolationError at a flood,
        MalformedError at a frame that is too long."""
        data = self._tail + data
        self._tail = b""
        begin = at = frames = 0  # where what h2 is to see begins, and how far we have looked
        while at < len(data):
            if self._passing:
                step = min(self._passing, len(data) - at)
                self._passing -= step
                at += step
                if self._apart is not None:
                    yield from self._take_apart(self._apart, data[at - step : at])
                    begin = at
                continue
            if len(data) - at < _HEADER_BYTES:
                self._tail = data[at:]
                break
            kind, length = data[at + 3], int.from_bytes(data[at : at + 3], "big")
            if length > MAX_FRAME_BYTES:
                raise MalformedError(f"a frame of {length} bytes, over {MAX_FRAME_BYTES}")
            self._count(kind, data[at + 4], length, now)
            frames += 1
            turn_ends = frames % FRAMES_A_TURN == 0
            if begin < at and (turn_ends or kind in _PERHAPS_APART):
                yield data[begin:at]
                begin = at
            if turn_ends:
                yield None
            header = data[at : at + _HEADER_BYTES]
            at += _HEADER_BYTES
            self._passing = length
            if kind in _PERHAPS_APART and self._begin_apart(header, length):
                begin = at
        if begin < at:
            yield data[begin:at]

    def _begin_apart(self, header: bytes, length: int) -> bool:
        """Whether h2 is not to see the frame that begins."""
        if header[3] == GoAwayFrame.type:
            if length < _GOAWAY_LEAST_BYTES:
                raise MalformedError(f"a GOAWAY of {length} bytes")
            self._apart = bytearray(header)
        elif length and not header[4] and not self._in_header_block:
            stream_id = int.from_bytes(header[5:], "big") & _STREAM_ID
            if self._takes_data(stream_id, length):
                self._apart = stream_id
        return self._apart is not None

    def _take_apart(
        self, apart: bytearray | int, piece: bytes
    ) -> Iterator[GoAwayFrame | DataPiece]:
        """More of such a frame: a GOAWAY is given when it is whole, DATA as it comes."""
        if not self._passing:
            self._apart = None
        if isinstance(apart, int):
            yield DataPiece(apart, piece)
            return
        apart += piece
        if not self._passing:
            yield _parse_goaway_untrusted(bytes(apart))

    def _count(self, kind: int, flags: int, length: int, now: float) -> None:
        if kind == DataFrame.type:
            if length == 0 and not flags & _END_STREAM:
                _spend(self._empty, "empty frames", now)
            elif length <= SMALL_DATA_BYTES or flags & _PADDED:
                _spend(self._small, "small frames", now)
        elif kind in (HeadersFrame.type, ContinuationFrame.type):
            if length == 0:
                _spend(self._empty, "empty frames", now)
            self._in_header_block = not flags & _END_HEADERS
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
    except exceptions.HyperframeError as exc:  # by its module: hyperframe 5 has no such name
        raise MalformedError(f"a malformed GOAWAY: {exc}") from exc
    if not isinstance(frame, GoAwayFrame):
        raise MalformedError("a malformed GOAWAY")
    return frame
