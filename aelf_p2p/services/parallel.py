"""Doing the same for many, a few at a time."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from aelf_p2p.core.single_error import single_error_as_itself

T = TypeVar("T")


async def for_each(
    items: Sequence[T], work: Callable[[T], Awaitable[None]], *, at_once: int
) -> None:
    """Do ``work`` with every item, at most ``at_once`` at a time; returns when all is done."""
    waiting = iter(items)

    async def take_turns() -> None:
        for item in waiting:
            await work(item)

    with single_error_as_itself():
        async with trio.open_nursery() as nursery:
            for _ in range(min(at_once, len(items))):
                nursery.start_soon(take_turns)
