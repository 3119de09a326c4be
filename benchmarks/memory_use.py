"""What this process uses of memory, as the system counts it; and how many files it may open."""

import gc
import os
import resource
from pathlib import Path

_STATM = Path("/proc/self/statm")


def resident_bytes(*, collect: bool = True) -> int:
    """Now, once garbage is collected: that takes seconds where millions of objects live."""
    if collect:
        gc.collect()
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    """The most since the process began."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def allow_open_files() -> None:
    """As many as the system lets us: a thousand connections are more than the usual limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
