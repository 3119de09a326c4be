"""Where wall time and randomness come from, so that a whole network replays from one seed."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from aelf_p2p.core.request_ids import new_request_id


@dataclass(frozen=True)
class Environment:
    """A node's clock on the wall (unix nanoseconds) and its randomness."""

    wall_ns: Callable[[], int]
    rng: random.Random
    _ids_rng: random.Random = field(init=False, repr=False)
    """Request ids are no secrets, and the system's randomness costs a system call for each."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids_rng", random.Random(self.rng.getrandbits(256)))

    def wall_s(self) -> float:
        """Unix seconds."""
        return self.wall_ns() / 1_000_000_000

    def new_request_id(self) -> str:
        """A fresh request id."""
        return new_request_id(self.wall_ns(), self._ids_rng)
