"""What the tests of commands share."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _signals_stay_as_they_are() -> Iterator[None]:
    """Commands change what signals do, to the end of their process."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    found = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in found.items():
        signal.signal(number, handler)
