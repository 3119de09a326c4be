"""Runs that replay: the same seed gives the same order of events.

trio shuffles its run queue on purpose, so that nobody relies on its order. A simulation that is to
be replayed needs that order fixed, which trio can do, but only by private names of its scheduler.
They are used here and nowhere else.
"""

import importlib
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Final, TypeVar, TypeVarTuple

import trio
import trio.testing

from aelf_p2p.core.errors import MisuseError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_SCHEDULER: Final = "trio._core._run"
_SWITCH: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"
_RANDOM: Final = "_r"


def run_deterministic(
    async_fn: Callable[[*Ts], Awaitable[T]],
    *args: *Ts,
    seed: int,
    clock: trio.abc.Clock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> T:
    """``trio.run`` in an order that ``seed`` decides; returns or raises what ``async_fn`` does.

    Another seed gives another order, which is how a schedule that breaks something is searched for;
    the seed then replays it, on any machine and whatever PYTHONHASHSEED is. That holds for code
    whose only inputs are the seed and virtual time: no sockets, threads, wall clock or iteration
    over sets of objects; other randomness comes from a ``random.Random`` that the caller seeds.

    ``clock`` is a MockClock that jumps to the next deadline as soon as all tasks wait, unless
    another is given. trio's scheduler is put back as it was at the end, whatever happens. Since its
    state is one for the process, no other thread may run trio meanwhile.

    Raises MisuseError when this trio lacks the private names; known to work from 0.25 to 0.35.
    """
    if clock is None:
        clock = trio.testing.MockClock(autojump_threshold=0)
    with _seeded_scheduler(seed):
        return trio.run(async_fn, *args, clock=clock, instruments=instruments)


@contextmanager
def _seeded_scheduler(seed: int) -> Iterator[None]:
    scheduler, shuffler = _private_scheduler()
    switch = getattr(scheduler, _SWITCH)
    state = shuffler.getstate()
    setattr(scheduler, _SWITCH, True)
    shuffler.seed(seed)
    try:
        yield
    finally:
        shuffler.setstate(state)
        setattr(scheduler, _SWITCH, switch)


def _private_scheduler() -> tuple[ModuleType, random.Random]:
    """trio's scheduler and its source of randomness, if they are as we know them."""
    try:
        scheduler = importlib.import_module(_SCHEDULER)
        switch, shuffler = getattr(scheduler, _SWITCH), getattr(scheduler, _RANDOM)
    except (ImportError, AttributeError) as exc:
        raise MisuseError(_unknown_trio(str(exc))) from exc
    if not isinstance(switch, bool) or not isinstance(shuffler, random.Random):
        raise MisuseError(_unknown_trio(f"{_SWITCH} or {_RANDOM} is something else than it was"))
    return scheduler, shuffler


def _unknown_trio(why: str) -> str:
    return f"trio {trio.__version__} cannot be made deterministic: {why}"
