"""Wall time and randomness come from outside."""

import random

from aelf_p2p.core.environment import Environment


def test_the_clock_is_the_one_given() -> None:
    times = iter([1_500_000_000_250_000_000, 1_600_000_000_999_999_999])
    environment = Environment(lambda: next(times), random.Random(1))
    assert environment.wall_s() == 1_500_000_000.25
    assert environment.new_request_id().startswith("1600000000999_")


def test_the_same_seed_and_clock_give_the_same_ids() -> None:
    one = Environment(lambda: 10**18, random.Random(5))
    same = Environment(lambda: 10**18, random.Random(5))
    other = Environment(lambda: 10**18, random.Random(6))
    ids = [one.new_request_id() for _ in range(3)]
    assert ids == [same.new_request_id() for _ in range(3)]
    assert len({*ids, other.new_request_id()}) == 4
