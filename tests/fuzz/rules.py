"""What holds for every input of every target, beside what the target checks itself."""

import resource
import time
from collections.abc import Callable

from aelf_p2p.core.options import KIB, MIB

MAX_CPU_S = 0.1
MAX_GROWTH_BYTES = 64 * MIB
"""By which one input may raise the highest resident size of the process."""

Run = Callable[[bytes], bool]
"""A target: takes any bytes, and says whether it accepted them. It raises for a finding only."""


class BrokenRuleError(AssertionError):
    """An input costs too much."""


def check(run: Run, data: bytes, *, max_cpu_s: float = MAX_CPU_S) -> bool:
    """Run one input within the rules; returns what the target does."""
    before_bytes = _peak_bytes()
    accepted, cpu_s = _measured(run, data)
    if cpu_s > max_cpu_s:
        # Twice more: work that is done once, or a collection of garbage, may have fallen into it.
        cpu_s = min(_measured(run, data)[1] for _ in range(2))
        if cpu_s > max_cpu_s:
            raise BrokenRuleError(f"{len(data)} bytes take {cpu_s * 1000:.0f} ms of CPU")
    grown_bytes = _peak_bytes() - before_bytes
    if grown_bytes > MAX_GROWTH_BYTES:
        raise BrokenRuleError(f"{len(data)} bytes take {grown_bytes / MIB:.0f} MiB of memory")
    return accepted


def _measured(run: Run, data: bytes) -> tuple[bool, float]:
    begin_s = time.thread_time()
    accepted = run(data)
    return accepted, time.thread_time() - begin_s


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
