"""Points for faults: they add up, fade, and are enough at some time."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.misbehaviour import MAX_SENDERS, Misbehaviour, MisbehaviourScores, Score

HALF_LIFE_S = 600.0
FAULTS = st.sampled_from(Misbehaviour)


def make_scores(limit: float = 100.0) -> MisbehaviourScores:
    return MisbehaviourScores(limit=limit, half_life_s=HALF_LIFE_S)


def test_each_fault_says_what_it_is_and_costs_something() -> None:
    assert len({fault.why for fault in Misbehaviour}) == len(Misbehaviour)
    assert all(0 < fault.points <= 50 for fault in Misbehaviour)  # none is enough by itself


def test_points_add_up_to_a_ban_and_begin_anew() -> None:
    scores = make_scores()
    noted = [scores.note("198.51.100.1", Misbehaviour.BROKE_TRANSPORT, 7.0) for _ in range(6)]
    assert noted == [False, False, False, False, True, False]
    assert scores.score("198.51.100.1", 7.0).points == 20.0


def test_points_are_halved_each_half_life() -> None:
    scores = make_scores()
    scores.note("a", Misbehaviour.BROKE_PROTOCOL, 1000.0)
    assert [scores.score("a", 1000.0 + HALF_LIFE_S * n).points for n in (0, 1, 3)] == [40, 20, 5]
    scores.note("a", Misbehaviour.BROKE_TRANSPORT, 1000.0 + HALF_LIFE_S)
    assert scores.score("a", 1000.0 + HALF_LIFE_S) == Score(
        40.0, {Misbehaviour.BROKE_PROTOCOL: 1, Misbehaviour.BROKE_TRANSPORT: 1}
    )


def test_a_sender_pays_for_itself_only() -> None:
    scores = make_scores(limit=40.0)
    assert not scores.note("a", Misbehaviour.BROKE_TRANSPORT, 1.0)
    assert not scores.note("b", Misbehaviour.BROKE_TRANSPORT, 1.0)
    assert scores.note("a", Misbehaviour.BROKE_TRANSPORT, 1.0)
    assert scores.all(1.0) == {"b": Score(20.0, {Misbehaviour.BROKE_TRANSPORT: 1})}
    assert scores.score("c", 1.0) == Score(0.0, {})


def test_of_too_many_senders_those_that_misbehaved_last_are_known() -> None:
    scores = make_scores()
    for number in range(MAX_SENDERS):
        scores.note(str(number), Misbehaviour.MALFORMED_MESSAGE, 1.0)
    scores.note("0", Misbehaviour.MALFORMED_MESSAGE, 1.0)
    scores.note("another", Misbehaviour.MALFORMED_MESSAGE, 1.0)
    assert len(scores) == MAX_SENDERS
    assert scores.score("0", 1.0).points == 4.0
    assert scores.score("1", 1.0).points == 0.0


@given(
    st.lists(st.tuples(st.sampled_from("ab"), FAULTS, st.integers(0, 3)), max_size=40),
    st.integers(1, 200),
)
def test_a_ban_comes_when_the_faded_sum_reaches_the_limit(
    faults: list[tuple[str, Misbehaviour, int]], limit: int
) -> None:
    """In half-lives, so that the sums are exact."""
    scores = make_scores(limit=float(limit))
    now = 0
    sums: dict[str, Fraction] = {}
    for sender, fault, pause in faults:
        now += pause
        sums = {each: points / 2**pause for each, points in sums.items()}
        sums[sender] = sums.get(sender, Fraction(0)) + Fraction(fault.points)
        banned = scores.note(sender, fault, now * HALF_LIFE_S)
        assert banned is (sums[sender] >= limit)
        if banned:
            del sums[sender]
        score = scores.score(sender, now * HALF_LIFE_S)
        assert score.points == pytest.approx(float(sums.get(sender, 0)))
