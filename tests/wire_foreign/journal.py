"""What happened, for one thread to write down and another to wait for."""

from collections.abc import Callable
from threading import Condition
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")

WAIT_S = 5.0
"""How long anything may take that a test waits for; only failing tests wait so long."""


class Journal(Generic[T]):
    """A list that any thread may append to, and wait on."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._changed = Condition()

    def append(self, item: T) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    @property
    def items(self) -> list[T]:
        """A copy of what is there now."""
        with self._changed:
            return list(self._items)

    def wait_for(
        self, wanted: Callable[[T], bool], count: int = 1, *, timeout_s: float = WAIT_S
    ) -> list[T]:
        """Wait until ``count`` items are ``wanted``; those that are. AssertionError if they don't
        come in time."""
        deadline = monotonic() + timeout_s
        with self._changed:
            while len(found := [item for item in self._items if wanted(item)]) < count:
                left_s = deadline - monotonic()
                assert left_s > 0, f"{len(found)} of {count}, of {len(self._items)} in all"
                self._changed.wait(left_s)
            return found
