"""The helper finds what leaks only when a cancellation comes at the wrong moment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from aelf_p2p.testing.cancellation import CancellationReport, cancel_at_every_step


@asynccontextmanager
async def registry() -> AsyncIterator[list[str]]:
    yield []


async def assert_empty(entries: list[str]) -> None:
    assert entries == []


async def tidy(entries: list[str]) -> None:
    await trio.lowlevel.checkpoint()
    entries.append("x")
    try:
        await trio.sleep(1)
    finally:
        entries.clear()
    await trio.lowlevel.checkpoint()


async def leaks_between_two_waits(entries: list[str]) -> None:
    """Right unless it is cancelled at the one checkpoint before its ``try``."""
    await trio.lowlevel.checkpoint()
    entries.append("x")
    await trio.lowlevel.checkpoint()
    try:
        await trio.sleep(1)
    finally:
        entries.clear()


async def leaks_from_a_child(entries: list[str]) -> None:
    async def child() -> None:
        entries.append("x")
        await trio.sleep(1)
        entries.clear()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(child)


def test_a_tidy_scenario_passes_at_every_step() -> None:
    report = cancel_at_every_step(tidy, around=registry, check=assert_empty)
    assert report.steps > 2
    assert report == CancellationReport(report.steps, tuple(range(1, report.steps + 1)))


@pytest.mark.parametrize("scenario", [leaks_between_two_waits, leaks_from_a_child])
def test_a_planted_leak_is_found(scenario) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(AssertionError) as caught:
        cancel_at_every_step(scenario, around=registry, check=assert_empty)
    [note] = caught.value.__notes__
    assert note.startswith("cancelled at step ")


def test_a_scenario_that_fails_by_itself_is_no_cancellation() -> None:
    async def fail(entries: list[str]) -> None:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours") as caught:
        cancel_at_every_step(fail, around=registry, check=assert_empty)
    assert not hasattr(caught.value, "__notes__")


def test_an_error_that_only_a_cancellation_causes_is_raised() -> None:
    async def fails_when_cancelled(entries: list[str]) -> None:
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            raise KeyError("ours") from None

    with pytest.raises(KeyError, match="ours"):
        cancel_at_every_step(fails_when_cancelled, around=registry, check=assert_empty)


def test_what_is_around_outlives_the_cancellation() -> None:
    ticks = 0

    @asynccontextmanager
    async def ticking() -> AsyncIterator[list[str]]:
        async def tick() -> None:
            nonlocal ticks
            while True:
                await trio.sleep(0.1)
                ticks += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            yield []
            nursery.cancel_scope.cancel()

    async def check(entries: list[str]) -> None:
        before = ticks
        await trio.sleep(0.25)
        assert ticks >= before + 2

    report = cancel_at_every_step(tidy, around=ticking, check=check)
    assert report.steps > 10  # the ticks count too: the cancellation comes between them


def test_a_long_scenario_is_sampled() -> None:
    async def long(entries: list[str]) -> None:
        for _ in range(500):
            await trio.lowlevel.checkpoint()

    reports = [
        cancel_at_every_step(long, around=registry, check=assert_empty, sample=7, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert reports[0] == reports[1] != reports[2]
    assert reports[0].steps >= 500
    assert len(set(reports[0].cancelled_at)) == 7


def test_a_hang_after_the_cancellation_is_an_error() -> None:
    async def check(entries: list[str]) -> None:
        await trio.sleep_forever()

    with pytest.raises(trio.TooSlowError):
        cancel_at_every_step(tidy, around=registry, check=check)
