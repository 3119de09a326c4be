"""Cancel a scenario at every one of its steps, and see that it leaves everything whole.

A cancellation can arrive wherever a task waits. What a hand-written test cancels is the wait that
its author thought of; :func:`cancel_at_every_step` finds the others.
"""

import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from aelf_p2p.testing.determinism import run_deterministic

S = TypeVar("S")

HANG_S = 24 * 3600.0
"""Virtual seconds after which a scenario counts as hanging."""


@dataclass(frozen=True)
class CancellationReport:
    """What was tried: the steps that the scenario takes, and those at which it was cancelled."""

    steps: int
    cancelled_at: tuple[int, ...]


def cancel_at_every_step(
    scenario: Callable[[S], Awaitable[object]],
    *,
    around: Callable[[], AbstractAsyncContextManager[S]],
    check: Callable[[S], Awaitable[object]],
    sample: int | None = None,
    seed: int = 0,
) -> CancellationReport:
    """Run ``scenario`` whole once, then once for each of its steps, cancelled at that step.

    Each run is a ``trio.run`` of its own, in virtual time and in the order that ``seed`` decides,
    so that step 17 is the same step in all of them::

        async with around() as state:
            await scenario(state)    # within the scope that is cancelled
            await check(state)       # raises when something was left behind

    ``around`` makes the state, and whatever is to outlive the cancellation, such as the server of
    a client that is cancelled. A step is what one task does between two waits; those of all tasks
    count while the scenario runs, so the cancellation also arrives between the steps of others.
    A scenario of many steps is cancelled at ``sample`` of them, drawn with the seed.

    Raises what the scenario or the check raises, with a note that says which step was cancelled;
    the scenario has no other errors than its own Cancelled. A wait that is shielded for ever, with
    no deadline, hangs the run for real, as nothing can end it.
    """
    steps = _run(scenario, around, check, seed=seed, cancel_at=None)
    cancelled_at = range(1, steps + 1)
    if sample is not None and sample < steps:
        chosen = sorted(random.Random(seed).sample(cancelled_at, sample))
    else:
        chosen = list(cancelled_at)
    for step in chosen:
        try:
            _run(scenario, around, check, seed=seed, cancel_at=step)
        except BaseException as exc:
            exc.add_note(f"cancelled at step {step} of {steps}, seed {seed}")
            raise
    return CancellationReport(steps, tuple(chosen))


@dataclass(eq=False)
class _Canceller(trio.abc.Instrument):
    """Counts steps while it is given a scope, and cancels the scope before the one asked for."""

    cancel_at: int | None
    steps: int = 0
    scope: trio.CancelScope | None = field(default=None)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.scope is None:
            return
        self.steps += 1
        if self.steps == self.cancel_at:
            self.scope.cancel()


def _run(
    scenario: Callable[[S], Awaitable[object]],
    around: Callable[[], AbstractAsyncContextManager[S]],
    check: Callable[[S], Awaitable[object]],
    *,
    seed: int,
    cancel_at: int | None,
) -> int:
    """One run; returns the steps that the scenario took."""
    canceller = _Canceller(cancel_at)

    async def main() -> None:
        with trio.fail_after(HANG_S):
            async with around() as state:
                with trio.CancelScope() as scope:
                    canceller.scope = scope
                    try:
                        await scenario(state)
                    finally:
                        canceller.scope = None
                await check(state)

    run_deterministic(main, seed=seed, instruments=(canceller,))
    return canceller.steps
