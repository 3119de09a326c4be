"""Ending politely at SIGINT and SIGTERM."""

import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import trio

from aelf_p2p.core.single_error import single_error_as_itself

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Ended:
    """Which signal ended the block, if one did."""

    by: signal.Signals | None = None


@asynccontextmanager
async def ended_by_signals() -> AsyncIterator[Ended]:
    """A block that SIGINT and SIGTERM cancel, and that has then ended as if it were done.

    From the first one on, further ones change nothing, to the end of the process: what it does when
    it is told to end is its goodbye, and short. Only in the main thread.
    """
    ended = Ended()
    with (
        _ignored_afterwards(ended),
        trio.open_signal_receiver(*SIGNALS) as signals,
        single_error_as_itself(),
    ):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(_cancel_at_signals, signals, scope, ended)
                yield ended
            nursery.cancel_scope.cancel()


@contextmanager
def _ignored_afterwards(ended: Ended) -> Iterator[None]:
    """Around trio's receiver, which puts back the handlers that it found."""
    found = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        if ended.by is None:
            for number, handler in found.items():
                signal.signal(number, handler)


async def _cancel_at_signals(
    signals: AsyncIterator[int], scope: trio.CancelScope, ended: Ended
) -> None:
    async for number in signals:
        if ended.by is None:
            ended.by = signal.Signals(number)
            log.info("%s: stopping", ended.by.name)
            scope.cancel()
