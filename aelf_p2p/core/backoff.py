"""When a lost peer is dialed again (protocol §4, "Reconnection")."""

import random
from dataclasses import dataclass

DAY_S = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """``period_s`` doubled with each retry, capped and jittered.

    It ends ``give_up_after_s`` after the loss.
    """

    period_s: float = 60.0
    cap_s: float = 2 * 3600.0  # ours; C# doubles without a cap
    jitter: float = 0.1  # ours: at most this part of the delay is added, so that nodes spread out
    give_up_after_s: float = DAY_S

    def delay_s(self, retries: int, rng: random.Random) -> float:
        """Seconds to wait before the attempt that follows ``retries`` failed ones."""
        doublings = min(retries, 62)  # beyond, the cap rules and a float may overflow
        delay = min(self.period_s * 2.0**doublings, self.cap_s)
        return delay * (1.0 + self.jitter * rng.random())

    def given_up(self, lost_at: float, now: float) -> bool:
        """Whether a peer lost at ``lost_at`` is not to be tried any more."""
        return now - lost_at >= self.give_up_after_s
