"""Figures out of measured values."""

import math
import statistics

from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.ops.figures import median_and_p99

times = st.lists(st.floats(0, 1e6), min_size=1, max_size=400)


def test_by_hand() -> None:
    assert median_and_p99([3.0]) == (3.0, 3.0)
    assert median_and_p99([4.0, 1.0]) == (1.0, 4.0)
    assert median_and_p99([5.0, 1.0, 3.0]) == (3.0, 5.0)
    assert median_and_p99(range(1, 101)) == (50, 99)
    assert median_and_p99(range(1, 102)) == (51, 100)
    assert median_and_p99(range(1, 201)) == (100, 198)


def test_of_nothing() -> None:
    assert all(math.isnan(figure) for figure in median_and_p99([]))


@given(times)
def test_what_they_say(values: list[float]) -> None:
    median, p99 = median_and_p99(values)
    assert median == statistics.median_low(values)
    assert sum(value <= p99 for value in values) >= 0.99 * len(values)
    assert sum(value < p99 for value in values) < 0.99 * len(values)
