"""Two thirds of fifteen or more decide who is on a wrong chain."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.abnormal_vote import Verdict, decide

YES, NO, SILENT = True, False, None
VOTES = st.lists(st.sampled_from([YES, NO, SILENT]), max_size=60)


@pytest.mark.parametrize(
    ("yes", "no", "silent", "verdict"),
    [
        (15, 0, 0, Verdict.PEER_IS_WRONG),
        (14, 0, 0, Verdict.UNDECIDED),
        (10, 5, 0, Verdict.PEER_IS_WRONG),
        (9, 5, 1, Verdict.UNDECIDED),
        (10, 0, 5, Verdict.PEER_IS_WRONG),
        (5, 10, 0, Verdict.WE_ARE_WRONG),
        (5, 9, 1, Verdict.UNDECIDED),
        (11, 5, 0, Verdict.PEER_IS_WRONG),  # ⌈32/3⌉ are 11
        (10, 6, 0, Verdict.UNDECIDED),
        (0, 0, 15, Verdict.UNDECIDED),
        (0, 0, 0, Verdict.UNDECIDED),
    ],
)
def test_known_cases(yes: int, no: int, silent: int, verdict: Verdict) -> None:
    assert decide([YES] * yes + [NO] * no + [SILENT] * silent) is verdict


@given(VOTES)
def test_two_thirds_of_all_voters(votes: list[bool | None]) -> None:
    verdict = decide(votes)
    share = Fraction(2, 3) * len(votes)
    enough = len(votes) >= 15
    assert (verdict is Verdict.PEER_IS_WRONG) == (enough and votes.count(YES) >= share)
    assert (verdict is Verdict.WE_ARE_WRONG) == (enough and votes.count(NO) >= share)
    assert decide(sorted(votes, key=str)) is verdict


@given(VOTES)
def test_the_other_side_sees_it_the_other_way_round(votes: list[bool | None]) -> None:
    mirrored = {
        Verdict.PEER_IS_WRONG: Verdict.WE_ARE_WRONG,
        Verdict.WE_ARE_WRONG: Verdict.PEER_IS_WRONG,
        Verdict.UNDECIDED: Verdict.UNDECIDED,
    }
    opposite = [None if vote is None else not vote for vote in votes]
    assert decide(opposite) is mirrored[decide(votes)]


@given(VOTES, st.integers(0, 59))
def test_whoever_falls_silent_gains_nothing(votes: list[bool | None], index: int) -> None:
    silenced = [SILENT if at == index else vote for at, vote in enumerate(votes)]
    assert decide(silenced) in (decide(votes), Verdict.UNDECIDED)
