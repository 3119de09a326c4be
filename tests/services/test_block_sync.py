"""Following the chain (protocol §4, "Sync state" and "Following the chain")."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.core.announcements import Announcement
from aelf_p2p.core.block import Block
from aelf_p2p.core.errors import (
    NotConnectedError,
    PeerUnstableError,
    RpcError,
    UnrecoverableError,
)
from aelf_p2p.core.network_events import AbnormalPeerFound
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.core.sync_target import SyncState
from aelf_p2p.node import Node
from aelf_p2p.testing.conditions import ConditionedHub
from aelf_p2p.testing.fakes import FakePeer
from tests.services.foreign import open_test_node
from tests.services.support import (
    EPOCH_NS,
    Services,
    identity,
    make_chain,
    make_transaction,
    read_all,
    stored,
    with_wrong_body,
)

CHAIN = make_chain(120)


@asynccontextmanager
async def following(services: Services) -> AsyncIterator[None]:
    """Its one task runs."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(services.sync.run)
        yield
        nursery.cancel_scope.cancel()


def announce(services: Services, peer: FakePeer, block: Block) -> None:
    services.inbound.received(peer, Announcement(block.hash, block.height))


def asked(peer: FakePeer) -> list[str]:
    return [what for what, _ in peer.requests]


async def at_height(height: int) -> Services:
    return Services(store=await stored(CHAIN[:height]))


async def test_blocks_that_wait_are_let_go_and_fetched_again_beyond_their_bytes(
    autojump_clock: MockClock,
) -> None:
    services = Services(
        options=NetworkOptions(max_queued_sync_bytes=CHAIN[0].size + CHAIN[1].size),
        store=MemoryChainStore(),
    )
    [peer] = services.add_peers(1)
    peer.serve(CHAIN[:3])
    for block in CHAIN[:3]:
        services.sync.pushed(peer, block)
    async with following(services):
        await trio.sleep(1)
    assert peer.requests == [("block", CHAIN[2].hash)]
    assert services.store.status.best_hash == CHAIN[2].hash


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


# --- near the tip ---------------------------------------------------------------------------------


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


async def test_the_queue_of_jobs_is_bounded(autojump_clock: MockClock) -> None:
    services = Services(options=NetworkOptions(max_queued_sync_jobs=4))
    [peer] = services.add_peers(1)
    peer.serve(CHAIN[:9])
    for block in CHAIN[:9]:
        announce(services, peer, block)
    async with following(services):
        await trio.sleep(1)
    assert services.store.status.best_height == 9  # the last ones stayed, and led to the others


# --- further off ----------------------------------------------------------------------------------


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
        before = len(boaster.requests)
        await trio.sleep(60)
        assert len(boaster.requests) == before
        announce(services, boaster, CHAIN[7])
        await trio.sleep(1)
    assert services.store.status.best_height == 8


# --- the first sync -------------------------------------------------------------------------------


def with_libs(services: Services, *libs: int) -> list[FakePeer]:
    peers = services.add_peers(len(libs))
    for peer, lib in zip(peers, libs, strict=True):
        peer.serve(CHAIN[:20], announced=False)
        peer.chain.best_height = max(lib, 20)
        peer.chain.lib_height = lib
        peer.delay_s = 1.0
    return peers


def starting(distance: int) -> Services:
    return Services(options=NetworkOptions(sync_lib_distance=distance), state=SyncState.NOT_STARTED)


async def test_libs_15_and_15_far_enough_ahead(autojump_clock: MockClock) -> None:
    services = starting(10)
    with_libs(services, 15, 15)
    sync = services.context.sync
    async with following(services):
        await trio.sleep(0.5)
        assert (sync.state, sync.target) == (SyncState.SYNCING, 15)
        await trio.sleep(10)
        assert sync.state is SyncState.FINISHED
        assert services.store.status.best_height >= 15


@pytest.mark.parametrize("libs", [(5, 15), (9, 9), (15, 5, 5), (), (0,)])
async def test_too_few_are_far_enough_ahead(
    libs: tuple[int, ...], autojump_clock: MockClock
) -> None:
    services = starting(10)
    peers = with_libs(services, *libs)
    async with following(services):
        await trio.sleep(0.5)
    assert services.context.sync.state is SyncState.FINISHED
    assert [peer.requests for peer in peers] == [[] for _ in libs]


async def test_two_thirds_suffice_and_the_lowest_of_them_is_the_target(
    autojump_clock: MockClock,
) -> None:
    services = starting(10)
    with_libs(services, 18, 5, 12)
    async with following(services):
        await trio.sleep(0.5)
        assert services.context.sync.target == 12


async def test_at_the_target_the_peers_are_asked_again(autojump_clock: MockClock) -> None:
    services = starting(10)
    peers = with_libs(services, 12, 12)
    targets = []
    async with following(services):
        await trio.sleep(0.5)
        targets.append(services.context.sync.target)
        for peer in peers:  # they went on meanwhile
            peer.serve(CHAIN)
            peer.chain.lib_height = 60
        for _ in range(30):
            await trio.sleep(0.5)
            targets.append(services.context.sync.target)
    # reaching 12 leaves our own LIB where it is in this kernel, so that 60 is far ahead still
    assert list(dict.fromkeys(targets)) == [12, 60, 0]
    assert services.context.sync.state is SyncState.FINISHED
    assert services.store.status.best_height >= 60


async def test_syncing_waits_for_a_source(autojump_clock: MockClock) -> None:
    services = starting(10)
    peers = with_libs(services, 15, 15)
    for peer in peers:
        peer.request_error = RpcError("not now")
    async with following(services):
        await trio.sleep(30)
        states = [services.context.sync.state]
        assert len(peers[0].requests) < 100
        for peer in peers:
            peer.request_error = None
        await trio.sleep(20)
        states.append(services.context.sync.state)
    assert states == [SyncState.SYNCING, SyncState.FINISHED]


async def test_a_claim_that_nobody_serves_does_not_hold_the_node_for_ever(
    autojump_clock: MockClock,
) -> None:
    services = starting(10)
    with_libs(services, 2**40, 2**40)
    async with following(services):
        await trio.sleep(30)
        states = [services.context.sync.state]
        await trio.sleep(270)
        states.append(services.context.sync.state)
    assert states == [SyncState.SYNCING, SyncState.FINISHED]


async def test_when_all_sources_are_gone_there_is_nothing_to_wait_for(
    autojump_clock: MockClock,
) -> None:
    services = starting(10)
    peers = with_libs(services, 15, 15)
    async with following(services):
        await trio.sleep(0.5)
        for peer in peers:
            peer.close(CloseReason.LOST)
            peer.request_error = UnrecoverableError("closed")
        await trio.sleep(20)
    assert services.context.sync.state is SyncState.FINISHED


# --- whole nodes ----------------------------------------------------------------------------------


async def reaches(node: Node, height: int, timeout_s: float = 60) -> None:
    with trio.fail_after(timeout_s), node.subscribe() as events:
        while node.store.status.best_height < height:
            await anext(events)  # it tells which blocks it accepted


async def test_a_node_600_blocks_behind(autojump_clock: MockClock) -> None:
    long_chain = make_chain(620)
    hub = ConditionedHub(latency_s=0.05)
    async with (
        open_test_node(hub, "ahead", 1, store=await stored(long_chain, lib=600)) as ahead,
        open_test_node(hub, "behind", 2, boot_nodes=["ahead:6800"]) as behind,
    ):
        states = [behind.sync.state]
        await reaches(behind, 10)
        states.append(behind.sync.state)
        assert behind.sync.target == 600
        await reaches(behind, 100)
        # It has blocks, but answers no request for them; it announces none either.
        [peer] = ahead.peers()
        assert await peer.request_block(long_chain[50].hash) is None
        assert await peer.request_blocks(long_chain[50].hash, 10) == []
        assert peer.chain.best_height == 0
        await reaches(behind, 600)
        await trio.sleep(1)
        states.append(behind.sync.state)
        assert states == [SyncState.NOT_STARTED, SyncState.SYNCING, SyncState.FINISHED]
        assert behind.sync.target == 0
        assert await peer.request_block(long_chain[50].hash) == long_chain[50]
        await reaches(behind, 620)


async def test_a_node_on_a_shorter_fork_reorganises(autojump_clock: MockClock) -> None:
    common = make_chain(30)
    shorter = make_chain(4, after=common[-1], producer=identity(2000))
    longer = make_chain(7, after=common[-1], producer=identity(3000))
    hub = ConditionedHub(latency_s=0.02)
    async with (
        open_test_node(hub, "one", 1, store=await stored([*common, *shorter], lib=20)) as one,
        open_test_node(hub, "two", 2, store=await stored([*common, *longer], lib=22)) as two,
    ):
        await one.connect("two")
        await reaches(one, 37)
        await trio.sleep(5)
        assert one.store.status.best_hash == longer[-1].hash
        assert two.store.status.best_hash == longer[-1].hash
        assert len(one.peers()) == len(two.peers()) == 1


class LyingStore(MemoryChainStore):
    """Gives out blocks with the right header and a wrong body."""

    async def get_raw_block(self, block_hash: bytes) -> bytes | None:
        raw_block = await super().get_raw_block(block_hash)
        return None if raw_block is None else lie(raw_block)

    async def raw_blocks_after(
        self, previous_hash: bytes, count: int, *, max_bytes: int
    ) -> list[bytes]:
        true = await super().raw_blocks_after(previous_hash, count, max_bytes=max_bytes)
        return [lie(raw_block) for raw_block in true]


def lie(raw_block: bytes) -> bytes:
    return with_wrong_body(Block.parse_untrusted(raw_block)).encode()


@pytest.mark.parametrize("height", [5, 60])
async def test_a_liar_is_banned_by_those_it_lied_to_and_by_nobody_else(
    height: int, autojump_clock: MockClock
) -> None:
    chain = make_chain(height, transactions=(make_transaction(),))
    lies = LyingStore()
    for block in chain:
        await lies.put_block(block)
    hub = ConditionedHub(latency_s=0.02)
    async with (
        open_test_node(hub, "liar", 1, store=lies) as liar,
        open_test_node(hub, "victim", 2) as victim,
        open_test_node(hub, "other-victim", 3) as other_victim,
        open_test_node(hub, "knowing", 4, store=await stored(chain)) as knowing,
    ):
        nodes = {"victim": victim, "other": other_victim, "knowing": knowing}
        for node in nodes.values():
            await node.connect("liar")
        await trio.sleep(5)
        banned = {
            name
            for name, node in nodes.items()
            if node._context.bans.find("liar", liar.public_key, node._context.environment.wall_s())
        }
        assert banned == {"victim", "other"}
        assert [peer.info.public_key for peer in liar.peers()] == [knowing.public_key]
        assert victim.store.status.best_height == 0
        # and the honest one, which is asked next, is believed
        await victim.connect("knowing")
        await reaches(victim, height)


async def test_nodes_that_follow_a_producer(autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=0.05)
    async with (
        open_test_node(hub, "producer", 1) as producer,
        open_test_node(hub, "relay", 2) as relay,
        open_test_node(hub, "leaf", 3) as leaf,
    ):
        await relay.connect("producer")
        await leaf.connect("relay")
        for height in range(1, 21):
            await producer.kernel.mine_block(identity(1))  # type: ignore[attr-defined]
            await reaches(leaf, height, timeout_s=1)
        await trio.sleep(1)
        assert leaf.store.status.best_hash == producer.store.status.best_hash
        assert leaf.store.status.lib_height == producer.store.status.lib_height == 12
