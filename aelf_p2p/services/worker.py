"""A worker: a step that is done again and again, until the node ends."""

import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import trio

from aelf_p2p.core.errors import AelfP2PError, ClosedByUsError

T = TypeVar("T")

log = logging.getLogger(__name__)


class Worker(Generic[T]):
    """Does a step whenever ``wait`` returns; one step at a time, whoever asks for it.

    The embedder may ``pause`` it, and do a ``step`` at any time.
    """

    def __init__(
        self, name: str, step: Callable[[], Awaitable[T]], wait: Callable[[], Awaitable[None]]
    ) -> None:
        self._name = name
        self._step = step
        self._wait = wait
        self._turn = trio.Lock()
        self._resumed = trio.Event()
        self._resumed.set()
        self._closed = False
        self._scopes: dict[trio.CancelScope, None] = {}

    @property
    def paused(self) -> bool:
        """Whether it does no step by itself."""
        return not self._resumed.is_set()

    def pause(self) -> None:
        """Do no more steps by itself; one that is under way is done."""
        if not self.paused:
            self._resumed = trio.Event()

    def resume(self) -> None:
        """Go on; what came due meanwhile is done at once."""
        self._resumed.set()

    async def step(self) -> T:
        """Do one step now, paused or not, after the one that is under way if there is one.

        Raises ClosedByUsError when the node is closed, also in the middle of the step, and what
        the step raises.
        """
        with self._until_closed():
            async with self._turn:
                return await self._step()
        raise ClosedByUsError("the node is closed")

    async def run(self, *, at_once: bool = False) -> None:
        """Do steps until closed; the first one without waiting if it is to be ``at_once``.

        A step that fails is logged, and is tried again when the next is due.
        """
        wait = not at_once
        with self._until_closed():
            while True:
                if wait:
                    await self._wait()
                wait = True
                while self.paused:  # again, it may be, before this task had its turn
                    await self._resumed.wait()
                try:
                    await self.step()
                except AelfP2PError as exc:
                    log.warning("%s failed: %s", self._name, exc)

    def close(self) -> None:
        """The node shuts down: end the step that is under way, and do no more."""
        self._closed = True
        for scope in list(self._scopes):
            scope.cancel()

    @contextmanager
    def _until_closed(self) -> Iterator[None]:
        with trio.CancelScope() as scope:
            self._scopes[scope] = None
            if self._closed:
                scope.cancel()
            try:
                yield
            finally:
                del self._scopes[scope]


def jittered(period_s: float, jitter: float, rng: random.Random) -> float:
    """A period with at most ``jitter`` of it added, so that nodes spread out."""
    return period_s * (1.0 + jitter * rng.random())
