"""What hosts do that they should not, counted until it is enough for a ban.

One fault may be an accident, and is paid for by the message or connection that had it. Points add
up over all connections of a host, and fade: they are halved each half-life.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

MAX_SENDERS = 1024


class Misbehaviour(Enum):
    """A kind of fault, and how many points it costs; at 100 there is a ban, by default."""

    BROKE_PROTOCOL = 40.0, "it broke the protocol on its stream"
    BROKE_TRANSPORT = 20.0, "it broke the rules of its connection, or flooded it"
    FALSE_HANDSHAKE = 20.0, "its handshake was malformed, or its signature is wrong"
    FRUITLESS = 25.0, "it announced blocks that it did not give"
    OVERSIZED_MESSAGE = 5.0, "it sent a message that is larger than any of its kind"
    MALFORMED_MESSAGE = 2.0, "it sent a message that cannot be parsed"

    def __init__(self, points: float, why: str) -> None:
        self.points = points
        self.why = why


@dataclass(slots=True)
class _Record:
    points: float = 0.0
    at: float = 0.0
    faults: Counter[Misbehaviour] = field(default_factory=Counter)


@dataclass(frozen=True)
class Score:
    """Where a sender stands."""

    points: float
    faults: Mapping[Misbehaviour, int]
    """How often it did what, since it was last forgotten or banned."""


class MisbehaviourScores:
    """The points of each sender: a host, or on loopback a key.

    Of at most ``MAX_SENDERS``, some 700 bytes each, those that misbehaved last are known.
    """

    def __init__(self, *, limit: float, half_life_s: float) -> None:
        self._limit = limit
        self._half_life_s = half_life_s
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def note(self, sender: str, fault: Misbehaviour, now: float) -> bool:
        """Count a fault at ``now``, monotonic seconds. True when that is enough: then the sender's
        count begins anew."""
        record = self._records.setdefault(sender, _Record(at=now))
        self._records.move_to_end(sender)
        if len(self._records) > MAX_SENDERS:
            self._records.popitem(last=False)
        record.points = self._faded(record, now) + fault.points
        record.at = now
        record.faults[fault] += 1
        if record.points < self._limit:
            return False
        del self._records[sender]
        return True

    def score(self, sender: str, now: float) -> Score:
        """Of one sender, faded until ``now``."""
        record = self._records.get(sender) or _Record(at=now)
        return Score(self._faded(record, now), dict(record.faults))

    def all(self, now: float) -> dict[str, Score]:
        """Of all that are known, whoever misbehaved last at the end."""
        return {sender: self.score(sender, now) for sender in self._records}

    def _faded(self, record: _Record, now: float) -> float:
        return record.points * math.exp2((record.at - now) / self._half_life_s)
