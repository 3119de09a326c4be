"""How long a peer took to answer, for the operator (protocol §5, "RequestMetrics")."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

KEPT = 100
"""Of each method; the oldest goes."""


@dataclass(frozen=True)
class RoundTrip:
    """One answered request."""

    method: str
    """``GetBlock`` or ``GetBlocks``, as AElf's operators know them."""
    asked_for: str
    requested_at_ns: int
    """Unix nanoseconds."""
    seconds: float


class RoundTrips:
    """The last answered requests of each method."""

    def __init__(self) -> None:
        self._of: dict[str, deque[RoundTrip]] = {}

    def add(self, round_trip: RoundTrip) -> None:
        """Keep one more."""
        self._of.setdefault(round_trip.method, deque(maxlen=KEPT)).append(round_trip)

    def all(self) -> Sequence[RoundTrip]:
        """By method, of each the oldest first."""
        return [each for method in sorted(self._of) for each in self._of[method]]
