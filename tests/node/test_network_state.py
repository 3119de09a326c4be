"""What a node remembers of its network when it is opened again."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p import (
    BanReason,
    HandshakeRefusedError,
    MemoryHub,
    NetworkState,
    StoreError,
    open_node,
    open_sqlite_state,
)
from aelf_p2p.chain.memory_state import MemoryStateStore
from tests.services.foreign import open_test_node
from tests.services.support import identity


async def test_a_ban_outlives_a_restart(autojump_clock: MockClock) -> None:
    hub, state = MemoryHub(), MemoryStateStore()
    async with open_test_node(hub, state=state) as node:
        until = node._context.environment.wall_s() + 1000
        node._context.bans.ban("bob", BanReason.OPERATOR, until)
    async with open_test_node(hub, state=state), open_test_node(hub, "bob", 2) as bob:
        with pytest.raises(HandshakeRefusedError):
            await bob.connect("node")
        await trio.sleep(1001)
        await bob.connect("node")


async def test_a_ban_outlives_a_restart_on_the_disk(tmp_path: Path) -> None:
    hub = MemoryHub()
    for is_first in (True, False):
        async with (
            open_sqlite_state(tmp_path) as state,
            open_node(identity=identity(1), transport=hub.transport("node"), state=state) as node,
        ):
            bans, now = node._context.bans, node._context.environment.wall_s()
            if is_first:
                bans.ban("bob", BanReason.OPERATOR, now + 1000)
            assert bans.find("bob", None, now) is not None


async def test_a_state_that_cannot_be_loaded_keeps_the_node_from_opening(
    autojump_clock: MockClock,
) -> None:
    class Damaged(MemoryStateStore):
        async def load(self) -> NetworkState:
            raise StoreError("damaged")

    with pytest.raises(StoreError, match="damaged"):
        async with open_test_node(MemoryHub(), state=Damaged()):
            pytest.fail("it opened")


async def test_a_node_lives_on_when_its_state_cannot_be_saved(autojump_clock: MockClock) -> None:
    class Full(MemoryStateStore):
        async def save(self, state: NetworkState) -> None:
            raise StoreError("full")

    hub = MemoryHub()
    async with (
        open_test_node(hub, "bob", 2),
        open_test_node(hub, state=Full(), boot_nodes=["nobody"]) as node,
    ):
        await trio.sleep(100)
        await node.connect("bob")
