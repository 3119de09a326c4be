"""The fields of a protobuf message on the wire, one after another, without a copy.

For messages that are not hashed themselves; those that are have :mod:`aelf_p2p.core.canonical`.
Source: protobuf.dev, "Encoding".
"""

from collections.abc import Iterator
from typing import Final

from aelf_p2p.core.errors import MalformedError

# Wire types.
VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

MAX_UNKNOWN_FIELDS: Final = 64
"""How many fields beside the ones looked for a message that is not hashed may have."""
_MAX_FIELD_NUMBER: Final = (1 << 29) - 1
_MAX_UINT64: Final = (1 << 64) - 1
_RUN_BYTES: Final = 32 * 1024  # parsing more at once leaves holes in the heap, and saves little


def each_field_untrusted(
    raw: bytes | memoryview, pos: int = 0
) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, and where the content begins and ends, of every field."""
    end = len(raw)
    try:
        while pos < end:
            tag = raw[pos]
            if tag < 0x80:
                pos += 1
            else:
                tag, pos = read_varint(raw, pos)
            number, wire = tag >> 3, tag & 7
            if not 1 <= number <= _MAX_FIELD_NUMBER:
                raise MalformedError(f"no field can have the number {number}")
            begin = pos
            if wire == VARINT:
                _, pos = read_varint(raw, pos)
            elif wire == LENGTH:
                length, begin = read_varint(raw, pos)
                pos = begin + length
            elif wire == FIXED64:
                pos += 8
            elif wire == FIXED32:
                pos += 4
            else:
                raise MalformedError(f"field {number} has the wire type {wire}")
            if pos > end:
                raise MalformedError(f"field {number} is cut short")
            yield number, wire, begin, pos
    except IndexError:
        raise MalformedError("a varint is cut short") from None


def read_varint(raw: bytes | memoryview, pos: int) -> tuple[int, int]:
    """Return the varint at ``pos``, below 2**64, and where it ends; IndexError if cut short."""
    value = shift = 0
    while True:
        byte = raw[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise MalformedError("a varint is longer than 10 bytes")
    if value > _MAX_UINT64:
        raise MalformedError("a varint is above 64 bits")
    if byte == 0 and shift:
        raise MalformedError("a varint is longer than it need be")
    return value, pos


def repeated_untrusted(raw: bytes | memoryview, *numbers: int) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of the length-delimited fields that have one of ``numbers``, lazily
    and without copying.

    For messages that are not hashed themselves (BlockWithTransactions, BlockList): their fields
    may come in any order; a few others are passed over, groups are malformed.

    :raises MalformedError: when the walk comes to the damage, after what stands before it.
    """
    view = memoryview(raw)
    unknown = 0
    for number, wire, begin, end in each_field_untrusted(view):
        if wire == LENGTH and number in numbers:
            yield number, view[begin:end]
        else:
            unknown = _count_unknown(unknown)


def repeated_runs_untrusted(
    raw: bytes | memoryview, *numbers: int, most: int
) -> Iterator[tuple[int, list[bytes], bytes]]:
    """The same with neighbours of one number together, copied. Yields the number, the content of
    each field, and of several also all of them as they stand there, tags and lengths included.

    At most ``most`` come together, of 32 KiB in all; a larger one comes alone. ``numbers`` are
    below 16, so that a tag is one byte.

    :raises MalformedError: when the walk comes to the damage, after what stands before it.
    """
    view = memoryview(raw)
    pos = unknown = 0
    while pos < len(view):
        number, wire, begin, end = next(each_field_untrusted(view, pos))
        if wire != LENGTH or number not in numbers:
            unknown = _count_unknown(unknown)
        elif end - pos > _RUN_BYTES // 2:
            yield number, [bytes(view[begin:end])], b""
        else:
            fields = bytes(view[pos : pos + _RUN_BYTES])
            bodies, size = _cut_run(fields, begin - pos, end - pos, most)
            yield number, bodies, fields[:size] if len(bodies) > 1 else b""
            end = pos + size
        pos = end


def _cut_run(fields: bytes, begin: int, end: int, most: int) -> tuple[list[bytes], int]:
    """What is in the first field, which begins and ends there, and in those behind it that are
    whole, with the same tag and lengths of one byte or two; and where the last one ends."""
    tag, size = fields[0], len(fields)
    bodies = [fields[begin:end]]
    while end + 2 < size and fields[end] == tag and len(bodies) < most:
        length, begin = fields[end + 1], end + 2
        if length > 0x7F:
            high = fields[begin]
            if not 0 < high < 0x80:
                break  # longer, or wrong
            length, begin = length & 0x7F | high << 7, begin + 1
        if begin + length > size:
            break
        end = begin + length
        bodies.append(fields[begin:end])
    return bodies, end


def field_untrusted(raw: bytes | memoryview, number: int) -> bytes | None:
    """Return the received bytes of one length-delimited field, None if absent.

    :raises MalformedError: ``raw`` is no message, or the field comes twice (protobuf would merge
        the two into bytes that nobody sent).
    """
    view = field_view_untrusted(raw, number)
    return None if view is None else bytes(view)


def field_view_untrusted(raw: bytes | memoryview, number: int) -> memoryview | None:
    """The same without copying."""
    found: memoryview | None = None
    for _, body in repeated_untrusted(raw, number):
        if found is not None:
            raise MalformedError(f"field {number} comes twice")
        found = body
    return found


def cut_field_untrusted(raw: bytes | memoryview, number: int) -> tuple[bytes, memoryview]:
    """Take one length-delimited field out: return what stands around it, and its content.

    The content is not copied. It is empty when the field is absent; of a field that comes several
    times it is the last, as protobuf has it for text and bytes, and the others are left out.

    :raises MalformedError: ``raw`` is no message, or has more than a few fields, or one that is
        laid out as no encoder does.
    """
    view = memoryview(raw)
    content = view[:0]
    around: list[memoryview] = []
    at = fields = 0
    for each, wire, begin, end in each_field_untrusted(view):
        fields = _count_unknown(fields)
        if each == number and wire == LENGTH:
            content = view[begin:end]
        else:
            around.append(view[at:end])
        at = end
    return b"".join(around), content


def _count_unknown(count: int) -> int:
    """A message of millions of tiny fields would hold the loop for seconds."""
    if count >= MAX_UNKNOWN_FIELDS:
        raise MalformedError(f"over {MAX_UNKNOWN_FIELDS} fields that nobody asked for")
    return count + 1
