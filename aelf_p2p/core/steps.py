"""Work that is done a bit at a time, so that others have their turn in between.

A megabyte that a peer sends can cost a second to look at. What may cost so much is a generator that
stops every few milliseconds, and returns its result at the end: whoever awaits nothing has it
:func:`finish`, and whoever has other tasks goes through it :func:`in_turns`.
"""

from collections.abc import Awaitable, Callable, Generator
from typing import TypeVar

T = TypeVar("T")

Steps = Generator[None, None, T]


def finish(steps: Steps[T]) -> T:
    """All of it at once; its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


async def in_turns(steps: Steps[T], pause: Callable[[], Awaitable[object]]) -> T:
    """Step by step, and ``pause`` behind each, the last one too; its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            await pause()
            result: T = end.value
            return result
        await pause()
