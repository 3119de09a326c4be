"""What the commands' exit statuses mean."""

import signal

DONE = 0
FAILED = 1
"""It began, and went wrong."""
WRONGLY_CALLED = 2
"""It could not begin: its arguments, its files or its port are not right."""


def of_signal(number: signal.Signals) -> int:
    """A signal ended it before it was done; as shells tell of it."""
    return 128 + number
