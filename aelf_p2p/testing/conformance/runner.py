"""All cases, and how they are run."""

from dataclasses import dataclass

import trio

from aelf_p2p.core.single_error import each_error
from aelf_p2p.testing.conformance import backpressure, connections, sizes, streams, unary
from aelf_p2p.testing.conformance.fixture import TransportFixture
from aelf_p2p.testing.conformance.harness import LIMIT_S, ConformanceCase, ConformanceError, Net

CASES: tuple[ConformanceCase, ...] = (
    *connections.CASES,
    *unary.CASES,
    *streams.CASES,
    *sizes.CASES,
    *backpressure.CASES,
)
"""Every behaviour that a transport must show."""


@dataclass(frozen=True)
class CaseResult:
    """How one case went."""

    name: str
    passed: bool
    error: str | None = None
    """Why it failed, on one line; None when it passed."""


def run_case(fixture: TransportFixture, case: ConformanceCase) -> None:
    """Run one case in its own ``trio.run``; raises what shows that the transport fails it.

    A case that hangs is ended with ConformanceError after LIMIT_S seconds of the fixture's clock.
    """
    trio.run(_run_limited, fixture, case, clock=fixture.clock())


async def _run_limited(fixture: TransportFixture, case: ConformanceCase) -> None:
    try:
        with trio.fail_after(LIMIT_S):
            async with fixture.open() as (server, client):
                await case.run(Net(fixture, server, client))
    except trio.TooSlowError as exc:
        raise ConformanceError(f"{case.name} hangs, or takes over {LIMIT_S:g} s") from exc


def run_conformance(fixture: TransportFixture) -> list[CaseResult]:
    """Run all cases, one after the other, whatever their outcomes."""
    return [_result(fixture, case) for case in CASES]


def _result(fixture: TransportFixture, case: ConformanceCase) -> CaseResult:
    try:
        run_case(fixture, case)
    except Exception as exc:  # whatever a transport does is a result of its case
        causes = (f"{type(leaf).__name__}: {leaf}".rstrip(": ") for leaf in each_error(exc))
        return CaseResult(case.name, passed=False, error="; ".join(causes))
    return CaseResult(case.name, passed=True)
