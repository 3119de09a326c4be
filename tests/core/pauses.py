"""Counting the pauses of what is done in steps."""

from collections.abc import Callable
from typing import TypeVar

from aelf_p2p.core.steps import Steps

T = TypeVar("T")


def count_pauses(steps: Steps[T], at_pause: Callable[[], object] = lambda: None) -> tuple[T, int]:
    """What it comes to, and how often it stopped on the way."""
    pauses = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, pauses
        pauses += 1
        at_pause()
