"""Keeping a nursery's exception group out of the public API when it holds a single error."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def single_error_as_itself() -> Iterator[None]:
    """Around a nursery: its one error leaves as itself, with its own cause; several as a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__
