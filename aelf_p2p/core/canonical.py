"""Bytes that have one agreed hash: a walk over protobuf's wire format, and tiny encoders.

The network hashes a transaction, a block header and a HandshakeData as C# would serialise them
(protocol.md §2, "Hash what was received"). The received bytes are those bytes only when they are
laid out as C#'s runtime lays them out, which is what :func:`walk_untrusted` establishes:

* known fields in ascending order, each at most once, none with its default value;
* every varint as short as it can be, a negative int32 sign-extended to ten bytes;
* strings in UTF-8, known fields of their declared wire type, nested messages laid out likewise;
* map entries in any order, without a repeated key and without unknown fields (C# drops those);
* unknown fields after all known ones, those of one number together and in the order varint,
  fixed32, fixed64, length-delimited (Google.Protobuf, ``UnknownField.WriteTo``); no groups.

Nothing here recurses deeper than a field of a field, and every byte is looked at a bounded number
of times.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from aelf_p2p.core.errors import MalformedError, MisuseError

_VARINT: Final = 0
_FIXED64: Final = 1
_LENGTH: Final = 2
_FIXED32: Final = 5
# The order in which C# writes the unknown fields of one number.
_UNKNOWN_ORDER: Final = {_VARINT: 0, _FIXED32: 1, _FIXED64: 2, _LENGTH: 3}

MAX_UNKNOWN_FIELDS: Final = 64
"""How many fields beside the ones looked for a message that is not hashed may have."""
_MAX_FIELD_NUMBER: Final = (1 << 29) - 1
_MASK64: Final = (1 << 64) - 1
_RUN_BYTES: Final = 32 * 1024  # parsing more at once leaves holes in the heap, and saves little
_ONE_BYTE: Final = [bytes((value,)) for value in range(0x80)]
_NS_PER_S: Final = 1_000_000_000
# google/protobuf/timestamp.proto: 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z.
_MIN_SECONDS: Final = -62_135_596_800
_MAX_SECONDS: Final = 253_402_300_799


class FieldKind(NamedTuple):
    """How a known field is written: its wire type, and the decoder that checks its value."""

    wire: int
    decode: Callable[[Any], Any]
    is_map: bool = False


class MessageSpec:
    """The known fields of a message, for :func:`walk_untrusted`.

    ``cut`` names the last known field when the hash leaves it out (the signature).
    """

    __slots__ = ("by_tag", "cut", "keeps_unknown", "name", "numbers")

    def __init__(
        self,
        name: str,
        fields: Mapping[int, FieldKind],
        *,
        cut: int = 0,
        keeps_unknown: bool = True,
    ) -> None:
        if cut and cut != max(fields):
            raise MisuseError(f"{name}: only the last known field can be cut out, not {cut}")
        self.name: Final = name
        self.cut: Final = cut
        self.keeps_unknown: Final = keeps_unknown
        self.numbers: Final = frozenset(fields)
        # By tag and not by number, so that one look-up tells the wire type too.
        self.by_tag: Final = {
            number << 3 | kind.wire: (number, kind.wire == _LENGTH, kind.is_map, kind.decode)
            for number, kind in fields.items()
        }


class Fields(NamedTuple):
    """What a canonical message holds.

    ``values`` maps the number of each field that is present to its value: int, bytes or str; for
    a Hash or an Address its 32 bytes; for a Timestamp its unix time in nanoseconds; for a map a
    dict in wire order. ``span`` is where the field to cut out begins and ends, or, when it is
    absent, the empty span where it would be.
    """

    values: dict[int, Any]
    span: tuple[int, int]


def walk_untrusted(raw: bytes, spec: MessageSpec) -> Fields:
    """Decode ``raw``, which must be exactly what C# would serialise.

    :raises MalformedError: it is not (see the module's docstring), or it is cut short.
    """
    values: dict[int, Any] = {}
    by_tag = spec.by_tag
    end = len(raw)
    pos = start = last = number = 0
    try:
        while pos < end:
            tag_at = pos
            tag = raw[pos]
            pos += 1
            if tag > 0x7F:
                tag, pos = _read_varint(raw, tag_at)
            known = by_tag.get(tag)
            if known is None:
                pos = tag_at
                break
            start = tag_at
            number, is_length, is_map, decode = known
            if number <= last and not (is_map and number == last):
                raise MalformedError("comes twice" if number == last else "is out of order")
            last = number
            value = raw[pos]
            pos += 1
            if value > 0x7F:
                value, pos = _read_varint(raw, pos - 1)
            if not is_length:
                values[number] = decode(value)
                continue
            body_at = pos
            pos += value
            if pos > end:
                raise MalformedError("is cut short")
            if is_map:
                _add_entry(values.setdefault(number, {}), decode(raw[body_at:pos]))
            else:
                values[number] = decode(raw[body_at:pos])
    except IndexError:
        raise MalformedError(f"{spec.name} is cut short") from None
    except MalformedError as error:
        raise MalformedError(f"{spec.name}, field {number}: {error}") from None
    if pos < end:
        _check_unknown(raw, pos, spec)
    return Fields(values, (start if last == spec.cut else pos, pos))


def _add_entry(entries: dict[str, bytes], entry: tuple[str, bytes]) -> None:
    key, value = entry
    if key in entries:
        raise MalformedError("repeats a key")
    entries[key] = value


def _check_unknown(raw: bytes, pos: int, spec: MessageSpec) -> None:
    current = order = 0
    seen: set[int] = set()
    for number, wire, _, _ in _each_field(raw, pos):
        if number in spec.numbers:
            raise MalformedError(
                f"{spec.name}, field {number}: wrong wire type, or after an unknown field"
            )
        if not spec.keeps_unknown:
            raise MalformedError(f"{spec.name}: unknown field {number}, which C# drops")
        if number != current:
            if number in seen:
                raise MalformedError(f"{spec.name}: unknown field {number} is scattered")
            seen.add(number)
            current = number
            order = 0
        if _UNKNOWN_ORDER[wire] < order:
            raise MalformedError(f"{spec.name}: unknown field {number} is out of order")
        order = _UNKNOWN_ORDER[wire]


def _each_field(raw: bytes | memoryview, pos: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, and where the content begins and ends, of every field."""
    end = len(raw)
    try:
        while pos < end:
            tag = raw[pos]
            if tag < 0x80:
                pos += 1
            else:
                tag, pos = _read_varint(raw, pos)
            number, wire = tag >> 3, tag & 7
            if not 1 <= number <= _MAX_FIELD_NUMBER:
                raise MalformedError(f"no field can have the number {number}")
            begin = pos
            if wire == _VARINT:
                _, pos = _read_varint(raw, pos)
            elif wire == _LENGTH:
                length, begin = _read_varint(raw, pos)
                pos = begin + length
            elif wire == _FIXED64:
                pos += 8
            elif wire == _FIXED32:
                pos += 4
            else:
                raise MalformedError(f"field {number} has the wire type {wire}")
            if pos > end:
                raise MalformedError(f"field {number} is cut short")
            yield number, wire, begin, pos
    except IndexError:
        raise MalformedError("a varint is cut short") from None


def _read_varint(raw: bytes | memoryview, pos: int) -> tuple[int, int]:
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
    if value > _MASK64:
        raise MalformedError("a varint is above 64 bits")
    if byte == 0 and shift:
        raise MalformedError("a varint is longer than it need be")
    return value, pos


# --- messages whose hash does not matter ----------------------------------------------------------


def repeated_untrusted(raw: bytes | memoryview, *numbers: int) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of the length-delimited fields that have one of ``numbers``, lazily
    and without copying.

    For messages that are not hashed themselves (BlockWithTransactions, BlockList): their fields
    may come in any order; a few others are passed over, groups are malformed.

    :raises MalformedError: when the walk comes to the damage, after what stands before it.
    """
    view = memoryview(raw)
    unknown = 0
    for number, wire, begin, end in _each_field(view):
        if wire == _LENGTH and number in numbers:
            yield number, view[begin:end]
        else:
            unknown = _count_unknown(unknown)


def repeated_runs_untrusted(
    raw: bytes | memoryview, *numbers: int, most: int
) -> Iterator[tuple[int, list[bytes], bytes]]:
    """The same, neighbours of one number together: the number, a copy of what is in each, and, of
    several, one of all as they stand there. At most ``most``, of 32 KiB in all, or one that may be
    larger. For numbers below 16, whose tag is one byte."""
    view = memoryview(raw)
    pos = unknown = 0
    while pos < len(view):
        number, wire, begin, end = next(_each_field(view, pos))
        if wire != _LENGTH or number not in numbers:
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
    for each, wire, begin, end in _each_field(view):
        fields = _count_unknown(fields)
        if each == number and wire == _LENGTH:
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


# --- the kinds of fields --------------------------------------------------------------------------


def _decode_bytes(body: bytes) -> bytes:
    if not body:
        raise MalformedError("a default value is written out")
    return body


def _decode_string(body: bytes) -> str:
    if not body:
        raise MalformedError("a default value is written out")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise MalformedError("not UTF-8") from None


def _decode_int64(value: int) -> int:
    if value == 0:
        raise MalformedError("a default value is written out")
    return value if value < 1 << 63 else value - (1 << 64)


def _decode_int32(value: int) -> int:
    signed = _decode_int64(value)
    if not -(1 << 31) <= signed < 1 << 31:
        raise MalformedError("not an int32")
    return signed


def _decode_value32(body: bytes) -> bytes:
    """Return the 32 bytes of an aelf.Hash or aelf.Address.

    One without a value (an empty message, ``0a00`` on the wire) has a serialisation in C# but no
    meaning anywhere in the protocol: it is malformed, though a field that is absent is not.
    """
    if len(body) == 34 and body.startswith(b"\n\x20"):
        return body[2:]
    value: bytes = walk_untrusted(body, _VALUE32_SPEC).values.get(1, b"")
    if len(value) != 32:
        raise MalformedError("not 32 bytes")
    return value


def _decode_timestamp(body: bytes) -> int:
    """Return a Timestamp in unix nanoseconds; outside of timestamp.proto's range it is malformed.

    C# serialises such a time, but throws when it comes to read it.
    """
    values = walk_untrusted(body, _TIMESTAMP_SPEC).values
    seconds: int = values.get(1, 0)
    nanos: int = values.get(2, 0)
    if not (_MIN_SECONDS <= seconds <= _MAX_SECONDS and 0 <= nanos < _NS_PER_S):
        raise MalformedError("not a time between the years 1 and 9999")
    return seconds * _NS_PER_S + nanos


def _decode_map_entry(body: bytes) -> tuple[str, bytes]:
    values = walk_untrusted(body, _MAP_ENTRY_SPEC).values
    return values.get(1, ""), values.get(2, b"")


BYTES: Final = FieldKind(_LENGTH, _decode_bytes)
STRING: Final = FieldKind(_LENGTH, _decode_string)
INT32: Final = FieldKind(_VARINT, _decode_int32)
INT64: Final = FieldKind(_VARINT, _decode_int64)
HASH: Final = FieldKind(_LENGTH, _decode_value32)
ADDRESS: Final = HASH
TIMESTAMP: Final = FieldKind(_LENGTH, _decode_timestamp)
MAP_STRING_BYTES: Final = FieldKind(_LENGTH, _decode_map_entry, is_map=True)

_VALUE32_SPEC: Final = MessageSpec("Hash or Address", {1: BYTES})
_TIMESTAMP_SPEC: Final = MessageSpec("Timestamp", {1: INT64, 2: INT32})
_MAP_ENTRY_SPEC: Final = MessageSpec("map entry", {1: STRING, 2: BYTES}, keeps_unknown=False)

# Fields 1 to 10, which C# knows (protocol.md §1). All others are unknown to it and come last,
# those that are our own extensions included.
HANDSHAKE_DATA_SPEC: Final = MessageSpec(
    "HandshakeData",
    {
        1: INT32,  # chain_id
        2: INT32,  # version
        3: INT32,  # listening_port
        4: BYTES,  # pubkey
        5: HASH,  # best_chain_hash
        6: INT64,  # best_chain_height
        7: HASH,  # last_irreversible_block_hash
        8: INT64,  # last_irreversible_block_height
        9: TIMESTAMP,  # time
        10: STRING,  # node_version
    },
)


# --- encoders -------------------------------------------------------------------------------------


@cache
def _tag(number: int, wire: int) -> bytes:
    return encode_varint(number << 3 | wire)


def encode_varint(value: int) -> bytes:
    """Encode an integer from -2**63 to 2**64 - 1; a negative one takes 10 bytes."""
    if 0 <= value < 0x80:  # nearly always, and most others fit into two: for speed alone
        return _ONE_BYTE[value]
    if 0x80 <= value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if not -(1 << 63) <= value <= _MASK64:
        raise MisuseError(f"{value} does not fit into 64 bits")
    value &= _MASK64
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_varint_field(number: int, value: int) -> bytes:
    """Encode an integer field; nothing at all for 0, the default."""
    return _tag(number, _VARINT) + encode_varint(value) if value else b""


def encode_bytes_field(number: int, data: bytes) -> bytes:
    """Encode a singular bytes field; nothing at all for an empty one, the default."""
    return encode_message_field(number, data) if data else b""


def encode_string_field(number: int, text: str) -> bytes:
    """Encode a singular string field; nothing at all for an empty one, the default."""
    try:
        return encode_bytes_field(number, text.encode())
    except UnicodeEncodeError as error:
        raise MisuseError(f"field {number}: text that UTF-8 cannot hold") from error


def encode_message_field(number: int, body: bytes) -> bytes:
    """Encode a submessage or an element of a repeated field, which is written even when empty."""
    return _tag(number, _LENGTH) + encode_varint(len(body)) + body


def encode_hash_field(number: int, value: bytes) -> bytes:
    """Encode a field that holds an aelf.Hash or an aelf.Address of these 32 bytes."""
    return encode_message_field(number, encode_bytes_field(1, value))


def encode_timestamp_field(number: int, time_ns: int) -> bytes:
    """Encode a field that holds a Timestamp, given in unix nanoseconds."""
    seconds, nanos = divmod(time_ns, _NS_PER_S)
    return encode_message_field(
        number, encode_varint_field(1, seconds) + encode_varint_field(2, nanos)
    )
