"""Exception groups: kept out of the public API around a single error, and taken apart."""

from collections.abc import Iterator
from types import TracebackType


class single_error_as_itself:
    """Around a nursery: its one error leaves as itself, with its own cause; several as a group.

    ``ignoring`` names what does not count beside an error: the cancellation that came with it.

    A class and no generator: each peer has four of them open all the time, of 0.4 KiB each.
    """

    __slots__ = ("_ignoring",)

    def __init__(self, ignoring: type[BaseException] | None = None) -> None:
        self._ignoring = ignoring

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not isinstance(error, BaseExceptionGroup):
            return
        errors = error.exceptions
        if self._ignoring is not None and (rest := error.split(self._ignoring)[1]) is not None:
            errors = rest.exceptions
        if len(errors) == 1:
            raise errors[0] from errors[0].__cause__


def each_error(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, however nested; an error that is no group is the only one."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from each_error(inner)
    else:
        yield error
