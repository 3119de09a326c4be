"""Calling into a trio run from synchronous code, such as a Hypothesis state machine's rules."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Generic, TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Portal(Generic[T]):
    """A value that lives in a trio run of another thread, and calls into that run."""

    def __init__(self, value: T, token: trio.lowlevel.TrioToken) -> None:
        self.value = value
        self._token = token

    def call(self, async_fn: Callable[[*Ts], Awaitable[R]], *args: *Ts) -> R:
        return trio.from_thread.run(async_fn, *args, trio_token=self._token)


@contextmanager
def open_portal(opening: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[Portal[T]]:
    """Open something in a trio run of its own, that lasts as long as the block."""
    opened: list[Portal[T] | BaseException] = []
    is_open, is_done = threading.Event(), trio.Event()

    async def main() -> None:
        try:
            async with opening() as value:
                opened.append(Portal(value, trio.lowlevel.current_trio_token()))
                is_open.set()
                await is_done.wait()
        except BaseException as error:
            opened.append(error)
        finally:
            is_open.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    is_open.wait()
    portal = opened.pop()
    if isinstance(portal, BaseException):
        thread.join()
        raise portal
    try:
        yield portal
    finally:
        trio.from_thread.run_sync(is_done.set, trio_token=portal._token)
        thread.join()
    for error in opened:
        assert isinstance(error, BaseException)
        raise error
