"""Counting what others cost: bytes held for them, and events that they may cause."""

from dataclasses import dataclass
from typing import Self

from aelf_p2p.core.errors import MisuseError


@dataclass(frozen=True, slots=True)
class Rate:
    """``burst`` events at once, and ``per_s`` more each second."""

    burst: float
    per_s: float

    def __post_init__(self) -> None:
        if not (self.burst > 0 and self.per_s > 0):
            raise MisuseError(f"{self} must be above zero in both")


class ByteBudget:
    """Bytes held for someone, at most ``limit_bytes``; its parent holds them too."""

    def __init__(self, limit_bytes: int, parent: Self | None = None) -> None:
        self.limit_bytes = limit_bytes
        """May be changed; what is held already stays."""
        self._parent = parent
        self.held_bytes = 0

    def take(self, count: int) -> bool:
        """Hold ``count`` bytes more. False, and nothing is held, when that is too much for it or
        for a parent."""
        if self.held_bytes + count > self.limit_bytes:
            return False
        if self._parent is not None and not self._parent.take(count):
            return False
        self.held_bytes += count
        return True

    def give(self, count: int) -> None:
        """Hold ``count`` bytes less."""
        self.held_bytes -= count
        if self._parent is not None:
            self._parent.give(count)

    def move(self, parent: Self) -> bool:
        """Hold everything under another parent; False, and nothing moves, when that has no room."""
        old = self._parent
        if old is not None:
            old.give(self.held_bytes)  # first, since the new one may be above the old one
        if parent.take(self.held_bytes):
            self._parent = parent
            return True
        if old is not None:
            old.take(self.held_bytes)
        return False


class EventBudget:
    """A token bucket: whether an event may happen now. Full at the beginning; what is refused
    takes nothing, so that whoever keeps trying is let through at the rate."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._tokens = rate.burst
        self._at: float | None = None

    def spend(self, now: float, count: int = 1) -> bool:
        """Whether ``count`` events at monotonic time ``now``, in seconds, are within the rate."""
        if self._at is not None:
            gained = (now - self._at) * self._rate.per_s
            self._tokens = min(self._rate.burst, self._tokens + gained)
        self._at = now
        if self._tokens < count:
            return False
        self._tokens -= count
        return True
