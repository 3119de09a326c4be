"""Very many random inputs, without atheris: nothing watches what they reach, so that they cost a
fraction. What guidance by coverage does not get to in its time is often near at hand.

Each input is made of the target's corpus, or of nothing, by its own mutation where it has one. The
same seed makes the same inputs, however many processes there are.
"""

import faulthandler
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from random import Random

from tests.fuzz.campaign import REPORT_PERIOD_S, WORK
from tests.fuzz.harness import Harness, load, write_inputs
from tests.fuzz.mutation import AnyMutation
from tests.fuzz.rules import check

BATCH = 1000
"""Inputs that a process tries before it tells."""
_MAX_BATCH_S = 300.0  # of one, by the clock: behind that one of its inputs does not end
_MAX_FOUND = 20  # kept of a batch
_MAX_RANDOM_BYTES = 400  # of one made of nothing
_MAX_PIECE_BYTES = 16  # put in or taken out at once


@dataclass
class Tally:
    """What came of some inputs of one target."""

    name: str
    inputs: int = 0
    accepted: int = 0
    cpu_s: float = 0.0
    slowest_s: float = 0.0
    """Of one input, in CPU."""
    found: dict[str, Path] = field(default_factory=dict)
    """What is wrong, and a file with an input that shows it."""

    def add(self, other: "Tally") -> None:
        """Count others of the same target too."""
        self.inputs += other.inputs
        self.accepted += other.accepted
        self.cpu_s += other.cpu_s
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.found = other.found | self.found


def try_all(
    tallies: Sequence[Tally], inputs: int, *, jobs: int, seed: int, tell: Callable[[str], None]
) -> None:
    """Try so many inputs of each, and count them there; when it is stopped, what was done counts.

    :raises BrokenProcessPool: an input ended its process, or does not end; stderr says where.
    """
    told_at = time.monotonic()
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin_process) as pool:
        try:
            for tally in tallies:
                for done in as_completed(_batches(pool, tally.name, inputs, seed)):
                    tally.add(done.result())
                    if time.monotonic() - told_at > REPORT_PERIOD_S:
                        told_at = time.monotonic()
                        tell(f"{tally.name}: {tally.inputs} of {inputs} inputs")
        finally:
            pool.shutdown(cancel_futures=True)


def _batches(pool: ProcessPoolExecutor, name: str, inputs: int, seed: int) -> list[Future[Tally]]:
    return [
        pool.submit(try_batch, name, f"{seed} {name} {at}", min(BATCH, inputs - at))
        for at in range(0, inputs, BATCH)
    ]


def _begin_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes to the runner, which ends it
    faulthandler.enable()  # of an interpreter that dies it tells where


def try_batch(name: str, seed: str, count: int) -> Tally:
    """Try so many inputs of one target."""
    harness = load(name)
    make = Maker(harness, Random(seed))
    tally = Tally(name)
    faulthandler.dump_traceback_later(_MAX_BATCH_S, exit=True)
    for _ in range(count):
        data = make()
        began_s = time.thread_time()
        try:
            tally.accepted += check(harness.run, data)
        except (Exception, SystemExit) as exc:
            problem = f"{type(exc).__name__}: {exc}"
            if problem not in tally.found and len(tally.found) < _MAX_FOUND:
                [tally.found[problem]] = write_inputs(WORK / "found" / name, [data])
        cost_s = time.thread_time() - began_s
        tally.cpu_s += cost_s
        tally.slowest_s = max(tally.slowest_s, cost_s)
        tally.inputs += 1
    faulthandler.cancel_dump_traceback_later()
    return tally


class Maker:
    """Makes inputs of a target, always the same of one ``rng``."""

    def __init__(self, harness: Harness, rng: Random) -> None:
        self._harness = harness
        self._corpus = [data for _, data in harness.corpus()]
        self._rng = rng
        self._change = random_change(rng, harness.words)

    def __call__(self) -> bytes:
        """The next one."""
        rng, most = self._rng, self._harness.max_bytes
        kind = rng.randrange(20)
        if kind == 0:
            return rng.randbytes(rng.randrange(_MAX_RANDOM_BYTES + 1))
        data = rng.choice(self._corpus)
        if kind == 1:  # the beginning of one and the end of another
            other = rng.choice(self._corpus)
            data = data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]
        while True:
            if self._harness.mutate is None:
                data = self._change(data, most)
            else:
                data = self._harness.mutate(data, most, rng, self._change)
            if rng.randrange(2):  # half of them are changed once, a quarter twice, ...
                return data[:most]


def random_change(rng: Random, words: Sequence[bytes] = ()) -> AnyMutation:
    """Changes a byte or a bit, or takes out, puts in or repeats a few bytes."""

    def change(data: bytes, most: int) -> bytes:
        at, size = rng.randrange(len(data) + 1), rng.randint(1, _MAX_PIECE_BYTES)
        match rng.randrange(6):
            case 0:
                piece, end = rng.randbytes(1), at + 1
            case 1:
                bit = 1 << rng.randrange(8)
                piece, end = bytes(byte ^ bit for byte in data[at : at + 1]), at + 1
            case 2:
                piece, end = b"", at + size
            case 3:
                piece, end = data[at : at + size] * 2, at + size
            case 4:
                piece, end = rng.choice(words) if words else bytes(size), at
            case _:
                piece, end = rng.randbytes(size), at
        return (data[:at] + piece + data[end:])[:most]

    return change
