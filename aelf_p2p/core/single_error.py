"""Keeping a nursery's exception group out of the public API when it holds a single error."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def single_error_as_itself(ignoring: type[BaseException] | None = None) -> Iterator[None]:
    """Around a nursery: its one error leaves as itself, with its own cause; several as a group.

    ``ignoring`` names what does not count beside an error: the cancellation that came with it.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        errors = group.exceptions
        if ignoring is not None and (rest := group.split(ignoring)[1]) is not None:
            errors = rest.exceptions
        if len(errors) > 1:
            raise
        raise errors[0] from errors[0].__cause__
