"""Whole nodes that sync: far behind, on a fork, with peers that sync themselves."""

import trio
from trio.testing import MockClock

from aelf_p2p.core.sync_target import SyncState
from aelf_p2p.node import Node
from aelf_p2p.testing.conditions import ConditionedHub
from tests.services.foreign import open_test_node
from tests.services.support import (
    identity,
    make_chain,
    stored,
)


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


async def test_a_node_whose_only_peer_is_syncing_itself(autojump_clock: MockClock) -> None:
    """The peer answers nothing while it syncs, and announces nothing when it has done so."""
    long_chain = make_chain(600)
    hub = ConditionedHub(latency_s=0.05)
    async with (
        open_test_node(hub, "ahead", 1, store=await stored(long_chain, lib=600)),
        open_test_node(hub, "syncing", 2, boot_nodes=["ahead:6800"]) as syncing,
    ):
        await reaches(syncing, 100)
        async with open_test_node(hub, "late", 3, boot_nodes=["syncing:6800"]) as late:
            await reaches(syncing, 590)
            states = [syncing.sync.state, late.sync.state]
            assert late.store.status.best_height == 0
            await reaches(late, 100)
            states.append(syncing.sync.state)
            assert states == [SyncState.SYNCING, SyncState.FINISHED, SyncState.FINISHED]


async def test_a_node_whose_boot_node_is_down_syncs_in_bulk_later(
    autojump_clock: MockClock,
) -> None:
    long_chain = make_chain(600)
    hub = ConditionedHub(latency_s=0.05)
    async with open_test_node(hub, "early", 1, boot_nodes=["nobody:6800"]) as early:
        await early.wait_initialized()
        await trio.sleep(1)
        assert early.sync.state is SyncState.FINISHED
        async with open_test_node(hub, "ahead", 2, store=await stored(long_chain, lib=600)) as node:
            await node.connect("early:6800")
            await reaches(early, 600, timeout_s=10)  # sixty requests, and not six hundred


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
