"""A thousand peers that are gone at once, and clocks that jump, in virtual time."""

from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aelf_p2p.core.errors import HandshakeRefusedError
from aelf_p2p.core.network_events import PeerDisconnected
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.testing.conditions import ConditionedHub
from tests.services.foreign import ForeignNode, open_test_node
from tests.services.support import make_transaction, read_all, wall_ns

PEERS = 1000
HOUR_NS = 3600 * 10**9
ROOM = NetworkOptions(
    max_peers=0,
    max_peers_per_host=0,
    max_event_backlog=10 * PEERS,
    max_handshakes_at_once=PEERS * 3,
)


def live_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


@pytest.mark.fault(75)
async def test_a_thousand_peers_gone_at_once(autojump_clock: MockClock) -> None:
    hub = ConditionedHub()
    async with open_test_node(hub, options=ROOM) as node:
        node.workers.discovery.pause()
        node.workers.reconnection.pause()
        await wait_all_tasks_blocked()
        tasks = live_tasks()
        with node.subscribe() as events:
            async with AsyncExitStack() as stack:
                for number in range(2, PEERS + 2):
                    foreign = ForeignNode(number, host=f"host{number}")
                    await stack.enter_async_context(foreign.connect(hub))
                assert len(node.peers()) == PEERS
                await read_all(events)
                for number in range(2, PEERS + 2):
                    hub.cut(f"host{number}", "node")
                await wait_all_tasks_blocked()
                gone = [each for each in await read_all(events) if type(each) is PeerDisconnected]
                assert len(gone) == PEERS
                assert {each.reason for each in gone} == {CloseReason.LOST}
                assert node.peers() == []
                assert not list(node._context.pool)
            await wait_all_tasks_blocked()
            assert live_tasks() == tasks
        async with ForeignNode(2, host="newcomer").connect(hub):
            assert len(node.peers()) == 1


@pytest.mark.fault(74)
@pytest.mark.parametrize("jump_ns", [HOUR_NS, -HOUR_NS], ids=["forward", "back"])
async def test_a_clock_that_jumps_an_hour(jump_ns: int, autojump_clock: MockClock) -> None:
    """Connections stay, since nothing that lasts goes by the clock on the wall; only newcomers are
    refused while it is wrong."""
    hub = ConditionedHub(latency_s=0.02)
    off_ns = 0
    async with (
        open_test_node(hub, "bob", 3) as bob,
        open_test_node(hub, "carol", 4) as carol,
        open_test_node(hub, "alice", 2) as alice,
    ):
        environment = alice._context.environment
        object.__setattr__(environment, "wall_ns", lambda: wall_ns() + off_ns)
        peer = await alice.connect("bob")
        off_ns = jump_ns
        await trio.sleep(120)
        assert alice.peers() == [peer]
        report = alice.network.broadcast_transaction(make_transaction())
        assert report.queued == 1
        await trio.sleep(1)
        assert peer.statistics().unacknowledged == 0
        with pytest.raises(HandshakeRefusedError):
            await carol.connect("alice")
        off_ns = 0
        await carol.connect("alice")
        assert len(alice.peers()) == 2
        assert len(bob.peers()) == 1
