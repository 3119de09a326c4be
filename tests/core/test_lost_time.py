"""Time that was lost over peers adds up, and is slowly forgiven."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.lost_time import MAX_KEYS, LostTime


def test_it_adds_up_by_key() -> None:
    lost = LostTime()
    assert lost.add(b"a", 10.0, 100.0) == 10.0
    assert lost.add(b"b", 3.0, 100.0) == 3.0
    assert lost.add(b"a", 10.0, 100.0) == 20.0


@pytest.mark.parametrize(
    ("later_s", "together_s"), [(20, 10.0), (100, 6.0), (200, 1.0), (999, 1.0)]
)
def test_a_second_in_twenty_is_forgiven(later_s: float, together_s: float) -> None:
    lost = LostTime()
    lost.add(b"a", 10.0, 50.0)
    assert lost.add(b"a", 1.0, 50.0 + later_s) == pytest.approx(together_s)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1000)), min_size=1, max_size=30))
def test_it_is_never_less_than_the_last_nor_more_than_all(steps: list[tuple[float, float]]) -> None:
    lost, now, total_s = LostTime(), 0.0, 0.0
    for lost_s, passed_s in steps:
        now += passed_s
        total_s += lost_s
        assert lost_s <= lost.add(b"a", lost_s, now) <= total_s * (1 + 1e-9)


def test_beyond_its_bound_the_one_of_longest_ago_is_forgotten() -> None:
    lost = LostTime()
    for number in range(MAX_KEYS):
        lost.add(number.to_bytes(4, "big"), 1.0, 0.0)
    lost.add(bytes(4), 1.0, 0.0)  # so that the second is the oldest
    lost.add(b"one more", 1.0, 0.0)
    assert lost.add(bytes(4), 0.0, 0.0) == 2.0
    assert lost.add((1).to_bytes(4, "big"), 0.0, 0.0) == 0.0
