"""How SIGINT, SIGTERM and SIGHUP end a command: what runs in trio politely, and anything else by
interrupting it.

A SIGHUP that is ignored, as of what was started to outlive its terminal (``nohup``), stays so; so
does such a SIGINT, as of what a shell put in the background, except in trio. Only for the main
thread of a process that is the command's own.
"""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import trio

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


class Interruption:
    """The first signal raises KeyboardInterrupt, and further ones do not disturb what that does."""

    def __init__(self) -> None:
        self.by: signal.Signals | None = None

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The signals' handler."""
        if self.by is None:
            self.by = signal.Signals(number)
            raise KeyboardInterrupt


def interrupted_by_signals() -> Interruption:
    """Whatever is done from now on, trio excepted."""
    interruption = Interruption()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interruption.interrupt)
    return interruption


def ignore_signals() -> None:
    """To the end of the process: its status is decided."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Ending:
    """The first signal cancels a block in trio, which has then ended as if it were done.

    Further ones change nothing: what a node does when it is told to end is its goodbye, and short.
    """

    def __init__(self) -> None:
        self.by: signal.Signals | None = None
        self._cancel: Callable[[], None] | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signals' handler."""
        if self.by is None:
            self.by = signal.Signals(number)
            if self._cancel is not None:
                self._cancel()

    @contextmanager
    def cancels(self) -> Iterator[None]:
        """The block, in the trio that :func:`ended_by_signals` is around."""
        token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as scope:

            def end() -> None:
                assert self.by is not None
                log.info("%s: stopping", self.by.name)
                scope.cancel()

            self._cancel = lambda: token.run_sync_soon(end)  # which a handler may do
            try:
                if self.by is not None:  # before there was a block
                    end()
                yield
            finally:
                self._cancel = None


@contextmanager
def ended_by_signals() -> Iterator[Ending]:
    """Around ``trio.run``. After a signal all are ignored to the end of the process."""
    ending = Ending()
    found = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        if number != signal.SIGHUP or found[number] is not signal.SIG_IGN:
            signal.signal(number, ending.note)
    try:
        yield ending
    finally:
        if ending.by is not None:
            ignore_signals()
        else:
            for number, handler in found.items():
                signal.signal(number, handler)
