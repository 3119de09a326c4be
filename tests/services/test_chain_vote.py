"""A peer whose chain leaves out what is irreversible here, and what the others say of it."""

import logging

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.core.block import Block
from aelf_p2p.core.errors import RpcError
from aelf_p2p.core.network_events import AbnormalPeerFound
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.services.chain_vote import ChainVote
from aelf_p2p.testing.fakes import FakePeer
from tests.services.support import Services, identity, make_chain, read_all, stored
from tests.services.syncing import CHAIN, announce, following

LIB = 20
OTHER_CHAIN = make_chain(60, producer=identity(2000))
WITHOUT_OUR_LIB = [*CHAIN[:10], *make_chain(50, after=CHAIN[9], producer=identity(3000))]


async def at_lib() -> Services:
    return Services(store=await stored(CHAIN[:25], lib=LIB), options=NetworkOptions(max_peers=0))


def add(
    services: Services, count: int, chain: list[Block], *, lib: int = LIB + 5
) -> list[FakePeer]:
    peers = services.add_peers(count)
    for peer in peers:
        peer.serve(chain)
        peer.chain.lib_height = lib
    return peers


async def judged(services: Services, suspect: FakePeer) -> set[int]:
    """The numbers of the peers that are banned when one was judged."""
    await ChainVote(services.context, services.network).judge(suspect)
    peers = services.context.pool._peers.values()
    return {peer.info.public_key[0] for peer in peers if services.is_banned(peer)}


async def test_most_have_our_block_and_the_peer_has_not(autojump_clock: MockClock) -> None:
    services = await at_lib()
    suspect, *others = add(services, 6, WITHOUT_OUR_LIB)
    add(services, 10, CHAIN)
    with services.context.events.subscribe() as events:
        assert await judged(services, suspect) == {1}
        [event] = await read_all(events)
    assert isinstance(event, AbnormalPeerFound)
    assert event.peer == suspect.info
    assert CHAIN[LIB - 1].hash.hex() in event.why
    assert suspect.close_reason is CloseReason.ABNORMAL
    assert [peer.close_reason for peer in others] == [None] * 5


async def test_most_do_not_have_our_block(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    services = await at_lib()
    suspect, *_ = add(services, 12, WITHOUT_OUR_LIB)
    add(services, 4, CHAIN)
    with caplog.at_level(logging.WARNING):
        assert await judged(services, suspect) == set()
    assert CHAIN[LIB - 1].hash.hex() in caplog.text


@pytest.mark.parametrize(
    ("having", "lacking", "silent"), [(14, 0, 0), (9, 6, 0), (9, 0, 6), (0, 0, 15), (6, 9, 0)]
)
async def test_nothing_is_decided(
    having: int, lacking: int, silent: int, autojump_clock: MockClock
) -> None:
    services = await at_lib()
    [suspect] = add(services, 1, WITHOUT_OUR_LIB)
    add(services, having, CHAIN)
    add(services, lacking, OTHER_CHAIN)
    for peer in add(services, silent, CHAIN):
        peer.request_error = RpcError("not now")
    assert await judged(services, suspect) == set()


@pytest.mark.parametrize("excuse", ["unheard", "behind", "far ahead", "at our LIB", "failing"])
async def test_who_need_not_have_it_is_not_judged(excuse: str, autojump_clock: MockClock) -> None:
    services = await at_lib()
    [suspect] = add(services, 1, WITHOUT_OUR_LIB)
    add(services, 20, CHAIN)
    match excuse:
        case "unheard":
            suspect.chain.synced = False
        case "behind":
            suspect.chain.lib_height = LIB - 1
        case "far ahead":  # it may have forgotten what it had
            suspect.chain.best_height = suspect.chain.lib_height = LIB + 513
        case "at our LIB":
            suspect.chain.best_height = suspect.chain.lib_height = LIB
        case "failing":
            suspect.request_error = RpcError("not now")
    assert await judged(services, suspect) == set()
    assert suspect.close_reason is None


async def test_who_has_it_after_all_is_left_alone(autojump_clock: MockClock) -> None:
    services = await at_lib()
    [suspect] = add(services, 1, CHAIN)
    voters = add(services, 20, CHAIN)
    [other] = add(services, 1, WITHOUT_OUR_LIB)
    vote = ChainVote(services.context, services.network)
    await vote.judge(suspect)
    assert [peer.requests for peer in voters] == [[]] * 20
    await vote.judge(other)  # nor does it keep others from being judged
    assert [services.is_banned(peer) for peer in (suspect, other)] == [False, True]


async def test_only_the_informed_are_asked(autojump_clock: MockClock) -> None:
    services = await at_lib()
    [suspect] = add(services, 1, WITHOUT_OUR_LIB)
    add(services, 14, CHAIN)
    uninformed = add(services, 3, CHAIN, lib=LIB - 1)
    assert await judged(services, suspect) == set()
    add(services, 1, CHAIN)
    assert await judged(services, suspect) == {1}
    assert [peer.requests for peer in uninformed] == [[]] * 3


async def test_all_are_asked_at_once_and_seldom(autojump_clock: MockClock) -> None:
    services = await at_lib()
    suspects = add(services, 3, WITHOUT_OUR_LIB)
    voters = add(services, 20, CHAIN)
    for peer in [*suspects, *voters]:
        peer.delay_s = 5.0
    vote = ChainVote(services.context, services.network)
    began = trio.current_time()
    await vote.judge(suspects[0])
    assert trio.current_time() == began + 10
    await vote.judge(suspects[1])
    await trio.sleep_until(began + 64)
    await vote.judge(suspects[1])
    assert [services.is_banned(peer) for peer in suspects] == [True, False, False]
    assert {len(peer.requests) for peer in voters} == {1}
    await trio.sleep_until(began + 65)
    await vote.judge(suspects[1])
    assert [services.is_banned(peer) for peer in suspects] == [True, True, False]


@pytest.mark.parametrize("far", [False, True])
async def test_following_leads_to_a_vote(far: bool, autojump_clock: MockClock) -> None:
    """Its announced block does not attach, and it gives none that would lead to it."""
    services = await at_lib()
    [suspect] = add(services, 1, WITHOUT_OUR_LIB)
    add(services, 15, CHAIN[:25], lib=LIB)
    async with following(services):
        announce(services, suspect, WITHOUT_OUR_LIB[59 if far else 29])
        await trio.sleep(5)
    assert services.is_banned(suspect)
    assert sum(peer.close_reason is not None for peer in services.context.pool) == 1
    assert services.store.status.best_hash == CHAIN[24].hash
