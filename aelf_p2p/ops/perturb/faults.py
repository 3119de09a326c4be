"""Which faults are inflicted on which nodes, and when: out of one seed, before anything runs."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from aelf_p2p.core.options import NetworkOptions

LONGEST_GAP_S = 4.0
"""Between the beginnings of two faults, unless too many nodes are in trouble."""
REST_S = 2.0
"""So long after a fault is over a node has no other."""
LONG_PLAN = 10
"""With so many faults, one of the pauses outlasts the peers' patience."""
LEAST_NODES = 4


class Kind(Enum):
    """What is done to a node."""

    KILL = "kill"
    """kill -9; the process is started again with the data it had."""
    PAUSE = "pause"
    """SIGSTOP, then SIGCONT: its connections stay, and it says nothing."""
    DISCONNECT = "disconnect"
    """Its connections are reset, and so is whatever dials it or it dials meanwhile."""
    RESTART = "restart"
    """SIGTERM, so that it says goodbye; the process is started again with the data it had."""


LASTS_S = {
    Kind.KILL: (0.2, 3.0),
    Kind.PAUSE: (1.0, 8.0),
    Kind.DISCONNECT: (1.0, 5.0),
    Kind.RESTART: (0.2, 3.0),
}


@dataclass(frozen=True)
class Fault:
    """One node's trouble. Times are seconds; ``at_s`` is since the first fault may begin."""

    kind: Kind
    node: int
    at_s: float
    lasts_s: float

    @property
    def ends_s(self) -> float:
        """When it is to be over."""
        return self.at_s + self.lasts_s


def plan_faults(nodes: int, count: int, rng: random.Random) -> list[Fault]:
    """So many faults, ordered by time, with each kind among them (``count`` is at least 4).

    They overlap, on different nodes: fewer than a third are in trouble at once, so that the others
    can go on.
    """
    kinds = list(Kind) + rng.choices(list(Kind), k=count - len(Kind))
    rng.shuffle(kinds)
    faults: list[Fault] = []
    rested_s = [0.0] * nodes
    at_s = 0.0
    for kind, lasts_s in zip(kinds, _durations(kinds, rng), strict=True):
        at_s += rng.uniform(0.0, LONGEST_GAP_S)
        ends = [fault.ends_s for fault in faults if fault.ends_s > at_s]
        if len(ends) >= max(1, (nodes - 1) // 3):
            at_s = min(ends)
        at_s = max(at_s, min(rested_s))
        node = rng.choice([node for node in range(nodes) if rested_s[node] <= at_s])
        faults.append(Fault(kind, node, at_s, lasts_s))
        rested_s[node] = faults[-1].ends_s + REST_S
    return faults


def _durations(kinds: Sequence[Kind], rng: random.Random) -> list[float]:
    durations = [rng.uniform(*LASTS_S[kind]) for kind in kinds]
    if len(kinds) >= LONG_PLAN:
        options = NetworkOptions()
        patience_s = options.silence_probe_s + options.silence_probe_timeout_s
        durations[kinds.index(Kind.PAUSE)] = patience_s + rng.uniform(1.0, 5.0)
    return durations
