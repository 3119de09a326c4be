"""What the commands' exit statuses mean."""

import signal

DONE = 0
FAILED = 1
"""It went wrong on the way."""
WRONGLY_CALLED = 2
"""What it was given is not right: its arguments, its files, its port."""


def of_signal(number: signal.Signals) -> int:
    """A signal ended it before it was done; as shells tell of it."""
    return 128 + number
