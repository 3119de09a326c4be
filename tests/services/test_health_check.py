"""The health check: who is asked, who is let go, and why."""

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.core.errors import (
    FullBufferError,
    NetworkError,
    PeerUnstableError,
    UnrecoverableError,
)
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.services.health_check import HealthCheck
from aelf_p2p.testing.fakes import FakePeer
from tests.services.support import Services


def health_check(services: Services) -> HealthCheck:
    return HealthCheck(services.context, services.network)


async def test_every_peer_is_asked_and_stays(autojump_clock: MockClock) -> None:
    services = Services()
    peers = services.add_peers(12)
    await health_check(services).step()
    assert [peer.requests for peer in peers] == [[("health", b"")]] * 12
    assert list(services.context.pool.ready()) == peers


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PeerUnstableError("no answer"), CloseReason.SILENT),
        (UnrecoverableError("gone"), CloseReason.LOST),
        (FullBufferError("busy"), None),
    ],
)
async def test_what_a_failure_means(
    error: NetworkError, reason: CloseReason | None, autojump_clock: MockClock
) -> None:
    services = Services()
    healthy, failing = services.add_peers(2)
    failing.health_error = error
    await health_check(services).step()
    assert failing.close_reason is reason
    assert healthy.close_reason is None


async def test_one_that_is_not_confirmed_yet_is_left_to_its_watchdog(
    autojump_clock: MockClock,
) -> None:
    services = Services()
    hour_ago_ns = services.context.environment.wall_ns() - 3600 * 10**9
    [peer] = services.add_peers(1, confirmed=False, connected_at_ns=hour_ago_ns)
    await health_check(services).step()
    assert peer.close_reason is None  # whatever the clock on the wall says
    assert peer.requests == []


async def test_a_few_are_asked_at_once(autojump_clock: MockClock) -> None:
    asked = most = 0

    class Slow(FakePeer):
        async def check_health(self, *, timeout_s: float) -> None:
            nonlocal asked, most
            asked += 1
            most = max(most, asked)
            await trio.sleep(1)
            asked -= 1

    services = Services(options=NetworkOptions(max_health_checks=3))
    for number in range(1, 8):
        services.context.pool.add(Slow(number))
    began = trio.current_time()
    await health_check(services).step()
    assert most == 3
    assert trio.current_time() - began == 3


async def test_who_goes_is_left_alone(autojump_clock: MockClock) -> None:
    services = Services()
    [peer] = services.add_peers(1)
    peer.close(CloseReason.REMOVED)
    await health_check(services).step()
    assert peer.requests == []
