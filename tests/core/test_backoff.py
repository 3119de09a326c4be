"""When a lost peer is dialed again, over a simulated day."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.backoff import Backoff

NO_JITTER = Backoff(jitter=0.0)
rng = random.Random(1)


def attempts(backoff: Backoff) -> list[float]:
    """When a peer that never comes back is tried, in seconds since its loss."""
    lost_at = now = 5_000_000.0
    times: list[float] = []
    while True:
        now += backoff.delay_s(len(times), rng)
        if backoff.given_up(lost_at, now):
            return times
        times.append(now - lost_at)


def test_a_day() -> None:
    assert attempts(NO_JITTER) == [
        60, 180, 420, 900, 1860, 3780, 7620,  # 60 s, doubled six times
        14820, 22020, 29220, 36420, 43620, 50820, 58020, 65220, 72420, 79620,  # every two hours
    ]  # fmt: skip


def test_a_day_without_our_cap() -> None:
    # As the C# node does it: 60 s times 2^retries, all of it.
    assert attempts(Backoff(jitter=0.0, cap_s=float("inf"))) == [
        60, 180, 420, 900, 1860, 3780, 7620, 15300, 30660, 61380,
    ]  # fmt: skip


def test_the_delays() -> None:
    delays = [NO_JITTER.delay_s(retries, rng) for retries in range(10)]
    assert delays == [60, 120, 240, 480, 960, 1920, 3840, 7200, 7200, 7200]


@pytest.mark.parametrize("retries", [62, 63, 1023, 1024, 10**9])
def test_any_number_of_retries(retries: int) -> None:
    assert NO_JITTER.delay_s(retries, rng) == 7200
    # Without a cap it stays a number, if a large one.
    assert Backoff(jitter=0.0, cap_s=float("inf")).delay_s(retries, rng) == 60 * 2**62


def test_another_period() -> None:
    backoff = Backoff(period_s=1.0, cap_s=5.0, jitter=0.0, give_up_after_s=20.0)
    assert attempts(backoff) == [1, 3, 7, 12, 17]


@given(st.integers(0, 100), st.floats(0, 1), st.integers(0, 2**32))
def test_jitter_adds_at_most_its_part(retries: int, jitter: float, seed: int) -> None:
    delay = Backoff(jitter=jitter).delay_s(retries, random.Random(seed))
    least = min(60 * 2**retries, 7200)
    assert least <= delay <= least * (1 + jitter) * (1 + 1e-12)


def test_jitter_spreads_nodes_out() -> None:
    delays = [Backoff().delay_s(0, random.Random(seed)) for seed in range(200)]
    assert min(delays) < 61
    assert max(delays) > 65
    assert len(set(delays)) == 200
    assert all(60 <= delay <= 66 for delay in delays)


def test_the_seed_decides() -> None:
    assert Backoff().delay_s(3, random.Random(9)) == Backoff().delay_s(3, random.Random(9))


def test_given_up_after_a_day() -> None:
    assert not NO_JITTER.given_up(1000.0, 1000.0)
    assert not NO_JITTER.given_up(1000.0, 1000.0 + 86_399)
    assert NO_JITTER.given_up(1000.0, 1000.0 + 86_400)
