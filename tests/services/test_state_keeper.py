"""What is remembered over a restart: saved behind, once for many changes, and at the end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.chain.memory_state import MemoryStateStore
from aelf_p2p.core.bans import Ban, BanReason
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import StoreError
from aelf_p2p.core.network_state import KnownNode, NetworkState, Reconnection
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.services.state_keeper import StateKeeper
from tests.services.support import EPOCH_NS, Services

NOW_S = EPOCH_NS / 1e9
HOST = "192.0.2.1"
ANYONE = Endpoint("anyone", 6800)


class CountingStore(MemoryStateStore):
    """Counts saves, which may fail or take their time."""

    def __init__(self) -> None:
        super().__init__()
        self.saves: list[float] = []
        self.fails = False
        self.delay_s = 0.0

    async def save(self, state: NetworkState) -> None:
        self.saves.append(trio.current_time())
        await trio.sleep(self.delay_s)
        if self.fails:
            raise StoreError("the disk is full")
        await super().save(state)


@asynccontextmanager
async def keeping(services: Services, store: MemoryStateStore) -> AsyncIterator[None]:
    keeper = StateKeeper(services.context, store)
    await keeper.load()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        yield
        nursery.cancel_scope.cancel()


def ban(services: Services, seconds: float) -> None:
    services.context.bans.ban(HOST, BanReason.OPERATOR, NOW_S + seconds)


async def test_many_changes_are_saved_once_and_soon(autojump_clock: MockClock) -> None:
    services, store = Services(), CountingStore()
    began = trio.current_time()
    async with keeping(services, store):
        await trio.sleep(100)
        assert store.saves == []
        ban(services, 500)
        await trio.sleep(0.5)
        ban(services, 600)
        await trio.sleep(0.6)
        assert [at - began for at in store.saves] == [101]
        assert store.state.bans == (Ban(HOST, BanReason.OPERATOR, NOW_S + 600),)
        await trio.sleep(1000)
    assert len(store.saves) == 1  # nothing has changed at the end


async def test_the_last_changes_are_saved_at_the_end(autojump_clock: MockClock) -> None:
    services, store = Services(), CountingStore()
    async with keeping(services, store):
        ban(services, 500)
    assert len(store.state.bans) == 1


async def test_everything_comes_back(autojump_clock: MockClock) -> None:
    services, store = Services(), CountingStore()
    async with keeping(services, store):
        context = services.context
        ban(services, 500)
        context.known_nodes.answered(ANYONE, NOW_S, b"k" * 65)
        context.lost_peers.table.schedule(ANYONE, b"k" * 65, now=0, wall_s=NOW_S)
    assert store.state == NetworkState(
        bans=(Ban(HOST, BanReason.OPERATOR, NOW_S + 500),),
        nodes=(KnownNode(endpoint=ANYONE, public_key=b"k" * 65, seen_at=NOW_S, available=True),),
        reconnections=(
            Reconnection(endpoint=ANYONE, public_key=b"k" * 65, lost_at=NOW_S, retries=0),
        ),
    )
    another = Services()
    async with keeping(another, store):
        assert another.context.bans.find(HOST, None, NOW_S) is not None
        assert another.context.known_nodes.nodes == store.state.nodes
        assert another.context.lost_peers.table.entries == store.state.reconnections
        store.saves.clear()
        await trio.sleep(10)
        assert store.saves == []  # loading is no change


async def test_bans_that_have_ended_are_not_kept(autojump_clock: MockClock) -> None:
    services, store = Services(), CountingStore()
    async with keeping(services, store):
        ban(services, 5)
        await trio.sleep(10)
        services.context.known_nodes.answered(ANYONE, NOW_S)
    assert store.state.bans == ()
    assert len(store.state.nodes) == 1


async def test_a_save_that_fails_is_logged_and_tried_again_with_the_next_change(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    services, store = Services(), CountingStore()
    store.fails = True
    async with keeping(services, store):
        ban(services, 5000)
        await trio.sleep(100)
        assert len(store.saves) == 1
        assert "could not be saved: the disk is full" in caplog.text
        services.context.known_nodes.answered(ANYONE, NOW_S)
        await trio.sleep(2)
        assert len(store.saves) == 2
        store.fails = False
    assert len(store.state.bans) == 1  # and once more at the end


async def test_a_store_that_hangs_does_not_keep_the_node(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    services, store = Services(), CountingStore()
    async with keeping(services, store):
        ban(services, 500)
        store.delay_s = 1e6
        ending_at = trio.current_time()
    assert trio.current_time() - ending_at == services.options.state_save_timeout_s == 1
    assert "is not saved" in caplog.text


async def test_cancelled_in_the_middle_of_a_save_it_saves_again(autojump_clock: MockClock) -> None:
    services, store = Services(), CountingStore()
    async with keeping(services, store):
        ban(services, 500)
        store.delay_s = 0.5
        await trio.sleep(1.2)
        assert len(store.saves) == 1
    assert len(store.saves) == 2
    assert len(store.state.bans) == 1


async def test_the_options_decide_how_long_changes_gather(autojump_clock: MockClock) -> None:
    services, store = Services(options=NetworkOptions(state_save_delay_s=7.0)), CountingStore()
    began = trio.current_time()
    async with keeping(services, store):
        ban(services, 500)
        await trio.sleep(10)
    assert [at - began for at in store.saves] == [7]
