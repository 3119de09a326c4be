"""How SIGINT, SIGTERM and SIGHUP end a command: a node politely, anything else by interrupting it.

A command that was started to outlive its terminal (``nohup``) ignores SIGHUP.
"""

import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import FrameType

import trio

from aelf_p2p.core.single_error import single_error_as_itself

log = logging.getLogger(__name__)


def _ending_signals() -> list[signal.Signals]:
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return signals


@dataclass
class Interruption:
    """Which signal a KeyboardInterrupt came from."""

    by: signal.Signals = signal.SIGINT


def interrupted_by_signals() -> Interruption:
    """From now on the signals raise KeyboardInterrupt, as SIGINT does: files and terminals are left
    in order. Only in the main thread."""
    interruption = Interruption()

    def interrupt(number: int, frame: FrameType | None) -> None:
        interruption.by = signal.Signals(number)
        handler = signal.getsignal(signal.SIGINT)  # trio has one that spares its own work
        if not callable(handler):
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    for number in _ending_signals():
        if number is not signal.SIGINT:
            signal.signal(number, interrupt)
    return interruption


@dataclass
class Ended:
    """Which signal ended the block, if one did."""

    by: signal.Signals | None = None


@asynccontextmanager
async def ended_by_signals() -> AsyncIterator[Ended]:
    """A block that the signals cancel, and that has then ended as if it were done.

    From the first one on, further ones change nothing, to the end of the process: what it does when
    it is told to end is its goodbye, and short. Only in the main thread.
    """
    ended = Ended()
    numbers = _ending_signals()
    with (
        _noted(numbers, ended) as noted,
        trio.open_signal_receiver(*numbers) as signals,
        single_error_as_itself(),
    ):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(_cancel_at_signals, signals, scope, ended)
                if noted:
                    _end(scope, ended, noted[0])
                yield ended
            nursery.cancel_scope.cancel()


@contextmanager
def _noted(numbers: list[signal.Signals], ended: Ended) -> Iterator[list[int]]:
    """Around trio's receiver, which puts back the handlers that it found: none of the signals goes
    by unheard. Those that came outside of it are noted."""
    noted: list[int] = []
    found = {number: signal.signal(number, lambda got, _: noted.append(got)) for number in numbers}
    try:
        yield noted
    finally:
        if ended.by is None:
            for number, handler in found.items():
                signal.signal(number, handler)
            for late in noted:
                signal.raise_signal(late)


async def _cancel_at_signals(
    signals: AsyncIterator[int], scope: trio.CancelScope, ended: Ended
) -> None:
    async for number in signals:
        _end(scope, ended, number)


def _end(scope: trio.CancelScope, ended: Ended, number: int) -> None:
    if ended.by is None:
        ended.by = signal.Signals(number)
        log.info("%s: stopping", ended.by.name)
        scope.cancel()
