"""Where wall time and randomness come from, so that a whole network replays from one seed."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from aelf_p2p.core.request_ids import new_request_id


@dataclass(frozen=True)
class Environment:
    """A node's clock on the wall (unix nanoseconds) and its randomness."""

    wall_ns: Callable[[], int]
    rng: random.Random

    def wall_s(self) -> float:
        """Unix seconds."""
        return self.wall_ns() / 1_000_000_000

    def new_request_id(self) -> str:
        """A fresh request id."""
        return new_request_id(self.wall_ns(), self.rng)
