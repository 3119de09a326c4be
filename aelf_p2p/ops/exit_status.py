"""What the commands' exit statuses mean."""

import signal

from aelf_p2p.ops.output import say

DONE = 0
FAILED = 1
"""It went wrong on the way."""
WRONGLY_CALLED = 2
"""What it was given is not right: its arguments, its files, its port."""


def of_signal(number: signal.Signals) -> int:
    """A signal ended it before it was done; as shells tell of it."""
    return 128 + number


def status_of(ended_by: signal.Signals | None, *, failed: bool) -> int:
    """Of a run that a signal may have ended, which is then said."""
    if ended_by is not None:
        say("interrupted")
        return of_signal(ended_by)
    return FAILED if failed else DONE
