"""Who sent more invalid transactions than one may (protocol §4 and §6)."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.invalid_transactions import MAX_SENDERS, InvalidTransactions


def an_id(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_the_fifty_first_within_ten_seconds() -> None:
    table = InvalidTransactions(50, 10.0)
    assert not any(table.mark("a", an_id(number), number * 0.1) for number in range(50))
    assert table.mark("a", an_id(50), 9.9)
    assert not table.mark("a", an_id(51), 9.9)  # the count began anew


def test_the_same_one_counts_once() -> None:
    table = InvalidTransactions(2, 10.0)
    marks = [table.mark("a", an_id(number), 0.0) for number in (1, 2, 1, 2, 2, 1, 3)]
    assert marks == [False] * 6 + [True]


def test_the_count_is_each_senders_own() -> None:
    table = InvalidTransactions(1, 10.0)
    assert not table.mark("a", an_id(1), 0.0)
    assert not table.mark("b", an_id(2), 0.0)
    assert not table.mark("b", an_id(2), 0.0)
    assert table.mark("a", an_id(3), 0.0)


def test_what_is_ten_seconds_old_does_not_count() -> None:
    table = InvalidTransactions(2, 10.0)
    for at, expected in [(0.0, False), (5.0, False), (9.999, True)]:
        assert table.mark("a", an_id(int(at)), at) is expected
    for at, expected in [(20.0, False), (25.0, False), (30.0, False), (34.999, True)]:
        assert table.mark("a", an_id(int(at)), at) is expected


def test_the_table_is_bounded() -> None:
    table = InvalidTransactions(2, 10.0)
    for number in range(2 * MAX_SENDERS):
        table.mark("kept", an_id(1), 0.0)
        table.mark(str(number), an_id(1), 0.0)
        assert len(table) <= MAX_SENDERS
    assert not table.mark("kept", an_id(2), 0.0)
    assert table.mark("kept", an_id(3), 0.0)  # one that goes on is never forgotten


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6), st.floats(0, 4)), max_size=60),
    st.integers(1, 4),
)
def test_as_a_list_of_all_says(marks: list[tuple[str, int, float]], limit: int) -> None:
    table = InvalidTransactions(limit, 10.0)
    seen: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    now = 0.0
    for sender, number, after_s in marks:
        now += after_s
        recent = [(at, other) for at, other in seen[sender] if now - at < 10.0]
        fresh = number not in {other for _, other in recent}
        over = fresh and len(recent) >= limit
        assert table.mark(sender, an_id(number), now) is over
        seen[sender] = [] if over else recent + [(now, number)] * fresh
