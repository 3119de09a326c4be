"""Who is wrong when a peer's chain leaves out a block that is irreversible to us: a vote.

Source: protocol §4, "Following the chain"; AElf.OS/BlockSync/Application/BlockDownloadService.cs.
"""

from collections.abc import Sequence
from enum import Enum

MIN_VOTERS = 15
"""Fewer peers whose chain reaches that far decide nothing."""


class Verdict(Enum):
    """What two thirds of the voters say."""

    UNDECIDED = "too few voters, or no two thirds of them agree"
    PEER_IS_WRONG = "most have our irreversible block, and the peer has not"
    WE_ARE_WRONG = "most do not have our irreversible block"


def decide(votes: Sequence[bool | None]) -> Verdict:
    """The verdict of all informed peers but the suspect.

    True says that the voter's chain holds our irreversible block, False that it does not, None that
    no answer came. Those who did not answer count among the voters, so that silencing some of them
    gains nothing.
    """
    if len(votes) < MIN_VOTERS:
        return Verdict.UNDECIDED
    two_thirds = -(-2 * len(votes) // 3)
    if votes.count(True) >= two_thirds:
        return Verdict.PEER_IS_WRONG
    if votes.count(False) >= two_thirds:
        return Verdict.WE_ARE_WRONG
    return Verdict.UNDECIDED
