"""Dials: what rows are made of them."""

from benchmarks.connect import rows


def test_one_alone_has_a_duration_and_no_rate() -> None:
    (dial,) = rows("ours", [[0.002, 0.004, 0.003], [0.001]], {"at once": 1})
    assert (dial.figure, dial.unit, dial.rounds) == ("dial", "ms", (3.0, 1.0))


def test_many_at_once_are_over_when_the_last_is() -> None:
    dial, rate = rows("ours", [[0.1, 0.25, 0.5]], {"at once": 3})
    assert dial.rounds == (250.0,)
    assert (rate.figure, rate.unit, rate.rounds) == ("dials", "1/s", (6.0,))
