"""Targets in processes of their own, with a child that only pretends to fuzz."""

import os
import sys
from pathlib import Path

import pytest
import trio

from tests.fuzz import campaign
from tests.fuzz.campaign import Outcome, Plan
from tests.fuzz.libfuzzer import Progress

TALKS = """
print("#7\\tINITED cov: 15 ft: 18 corp: 6/45b exec/s: 0 rss: 74Mb", flush=True)
"""
FINDS = """
print(" === Uncaught Python exception: ===\\nAssertionError: wrong", flush=True)
raise SystemExit(77)
"""
FAILS = "raise SystemExit(3)"
HANGS = """
import os, sys, time
print(f"#{os.getpid()}\\tpulse cov: 1 ft: 1 corp: 1/1b", flush=True)
time.sleep(1000)
"""


class Watched(Progress):
    """Tells when the child has said something."""

    def __init__(self) -> None:
        super().__init__()
        self.began = trio.Event()

    def take(self, line: str) -> None:
        super().take(line)
        self.began.set()


@pytest.fixture(autouse=True)
def work_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(campaign, "ROOT", tmp_path)
    monkeypatch.setattr(campaign, "WORK", tmp_path / "work")


def pretend(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(campaign, "CHILD", (sys.executable, "-c", program))


async def run(*outcomes: Outcome, jobs: int = 1) -> list[str]:
    told: list[str] = []
    with trio.fail_after(30):
        await campaign.fuzz(outcomes, Plan(jobs, seconds=1), told.append)
    return told


async def test_what_a_child_tells_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, TALKS)
    outcomes = [Outcome("version"), Outcome("base58"), Outcome("endpoint")]
    told = await run(*outcomes, jobs=2)
    assert "version: 7 executions, 18 features" in told
    assert all(each.is_good and each.note == "" for each in outcomes)
    assert [each.progress.executions for each in outcomes] == [7, 7, 7]
    assert list((campaign.WORK / "corpus" / "version").iterdir())


async def test_a_finding_is_no_failure_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, FINDS)
    outcome = Outcome("version")
    told = await run(outcome)
    assert (outcome.progress.problem, outcome.failed) == ("AssertionError: wrong", False)
    assert told[-1].endswith(": AssertionError: wrong")


async def test_a_child_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, FAILS)
    outcome = Outcome("version")
    await run(outcome)
    assert outcome.failed
    assert outcome.note == "it ended with status 3: see work/log/version.log"


@pytest.mark.parametrize("by", ["cancellation", "its time"])
async def test_no_child_is_left(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    pretend(monkeypatch, HANGS)
    watched = Watched()
    outcomes = [Outcome("version", watched), Outcome("base58")]
    plan = Plan(jobs=1, in_all_s=3.0 if by == "its time" else 1000)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(campaign.fuzz, outcomes, plan, lambda line: None)
            await watched.began.wait()
            if by == "cancellation":
                nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(outcomes[0].progress.executions, 0)
    assert [each.note for each in outcomes] == ["cut short", "not run"]
    assert all(each.is_good for each in outcomes)
