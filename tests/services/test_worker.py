"""A worker: steps in time, paused, stepped, failing, and closed in the middle of one."""

import random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aelf_p2p.core.errors import ClosedByUsError, NetworkError, StoreError
from aelf_p2p.services.parallel import for_each
from aelf_p2p.services.worker import Worker, jittered


class Steps:
    """A step that takes a second, every ten seconds."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.ended = 0
        self.error: Exception | None = None
        self.worker = Worker("the worker", self.step, self.wait)

    async def wait(self) -> None:
        await trio.sleep(10)

    async def step(self) -> int:
        self.times.append(trio.current_time())
        await trio.sleep(1)
        if self.error is not None:
            raise self.error
        self.ended += 1
        return self.ended


async def test_a_step_each_period(autojump_clock: MockClock) -> None:
    steps, began = Steps(), trio.current_time()
    with trio.move_on_after(35):
        await steps.worker.run()
    assert [at - began for at in steps.times] == [10, 21, 32]


async def test_the_first_step_at_once(autojump_clock: MockClock) -> None:
    steps, began = Steps(), trio.current_time()
    with trio.move_on_after(15):
        await steps.worker.run(at_once=True)
    assert [at - began for at in steps.times] == [0, 11]


async def test_paused_it_does_nothing_and_resumed_what_came_due(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    steps, began = Steps(), trio.current_time()
    told = [steps.worker.paused]
    steps.worker.pause()
    steps.worker.pause()
    told.append(steps.worker.paused)
    nursery.start_soon(steps.worker.run)
    await trio.sleep(100)
    assert steps.times == []
    steps.worker.resume()
    told.append(steps.worker.paused)
    assert told == [False, True, False]
    await trio.sleep(12)
    assert [at - began for at in steps.times] == [100, 111]


async def test_paused_again_at_once_it_does_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    steps = Steps()
    steps.worker.pause()
    nursery.start_soon(steps.worker.run)
    await trio.sleep(20)
    steps.worker.resume()
    steps.worker.pause()
    await trio.sleep(100)
    assert steps.times == []


async def test_a_step_that_is_under_way_is_done_when_it_is_paused(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    steps = Steps()
    nursery.start_soon(steps.worker.run)
    await trio.sleep(10.5)
    steps.worker.pause()
    await trio.sleep(100)
    assert steps.ended == len(steps.times) == 1


async def test_the_embedder_steps_it_paused_or_not_and_never_two_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    steps, began = Steps(), trio.current_time()
    steps.worker.pause()
    nursery.start_soon(steps.worker.run)
    assert await steps.worker.step() == 1
    nursery.start_soon(steps.worker.step)
    await wait_all_tasks_blocked()
    assert await steps.worker.step() == 3
    assert [at - began for at in steps.times] == [0, 1, 2]


async def test_a_step_that_fails_is_logged_and_the_next_one_comes(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    steps = Steps()
    steps.error = StoreError("no room")
    with trio.move_on_after(25):
        await steps.worker.run()
    assert len(steps.times) == 2
    assert [record.getMessage() for record in caplog.records] == ["the worker failed: no room"] * 2
    with pytest.raises(StoreError):
        await steps.worker.step()


async def test_an_error_that_is_no_ones_ends_it(autojump_clock: MockClock) -> None:
    steps = Steps()
    steps.error = KeyError("a bug")
    with pytest.raises(KeyError):
        await steps.worker.run()


async def test_closed_in_the_middle_of_a_step(autojump_clock: MockClock) -> None:
    steps = Steps()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(steps.worker.run)
        await trio.sleep(10.5)
        steps.worker.close()
    assert len(steps.times) == 1
    assert steps.ended == 0
    with pytest.raises(ClosedByUsError):
        await steps.worker.step()
    await steps.worker.run(at_once=True)  # has nothing to do any more
    assert len(steps.times) == 1


async def test_the_embedders_steps_end_with_the_node(autojump_clock: MockClock) -> None:
    """That which is done and that which waits for its turn."""
    steps = Steps()
    ended = 0

    async def step() -> None:
        nonlocal ended
        with pytest.raises(ClosedByUsError):
            await steps.worker.step()
        ended += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(step)
        nursery.start_soon(step)
        await trio.sleep(0.5)
        steps.worker.close()
    assert ended == 2
    assert steps.ended == 0


async def test_a_step_whose_caller_is_cancelled_makes_room_for_the_next(
    autojump_clock: MockClock,
) -> None:
    steps = Steps()
    with trio.move_on_after(0.5) as scope:
        await steps.worker.step()
    assert scope.cancelled_caught
    assert await steps.worker.step() == 1


def test_jitter_adds_at_most_its_part() -> None:
    rng = random.Random(3)
    drawn = [jittered(60.0, 0.1, rng) for _ in range(200)]
    assert min(drawn) >= 60
    assert max(drawn) <= 66
    assert len(set(drawn)) == 200
    assert jittered(60.0, 0.0, rng) == 60


@pytest.mark.parametrize(("count", "took_s"), [(0, 0), (1, 1), (3, 1), (4, 2), (7, 3)])
async def test_so_many_at_once_and_no_more(
    count: int, took_s: float, autojump_clock: MockClock
) -> None:
    done: list[int] = []
    began = trio.current_time()

    async def work(item: int) -> None:
        await trio.sleep(1)
        done.append(item)

    await for_each(range(count), work, at_once=3)
    assert sorted(done) == list(range(count))
    assert trio.current_time() - began == took_s


async def test_an_error_of_one_ends_all(autojump_clock: MockClock) -> None:
    async def work(item: int) -> None:
        if item == 1:
            raise NetworkError("broke")
        await trio.sleep_forever()

    with pytest.raises(NetworkError):
        await for_each([0, 1, 2], work, at_once=2)
