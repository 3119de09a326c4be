"""What waits for the sync is bounded, and peers take turns."""

from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.core.block import Block
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.sync_target import SyncState
from aelf_p2p.services.sync_jobs import JobDrop, SyncJob, SyncJobs
from aelf_p2p.testing.conditions import ConditionedHub
from aelf_p2p.testing.fakes import FakePeer
from tests.services.foreign import ForeignNode, ForeignServer, open_test_node
from tests.services.support import (
    Services,
)
from tests.services.syncing import CHAIN, announce, at_height, following


async def test_the_queue_of_jobs_is_bounded(autojump_clock: MockClock) -> None:
    services = Services(options=NetworkOptions(max_queued_sync_jobs=4))
    [peer] = services.add_peers(1)
    peer.serve(CHAIN[:9])
    for block in CHAIN[:9]:
        announce(services, peer, block)
    async with following(services):
        await trio.sleep(1)
    assert services.store.status.best_height == 9  # the last ones stayed, and led to the others


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


def queue(**options: int | float) -> tuple[SyncJobs, Counter[JobDrop]]:
    dropped: Counter[JobDrop] = Counter()
    return SyncJobs(NetworkOptions(**options), dropped), dropped  # type: ignore[arg-type]


def job(peer: FakePeer, number: int, queued_at: float = 0.0, block: Block | None = None) -> SyncJob:
    return SyncJob(peer, bytes([number]) * 32, number, queued_at, block)


def take_all(jobs: SyncJobs, now: float = 0.0) -> list[SyncJob]:
    return list(iter(lambda: jobs.take(now), None))


def test_peers_take_turns() -> None:
    jobs, _ = queue()
    first, second = FakePeer(1), FakePeer(2)
    expected = [job(first, 1), job(second, 4), job(first, 2), job(first, 3)]
    for each in sorted(expected, key=lambda each: each.height):
        jobs.put(each)
    assert take_all(jobs) == expected
    assert jobs.take(0.0) is None


def test_the_oldest_of_the_same_peer_goes_and_is_counted() -> None:
    jobs, dropped = queue(max_queued_sync_jobs=2)
    first, second = FakePeer(1), FakePeer(2)
    jobs.put(job(second, 9))
    for number in range(1, 6):
        jobs.put(job(first, number))
    assert [each.height for each in take_all(jobs)] == [9, 4, 5]
    assert dropped == {JobDrop.DISPLACED: 3}


@pytest.mark.parametrize(("waited_s", "taken"), [(60.0, True), (60.1, False)])
def test_what_waited_for_over_a_minute_is_not_done(waited_s: float, taken: bool) -> None:
    jobs, dropped = queue()
    first, second = FakePeer(1), FakePeer(2)
    jobs.put(job(first, 1, 100.0, CHAIN[0]))
    jobs.put(job(first, 2, 100.0))
    jobs.put(job(second, 3, 100.0 + waited_s))
    heights = [each.height for each in take_all(jobs, 100.0 + waited_s)]
    assert sorted(heights) == ([1, 2, 3] if taken else [3])
    assert dropped == ({} if taken else {JobDrop.TOO_OLD: 2})


def test_blocks_that_went_leave_room_for_others() -> None:
    jobs, _ = queue(max_queued_sync_bytes=CHAIN[0].size, max_queued_sync_jobs=1)
    first, second = FakePeer(1), FakePeer(2)
    jobs.put(job(first, 1, 0.0, CHAIN[0]))
    jobs.put(job(second, 2, 0.0, CHAIN[0]))  # no room for its block
    jobs.put(job(first, 3, 0.0, CHAIN[0]))  # in place of the first one
    assert [each.block is not None for each in take_all(jobs)] == [True, False]
    jobs.put(job(second, 4, 0.0, CHAIN[0]))
    assert jobs.take(61.0) is None  # too old, and its bytes are free again
    jobs.put(job(second, 5, 61.0, CHAIN[0]))
    assert [each.block for each in take_all(jobs, 61.0)] == [CHAIN[0]]


def test_what_was_begun_waits_behind_other_peers_and_before_its_own() -> None:
    jobs, dropped = queue(max_queued_sync_jobs=2, max_queued_sync_bytes=CHAIN[0].size)
    first, second = FakePeer(1), FakePeer(2)
    for each in (job(first, 1, 0.0, CHAIN[0]), job(first, 2), job(second, 3)):
        jobs.put(each)
    begun = jobs.take(0.0)
    assert begun is not None
    jobs.put(job(first, 4))
    jobs.put_back(begun, 50.0)
    jobs.put(job(second, 5, 0.0, CHAIN[0]))  # the begun one holds no bytes
    taken = take_all(jobs, 60.0)
    assert [each.height for each in taken] == [3, 1, 5, 2, 4]
    assert [each.block for each in taken] == [None, None, CHAIN[0], None, None]
    assert not dropped


def test_a_begun_one_gives_way_to_a_new_one_and_does_not_age() -> None:
    jobs, dropped = queue(max_queued_sync_jobs=2)
    peer = FakePeer(1)
    for number in (2, 3):
        jobs.put(job(peer, number, 50.0))
    jobs.put_back(job(peer, 1, 0.0), 50.0)
    jobs.put(job(peer, 4, 50.0))
    assert [each.height for each in take_all(jobs, 100.0)] == [3, 4]
    jobs.put_back(job(peer, 1, 0.0), 100.0)
    assert [each.height for each in take_all(jobs, 160.0)] == [1]
    assert dropped == {JobDrop.DISPLACED: 2}


def test_with_a_peer_goes_what_it_let_wait() -> None:
    jobs, dropped = queue(max_queued_sync_bytes=CHAIN[0].size)
    first, second = FakePeer(1), FakePeer(2)
    for each in (job(first, 1, 0.0, CHAIN[0]), job(first, 2), job(second, 3)):
        jobs.put(each)
    jobs.drop(first)
    jobs.drop(FakePeer(3))
    jobs.put(job(second, 4, 0.0, CHAIN[0]))  # the bytes are free again
    assert [(each.height, each.block) for each in take_all(jobs)] == [(3, None), (4, CHAIN[0])]
    assert not dropped


async def test_a_node_that_syncs_keeps_nothing_of_those_who_left(
    autojump_clock: MockClock,
) -> None:
    """Else what they said would be found too old when it is done."""
    hub, boot = ConditionedHub(latency_s=0.02), ForeignNode(50)
    boot.best_height = boot.lib_height = 100_000  # which it does not give
    async with trio.open_nursery() as nursery:
        await nursery.start(ForeignServer(boot).serve, hub)
        async with open_test_node(hub, boot_nodes=["foreign"]) as node:
            await node.wait_initialized()
            for number in range(60, 70):
                guest = ForeignNode(number, host=f"guest{number}")
                guest.best_height = 5
                async with guest.connect(hub):
                    await trio.sleep(0.1)
                await trio.sleep(0.1)
            states = [node.sync.state]
            await trio.sleep(300)
            states.append(node.sync.state)
            assert states == [SyncState.SYNCING, SyncState.FINISHED]
            assert node.sync.dropped_jobs == {JobDrop.TOO_OLD: 1}  # the boot node's own
        nursery.cancel_scope.cancel()


async def test_what_is_too_old_is_counted_where_the_node_shows_it(
    autojump_clock: MockClock,
) -> None:
    services = await at_height(5)
    [peer] = services.add_peers(1)
    peer.serve(CHAIN[:6])
    announce(services, peer, CHAIN[5])
    await trio.sleep(61)
    async with following(services):
        await trio.sleep(1)
        assert services.context.sync.dropped_jobs == {JobDrop.TOO_OLD: 1}
        assert peer.requests == []
        await trio.sleep(5)  # that the peer is further is not forgotten
    assert services.store.status.best_height == 6
