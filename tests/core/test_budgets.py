"""What is held never exceeds a limit and is never forgotten; events never exceed their rate."""

from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aelf_p2p.core.budgets import ByteBudget, EventBudget, Rate

# --- bytes ----------------------------------------------------------------------------------------

CHILD_LIMIT, STRANGERS_LIMIT, ALL_LIMIT = 60, 100, 140


class Budgets(RuleBasedStateMachine):
    """Three connections of 60 bytes, strangers of 100 together at first, all of 140."""

    def __init__(self) -> None:
        super().__init__()
        self.all = ByteBudget(ALL_LIMIT)
        self.strangers = ByteBudget(STRANGERS_LIMIT, self.all)
        self.children = [ByteBudget(CHILD_LIMIT, self.strangers) for _ in range(3)]
        self.held = [0, 0, 0]  # what the model says
        self.strange = [True, True, True]

    def held_by_strangers(self) -> int:
        pairs = zip(self.held, self.strange, strict=True)
        return sum(held for held, strange in pairs if strange)

    @rule(who=st.integers(0, 2), count=st.integers(0, 70))
    def take(self, who: int, count: int) -> None:
        fits = (
            self.held[who] + count <= CHILD_LIMIT
            and (not self.strange[who] or self.held_by_strangers() + count <= STRANGERS_LIMIT)
            and sum(self.held) + count <= ALL_LIMIT
        )
        assert self.children[who].take(count) is fits
        self.held[who] += count * fits

    @rule(who=st.integers(0, 2), share=st.fractions(0, 1))
    def give(self, who: int, share: Fraction) -> None:
        count = int(self.held[who] * share)
        self.children[who].give(count)
        self.held[who] -= count

    @rule(who=st.integers(0, 2))
    def move(self, who: int) -> None:
        # Within the whole nothing is added, so there is always room.
        assert self.children[who].move(self.all)
        self.strange[who] = False

    @invariant()
    def every_byte_is_counted_once(self) -> None:
        assert [child.held_bytes for child in self.children] == self.held
        assert self.strangers.held_bytes == self.held_by_strangers()
        assert self.all.held_bytes == sum(self.held)


TestBudgets = Budgets.TestCase
TestBudgets.settings = settings(max_examples=60, stateful_step_count=25)


def test_a_budget_moves_whole_or_not_at_all() -> None:
    full, roomy = ByteBudget(4), ByteBudget(5)
    child = ByteBudget(10)
    assert child.take(5)
    assert not child.move(full)
    assert (child.held_bytes, full.held_bytes) == (5, 0)
    assert child.move(roomy)
    assert (child.held_bytes, roomy.held_bytes) == (5, 5)
    child.give(5)
    assert (child.held_bytes, roomy.held_bytes) == (0, 0)


# --- events ---------------------------------------------------------------------------------------

# Multiples of 1/8, so that the floats of the bucket are exact.
EIGHTHS = st.integers(0, 40).map(lambda n: n / 8)


@given(
    st.integers(1, 5),
    st.sampled_from([0.5, 1.0, 4.0]),
    EIGHTHS,
    st.lists(st.tuples(EIGHTHS, st.integers(1, 3)), max_size=30),
)
def test_events_pass_while_they_keep_to_the_rate(
    burst: int, per_s: float, start: float, steps: list[tuple[float, int]]
) -> None:
    budget = EventBudget(Rate(burst, per_s))
    at = list(accumulate((pause for pause, _ in steps), initial=start))[1:]
    tokens, last = Fraction(burst), Fraction(at[0] if at else 0)
    for now, (_, count) in zip(at, steps, strict=True):
        tokens = min(Fraction(burst), tokens + (Fraction(now) - last) * Fraction(per_s))
        last = Fraction(now)
        passes = tokens >= count
        assert budget.spend(now, count) is passes
        tokens -= count * passes


@given(
    st.integers(1, 5),
    st.sampled_from([0.5, 1.0, 4.0]),
    st.lists(st.tuples(EIGHTHS, st.integers(1, 3)), max_size=30),
)
def test_no_stretch_of_time_sees_more_than_burst_and_rate(
    burst: int, per_s: float, steps: list[tuple[float, int]]
) -> None:
    budget = EventBudget(Rate(burst, per_s))
    now, passed = 0.0, list[tuple[float, int]]()
    for pause, count in steps:
        now += pause
        if budget.spend(now, count):
            passed.append((now, count))
    for begin, (since, _) in enumerate(passed):
        for end in range(begin, len(passed)):
            events = sum(count for _, count in passed[begin : end + 1])
            assert events <= burst + per_s * (passed[end][0] - since)


def test_a_bucket_fills_from_time_zero_on() -> None:
    budget = EventBudget(Rate(2, 1))
    assert [budget.spend(0.0) for _ in range(2)] == [True, True]
    assert budget.spend(1.0)


def test_a_bucket_holds_no_more_than_its_burst() -> None:
    budget = EventBudget(Rate(2, 1))
    assert budget.spend(1.0)
    assert [budget.spend(1000.0) for _ in range(3)] == [True, True, False]


def test_events_at_one_instant_are_refused_until_time_passes() -> None:
    budget = EventBudget(Rate(1, 2))
    assert budget.spend(5.0)
    assert [budget.spend(5.0) for _ in range(9)] == [False] * 9  # and owes nothing for them
    assert not budget.spend(5.25)
    assert budget.spend(5.5)


@pytest.mark.parametrize("count", [2, 1000])
def test_more_than_the_burst_never_passes_at_once(count: int) -> None:
    assert not EventBudget(Rate(1, 1000)).spend(1.0, count)
