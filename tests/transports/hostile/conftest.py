"""No attack may fill the log: what is above DEBUG has to be expected by its test."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def expected_logs() -> set[str]:
    """The texts of records above DEBUG that a test expects; it adds to them."""
    return set()


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture, expected_logs: set[str]) -> Iterator[None]:
    yield
    loud = {
        record.getMessage()
        for record in caplog.get_records("call")
        if record.levelno > logging.DEBUG and "without TLS" not in record.getMessage()
    }
    assert loud == expected_logs
