"""Request ids as AElf nodes write them: ``<unix ms>_<uuid4>`` (protocol §3.4)."""

import random

REQUEST_ID_LENGTH = 13 + 1 + 36
"""Characters, until the year 2286."""

# A UUID's version and variant, 4 and 0b10, and the bits that they take (RFC 9562 §5.4).
_RANDOM_BITS = (1 << 128) - 1 & ~(0xF << 76 | 0x3 << 62)
_FIXED_BITS = 0x4 << 76 | 0x2 << 62


def new_request_id(wall_ns: int, rng: random.Random) -> str:
    """A fresh id; unique because of its 122 random bits, whatever the clock says."""
    uuid4 = f"{rng.getrandbits(128) & _RANDOM_BITS | _FIXED_BITS:032x}"  # uuid.UUID is slow
    return (
        f"{wall_ns // 1_000_000}_"
        f"{uuid4[:8]}-{uuid4[8:12]}-{uuid4[12:16]}-{uuid4[16:20]}-{uuid4[20:]}"
    )
