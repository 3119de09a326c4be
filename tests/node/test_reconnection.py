"""Peers that were lost are dialed again, as long and as often as the rules say (protocol §4)."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import network_types_pb2 as types
import pytest
import trio
from trio.testing import MockClock

from aelf_p2p import (
    BanReason,
    Endpoint,
    HandshakeRefusedError,
    NetworkOptions,
    NetworkState,
    Node,
    Reconnection,
)
from aelf_p2p.chain.memory_state import MemoryStateStore
from aelf_p2p.testing.conditions import ConditionedHub
from aelf_p2p.testing.determinism import run_deterministic
from aelf_p2p.testing.simulation import open_simulation
from aelf_p2p.transports.memory import MemoryListener
from tests.services.foreign import ForeignNode, ForeignServer, open_test_node
from tests.services.support import EPOCH_NS, identity

EXACT = NetworkOptions(worker_jitter=0)
BOB = Endpoint("bob", 6800)
A_DAY = [
    60, 180, 420, 900, 1860, 3780, 7620,  # 60 s, doubled six times
    14820, 22020, 29220, 36420, 43620, 50820, 58020, 65220, 72420, 79620,  # every two hours
]  # fmt: skip


class WatchedHub(ConditionedHub):
    """Notes who is dialed, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.dials: list[tuple[float, str]] = []

    async def reach(self, caller: Endpoint, callee: Endpoint) -> MemoryListener:
        self.dials.append((trio.current_time(), callee.host))
        return await super().reach(caller, callee)

    def dials_of(self, host: str, since: float) -> list[float]:
        return [round(at - since, 3) for at, callee in self.dials if callee == host and at > since]


@pytest.fixture
def hub() -> WatchedHub:
    return WatchedHub()


class Mortal:
    """A node that can be killed, and opened again, while others live."""

    def __init__(self, hub: ConditionedHub, host: str, number: int, nursery: trio.Nursery) -> None:
        self.hub, self.host, self.number, self.nursery = hub, host, number, nursery
        self.scope = trio.CancelScope()
        self.down = trio.Event()

    async def open(self, **arguments: Any) -> Node:
        self.scope, self.down = trio.CancelScope(), trio.Event()
        node: Node = await self.nursery.start(self._live, arguments)
        return node

    async def _live(self, arguments: dict[str, Any], task_status: trio.TaskStatus[Node]) -> None:
        try:
            with self.scope:
                async with open_test_node(self.hub, self.host, self.number, **arguments) as node:
                    task_status.started(node)
                    await trio.sleep_forever()
        finally:
            self.down.set()

    async def kill(self) -> None:
        """As kill -9 does."""
        self.hub.kill(self.host)
        await self.stop()

    async def stop(self) -> None:
        """Politely."""
        self.scope.cancel()
        await self.down.wait()


@asynccontextmanager
async def pair(hub: WatchedHub, **arguments: Any) -> AsyncIterator[tuple[Node, Mortal]]:
    """A node, and bob, whom it dialed."""
    async with trio.open_nursery() as nursery:
        bob = Mortal(hub, "bob", 2, nursery)
        await bob.open()
        async with open_test_node(hub, options=EXACT, **arguments) as node:
            await node.wait_initialized()
            await node.connect("bob")
            yield node, bob
        nursery.cancel_scope.cancel()


async def test_a_day_of_attempts_and_no_more(hub: WatchedHub, autojump_clock: MockClock) -> None:
    async with pair(hub) as (_, bob):
        await bob.kill()
        lost_at = trio.current_time()
        await trio.sleep(3 * 86_400)
        assert hub.dials_of("bob", lost_at) == A_DAY


async def test_a_boot_node_is_dialed_on_after_the_day(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with pair(hub, boot_nodes=["bob"]) as (node, bob):
        await bob.kill()
        lost_at = trio.current_time()
        await trio.sleep(86_400 + 3 * 7200)
        assert hub.dials_of("bob", lost_at) == [*A_DAY, 86_820, 94_020, 101_220]
        await bob.open()
        await trio.sleep(7200)
        assert len(node.peers()) == 1


async def test_a_lost_peer_that_is_back_is_connected_once(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with pair(hub) as (node, bob):
        await bob.kill()
        lost_at = trio.current_time()
        await trio.sleep(100)
        await bob.open()
        await trio.sleep(79)
        assert node.peers() == []
        await trio.sleep(86_400)
        assert len(node.peers()) == 1
        assert hub.dials_of("bob", lost_at) == [60, 180]


async def test_a_cut_is_mended(hub: WatchedHub, autojump_clock: MockClock) -> None:
    async with pair(hub) as (node, _):
        hub.cut("node", "bob")
        await trio.sleep(59)
        assert node.peers() == []
        await trio.sleep(2)
        [peer] = node.peers()
        assert not peer.info.inbound


async def test_who_said_goodbye_is_left_alone(hub: WatchedHub, autojump_clock: MockClock) -> None:
    async with pair(hub) as (_, bob):
        await bob.stop()
        lost_at = trio.current_time()
        await trio.sleep(10_000)
        assert hub.dials_of("bob", lost_at) == []


async def test_a_boot_node_that_said_goodbye_is_dialed(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with pair(hub, boot_nodes=["bob"]) as (node, bob):
        await trio.sleep(100)
        await bob.stop()
        await bob.open()
        await trio.sleep(61)
        assert len(node.peers()) == 1


async def test_a_boot_node_that_was_down_at_the_start_is_dialed(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with (
        trio.open_nursery() as nursery,
        open_test_node(hub, options=EXACT, boot_nodes=["bob"]) as node,
    ):
        await node.wait_initialized()
        began = trio.current_time()
        await trio.sleep(100)
        await Mortal(hub, "bob", 2, nursery).open()
        await trio.sleep(81)
        assert len(node.peers()) == 1
        assert hub.dials_of("bob", began) == [60, 180]
        nursery.cancel_scope.cancel()


async def test_a_boot_node_that_dialed_us_is_dialed_when_it_is_lost(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    """Its host is the endpoint that the operator named."""
    boot_node = Endpoint("foreign", 6800)
    async with open_test_node(hub, options=EXACT, boot_nodes=[boot_node]) as node:
        await node.wait_initialized()
        table = node._context.lost_peers.table
        assert table.end(boot_node)  # that it was down at the start is another test's
        async with ForeignNode(2).connect(hub):
            await trio.sleep(1)
            assert len(node.peers()) == 1
            assert boot_node not in table
        await trio.sleep(1)  # it left without a goodbye
        assert boot_node in table


async def test_whom_the_operator_removes_is_left_alone(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with pair(hub, boot_nodes=["bob"]) as (node, bob):
        await node.disconnect(identity(2).public_key)
        removed_at = trio.current_time()
        await trio.sleep(10_000)
        assert hub.dials_of("bob", removed_at) == []
        await node.connect("bob")
        await bob.kill()
        await trio.sleep(10)
        assert not await node.disconnect(identity(2).public_key)  # it waits to be dialed
        await trio.sleep(10_000)
        assert len(hub.dials_of("bob", removed_at)) == 1


async def test_a_banned_peer_is_not_dialed_while_the_ban_lasts(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with pair(hub) as (node, bob):
        await bob.kill()
        lost_at = trio.current_time()
        until = node._context.environment.wall_s() + 400
        node._context.bans.ban("bob", BanReason.OPERATOR, until)
        await trio.sleep(1000)
        assert hub.dials_of("bob", lost_at) == [420, 900]


@pytest.mark.parametrize(("is_boot", "attempts"), [(False, [60]), (True, [60, 180, 420])])
async def test_a_node_of_another_chain_came_to_live_there(
    is_boot: bool, attempts: list[float], hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with pair(hub, boot_nodes=["bob"] if is_boot else []) as (_, bob):
        await bob.kill()
        lost_at = trio.current_time()
        await bob.open(chain_id="tDVV")
        await trio.sleep(500)
        assert hub.dials_of("bob", lost_at) == attempts


async def test_a_node_that_is_its_own_boot_node_dials_itself_less_and_less(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    """As when all nodes of a network are given the same list. It does not stop: whoever answers at
    a boot node's address could give our handshake back to us."""
    began = trio.current_time()
    async with open_test_node(hub, options=EXACT, boot_nodes=["node"]) as node:
        await node.wait_initialized()
        with pytest.raises(HandshakeRefusedError, match="this node itself"):
            await node.connect("node")
        await trio.sleep(10_000)
        assert hub.dials_of("node", began) == [60, 180, 420, 900, 1860, 3780, 7620]


async def test_a_node_that_says_that_we_are_connected_is_dialed_again(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    """A C# node that has not noticed the loss says so, for up to a minute."""
    answers = [types.REPEATED_CONNECTION] * 2

    class Late(ForeignServer):
        async def answer_handshake(self, request: bytes) -> bytes:
            if len(self.calls) > 2 and answers:
                return types.HandshakeReply(error=answers.pop()).SerializeToString()
            return await super().answer_handshake(request)

    async with trio.open_nursery() as nursery:
        await nursery.start(Late(ForeignNode()).serve, hub)
        async with open_test_node(hub, options=EXACT) as node:
            await node.connect("foreign")
            await trio.sleep(5)
            hub.cut("node", "foreign")
            await trio.sleep(500)
            assert answers == []
            assert len(node.peers()) == 1
        nursery.cancel_scope.cancel()


async def test_what_turns_out_to_be_itself_is_dialed_once(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    """As when an address of another node was given to this one while it was down."""
    wall_s = EPOCH_NS / 1e9
    moved = Reconnection(
        endpoint=Endpoint("node", 6800), public_key=None, lost_at=wall_s, retries=0
    )
    state = MemoryStateStore(NetworkState(reconnections=(moved,)))
    async with open_test_node(hub, options=EXACT, state=state):
        began = trio.current_time()
        await trio.sleep(10_000)
        assert hub.dials_of("node", began) == [60]
    assert state.state.reconnections == ()


async def test_who_comes_by_itself_while_others_are_dialed_is_not_dialed(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    wall_s = EPOCH_NS / 1e9
    foreign = ForeignNode(2)
    silent = [
        Reconnection(endpoint=Endpoint(f"h{number}", 1), public_key=None, lost_at=wall_s, retries=0)
        for number in range(5)
    ]
    last = Reconnection(
        endpoint=Endpoint("foreign", 6800), public_key=foreign.key, lost_at=wall_s, retries=0
    )
    hub.partition([["node", "foreign"]])
    state = MemoryStateStore(NetworkState(reconnections=(*silent, last)))
    async with open_test_node(hub, options=EXACT, state=state):
        await trio.sleep(61)
        async with foreign.connect(hub):
            await trio.sleep(10)
        assert {host for _, host in hub.dials} == {"h0", "h1", "h2", "h3", "h4", "node"}


async def test_paused_and_stepped(hub: WatchedHub, autojump_clock: MockClock) -> None:
    async with pair(hub) as (node, bob):
        node.workers.reconnection.pause()
        await bob.kill()
        lost_at = trio.current_time()
        await trio.sleep(59)
        await node.workers.reconnection.step()  # nothing is due
        await trio.sleep(1000)
        await bob.open()
        assert hub.dials_of("bob", lost_at) == []
        await node.workers.reconnection.step()
        assert len(node.peers()) == 1


async def test_many_are_dialed_a_few_at_once(hub: WatchedHub, autojump_clock: MockClock) -> None:
    """Hosts that do not answer hold each other up, and nothing else."""
    wall_s = EPOCH_NS / 1e9
    lost = tuple(
        Reconnection(endpoint=Endpoint(f"h{number}", 1), public_key=None, lost_at=wall_s, retries=0)
        for number in range(12)
    )
    hub.partition([["node"]])
    async with open_test_node(
        hub, options=EXACT, state=MemoryStateStore(NetworkState(reconnections=lost))
    ) as node:
        await trio.sleep(60.5)
        assert len(hub.dials) == 5
        await trio.sleep(3)
        assert len(hub.dials) == 10
        await trio.sleep(3)
        assert len(hub.dials) == 12
        assert len(node._context.lost_peers.table) == 12


async def test_what_waits_outlives_a_restart(hub: WatchedHub, autojump_clock: MockClock) -> None:
    state = MemoryStateStore()
    async with pair(hub, state=state) as (_, bob):
        await bob.kill()
        await trio.sleep(200)  # two attempts
    [entry] = state.state.reconnections
    assert (entry.endpoint, entry.public_key) == (BOB, identity(2).public_key)
    assert entry.retries == 2
    async with (
        trio.open_nursery() as nursery,
        open_test_node(hub, options=EXACT, state=state) as node,
    ):
        await Mortal(hub, "bob", 2, nursery).open()
        await trio.sleep(61)
        assert len(node.peers()) == 1
        nursery.cancel_scope.cancel()
    assert state.state.reconnections == ()


async def test_nothing_is_dialed_while_the_node_closes(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    """A peer that does not read holds the goodbye up; what is due meanwhile is left."""
    async with pair(hub) as (node, bob):
        carol = await Mortal(hub, "carol", 3, bob.nursery).open()
        await node.connect("carol")
        await bob.kill()
        lost_at = trio.current_time()
        await trio.sleep(59.5)
        hub.stall("carol")
        assert carol.peers()
        closing_at = trio.current_time()
    assert trio.current_time() > closing_at + 0.9
    assert hub.dials_of("bob", lost_at) == []


def test_a_node_that_was_killed_and_restarted_is_connected_within_two_periods() -> None:
    async def scenario() -> None:
        options = replace(EXACT, reconnection_period_s=1.0, dial_private=True, worker_jitter=0.1)
        async with open_simulation(8, seed=3, options=options) as network:
            await network.start_all()
            await trio.sleep(5)
            rng = random.Random(3)
            for victim in rng.sample(range(8), 4):
                network.kill(victim)
                await network.stopped(victim)
                await network.start(victim)  # it knows nobody but those that it remembers
                await trio.sleep(2)
                assert network.nodes[victim].running.peers(), victim

    run_deterministic(scenario, seed=3)
