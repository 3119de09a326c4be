"""Request ids as AElf nodes write them: ``<unix ms>_<uuid4>`` (protocol §3.4)."""

import random
import uuid

REQUEST_ID_LENGTH = 13 + 1 + 36
"""Characters, until the year 2286."""


def new_request_id(wall_ns: int, rng: random.Random) -> str:
    """A fresh id; unique because of its 122 random bits, whatever the clock says."""
    return f"{wall_ns // 1_000_000}_{uuid.UUID(int=rng.getrandbits(128), version=4)}"
