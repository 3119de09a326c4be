"""The first sync (protocol §4, "Sync state")."""

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.core.errors import (
    RpcError,
    UnrecoverableError,
)
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.core.sync_target import SyncState
from aelf_p2p.testing.fakes import FakePeer
from tests.services.support import (
    Services,
)
from tests.services.syncing import CHAIN, following


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


async def test_a_target_is_never_far_above_the_own_chain(autojump_clock: MockClock) -> None:
    options = NetworkOptions(sync_lib_distance=10, max_sync_lead=50)
    services = Services(options=options, state=SyncState.NOT_STARTED)
    peers = with_libs(services, 100, 2**40)
    for peer in peers:
        peer.serve(CHAIN, announced=False)
    targets = []
    async with following(services):
        for _ in range(60):
            await trio.sleep(0.5)
            targets.append(services.context.sync.target)
    assert list(dict.fromkeys(targets)) == [50, 100, 0]
    assert services.context.sync.state is SyncState.FINISHED


async def test_a_peer_that_syncs_itself_is_asked_until_it_answers(
    autojump_clock: MockClock,
) -> None:
    """It is of no use when the node starts, nor says anything when it is done."""
    services = starting(10)
    [peer] = services.add_peers(1)
    peer.chain.best_hash, peer.chain.best_height = CHAIN[-1].hash, 120
    services.sync.announced(peer, CHAIN[-1].hash, 120)  # as it counts when it connects
    async with following(services):
        await trio.sleep(300)
        assert services.context.sync.state is SyncState.FINISHED
        assert services.store.status.best_height == 0
        peer.serve(CHAIN, announced=False)
        await trio.sleep(100)
    assert services.store.status.best_height == 120
    assert peer.close_reason is None


async def test_a_peer_that_comes_when_all_is_finished_is_caught_up_with(
    autojump_clock: MockClock,
) -> None:
    services = starting(10)
    async with following(services):
        await trio.sleep(30)
        assert services.context.sync.state is SyncState.FINISHED
        [peer] = services.add_peers(1)
        peer.serve(CHAIN, announced=False)
        peer.chain.best_height = peer.chain.lib_height = 120
        services.sync.announced(peer, CHAIN[-1].hash, 120)
        await trio.sleep(1)
    assert services.store.status.best_height == 120
    assert {what for what, _ in peer.requests} == {"blocks"}
