"""The same seed gives the same order of events, and trio is left as it was."""

import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from aelf_p2p.core.errors import MisuseError
from aelf_p2p.testing import determinism
from aelf_p2p.testing.determinism import run_deterministic

ROOT = Path(__file__).parent.parent.parent


async def interleaving(tasks: int = 20, steps: int = 5) -> list[tuple[int, int]]:
    """The order in which tasks take their steps: bare ones, sleeps and cancellations."""
    trace: list[tuple[int, int]] = []

    async def walk(number: int) -> None:
        for step in range(steps):
            trace.append((number, step))
            await trio.lowlevel.checkpoint()
            await trio.sleep(1)
            with trio.move_on_after(0.5):
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for number in range(tasks):
            nursery.start_soon(walk, number)
    return trace


def test_the_same_seed_gives_the_same_interleaving() -> None:
    traces = [run_deterministic(interleaving, seed=seed) for seed in [*range(10), *range(10)]]
    assert traces[:10] == traces[10:]
    assert len({tuple(trace) for trace in traces}) == 10
    assert all(sorted(trace) == sorted(traces[0]) for trace in traces)


def test_another_process_has_the_same_interleaving() -> None:
    script = (
        "from tests.testing.test_determinism import interleaving, run_deterministic\n"
        "print(run_deterministic(interleaving, seed=11))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "4242")
    ]
    assert outputs == [f"{run_deterministic(interleaving, seed=11)}\n"] * 2


def test_what_it_runs_gets_arguments_and_virtual_time() -> None:
    async def main(days: int, name: str) -> tuple[float, str]:
        await trio.sleep(days * 86400)
        return trio.current_time(), name

    assert run_deterministic(main, 3, "x", seed=1) == (3 * 86400, "x")


def test_clock_and_instruments_are_passed_on() -> None:
    class Counter(trio.abc.Instrument):
        steps = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.steps += 1

    counter = Counter()
    clock = trio.testing.MockClock(autojump_threshold=0)
    clock.jump(5)

    async def main() -> float:
        await trio.sleep(1)
        return trio.current_time()

    assert run_deterministic(main, seed=1, clock=clock, instruments=[counter]) == 6
    assert counter.steps > 0


def test_trio_is_put_back_even_after_an_error() -> None:
    scheduler, shuffler = determinism._private_scheduler()
    before = getattr(scheduler, determinism._SWITCH), shuffler.getstate()

    async def fail() -> None:
        assert getattr(scheduler, determinism._SWITCH) is True
        await interleaving(3)
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        run_deterministic(fail, seed=1)
    assert (getattr(scheduler, determinism._SWITCH), shuffler.getstate()) == before


@pytest.mark.parametrize(
    "scheduler",
    [
        SimpleNamespace(),
        SimpleNamespace(_ALLOW_DETERMINISTIC_SCHEDULING=False),
        SimpleNamespace(_r=random.Random()),
        SimpleNamespace(_ALLOW_DETERMINISTIC_SCHEDULING=False, _r="something else"),
        SimpleNamespace(_ALLOW_DETERMINISTIC_SCHEDULING=None, _r=random.Random()),
    ],
)
def test_an_unknown_trio_is_named(
    monkeypatch: pytest.MonkeyPatch, scheduler: SimpleNamespace
) -> None:
    monkeypatch.setitem(sys.modules, determinism._SCHEDULER, scheduler)
    with pytest.raises(MisuseError, match=f"trio {trio.__version__} cannot be made determ"):
        run_deterministic(interleaving, seed=1)


def test_a_scheduler_that_has_moved_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(determinism, "_SCHEDULER", "trio._core._elsewhere")
    with pytest.raises(MisuseError, match="_elsewhere"):
        run_deterministic(interleaving, seed=1)
