"""Request ids: unix milliseconds and a version 4 UUID."""

import random
import re
import uuid

from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.request_ids import REQUEST_ID_LENGTH, new_request_id

FORM = re.compile(r"([0-9]+)_([0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})")


@given(st.integers(0, 2**63), st.integers())
def test_the_form(wall_ns: int, seed: int) -> None:
    match = FORM.fullmatch(new_request_id(wall_ns, random.Random(seed)))
    assert match is not None
    assert int(match[1]) == wall_ns // 10**6
    assert uuid.UUID(match[2]).version == 4
    assert uuid.UUID(match[2]).variant == uuid.RFC_4122


def test_an_id_of_today() -> None:
    request_id = new_request_id(1_763_800_000_123_999_999, random.Random(1))
    assert request_id.startswith("1763800000123_")
    assert len(request_id) == REQUEST_ID_LENGTH == 50


def test_the_seed_decides() -> None:
    one, same, other = random.Random(1), random.Random(1), random.Random(2)
    ids = [new_request_id(10**18, one) for _ in range(5)]
    assert ids == [new_request_id(10**18, same) for _ in range(5)]
    assert new_request_id(10**18, other) not in ids


def test_ids_of_one_moment_differ() -> None:
    rng = random.Random(3)
    assert len({new_request_id(10**18, rng) for _ in range(1000)}) == 1000
