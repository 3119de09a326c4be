"""Protobuf's encoding, field by field, as C# lays it out: a default value is left out."""

from functools import cache
from typing import Final

from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.fields import LENGTH, VARINT

_MASK64: Final = (1 << 64) - 1
_ONE_BYTE: Final = [bytes((value,)) for value in range(0x80)]
_NS_PER_S: Final = 1_000_000_000


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
    return _tag(number, VARINT) + encode_varint(value) if value else b""


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
    return _tag(number, LENGTH) + encode_varint(len(body)) + body


def encode_hash_field(number: int, value: bytes) -> bytes:
    """Encode a field that holds an aelf.Hash or an aelf.Address of these 32 bytes."""
    return encode_message_field(number, encode_bytes_field(1, value))


def encode_timestamp_field(number: int, time_ns: int) -> bytes:
    """Encode a field that holds a Timestamp, given in unix nanoseconds."""
    seconds, nanos = divmod(time_ns, _NS_PER_S)
    return encode_message_field(
        number, encode_varint_field(1, seconds) + encode_varint_field(2, nanos)
    )
