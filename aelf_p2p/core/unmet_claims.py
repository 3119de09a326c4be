"""Peers that say they are further than we are and gave nothing: when each is asked again.

A peer that is syncing itself answers no request for blocks (protocol §4, "Sync state"), and may not
announce anything for long after it is done.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

MAX_RETRIES = 12
"""So often is one claim asked about again; with the default period some twelve minutes long."""

MAX_DOUBLINGS = 4


@dataclass(frozen=True)
class _Claim:
    """A height that a peer says it has, how often it was asked about, and when it is next."""

    height: int
    retries: int
    due_at: float


class UnmetClaims:
    """The claims that are above our chain, one a peer.

    Each is asked about ``retry_s`` after it was first noticed, and then after twice as long each
    time, up to 16 times ``retry_s``; at most MAX_RETRIES times, until the peer claims another
    height. Holds no more than the peers of the last call.
    """

    def __init__(self, retry_s: float) -> None:
        self._retry_s = retry_s
        self._claims: dict[bytes, _Claim] = {}

    def take_due(self, heights: Mapping[bytes, int], own_height: int, now: float) -> bytes | None:
        """A peer to ask again now, or None. One at a time, so that news come first.

        ``heights`` are what all peers, by key, say that they have; ``now`` is monotonic seconds.
        """
        due: bytes | None = None
        claims: dict[bytes, _Claim] = {}
        for key, height in heights.items():
            if height <= own_height:
                continue
            claim = self._claims.get(key)
            if claim is None or claim.height != height:
                claim = _Claim(height, 0, now + self._retry_s)
            elif now >= claim.due_at and due is None:
                due = key
                retries = claim.retries + 1
                wait_s = self._retry_s * 2 ** min(retries, MAX_DOUBLINGS)
                due_at = now + wait_s if retries < MAX_RETRIES else math.inf
                claim = replace(claim, retries=retries, due_at=due_at)
            claims[key] = claim
        self._claims = claims
        return due

    @property
    def next_due_at(self) -> float:
        """When the next one is to be asked, which may be past; infinity for never."""
        return min((claim.due_at for claim in self._claims.values()), default=math.inf)
