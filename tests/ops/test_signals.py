"""Signals: what they do to a command that works, and to one that runs trio."""

import signal
from typing import Any

import pytest
import trio

from aelf_p2p.ops.signals import (
    SIGNALS,
    Ending,
    ended_by_signals,
    ignore_signals,
    interrupted_by_signals,
)
from tests.ops.processes import WAIT_S

each_signal = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)


@pytest.fixture(autouse=True)
def as_in_a_new_process() -> None:
    """What the tests themselves are run with may be otherwise; all is put back after them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in SIGNALS]


# --- what runs in trio ----------------------------------------------------------------------------


async def wait_for_ever(ending: Ending, *numbers: signal.Signals) -> None:
    """A block that gets signals, and does not end by itself."""
    with trio.fail_after(WAIT_S), ending.cancels():
        for number in numbers:
            signal.raise_signal(number)
        await trio.Event().wait()


@each_signal
def test_a_signal_ends_a_block_as_if_it_were_done(number: signal.Signals) -> None:
    with ended_by_signals() as ending:
        trio.run(wait_for_ever, ending, number)
    assert ending.by is number


@each_signal
def test_a_signal_before_the_block(number: signal.Signals) -> None:
    with ended_by_signals() as ending:
        signal.raise_signal(number)
        trio.run(wait_for_ever, ending)
    assert ending.by is number


@each_signal
def test_a_signal_after_the_block(number: signal.Signals) -> None:
    async def at_once() -> None:
        with ending.cancels():
            pass

    with ended_by_signals() as ending:
        trio.run(at_once)
        signal.raise_signal(number)
    assert ending.by is number
    assert handlers() == [signal.SIG_IGN] * 3


def test_further_signals_do_not_disturb_a_goodbye() -> None:
    said: list[str] = []

    async def live() -> None:
        with ending.cancels():
            try:
                signal.raise_signal(signal.SIGTERM)
                await trio.Event().wait()
            finally:
                with trio.CancelScope(shield=True):
                    for number in SIGNALS:
                        signal.raise_signal(number)
                        await trio.testing.wait_all_tasks_blocked()
                        said.append("goodbye")

    with ended_by_signals() as ending:
        trio.run(live)
    assert said == ["goodbye", "goodbye", "goodbye"]
    assert ending.by is signal.SIGTERM
    assert handlers() == [signal.SIG_IGN] * 3  # which outlives Python's own end


def test_a_block_that_ends_by_itself() -> None:
    before = handlers()
    with ended_by_signals() as ending:
        assert set(handlers()).isdisjoint(before)
    assert ending.by is None
    assert handlers() == before
    with pytest.raises(ValueError, match="from the block"), ended_by_signals():
        raise ValueError("from the block")
    assert handlers() == before


def test_an_error_of_a_goodbye_is_told() -> None:
    async def live() -> None:
        with trio.fail_after(WAIT_S), ending.cancels():
            try:
                signal.raise_signal(signal.SIGTERM)
                await trio.Event().wait()
            finally:
                raise ValueError("from the goodbye")

    with pytest.raises(ValueError, match="from the goodbye"), ended_by_signals() as ending:
        trio.run(live)
    assert handlers() == [signal.SIG_IGN] * 3


def test_what_outlives_its_terminal_goes_on() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with ended_by_signals() as ending:
        signal.raise_signal(signal.SIGHUP)
    assert ending.by is None
    interrupted_by_signals()
    signal.raise_signal(signal.SIGHUP)


def test_what_a_shell_put_in_the_background_ends_politely_too() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ended_by_signals() as ending:
        trio.run(wait_for_ever, ending, signal.SIGINT)
    assert ending.by is signal.SIGINT


# --- anything else --------------------------------------------------------------------------------


@each_signal
def test_a_signal_interrupts_once(number: signal.Signals) -> None:
    interruption = interrupted_by_signals()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    for further in SIGNALS:
        signal.raise_signal(further)
    assert interruption.by is number


def test_what_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interruption = interrupted_by_signals()
    signal.raise_signal(signal.SIGINT)
    assert interruption.by is None
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_in_the_end_nothing_is_heard() -> None:
    ignore_signals()
    for number in SIGNALS:
        signal.raise_signal(number)
