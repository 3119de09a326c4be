"""Faults of all kinds count against a host, which is banned when they are too many."""

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.core.bans import BanReason
from aelf_p2p.core.misbehaviour import Misbehaviour
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.testing.fakes import FakePeer
from tests.services.support import Services

BROKE_TRANSPORT = Misbehaviour.BROKE_TRANSPORT


def add(services: Services, number: int, host: str) -> FakePeer:
    services.context.pool.add(peer := FakePeer(number, host=host))
    return peer


async def test_the_host_is_banned_with_all_its_peers(autojump_clock: MockClock) -> None:
    services = Services()
    first, second = add(services, 1, "192.0.2.1"), add(services, 2, "192.0.2.1")
    other = add(services, 3, "192.0.2.2")
    for _ in range(4):
        services.context.broke_transport("192.0.2.1", "a flood")
    services.context.misbehaved(first, Misbehaviour.MALFORMED_MESSAGE)
    assert [peer.close_reason for peer in (first, second, other)] == [None] * 3
    services.context.misbehaved(second, BROKE_TRANSPORT)
    assert [peer.close_reason for peer in (first, second, other)] == [
        CloseReason.BANNED,
        CloseReason.BANNED,
        None,
    ]
    now = services.context.environment.wall_s()
    [ban] = services.context.bans.active(now)
    assert (ban.subject, ban.reason) == ("192.0.2.1", BanReason.MISBEHAVIOUR)
    assert ban.until == pytest.approx(now + 300)


async def test_faults_now_and_then_are_borne(autojump_clock: MockClock) -> None:
    services = Services()
    peer = add(services, 1, "192.0.2.1")
    for _ in range(50):
        services.context.misbehaved(peer, BROKE_TRANSPORT)
        await trio.sleep(300)
    assert peer.close_reason is None
    points = services.context.scores.all(trio.current_time())["192.0.2.1"].points
    assert points < 20 / (1 - 0.5**0.5)  # the sum of what has faded


async def test_on_loopback_a_peer_is_its_key_and_a_stranger_nobody(
    autojump_clock: MockClock,
) -> None:
    services = Services(NetworkOptions(max_misbehaviour=20))
    peer, neighbour = add(services, 1, "127.0.0.1"), add(services, 2, "127.0.0.1")
    services.context.broke_transport("127.0.0.1", "a flood")
    services.context.broke_transport("::1", "a flood")
    assert services.context.scores.all(0.0) == {}
    services.context.misbehaved(peer, BROKE_TRANSPORT)
    assert [each.close_reason for each in (peer, neighbour)] == [CloseReason.BANNED, None]
    assert services.is_banned(peer)
    assert not services.is_banned(neighbour)
