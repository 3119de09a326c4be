"""Fuzzing targets one after another or side by side, each in a process of its own."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.fuzz.harness import Harness, load, write_inputs
from tests.fuzz.libfuzzer import Progress

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".fuzz"
"""What is found, and inputs that reach something new; not in the repository."""

REPORT_PERIOD_S = 10.0
MAX_RSS_MIB = 1024
MAX_RUN_S = 10  # of one input, by the clock; what it may cost in CPU is in ``rules``
KEPT_BYTES = 10_000  # of a target's corpus in the repository
KEPT_INPUT_BYTES = 2_000  # of one input in it
_GRACE_S = 20.0  # beyond its time, for a start on a busy machine and for what is being run


@dataclass
class Outcome:
    """One target's run."""

    name: str
    progress: Progress = field(default_factory=Progress)
    took_s: float = 0.0
    failed: str = ""
    """Why it could not be run to its end."""

    @property
    def is_good(self) -> bool:
        """Nothing was found, and it ran."""
        return not (self.failed or self.progress.problem)


async def fuzz(
    names: Sequence[str], *, seconds: float, jobs: int, tell: Callable[[str], None]
) -> list[Outcome]:
    """Fuzz each for ``seconds``, at most ``jobs`` at once; cancelled, no process is left.

    The list is in the order of ``names``.
    """
    outcomes = [Outcome(name) for name in names]
    left = iter(outcomes)

    async def work() -> None:
        for outcome in left:
            await _fuzz_one(outcome, seconds, tell)

    async with trio.open_nursery() as nursery:
        for _ in range(jobs):
            nursery.start_soon(work)
    return outcomes


async def _fuzz_one(outcome: Outcome, seconds: float, tell: Callable[[str], None]) -> None:
    harness = load(outcome.name)
    corpus, found = WORK / "corpus" / harness.name, WORK / "found" / harness.name
    write_inputs(corpus, harness.seeds())
    found.mkdir(parents=True, exist_ok=True)
    flags = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
        f"-rss_limit_mb={MAX_RSS_MIB}",
        f"-timeout={MAX_RUN_S}",
        *_shared_flags(harness),
        str(corpus),
        *([str(harness.kept)] if harness.kept.is_dir() else []),
    ]
    began_at = trio.current_time()
    tell(f"{harness.name}: fuzzing for {seconds:.0f} s")
    with trio.move_on_after(seconds + _GRACE_S) as patience:
        status = await _watched(outcome, flags, tell)
        if status and not outcome.progress.problem:
            outcome.failed = f"it ended with status {status}; see {_log_of(harness.name)}"
    if patience.cancelled_caught:
        outcome.failed = "it did not end by itself"
    outcome.took_s = trio.current_time() - began_at
    tell(f"{harness.name}: {_told(outcome)}")


def _shared_flags(harness: Harness) -> list[str]:
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
        [sys.executable, "-m", "tests.fuzz.child", name, *flags],
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
        tell(f"{outcome.name}: {_told(outcome)}")


def _told(outcome: Outcome) -> str:
    progress = outcome.progress
    said = f"{progress.executions} executions, {progress.features} features"
    return f"{said}: {outcome.failed or progress.problem}" if not outcome.is_good else said


def _log_of(name: str) -> Path:
    path = WORK / "log" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def keep(name: str) -> tuple[int, int]:
    """Choose anew what is kept of a target's corpus in the repository; how many inputs, and bytes.

    As few as reach all that the inputs at hand reach, the small ones first, up to ``KEPT_BYTES``.
    """
    harness = load(name)
    merged = WORK / "merged" / name
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir(parents=True)
    known = [path for path in (harness.kept, WORK / "corpus" / name) if path.is_dir()]
    subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.child", name, "-merge=1"),
            *(*_shared_flags(harness), str(merged), *map(str, known)),
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    seeds = set(harness.seeds())
    room = KEPT_BYTES
    inputs: list[bytes] = []
    for data in sorted((path.read_bytes() for path in merged.iterdir()), key=len):
        if data in seeds or len(data) > min(room, KEPT_INPUT_BYTES):
            continue
        inputs.append(data)
        room -= len(data)
    shutil.rmtree(harness.kept, ignore_errors=True)
    write_inputs(harness.kept, inputs)
    return len(inputs), KEPT_BYTES - room
