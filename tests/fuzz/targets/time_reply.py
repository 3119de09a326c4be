"""Replies of time servers."""

import math
import struct
from collections.abc import Iterator

from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.sntp import parse_reply_untrusted

SENT_NS = 1_700_000_000 * 10**9
NONCE = b"a nonce."


def seeds() -> Iterator[bytes]:
    seconds = SENT_NS // 10**9 + 2_208_988_800
    times = struct.pack(">IIII", seconds % 2**32, 1, seconds % 2**32, 2)
    yield bytes([0x24, 2]) + bytes(22) + NONCE + times
    yield bytes([0x24, 0]) + bytes(10) + b"RATE" + bytes(8) + NONCE + times
    yield bytes(48)
    yield b""


def target(data: bytes) -> bool:
    try:
        reading = parse_reply_untrusted(
            data, nonce=NONCE, sent_ns=SENT_NS, received_ns=SENT_NS + 10**7
        )
    except MalformedError:
        return False
    assert math.isfinite(reading.offset_s)
    assert math.isfinite(reading.round_trip_s)
    return True
