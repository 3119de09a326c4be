"""Exception groups: kept out of the public API around a single error, and taken apart."""

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


def each_error(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, however nested; an error that is no group is the only one."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from each_error(inner)
    else:
        yield error
