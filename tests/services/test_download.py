"""Downloading in bulk (protocol §4, "Following the chain"): from whom, and from where on."""

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.core.announcements import Announcement
from aelf_p2p.core.block import Block, BlockHeader
from aelf_p2p.core.chain_status import ChainStatus
from aelf_p2p.core.errors import (
    UnrecoverableError,
)
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.testing.fakes import FakePeer
from tests.services.support import (
    CHAIN_ID,
    EPOCH_NS,
    PRODUCER,
    Services,
    identity,
    make_chain,
    stored,
    with_wrong_body,
)
from tests.services.syncing import CHAIN, announce, asked, at_height, following


class Batches(FakePeer):
    """Notes how many blocks it is asked for at once."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.counts: list[int] = []

    async def request_blocks(self, previous_hash: bytes, count: int) -> list[Block]:
        self.counts.append(count)
        return await super().request_blocks(previous_hash, count)


async def test_a_download_goes_in_batches_of_ten(autojump_clock: MockClock) -> None:
    services = await at_height(0)
    peer = Batches(1)
    services.context.pool.add(peer)
    peer.serve(CHAIN)
    async with following(services):
        announce(services, peer, CHAIN[-1])
        await trio.sleep(1)
    assert services.store.status.best_height == 120
    assert peer.counts == [10] * 12


async def test_two_retries_with_other_peers(autojump_clock: MockClock) -> None:
    services = await at_height(5)
    announcer, *others = services.add_peers(5)
    for peer in others:  # high enough, and heard of since they are connected
        peer.chain.saw_block(CHAIN[50].hash, 51)
    async with following(services):
        announce(services, announcer, CHAIN[50])
        await trio.sleep(1)
    assert set(asked(announcer)) == {"blocks"}
    assert sum(bool(peer.requests) for peer in others) == 2


async def test_a_download_goes_on_with_another_peer(autojump_clock: MockClock) -> None:
    services = await at_height(5)
    announcer, low, unheard, other = services.add_peers(4)
    announcer.serve(CHAIN[:25], announced=False)  # it has less than it says
    low.serve(CHAIN[:49])
    unheard.serve(CHAIN, announced=False)
    unheard.chain.best_height = 120
    other.serve(CHAIN)
    async with following(services):
        announce(services, announcer, CHAIN[50])
        await trio.sleep(1)
    assert services.store.status.best_height >= 51
    assert low.requests == unheard.requests == []  # not high enough; nothing heard of it yet
    assert announcer.close_reason is None


async def test_what_is_irreversible_elsewhere_is_asked_of_random_peers(
    autojump_clock: MockClock,
) -> None:
    services = await at_height(0)
    announcer, *others = services.add_peers(5)
    sure, unheard, low = others[:2], others[2], others[3]
    for peer in (announcer, *others):
        peer.serve(CHAIN, announced=False)
        peer.chain.best_height = 119
        peer.chain.synced = peer is not unheard
        peer.chain.lib_height = 110
    low.chain.lib_height = 49  # one short of what a round reaches
    announcer.chain.lib_height = 100
    async with following(services):
        announce(services, announcer, CHAIN[-1])
        await trio.sleep(1)
    assert services.store.status.best_height == 120
    # the end is irreversible to nobody: it comes from who announced it
    assert announcer.requests[-2:] == [("blocks", CHAIN[99].hash), ("blocks", CHAIN[109].hash)]
    assert sum(len(peer.requests) for peer in [announcer, *sure]) == 12
    assert unheard.requests == low.requests == []


async def test_an_announcer_is_asked_itself_while_its_lib_is_too_low(
    autojump_clock: MockClock,
) -> None:
    services = await at_height(0)
    announcer, other = services.add_peers(2)
    for peer in (announcer, other):
        peer.serve(CHAIN)
    other.chain.lib_height = 110
    announcer.chain.lib_height = 49
    async with following(services):
        announce(services, announcer, CHAIN[-1])
        await trio.sleep(1)
    assert len(announcer.requests) == 12
    assert other.requests == []


class OneBatch(FakePeer):
    """Answers once, and never again."""

    async def request_blocks(self, previous_hash: bytes, count: int) -> list[Block]:
        answered = bool(self.requests)
        blocks = await super().request_blocks(previous_hash, count)
        return [] if answered else blocks


async def test_progress_gives_new_retries(autojump_clock: MockClock) -> None:
    services = await at_height(0)
    peers = [OneBatch(number) for number in range(1, 7)]
    for peer in peers:
        services.context.pool.add(peer)
        peer.serve(CHAIN)
    async with following(services):
        announce(services, peers[0], CHAIN[59])
        await trio.sleep(1)
    assert services.store.status.best_height == 60


class SlowToExecute(MemoryChainStore):
    """Of what it links, the last five blocks are not executed."""

    @property
    def status(self) -> ChainStatus:
        status = super().status
        return replace(status, best_hash=CHAIN[14].hash, best_height=15)


async def test_from_the_longest_chain_then_the_best_then_the_lib(autojump_clock: MockClock) -> None:
    services = Services(store=SlowToExecute())
    for block in CHAIN[:20]:
        await services.store.put_block(block)
    await services.store.set_lib(CHAIN[5].hash)
    fork = make_chain(30, after=CHAIN[9], producer=identity(2000))
    [peer] = services.add_peers(1)
    peer.serve([*CHAIN[:10], *fork])
    async with following(services):
        announce(services, peer, fork[-1])
        await trio.sleep(1)
    starts = [argument for _, argument in peer.requests]
    assert starts[:3] == [CHAIN[19].hash, CHAIN[14].hash, CHAIN[5].hash]
    assert services.store.status.longest_hash == fork[-1].hash


@pytest.mark.parametrize("height", [1, 3, 21])
async def test_a_linked_block_of_another_height_is_wrong(
    height: int, autojump_clock: MockClock
) -> None:
    services = Services(store=await stored(CHAIN[:5], lib=3))
    [liar] = services.add_peers(1)
    header = BlockHeader.build(
        chain_id=CHAIN_ID,
        previous_hash=CHAIN[4].hash,
        transactions_root=bytes(32),
        world_state_root=bytes(32),
        status_root=bytes(32),
        height=height,
        time_ns=EPOCH_NS,
        signer_pubkey=PRODUCER.public_key,
    )
    header = header.with_signature(PRODUCER.sign(header.signed_digest))
    liar.successors[CHAIN[4].hash] = Block(header, ())
    async with following(services):
        announce(services, liar, CHAIN[-1])
        await trio.sleep(1)
    assert services.is_banned(liar)


@pytest.mark.parametrize("reason", [CloseReason.LOST, CloseReason.DISCONNECTED_BY_PEER])
async def test_a_source_that_vanishes_in_the_middle(
    reason: CloseReason, autojump_clock: MockClock
) -> None:
    services = await at_height(5)
    announcer, other = services.add_peers(2)
    announcer.serve(CHAIN)
    other.serve(CHAIN)
    announcer.delay_s = other.delay_s = 1.0

    async def vanish() -> None:
        await trio.sleep(2.5)
        announcer.close(reason)
        announcer.request_error = UnrecoverableError("closed")

    async with following(services), trio.open_nursery() as nursery:
        nursery.start_soon(vanish)
        announce(services, announcer, CHAIN[-1])
        await trio.sleep(30)
    assert services.store.status.best_height == 120
    assert other.requests
    assert announcer.close_reason is reason


async def test_when_all_sources_vanish_the_next_announcement_helps(
    autojump_clock: MockClock,
) -> None:
    services = await at_height(5)
    [gone] = services.add_peers(1)
    gone.request_error = UnrecoverableError("closed")
    async with following(services):
        announce(services, gone, CHAIN[-1])
        await trio.sleep(10)
        assert services.store.status.best_height == 5
        [other] = services.add_peers(1)
        other.serve(CHAIN)
        announce(services, other, CHAIN[-1])
        await trio.sleep(1)
    assert services.store.status.best_height == 120


@pytest.mark.parametrize("fault", ["body", "link"])
async def test_a_liar_in_a_download_is_banned_and_another_asked(
    fault: str, autojump_clock: MockClock
) -> None:
    services = await at_height(5)
    liar, honest = services.add_peers(2)
    liar.serve(CHAIN)
    honest.serve(CHAIN)
    wrong = with_wrong_body(CHAIN[20]) if fault == "body" else CHAIN[22]
    liar.successors[CHAIN[19].hash] = wrong
    async with following(services):
        announce(services, liar, CHAIN[-1])
        await trio.sleep(1)
    assert services.store.status.best_height == 120
    assert services.is_banned(liar)
    assert liar.close_reason is CloseReason.ABNORMAL
    assert not services.is_banned(honest)


async def test_a_height_that_nobody_reaches_ends_the_download(autojump_clock: MockClock) -> None:
    services = await at_height(5)
    [boaster] = services.add_peers(1)
    boaster.serve(CHAIN[:8])
    async with following(services):
        services.inbound.received(boaster, Announcement(b"h" * 32, 2**62))
        await trio.sleep(1)
        assert services.store.status.best_height == 8
        requests = [len(boaster.requests)]
        for _ in range(2):
            await trio.sleep(3600)
            requests.append(len(boaster.requests))
    assert requests == [5, 5 + 12 * 3, 5 + 12 * 3]  # asked again twelve times, from three places on
    assert boaster.close_reason is None


async def test_new_blocks_that_lead_nowhere_are_no_progress(autojump_clock: MockClock) -> None:
    class Liar(FakePeer):
        """Gives a new first block each time, and nothing that follows one."""

        made = 0

        async def request_blocks(self, previous_hash: bytes, count: int) -> list[Block]:
            self.made += 1
            await trio.sleep(0.1)
            return make_chain(1, time_ns=EPOCH_NS + self.made) if previous_hash == bytes(32) else []

    services = await at_height(3)
    liar, honest = Liar(98), FakePeer(99)
    for peer in (liar, honest):
        peer.confirmed_by_peer()
        services.context.pool.add(peer)
    honest.serve(CHAIN[:5])
    async with following(services):
        services.sync.announced(liar, bytes(range(32)), 10**6)
        await trio.sleep(1)
        announce(services, honest, CHAIN[4])
        await trio.sleep(5)
    assert services.store.status.best_hash == CHAIN[4].hash
    assert liar.made <= 3


async def test_a_source_that_gives_slowly_blocks_beside_the_chain_is_left(
    autojump_clock: MockClock,
) -> None:
    class OneByOne(FakePeer):
        async def request_blocks(self, previous_hash: bytes, count: int) -> list[Block]:
            return await super().request_blocks(previous_hash, 1)

    fork = make_chain(70, after=CHAIN[4], producer=identity(2000))
    services = Services(store=await stored(CHAIN[:60], lib=5))
    slow, honest = OneByOne(98), FakePeer(99)
    for peer in (slow, honest):
        services.context.pool.add(peer)
    slow.serve(fork)
    slow.delay_s = 4.9
    honest.serve(CHAIN[:61])
    async with following(services):
        services.sync.announced(slow, fork[-1].hash, 75)
        await trio.sleep(1)
        announce(services, honest, CHAIN[60])
        await trio.sleep(20)
        assert services.store.status.best_hash == CHAIN[60].hash
        assert slow.close_reason is None
        for _ in range(2):
            services.sync.announced(slow, fork[-1].hash, 75)
            await trio.sleep(30)
    assert slow.close_reason is CloseReason.FRUITLESS


async def test_a_longer_fork_from_a_slow_peer_is_followed(autojump_clock: MockClock) -> None:
    """Batches of new blocks earn it the time: 18 s until it is above our tip, of 10 s."""
    fork = make_chain(65, after=CHAIN[24], producer=identity(2000))
    services = Services(store=await stored(CHAIN[:75], lib=5))
    [slow] = services.add_peers(1)
    slow.serve([*CHAIN[:25], *fork])
    for block in CHAIN[25:]:
        slow.successors.pop(block.hash, None)
    slow.delay_s = 2.0
    async with following(services):
        announce(services, slow, fork[-1])
        await trio.sleep(30)
    assert services.store.status.best_hash == fork[-1].hash
    assert slow.close_reason is None


async def test_waiting_for_our_own_kernel_is_not_the_sources_fault(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = make_chain(65, after=CHAIN[24], producer=identity(2000))
    services = Services(store=await stored(CHAIN[:75], lib=5))
    [peer] = services.add_peers(1)
    peer.serve([*CHAIN[:25], *fork])
    accept = services.kernel.accept_block

    async def accept_slowly(block: Block) -> bool:
        await trio.sleep(3)
        return await accept(block)

    monkeypatch.setattr(services.kernel, "accept_block", accept_slowly)
    async with following(services):
        announce(services, peer, fork[-1])
        await trio.sleep(400)
    assert services.store.status.best_hash == fork[-1].hash
    assert peer.close_reason is None


async def test_time_is_not_lost_over_who_says_quickly_that_it_has_nothing(
    autojump_clock: MockClock,
) -> None:
    services = await at_height(5)
    [peer] = services.add_peers(1)
    peer.delay_s = 2.4  # far away, and asked from two places on
    async with following(services):
        for number in range(7):
            services.inbound.received(peer, Announcement(bytes([number]) * 32, 100 + number))
            await trio.sleep(20)
    assert len(peer.requests) >= 2 * 2 * 7
    assert peer.close_reason is None
