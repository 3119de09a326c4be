"""The log of the command line."""

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.ops.logs import configure_logging
from tests.ops.processes import LOG_LINE, start_node

LEVELS = ["debug", "info", "warning", "error"]


@contextmanager
def configured(level: str) -> Iterator[None]:
    """Logging configured as in a new process; in this one pytest has its handlers."""
    root = logging.getLogger()
    handlers, level_before = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        configure_logging(level)
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level_before)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_logged(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    with configured(level):
        for each in LEVELS:
            getattr(logging.getLogger("aelf_p2p.of.tests"), each)("so much: %d", 7)
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    matches = [LOG_LINE.match(line) for line in lines]
    assert [match[1].lower() for match in matches if match] == LEVELS[LEVELS.index(level) :]
    assert all(line.endswith(" aelf_p2p.of.tests: so much: 7") for line in lines)


def test_the_log_has_the_time_in_utc(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TZ", "XXX-05")  # five hours east
    time.tzset()
    try:
        with configured("info"):
            before = datetime.now(UTC)
            logging.getLogger("aelf_p2p").info("now")
            after = datetime.now(UTC)
    finally:
        monkeypatch.undo()
        time.tzset()
    logged = datetime.fromisoformat(capsys.readouterr().err.split()[0])
    assert before - timedelta(milliseconds=1) <= logged <= after


def test_a_node_logs_what_it_is_told_to() -> None:
    with start_node("--log-level", "error") as process:
        assert process.end() == 0
        assert process.logged() == process.errors() == []
    with start_node("--log-level", "debug") as process:
        address = Endpoint.parse_untrusted(process.address)
        with closing(socket.create_connection((address.host, address.port))) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert "DEBUG" in process.wait_logged("127.0.0.1:")
        assert process.end() == 0
        assert process.errors() == []
