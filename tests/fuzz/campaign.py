"""Fuzzing targets one after another or side by side, each in a process of its own."""

import math
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from aelf_p2p.core.single_error import single_error_as_itself
from tests.fuzz.harness import Harness, load, write_inputs
from tests.fuzz.libfuzzer import Progress

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".fuzz"
"""What is found, and inputs that reach something new; not in the repository."""

CHILD = (sys.executable, "-m", "tests.fuzz.child")
REPORT_PERIOD_S = 10.0
MAX_RSS_MIB = 1024
MAX_RUN_S = 10  # of one input, by the clock; what it may cost in CPU is in ``rules``
_GRACE_S = 20.0  # beyond its time, for a start on a busy machine and for what is being run
_START_S = 1.5  # until a child fuzzes
_END_S = 2.0  # for children that are cut short


@dataclass
class Outcome:
    """One target's run, or what there is of it."""

    name: str
    progress: Progress = field(default_factory=Progress)
    took_s: float = 0.0
    note: str = "not run"
    """Why there is not all of it; empty when it ran as long as it was to run."""
    failed: bool = False
    """It ended by itself, and not because of a finding."""

    @property
    def is_good(self) -> bool:
        """Nothing was found, and it did not fail."""
        return not (self.failed or self.progress.problem)


@dataclass(frozen=True)
class Plan:
    """How long each target is fuzzed, in seconds, and how many are at once."""

    jobs: int
    seconds: float | None = None
    """For each; when it is None, ``in_all_s`` is shared by all."""
    in_all_s: float = math.inf
    """By the clock; whatever is not done then is cut short, or not run."""
    seed: int = 0
    """Of what is tried; 0 for another one each time."""

    def share_s(self, left_s: float, targets_left: int) -> float:
        """For the next target, when so much time is left for so many, itself among them."""
        if self.seconds is not None:
            return self.seconds
        rounds = math.ceil(targets_left / self.jobs)
        return max(1.0, left_s / rounds - _START_S)


async def fuzz(outcomes: Sequence[Outcome], plan: Plan, tell: Callable[[str], None]) -> None:
    """Fuzz the targets of ``outcomes``, in their order, and note there what came of it.

    Cancelled, it leaves no process.
    """
    deadline = trio.current_time() + plan.in_all_s
    left = list(reversed(outcomes))

    async def work() -> None:
        while left:
            seconds = plan.share_s(deadline - trio.current_time(), len(left))
            await _fuzz_one(left.pop(), seconds, plan.seed, tell)

    with trio.move_on_at(deadline - _END_S), single_error_as_itself():
        async with trio.open_nursery() as nursery:
            for _ in range(plan.jobs):
                nursery.start_soon(work)


async def _fuzz_one(
    outcome: Outcome, seconds: float, seed: int, tell: Callable[[str], None]
) -> None:
    harness = load(outcome.name)
    corpus, found = WORK / "corpus" / harness.name, WORK / "found" / harness.name
    write_inputs(corpus, harness.seeds())
    found.mkdir(parents=True, exist_ok=True)
    flags = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-seed={seed}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
        f"-rss_limit_mb={MAX_RSS_MIB}",
        f"-timeout={MAX_RUN_S}",
        *shared_flags(harness),
        str(corpus),
        *([str(harness.kept)] if harness.kept.is_dir() else []),
    ]
    tell(f"{harness.name}: fuzzing for {seconds:.0f} s")
    began_at = trio.current_time()
    outcome.note = "cut short"
    try:
        with trio.fail_after(seconds + _GRACE_S):
            status = await _watched(outcome, flags, tell)
    except trio.TooSlowError:
        outcome.note, outcome.failed = "it did not end by itself", True
    else:
        outcome.note = ""
        if status and not outcome.progress.problem:
            log = _log_of(harness.name).relative_to(ROOT)
            outcome.note, outcome.failed = f"it ended with status {status}: see {log}", True
    finally:
        outcome.took_s = trio.current_time() - began_at
    tell(_told(outcome))


def shared_flags(harness: Harness) -> list[str]:
    """What libFuzzer is told of a target."""
    flags = [f"-max_len={harness.max_bytes}"]
    if harness.words:
        path = WORK / "words" / harness.name
        path.parent.mkdir(parents=True, exist_ok=True)
        quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in harness.words)
        path.write_text("".join(f'"{word}"\n' for word in quoted))
        flags.append(f"-dict={path}")
    return flags


async def _watched(outcome: Outcome, flags: Sequence[str], tell: Callable[[str], None]) -> int:
    """Run the child to its end and read what it says; its exit status."""
    with single_error_as_itself():
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(_child, outcome.name, flags)
            nursery.start_soon(_report, outcome, tell)
            assert process.stdout is not None
            with _log_of(outcome.name).open("wb") as log:
                rest = b""
                async for data in process.stdout:
                    log.write(data)
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        outcome.progress.take(line.decode(errors="replace"))
            status = await process.wait()
            nursery.cancel_scope.cancel()
    return status


async def _child(
    name: str, flags: Sequence[str], task_status: trio.TaskStatus[trio.Process]
) -> None:
    """In a session of its own, so that Ctrl-C comes to the runner alone, which then ends it."""

    async def end(process: trio.Process) -> None:
        process.send_signal(signal.SIGTERM)
        with trio.move_on_after(2) as patience:
            await process.wait()
        if patience.cancelled_caught:
            process.kill()

    await trio.run_process(
        [*CHILD, name, *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        start_new_session=True,
        deliver_cancel=end,
        task_status=task_status,
    )


async def _report(outcome: Outcome, tell: Callable[[str], None]) -> None:
    while True:
        await trio.sleep(REPORT_PERIOD_S)
        tell(_told(outcome))


def _told(outcome: Outcome) -> str:
    done = outcome.progress
    said = f"{outcome.name}: {done.executions} executions, {done.features} features"
    problem = done.problem or outcome.note if not outcome.is_good else ""
    return f"{said}: {problem}" if problem else said


def _log_of(name: str) -> Path:
    path = WORK / "log" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
