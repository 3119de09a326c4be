"""Following the chain (protocol §4, "Following the chain"): near the tip."""

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.core.announcements import Announcement
from aelf_p2p.core.errors import (
    NotConnectedError,
    PeerUnstableError,
    RpcError,
    UnrecoverableError,
)
from aelf_p2p.core.network_events import AbnormalPeerFound
from aelf_p2p.core.peer_info import CloseReason
from tests.services.support import (
    Services,
    identity,
    make_chain,
    read_all,
    stored,
    with_wrong_body,
)
from tests.services.syncing import CHAIN, announce, asked, at_height, following


async def test_the_next_block_is_fetched(autojump_clock: MockClock) -> None:
    services = await at_height(5)
    [peer] = services.add_peers(1)
    peer.serve(CHAIN[:6])
    async with following(services):
        announce(services, peer, CHAIN[5])
        await trio.sleep(1)
    assert peer.requests == [("block", CHAIN[5].hash)]
    assert services.store.status.best_hash == CHAIN[5].hash


@pytest.mark.parametrize(("ahead", "first"), [(1, "block"), (12, "block"), (13, "blocks")])
async def test_up_to_twelve_ahead_is_fetched_and_further_off_downloaded(
    ahead: int, first: str, autojump_clock: MockClock
) -> None:
    services = await at_height(5)
    [peer] = services.add_peers(1)
    peer.serve(CHAIN[: 5 + ahead])
    async with following(services):
        announce(services, peer, CHAIN[4 + ahead])
        await trio.sleep(1)
    assert asked(peer)[0] == first
    assert services.store.status.best_height == 5 + ahead


async def test_a_block_that_is_there_is_not_asked_for(autojump_clock: MockClock) -> None:
    services = await at_height(5)
    peers = services.add_peers(3)
    async with following(services):
        for peer in peers:
            announce(services, peer, CHAIN[4])
        await trio.sleep(1)
    assert [peer.requests for peer in peers] == [[], [], []]


@pytest.mark.parametrize(
    "error",
    [RpcError("x"), PeerUnstableError("x"), UnrecoverableError("x"), NotConnectedError("x"), None],
)
async def test_other_announcers_are_asked_in_turn(
    error: Exception | None, autojump_clock: MockClock
) -> None:
    services = await at_height(5)
    peers = services.add_peers(4)
    for peer in peers[:2]:
        peer.request_error = error  # type: ignore[assignment]
    peers[2].serve(CHAIN[:6])
    peers[3].serve(CHAIN[:6])  # has it, but did not say so
    async with following(services):
        for peer in peers[:3]:
            announce(services, peer, CHAIN[5])
        await trio.sleep(1)
    assert services.store.status.best_height == 6
    assert [asked(peer)[:1] for peer in peers] == [["block"], ["block"], ["block"], []]


async def test_after_a_wrong_block_the_next_announcer_is_asked(autojump_clock: MockClock) -> None:
    services = await at_height(5)
    other_hash, wrong_body, honest = services.add_peers(3)
    other_hash.blocks[CHAIN[5].hash] = CHAIN[4]
    wrong_body.blocks[CHAIN[5].hash] = with_wrong_body(CHAIN[5])
    honest.serve(CHAIN[:6])
    with services.context.events.subscribe() as events:
        async with following(services):
            # In one go: were the others' own announcements still to come, they would help.
            for peer in (other_hash, wrong_body, honest):
                services.context.known.announcements.add(CHAIN[5].hash, peer.bit, 0)
            services.sync.announced(other_hash, CHAIN[5].hash, 6)
            await trio.sleep(1)
        found = [event for event in await read_all(events) if isinstance(event, AbnormalPeerFound)]
    assert services.store.status.best_hash == CHAIN[5].hash
    assert [event.peer for event in found] == [other_hash.info, wrong_body.info]
    assert services.is_banned(other_hash)
    assert services.is_banned(wrong_body)
    assert not services.is_banned(honest)


async def test_a_block_of_another_branch_brings_what_lies_between(
    autojump_clock: MockClock,
) -> None:
    fork = make_chain(6, after=CHAIN[4], producer=identity(2000))
    services = await at_height(8)
    [peer] = services.add_peers(1)
    peer.serve([*CHAIN[:5], *fork])
    # After our longest chain's tip it has nothing; after the last irreversible block it has.
    async with following(services):
        announce(services, peer, fork[-1])
        await trio.sleep(1)
    assert services.store.status.best_hash == fork[-1].hash
    assert peer.close_reason is None


async def test_a_branch_that_is_not_longer_changes_nothing(autojump_clock: MockClock) -> None:
    fork = make_chain(3, after=CHAIN[4], producer=identity(2000))
    services = await at_height(8)
    [peer] = services.add_peers(1)
    peer.serve([*CHAIN[:5], *fork])
    async with following(services):
        announce(services, peer, fork[-1])
        await trio.sleep(1)
    assert services.store.status.best_hash == CHAIN[7].hash
    assert peer.close_reason is None


async def test_a_branch_below_the_lib_is_not_taken(autojump_clock: MockClock) -> None:
    fork = make_chain(20, after=CHAIN[1], producer=identity(2000))
    services = Services(store=await stored(CHAIN[:8], lib=5))
    [peer] = services.add_peers(1)
    peer.serve([*CHAIN[:2], *fork])
    async with following(services):
        announce(services, peer, fork[9])
        announce(services, peer, fork[-1])
        await trio.sleep(1)
    assert services.store.status.best_hash == CHAIN[7].hash


async def test_a_right_block_that_comes_too_late_is_no_crime(autojump_clock: MockClock) -> None:
    """The chain became irreversible past it while it was fetched."""
    fork = make_chain(1, after=CHAIN[4], producer=identity(2000))
    services = await at_height(8)
    [peer] = services.add_peers(1)
    peer.serve(fork)
    peer.delay_s = 1.0
    async with following(services):
        announce(services, peer, fork[0])
        await trio.sleep(0.5)
        await services.store.set_lib(CHAIN[6].hash)
        await trio.sleep(1)
    assert peer.requests == [("block", fork[0].hash)]
    assert peer.close_reason is None
    assert not services.is_banned(peer)


async def test_a_wrong_block_that_is_pushed_is_punished(autojump_clock: MockClock) -> None:
    services = await at_height(5)
    liar, other = services.add_peers(2)
    async with following(services):
        services.sync.pushed(liar, with_wrong_body(CHAIN[5]))
        await trio.sleep(1)
        services.sync.pushed(other, CHAIN[5])  # and the right one still comes in
        await trio.sleep(1)
    assert liar.close_reason is CloseReason.ABNORMAL
    assert other.close_reason is None
    assert services.store.status.best_height == 6


async def test_who_announces_what_it_does_not_give_hardly_delays_the_others(
    autojump_clock: MockClock,
) -> None:
    services = Services()
    attacker, honest = services.add_peers(2)
    honest.serve(CHAIN[:1])
    attacker.delay_s = 2.0
    attacker.request_error = PeerUnstableError("no answer")  # yet it answers health checks
    async with following(services):
        announce(services, honest, CHAIN[0])
        for number in range(300):
            services.inbound.received(attacker, Announcement(number.to_bytes(32, "big"), 1))
        await trio.sleep(3)
        assert services.store.status.best_height == 1
        await trio.sleep(60)
    assert len([what for what in asked(attacker) if what == "block"]) <= 16


# --- what peers say and do not give ---------------------------------------------------------------


async def test_a_peer_that_never_gives_what_it_announces_is_let_go(
    autojump_clock: MockClock,
) -> None:
    services = await at_height(3)
    liar, honest = services.add_peers(2)
    honest.serve(CHAIN[:5])
    async with following(services):
        for number in range(1, 8):
            services.sync.announced(liar, bytes([number]) * 32, 10**6)
            announce(services, liar, CHAIN[2])  # what is known already clears nobody
            await trio.sleep(30)
        reasons = [liar.close_reason]
        services.sync.announced(liar, bytes([9]) * 32, 10**6)
        announce(services, honest, CHAIN[4])
        await trio.sleep(30)
        reasons.append(liar.close_reason)
    assert reasons == [None, CloseReason.FRUITLESS]
    assert services.store.status.best_hash == CHAIN[4].hash
    assert honest.close_reason is None


async def test_who_announces_a_block_under_another_height_is_punished(
    autojump_clock: MockClock,
) -> None:
    services = await at_height(5)
    liar, honest = services.add_peers(2)
    honest.serve(CHAIN[:6])
    async with following(services):
        services.context.known.announcements.add(CHAIN[5].hash, honest.bit, trio.current_time())
        services.inbound.received(liar, Announcement(CHAIN[5].hash, 8))
        await trio.sleep(1)
    assert services.store.status.best_hash == CHAIN[5].hash  # the block itself is right
    assert services.is_banned(liar)
    assert honest.close_reason is None


@pytest.mark.parametrize("height", [6, 60])
async def test_a_peer_that_says_it_is_further_is_asked_again(
    height: int, autojump_clock: MockClock
) -> None:
    services = await at_height(5)
    [peer] = services.add_peers(1)
    async with following(services):
        announce(services, peer, CHAIN[height - 1])
        for _ in range(4):
            await trio.sleep(20)
            assert services.store.status.best_height == 5
        peer.serve(CHAIN[:height])
        await trio.sleep(100)
        assert services.store.status.best_height == height
        requests = len(peer.requests)
        await trio.sleep(3600)
    assert len(peer.requests) == requests
    assert peer.close_reason is None


async def test_news_come_before_what_is_asked_again(autojump_clock: MockClock) -> None:
    services = await at_height(5)
    *stalling, honest = services.add_peers(11)
    honest.serve(CHAIN[:7])
    for number, peer in enumerate(stalling):
        peer.delay_s, peer.request_error = 2.0, PeerUnstableError("no answer")
        peer.chain.saw_block(bytes([number]) * 32, 9)
    async with following(services):
        await trio.sleep(6)  # all of them are due, and one is being asked
        announce(services, honest, CHAIN[6])
        await trio.sleep(4)
        assert services.store.status.best_height == 7


@pytest.mark.parametrize("gap", [60, 100])
async def test_a_peer_that_serves_slowly_what_is_known_hardly_delays_the_others(
    gap: int, autojump_clock: MockClock
) -> None:
    services = Services(store=await stored(CHAIN[:gap], lib=10))
    slow, honest = services.add_peers(2)
    slow.serve(CHAIN[:gap])
    honest.serve(CHAIN[:gap])
    slow.delay_s = 4.9  # just within what a request may take
    async with following(services):
        for number, block in enumerate(CHAIN[gap : gap + 20]):
            if number % 5 == 0 and slow.close_reason is None:
                services.inbound.received(slow, Announcement(bytes([number]) * 32, 1000))
            honest.serve([block])
            announce(services, honest, block)
            await trio.sleep(4)
            assert services.store.status.longest_height >= gap + number - 6  # 28 s behind at most
    assert services.store.status.best_hash == CHAIN[gap + 19].hash
    assert services.context.sync.dropped_jobs == {}
    assert slow.close_reason is CloseReason.FRUITLESS
    assert honest.close_reason is None


async def test_a_slow_download_takes_turns_with_other_peers(autojump_clock: MockClock) -> None:
    services = await at_height(5)
    slow, quick = services.add_peers(2)
    slow.serve(CHAIN)
    slow.delay_s = 4.0
    quick.serve(CHAIN[:-1])
    async with following(services):
        announce(services, slow, CHAIN[-1])
        announce(services, quick, CHAIN[-2])
        await trio.sleep(13)  # a turn, to the end of a request
        assert services.store.status.best_height == 119
        await trio.sleep(5)
    assert services.store.status.best_height == 120  # what was begun is brought to its end
    assert slow.close_reason is None


async def test_a_download_that_goes_on_alone_is_no_vain_one(autojump_clock: MockClock) -> None:
    services = await at_height(0)
    [slow] = services.add_peers(1)
    slow.serve(CHAIN)
    slow.delay_s = 4.9
    async with following(services):
        announce(services, slow, CHAIN[-1])
        await trio.sleep(61)
    assert services.store.status.best_height == 120
    assert slow.close_reason is None


@pytest.mark.parametrize("forgotten", [True, False])
async def test_what_a_lost_connection_did_not_give_is_not_held_against_its_peer(
    forgotten: bool, autojump_clock: MockClock
) -> None:
    services = await at_height(5)
    [lost] = services.add_peers(1)
    for number in range(10):
        services.sync.announced(lost, bytes([number]) * 32, 6)
    lost.close(CloseReason.LOST)
    lost.request_error = NotConnectedError("closed")
    services.context.pool.remove(lost)
    if forgotten:
        services.sync.gone(lost)
    async with following(services):
        await trio.sleep(1)
        [back] = services.add_peers(1)
        assert back.info.public_key == lost.info.public_key
        services.sync.announced(back, bytes(range(32)), 6)
        await trio.sleep(1)
    assert lost.requests == []
    assert asked(back) == ["block"]
    assert back.close_reason is None
