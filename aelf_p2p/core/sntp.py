"""The client of the Simple Network Time Protocol: its request, its reply, and what that tells.

Source: RFC 4330 §4 and §5; RFC 5905 §6 (the timestamp format) and §8 (offset and delay).
"""

import struct
from dataclasses import dataclass

from aelf_p2p.core.errors import MalformedError

NTP_PORT = 123
PACKET_BYTES = 48
NONCE_BYTES = 8

_PACKET = struct.Struct("!BB22x8s8s8s")  # LI, VN and mode; stratum; three timestamps
_VERSION = 4
_CLIENT, _SERVER = 3, 4  # modes
_NOT_SYNCHRONISED = 3  # leap indicator
_MAX_STRATUM = 15

_UNIX_EPOCH_S = 2_208_988_800  # 1970 in seconds from 1900, where the first NTP era begins
_NS = 1_000_000_000
_FRACTIONS = 1 << 32  # of a second
_WRAP = 1 << 64


@dataclass(frozen=True)
class ClockReading:
    """What one exchange tells of our clock."""

    offset_s: float
    """What the server's clock shows more than ours: above zero when ours is slow."""
    round_trip_s: float
    """How long the packets were under way; the offset is wrong by half of it at most."""


def encode_request(nonce: bytes) -> bytes:
    """The 48 bytes of a request. They tell nothing of us.

    In place of our time stand 8 random bytes, which the server sends back: who does not see the
    request cannot forge the reply.
    """
    return _PACKET.pack(_VERSION << 3 | _CLIENT, 0, b"", b"", nonce)


def parse_reply_untrusted(
    packet: bytes, *, nonce: bytes, sent_ns: int, received_ns: int
) -> ClockReading:
    """What the reply to ``encode_request(nonce)`` tells, sent and received at these unix times.

    What follows the 48 bytes, extension fields or a digest, is not looked at. Raises
    MalformedError, also when the server says that it cannot tell the time (kiss-o'-death).
    """
    if len(packet) < PACKET_BYTES:
        raise MalformedError(f"a time reply of {len(packet)} bytes, under {PACKET_BYTES}")
    first, stratum, originate, receive, transmit = _PACKET.unpack_from(packet)
    if first & 7 != _SERVER:
        raise MalformedError(f"a time reply of mode {first & 7}")
    if originate != nonce:
        raise MalformedError("a time reply to another request")
    if stratum == 0:
        raise MalformedError(f"the time server refuses: {packet[12:16]!a}")
    if stratum > _MAX_STRATUM or first >> 6 == _NOT_SYNCHRONISED:
        raise MalformedError("the time server has no time itself")
    if not (any(receive) and any(transmit)):
        raise MalformedError("a time reply without its times")
    there_s = _difference_s(int.from_bytes(receive), _timestamp(sent_ns))
    back_s = _difference_s(_timestamp(received_ns), int.from_bytes(transmit))
    return ClockReading(offset_s=(there_s - back_s) / 2, round_trip_s=there_s + back_s)


def _timestamp(unix_ns: int) -> int:
    """The 64 bits of an NTP timestamp: seconds since 1900, in 2⁻³² of them."""
    seconds, rest_ns = divmod(unix_ns, _NS)
    return ((seconds + _UNIX_EPOCH_S) * _FRACTIONS + rest_ns * _FRACTIONS // _NS) % _WRAP


def _difference_s(later: int, earlier: int) -> float:
    """What lies between two timestamps, right for all that are less than 68 years apart.

    In two's complement, so that the era that ends in 2036 need not be known (RFC 5905 §6).
    """
    difference = (later - earlier) % _WRAP
    if difference >= _WRAP // 2:
        difference -= _WRAP
    return difference / _FRACTIONS
