"""How latencies follow from what sinks noted."""

import pytest

from benchmarks.stalled import latencies_s, percentile


def test_each_transaction_came_with_the_read_that_reached_its_number() -> None:
    sent = [1.0, 2.0, 3.0]
    notes = [(2.5, 12), (2.6, 12), (4.0, 13)]
    assert latencies_s(sent, notes, had_before=10) == pytest.approx([1.5, 0.5, 1.0])


def test_notes_that_do_not_tell_of_all_are_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 transactions"):
        latencies_s([1.0, 2.0], [(2.5, 11)], had_before=10)


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1000)]
    assert percentile(values, 99) == 990.0
    assert percentile(values, 100) == 999.0
    assert percentile([3.0], 99) == 3.0
