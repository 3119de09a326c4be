"""A log gets so many lines of one kind."""

import logging

import pytest

from aelf_p2p.core.budgets import Rate
from aelf_p2p.ops.line_budget import MAX_KINDS, LineBudget


class Lines(logging.Handler):
    """A handler with a budget, and a clock that stands until it is moved."""

    def __init__(self, rate: Rate) -> None:
        super().__init__()
        self.now = 100.0
        self.said: list[str] = []
        self.addFilter(LineBudget(rate, clock=lambda: self.now))

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture
def lines() -> Lines:
    return Lines(Rate(2, 0.5))


@pytest.fixture
def log(lines: Lines) -> logging.Logger:
    log = logging.Logger("aelf_p2p.of.tests")
    log.addHandler(lines)
    return log


def test_what_is_over_is_left_out_and_told_later(lines: Lines, log: logging.Logger) -> None:
    for number in range(5):
        log.info("dropped %d", number)
    assert lines.said == ["dropped 0", "dropped 1"]
    lines.now += 2.0
    log.info("dropped %d", 5)
    log.info("dropped %d", 6)
    lines.now += 2.0
    log.info("dropped %d of 100 %%", 7)
    log.info("dropped %d", 8)
    assert lines.said[2:] == [
        "dropped 5 (and 3 more like it)",
        "dropped 7 of 100 %",
        "dropped 8 (and 1 more like it)",
    ]


def test_each_kind_has_its_own(lines: Lines, log: logging.Logger) -> None:
    for _ in range(3):
        log.info("one")
        log.error("one")
        log.info("another")
    assert sorted(lines.said) == ["another"] * 2 + ["one"] * 4


def test_what_is_left_out_of_a_line_with_an_error_is_told_too(
    lines: Lines, log: logging.Logger
) -> None:
    for _ in range(4):
        log.error("failed: %s", ValueError("100%"), exc_info=ValueError("100%"))
    lines.now += 60.0
    log.error("failed: %s", ValueError("100%"), exc_info=ValueError("100%"))
    assert lines.said == ["failed: 100%"] * 2 + ["failed: 100% (and 2 more like it)"]


def test_so_many_kinds_are_known(lines: Lines, log: logging.Logger) -> None:
    for number in range(3 * MAX_KINDS):
        log.info(f"kind {number}")
    (budget,) = lines.filters
    assert isinstance(budget, LineBudget)
    assert len(budget) == MAX_KINDS
    assert len(lines.said) == 3 * MAX_KINDS
