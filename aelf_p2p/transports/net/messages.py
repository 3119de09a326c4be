"""Messages on a row of bytes: each behind a flag byte and its length, perhaps gzipped.

The prefix is gRPC's (grpc/doc/PROTOCOL-HTTP2.md, Length-Prefixed-Message), for every socket
transport. No I/O: :class:`MessageBuffer` holds what came and cuts it when it is read.
"""

import struct
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from isal import isal_zlib

from aelf_p2p.core.budgets import ByteBudget
from aelf_p2p.core.errors import CallFailedError, StatusCode
from aelf_p2p.core.options import KIB

PREFIX_BYTES = 5

TAKE_BYTES = 64 * KIB
"""The message with which one ``take_untrusted`` reaches this is the last that it gives."""

INFLATE_BYTES = 256 * KIB
"""What one ``take_untrusted`` decompresses at most, counted behind the decompression."""

MESSAGE_OVERHEAD_BYTES = 64
"""What a message counts beside its own bytes, so that empty ones are bounded too."""

_GZIP = 31  # zlib's wbits for a gzip header and trailer
_GZIP_LEVEL = 2  # of ISA-L's 0 to 3: as small as zlib's 1, in a seventh of its time
_INFLATE_OUT_BYTES = 64 * KIB  # of one step
_INFLATE_IN_BYTES = 16 * KIB  # of one step: zlib copies what a step leaves over
_INFLATE_STEP_COST = KIB  # of INFLATE_BYTES, so that steps without output are bounded too
_ALIKE = 64  # messages that are compared at once: a look in vain costs no more than a few of them
_MERGED_BYTES = KIB  # chunks smaller than this together become one: an object weighs 40 bytes

_prefix = struct.Struct(">BI")
_plain_prefix = struct.Struct(">xI")


# --- sending --------------------------------------------------------------------------------------


def message_prefix(length: int, compressed: bool = False) -> bytes:
    """What stands before a message of so many bytes, below 4 GiB."""
    return _prefix.pack(compressed, length)


def frame_messages(messages: Sequence[bytes]) -> bytes:
    """Messages with their prefixes, not compressed."""
    prefixes = map(_plain_prefix.pack, map(len, messages))
    return b"".join(chain.from_iterable(zip(prefixes, messages, strict=True)))


def compress(message: bytes) -> bytes:
    """A message as one gzip member without a time; frame it with ``compressed=True``."""
    return isal_zlib.compress(message, _GZIP_LEVEL, _GZIP)


# --- receiving ------------------------------------------------------------------------------------


class MessageBuffer:
    """One half of a call: received bytes, cut into messages only when they are taken.

    Unread bytes weigh what they are and are bounded by their sender's credit. Of a message that is
    not complete yet, what was taken is held in ``budget``, up to the limit of a message.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self.encoding = "identity"
        """Of messages flagged compressed; any but ``gzip`` allows none."""
        self._budget = budget
        self._unread = _Chunks()
        self._owed = 0  # the credit of everything appended that was not given back yet
        self._body: _Body | None = None
        self._failure: CallFailedError | None = None

    @property
    def unread_bytes(self) -> int:
        """Appended and not yet taken."""
        return self._unread.size

    @property
    def has_work(self) -> bool:
        """Whether ``take_untrusted`` would get further without new bytes."""
        if self._failure is not None or self._owed > self._unread.size:
            return True
        if self._body is None:
            return self._unread.size >= PREFIX_BYTES
        return self._unread.size > 0

    @property
    def in_message(self) -> bool:
        """Once there is no more work: whether the bytes end inside a message."""
        return self._body is not None or self._unread.size > 0

    def append(self, data: bytes, credit: int) -> None:
        """More bytes, and the flow-control credit that they took; padding may add to it."""
        self._owed += credit
        if self._failure is None:
            self._unread.append(data)

    def take_untrusted(self, limit_bytes: int) -> tuple[list[bytes], int]:
        """The next complete messages, in order, and the credit that is free again.

        Takes about TAKE_BYTES, or one larger message; whether there is more says ``has_work``. A
        message is held to the ``limit_bytes`` of the call that reads its prefix.

        Raises CallFailedError, after the messages before the fault: RESOURCE_EXHAUSTED for a
        message over its limit, compressed or not, and for a full budget, INTERNAL for a prefix or
        a compression that cannot be. The buffer then holds nothing and fails again whenever asked.
        """
        messages: list[bytes] = []
        if self._failure is None:
            try:
                self._cut(messages, limit_bytes)
            except CallFailedError as exc:
                self._drop()
                # A copy: a traceback would keep the bytes that its frames know.
                self._failure = CallFailedError(exc.code, exc.details)
                if not messages:
                    raise
        else:
            raise self._failure.with_traceback(None)  # it may be raised many times
        freed = self._owed - self._unread.size
        self._owed = self._unread.size
        return messages, freed

    def close(self) -> int:
        """Drop everything; returns the credit of what was not read."""
        self._drop()
        owed, self._owed = self._owed, 0
        return owed

    def _cut(self, messages: list[bytes], limit_bytes: int) -> None:
        """Append what is complete to ``messages``, until one of the bounds on work is met."""
        unread = self._unread
        room = TAKE_BYTES
        work = _Work(INFLATE_BYTES)
        while room > 0:
            if self._body is None:
                room = unread.cut_small(messages, limit_bytes, room)
                if unread.size < PREFIX_BYTES or room <= 0:
                    return
                flag, length = _prefix.unpack(unread.pull(PREFIX_BYTES))
                if flag or length > limit_bytes:
                    self._check_prefix(flag, length, limit_bytes)
                if not flag and length <= unread.size:
                    messages.append(unread.pull(length))
                    room -= length + MESSAGE_OVERHEAD_BYTES
                    continue
                body: type[_GzipBody | _PlainBody] = _GzipBody if flag else _PlainBody
                self._body = body(length, limit_bytes, self._budget)
            message = self._body.feed_untrusted(unread, work)
            if message is None:
                return
            self._body = None
            messages.append(message)
            room -= len(message) + MESSAGE_OVERHEAD_BYTES

    def _check_prefix(self, flag: int, length: int, limit_bytes: int) -> None:
        """Raises CallFailedError, before anything of the message is kept."""
        if flag > 1:
            raise CallFailedError(StatusCode.INTERNAL, f"a message's flag is {flag}, not 0 or 1")
        if flag and self.encoding != "gzip":
            raise CallFailedError(
                StatusCode.INTERNAL, f"a compressed message in the encoding {self.encoding[:40]!r}"
            )
        if flag and not length:
            raise CallFailedError(StatusCode.INTERNAL, "a compressed message of 0 bytes")
        if length > limit_bytes:
            raise CallFailedError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"a message of {length} bytes, and at most {limit_bytes} are allowed",
            )

    def _drop(self) -> None:
        self._unread = _Chunks()
        if self._body is not None:
            self._body.kept.drop()
            self._body = None


class _Chunks:
    """Bytes in the pieces that they came in, small neighbours merged."""

    def __init__(self) -> None:
        self.size = 0
        self._chunks: deque[bytes] = deque()
        self._start = 0  # in the first chunk: what lies before was pulled

    def append(self, data: bytes) -> None:
        if not data:
            return
        chunks = self._chunks
        if chunks and len(chunks[-1]) + len(data) <= _MERGED_BYTES:
            chunks[-1] += data
        else:
            chunks.append(data)
        self.size += len(data)

    def cut_small(self, messages: list[bytes], limit_bytes: int, room: int) -> int:
        """Move the messages that lie whole and plain in the first piece, until ``room`` is used up;
        returns what is left of it. This is the hot path: a thousand messages may be in one read."""
        if not self._chunks:
            return room
        chunk, at = self._chunks[0], self._start
        end = len(chunk)
        unpack = _prefix.unpack_from
        while room > 0 and at + PREFIX_BYTES <= end:
            flag, length = unpack(chunk, at)
            behind = at + PREFIX_BYTES + length
            if flag or length > limit_bytes or behind > end:
                break
            cost = length + MESSAGE_OVERHEAD_BYTES
            count = 1
            if chunk[behind : behind + PREFIX_BYTES] == chunk[at : at + PREFIX_BYTES]:
                most = min(room // cost + 1, _ALIKE)
                count = _count_alike(chunk, at, PREFIX_BYTES + length, most=most)
                behind = at + count * (PREFIX_BYTES + length)
            messages += [
                chunk[begin : begin + length]
                for begin in range(at + PREFIX_BYTES, behind + 1, PREFIX_BYTES + length)
            ]
            at = behind
            room -= count * cost
        self.skip(at - self._start)
        return room

    def first(self, most: int) -> bytes:
        """The first bytes, as many as lie in one piece, at most ``most``; they stay."""
        return self._chunks[0][self._start : self._start + most] if self._chunks else b""

    def skip(self, count: int) -> None:
        """Remove the first ``count`` bytes, which lie in one piece."""
        self.size -= count
        self._start += count
        if self._chunks and self._start == len(self._chunks[0]):
            self._chunks.popleft()
            self._start = 0

    def pull(self, count: int) -> bytes:
        """Remove the first ``count`` bytes; there must be so many. Joins them at most once."""
        if not count:
            return b""
        end = self._start + count
        if end < len(self._chunks[0]):  # the usual case, by itself since it is the hot path
            piece = self._chunks[0][self._start : end]
            self._start = end
            self.size -= count
            return piece
        pieces = []
        while count:
            piece = self.first(count)
            self.skip(len(piece))
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


def _count_alike(chunk: bytes, at: int, step: int, *, most: int) -> int:
    """How many messages from ``at`` on have the prefix of the first one, at most ``most``; all are
    looked at together. Acknowledgements, above all, are of one size."""
    most = min(most, (len(chunk) - at) // step)  # whole ones
    end = at + most * step
    for offset in range(at, at + PREFIX_BYTES):
        column = chunk[offset:end:step]
        most = min(most, len(column) - len(column.lstrip(column[:1])))
    return most


class _Kept:
    """What is there of one incomplete message, held in the budget."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._held_bytes = 0
        self._chunks = _Chunks()

    @property
    def size(self) -> int:
        return self._chunks.size

    def add(self, piece: bytes) -> None:
        if not self._budget.take(len(piece)):
            raise CallFailedError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"no room for {len(piece)} bytes more of a message, of which {self.size} are held",
            )
        self._held_bytes += len(piece)
        self._chunks.append(piece)

    def complete(self, last: bytes = b"") -> bytes:
        """Hand the message out, with its last bytes, which the budget need not hold."""
        self._chunks.append(last)
        message = self._chunks.pull(self._chunks.size)
        self.drop()
        return message

    def drop(self) -> None:
        self._budget.give(self._held_bytes)
        self._held_bytes = 0
        self._chunks = _Chunks()


@dataclass(slots=True)
class _Work:
    """What one call may still decompress, in bytes."""

    left: int


class _Body(ABC):
    """A message that could not be cut at once."""

    def __init__(self, length: int, limit_bytes: int, budget: ByteBudget) -> None:
        self.kept = _Kept(budget)
        self._missing = length  # bytes of it that were not read yet
        self._limit_bytes = limit_bytes

    @abstractmethod
    def feed_untrusted(self, unread: _Chunks, work: _Work) -> bytes | None:
        """Read on; the message, or None when bytes or work run out. Raises CallFailedError."""


class _PlainBody(_Body):
    def feed_untrusted(self, unread: _Chunks, work: _Work) -> bytes | None:
        if self._missing <= unread.size:
            return self.kept.complete(unread.pull(self._missing))
        while piece := unread.first(unread.size):
            unread.skip(len(piece))
            self._missing -= len(piece)
            self.kept.add(piece)
        return None


class _GzipBody(_Body):
    """One or more gzip members (RFC 1952 §2.2), decompressed in steps of bounded cost."""

    def __init__(self, length: int, limit_bytes: int, budget: ByteBudget) -> None:
        super().__init__(length, limit_bytes, budget)
        self._member = zlib.decompressobj(_GZIP)

    def feed_untrusted(self, unread: _Chunks, work: _Work) -> bytes | None:
        while work.left > 0:
            piece = unread.first(min(self._missing, _INFLATE_IN_BYTES))
            if not piece:
                return None
            self._step(piece, unread, work)
            if self._member.eof:
                if not self._missing:
                    return self.kept.complete()
                self._member = zlib.decompressobj(_GZIP)
            elif not self._missing:  # a member's trailer is used only after all of its output
                raise CallFailedError(
                    StatusCode.INTERNAL, f"gzip ends too early, after {self.kept.size} bytes"
                )
        return None

    def _step(self, piece: bytes, unread: _Chunks, work: _Work) -> None:
        most = min(_INFLATE_OUT_BYTES, work.left, self._limit_bytes + 1 - self.kept.size)
        try:
            output = self._member.decompress(piece, most)
        except zlib.error as exc:
            raise CallFailedError(
                StatusCode.INTERNAL, f"bad gzip after {self.kept.size} bytes of a message: {exc}"
            ) from exc
        # What zlib did not use stays unread: nothing of it is held twice. At the end of a member
        # that took several steps it stands in ``unconsumed_tail`` as well as in ``unused_data``.
        member = self._member
        left = member.unused_data if member.eof else member.unconsumed_tail
        used = len(piece) - len(left)
        unread.skip(used)
        self._missing -= used
        if self.kept.size + len(output) > self._limit_bytes:
            raise CallFailedError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"a message decompresses to more than the {self._limit_bytes} bytes allowed",
            )
        self.kept.add(output)
        work.left -= max(len(output), used) + _INFLATE_STEP_COST
