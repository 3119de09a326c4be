"""Work in steps: all at once, and with others in between."""

import pytest
import trio

from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.steps import Steps, finish, in_turns


def steps(log: list[str], *, fails: bool = False) -> Steps[int]:
    for step in range(3):
        log.append(f"step {step}")
        yield
    if fails:
        raise MalformedError("at the end")
    return 7


def test_at_once() -> None:
    log: list[str] = []
    assert finish(steps(log)) == 7
    assert log == ["step 0", "step 1", "step 2"]
    with pytest.raises(MalformedError):
        finish(steps(log, fails=True))


async def test_in_turns() -> None:
    log: list[str] = []

    async def pause() -> None:
        log.append("pause")

    assert await in_turns(steps(log), pause) == 7
    assert log == ["step 0", "pause", "step 1", "pause", "step 2", "pause", "pause"]
    with pytest.raises(MalformedError):
        await in_turns(steps(log, fails=True), pause)


async def test_who_is_cancelled_does_no_more() -> None:
    log: list[str] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await in_turns(steps(log), trio.lowlevel.checkpoint)
    assert scope.cancelled_caught
    assert log == ["step 0"]
