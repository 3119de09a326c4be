"""Bytes that have one agreed hash: a walk over protobuf's wire format.

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
of times. Megabytes of tiny fields are still right, and take most of a second: so it goes in steps.
"""

from array import array
from collections.abc import Callable, Collection, Mapping
from secrets import randbits
from typing import Any, Final, NamedTuple

from aelf_p2p.core.errors import MalformedError, MisuseError
from aelf_p2p.core.fields import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    each_field_untrusted,
    read_varint,
)
from aelf_p2p.core.steps import Steps, finish

# The order in which C# writes the unknown fields of one number.
_UNKNOWN_ORDER: Final = {VARINT: 0, FIXED32: 1, FIXED64: 2, LENGTH: 3}

_NS_PER_S: Final = 1_000_000_000
# google/protobuf/timestamp.proto: 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z.
_MIN_SECONDS: Final = -62_135_596_800
_MAX_SECONDS: Final = 253_402_300_799


MAX_MAP_ENTRIES: Final = 1 << 16
"""An entry of 7 bytes takes 130 when it is read; real headers have ten of them. C# has no bound."""
STEP_BYTES: Final = 8 * 1024
"""Walked over at once: a millisecond or two when all fields are tiny."""


class FieldKind(NamedTuple):
    """How a known field is written: its wire type, and the decoder that checks its value.

    ``in_steps`` is another decoder, for a value that may hold megabytes of fields itself.
    """

    wire: int
    decode: Callable[[Any], Any]
    is_map: bool = False
    in_steps: Callable[[bytes], Steps[Any]] | None = None


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
            number << 3 | kind.wire: (number, kind.wire == LENGTH, kind.is_map, kind)
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
    return finish(walk_in_steps_untrusted(raw, spec))


def walk_in_steps_untrusted(raw: bytes, spec: MessageSpec) -> Steps[Fields]:
    """The same a bit at a time."""
    values: dict[int, Any] = {}
    last, start, pos = yield from _take_known(raw, spec, values)
    if pos < len(raw):
        yield from _check_unknown(raw, pos, spec)
    return Fields(values, (start if last == spec.cut else pos, pos))


def _take_known(
    raw: bytes, spec: MessageSpec, values: dict[int, Any]
) -> Steps[tuple[int, int, int]]:
    """Decode the known fields into ``values``; the last one's number, where it begins and ends."""
    by_tag = spec.by_tag
    end = len(raw)
    pos = start = last = number = 0
    pause_at = STEP_BYTES
    try:
        while pos < end:
            if pos > pause_at:
                pause_at = pos + STEP_BYTES
                yield
            tag_at = pos
            tag = raw[pos]
            pos += 1
            if tag > 0x7F:
                tag, pos = read_varint(raw, tag_at)
            known = by_tag.get(tag)
            if known is None:
                pos = tag_at
                break
            start = tag_at
            number, is_length, is_map, kind = known
            if number <= last and not (is_map and number == last):
                raise MalformedError("comes twice" if number == last else "is out of order")
            last = number
            value = raw[pos]
            pos += 1
            if value > 0x7F:
                value, pos = read_varint(raw, pos - 1)
            if not is_length:
                values[number] = kind.decode(value)
                continue
            body_at = pos
            pos += value
            if pos > end:
                raise MalformedError("is cut short")
            body = raw[body_at:pos]
            is_large = value > STEP_BYTES
            decoded = (yield from _decode_large(kind, body)) if is_large else kind.decode(body)
            if is_map:
                _add_entry(values.setdefault(number, {}), decoded)
            else:
                values[number] = decoded
    except IndexError:
        raise MalformedError(f"{spec.name} is cut short") from None
    except MalformedError as error:
        raise MalformedError(f"{spec.name}, field {number}: {error}") from None
    return last, start, pos


def _decode_large(kind: FieldKind, body: bytes) -> Steps[Any]:
    return kind.decode(body) if kind.in_steps is None else (yield from kind.in_steps(body))


def _add_entry(entries: dict[str, bytes], entry: tuple[str, bytes]) -> None:
    key, value = entry
    if key in entries:
        raise MalformedError("repeats a key")
    if len(entries) >= MAX_MAP_ENTRIES:
        raise MalformedError(f"over {MAX_MAP_ENTRIES} entries")
    entries[key] = value


def _check_unknown(raw: bytes, pos: int, spec: MessageSpec) -> Steps[None]:
    current = order = 0
    numbers = _UnknownNumbers(spec.name)
    pause_at = pos + STEP_BYTES
    for number, wire, _, end in each_field_untrusted(raw, pos):
        if end > pause_at:
            pause_at = end + STEP_BYTES
            yield
        if number in spec.numbers:
            raise MalformedError(
                f"{spec.name}, field {number}: wrong wire type, or after an unknown field"
            )
        if not spec.keeps_unknown:
            raise MalformedError(f"{spec.name}: unknown field {number}, which C# drops")
        if number != current:
            numbers.add(number)
            current = number
            order = 0
        if _UNKNOWN_ORDER[wire] < order:
            raise MalformedError(f"{spec.name}: unknown field {number} is out of order")
        order = _UNKNOWN_ORDER[wire]
    yield from numbers.check()


_HEAP_SALT: Final = randbits(64) | 1


class _UnknownNumbers:
    """Those that came, in four bytes each: a set takes seventy, ten times a message of tiny fields.

    They are in heaps that are sorted out one at a time. Which heap a number belongs to nobody can
    tell from outside, so that nobody can have all in one.
    """

    def __init__(self, message: str) -> None:
        self._message = message
        self._heaps: dict[int, array[int]] = {}

    def add(self, number: int) -> None:
        """Looks at the number's heap whenever that has doubled.

        :raises MalformedError: it has a number twice.
        """
        key = number * _HEAP_SALT >> 40 & 0xFF
        heap = self._heaps.get(key)
        if heap is None:
            heap = self._heaps[key] = array("I")
        heap.append(number)
        if len(heap) & (len(heap) - 1) == 0:
            self._check_heap(heap)

    def check(self) -> Steps[None]:
        """Look at all heaps. Raises as ``add`` does."""
        for heap in self._heaps.values():
            self._check_heap(heap)
            yield

    def _check_heap(self, heap: Collection[int]) -> None:
        if len(set(heap)) < len(heap):
            raise MalformedError(f"{self._message}: an unknown field is scattered")


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
    return finish(_value32_in_steps(body))


def _value32_in_steps(body: bytes) -> Steps[bytes]:
    value: bytes = (yield from walk_in_steps_untrusted(body, _VALUE32_SPEC)).values.get(1, b"")
    if len(value) != 32:
        raise MalformedError("not 32 bytes")
    return value


def _decode_timestamp(body: bytes) -> int:
    """Return a Timestamp in unix nanoseconds; outside of timestamp.proto's range it is malformed.

    C# serialises such a time, but throws when it comes to read it.
    """
    return finish(_timestamp_in_steps(body))


def _timestamp_in_steps(body: bytes) -> Steps[int]:
    values = (yield from walk_in_steps_untrusted(body, _TIMESTAMP_SPEC)).values
    seconds: int = values.get(1, 0)
    nanos: int = values.get(2, 0)
    if not (_MIN_SECONDS <= seconds <= _MAX_SECONDS and 0 <= nanos < _NS_PER_S):
        raise MalformedError("not a time between the years 1 and 9999")
    return seconds * _NS_PER_S + nanos


def _decode_map_entry(body: bytes) -> tuple[str, bytes]:
    values = walk_untrusted(body, _MAP_ENTRY_SPEC).values
    return values.get(1, ""), values.get(2, b"")


BYTES: Final = FieldKind(LENGTH, _decode_bytes)
STRING: Final = FieldKind(LENGTH, _decode_string)
INT32: Final = FieldKind(VARINT, _decode_int32)
INT64: Final = FieldKind(VARINT, _decode_int64)
HASH: Final = FieldKind(LENGTH, _decode_value32, in_steps=_value32_in_steps)
ADDRESS: Final = HASH
TIMESTAMP: Final = FieldKind(LENGTH, _decode_timestamp, in_steps=_timestamp_in_steps)
MAP_STRING_BYTES: Final = FieldKind(LENGTH, _decode_map_entry, is_map=True)

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
