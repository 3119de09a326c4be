"""Signals: what they do to a command that works, and to one that runs a node."""

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import trio

from aelf_p2p.ops.signals import ended_by_signals, interrupted_by_signals

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
each_signal = pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in NUMBERS]


# --- a node ---------------------------------------------------------------------------------------


@each_signal
async def test_a_signal_ends_a_block_as_if_it_were_done(number: signal.Signals) -> None:
    async with ended_by_signals() as ended:
        signal.raise_signal(number)
        await trio.Event().wait()
    assert ended.by is number


async def test_further_signals_do_not_disturb_a_goodbye() -> None:
    said: list[str] = []
    async with ended_by_signals() as ended:
        try:
            signal.raise_signal(signal.SIGTERM)
            await trio.Event().wait()
        finally:
            with trio.CancelScope(shield=True):
                for number in NUMBERS:
                    signal.raise_signal(number)
                    await trio.testing.wait_all_tasks_blocked()
                    said.append("goodbye")
    assert said == ["goodbye", "goodbye", "goodbye"]
    assert ended.by is signal.SIGTERM
    for number in NUMBERS:  # to the end of the process
        signal.raise_signal(number)


async def test_a_block_that_ends_by_itself() -> None:
    before = handlers()
    async with ended_by_signals() as ended:
        pass
    assert ended.by is None
    assert handlers() == before
    with pytest.raises(ValueError, match="from the block"):
        async with ended_by_signals():
            raise ValueError("from the block")
    assert handlers() == before


def raised_around(
    monkeypatch: pytest.MonkeyPatch, *, before: list[signal.Signals], after: list[signal.Signals]
) -> None:
    """Signals that come when trio does not receive them yet, and when it no longer does."""
    receiver = trio.open_signal_receiver

    @contextmanager
    def open_signal_receiver(*numbers: int) -> Iterator[Any]:
        manager: AbstractContextManager[Any] = receiver(*numbers)
        for number in before:
            signal.raise_signal(number)
        with manager as received:
            yield received
        for number in after:
            signal.raise_signal(number)

    monkeypatch.setattr(trio, "open_signal_receiver", open_signal_receiver)


@each_signal
async def test_a_signal_that_is_early(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised_around(monkeypatch, before=[number], after=NUMBERS)
    async with ended_by_signals() as ended:
        await trio.Event().wait()
    assert ended.by is number


async def test_a_signal_after_a_block_that_ended_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is for whatever was there before."""
    raised_around(monkeypatch, before=[], after=[signal.SIGTERM])
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    async with ended_by_signals() as ended:
        pass
    assert ended.by is None
    assert heard == [signal.SIGTERM]


async def test_what_outlives_its_terminal_goes_on() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    async with ended_by_signals() as ended:
        signal.raise_signal(signal.SIGHUP)
        await trio.testing.wait_all_tasks_blocked()
    assert ended.by is None
    interrupted_by_signals()
    signal.raise_signal(signal.SIGHUP)


# --- anything else --------------------------------------------------------------------------------


@each_signal
def test_a_signal_interrupts(number: signal.Signals) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interruption = interrupted_by_signals()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert interruption.by is number


def test_a_signal_interrupts_also_where_ctrl_c_does_not() -> None:
    """Shells start what runs in the background so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interruption = interrupted_by_signals()
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert interruption.by is signal.SIGTERM


@each_signal
def test_trio_is_interrupted_between_its_own_steps(number: signal.Signals) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupted_by_signals()
    went_on = False

    @trio.lowlevel.enable_ki_protection
    async def protected() -> None:
        nonlocal went_on
        signal.raise_signal(number)
        went_on = True
        await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(protected)
    assert went_on
