"""Fixtures of the tests of the foreign node itself."""

import threading
from collections.abc import Iterator

import pytest

from tests.wire_foreign.journal import WAIT_S


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """All threads that begin in a test end with it."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT_S)  # grpc's own end a moment after the call that they served
        assert not thread.is_alive()
