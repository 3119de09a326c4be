"""Discovery: what is asked, believed, pinged and dialed, and what a liar can make of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import network_types_pb2 as types
import peer_service_pb2 as service
import pytest
import trio
from trio.testing import MockClock

from aelf_p2p import (
    BanReason,
    ClosedByUsError,
    DiscoveryRound,
    Endpoint,
    KnownNode,
    NetworkOptions,
    NetworkState,
    Node,
)
from aelf_p2p.chain.memory_state import MemoryStateStore
from aelf_p2p.contracts import IncomingCall
from aelf_p2p.testing.conditions import ConditionedHub
from aelf_p2p.testing.determinism import run_deterministic
from aelf_p2p.testing.simulation import Simulation, open_simulation
from aelf_p2p.transports.memory import MemoryListener
from aelf_p2p.wire import methods as m
from tests.services.foreign import ForeignNode, ForeignServer, ForeignStream, open_test_node
from tests.services.support import EPOCH_NS, identity

PRIVATE = NetworkOptions(worker_jitter=0, dial_private=True)


class WatchedHub(ConditionedHub):
    """Counts the connections that are made to each endpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.dialed: list[Endpoint] = []

    async def reach(self, caller: Endpoint, callee: Endpoint) -> MemoryListener:
        self.dialed.append(callee)
        return await super().reach(caller, callee)

    def dialed_hosts(self) -> list[str]:
        """Hosts that were dialed since this was last asked, in order."""
        hosts = [endpoint.host for endpoint in self.dialed]
        self.dialed.clear()
        return hosts


class Liar(ForeignServer):
    """Tells whatever nodes it was given."""

    def __init__(self, number: int = 2, host: str = "liar") -> None:
        super().__init__(ForeignNode(number, host=host))
        self.nodes: list[tuple[str, bytes]] = []
        self.asked = 0

    def tell(self, *endpoints: str, key: bytes = b"") -> None:
        self.nodes = [(endpoint, key) for endpoint in endpoints]

    async def handle(self, call: IncomingCall) -> None:
        if call.method == m.PING:
            await call.stream.receive_many()
            await call.stream.send_many([b""])
        else:
            await super().handle(call)

    async def serve_stream(self, stream: ForeignStream) -> None:
        opening = await stream.wait_for(service.HAND_SHAKE)
        asked = types.HandshakeRequest.FromString(opening.message)
        stream.session = asked.handshake.session_id
        await stream.reply(opening, self.node.reply())
        while (message := await stream.receive()) is not None:
            payload = b""
            if message.message_type == service.GET_NODES:
                self.asked += 1
                infos = [types.NodeInfo(endpoint=each, pubkey=key) for each, key in self.nodes]
                payload = types.NodeList(nodes=infos).SerializeToString()
            if message.stream_type == service.REQUEST:
                await stream.reply(message, payload)


@pytest.fixture
def hub() -> WatchedHub:
    return WatchedHub()


@asynccontextmanager
async def listener(hub: ConditionedHub, host: str, number: int) -> AsyncIterator[Node]:
    """Another node of ours, which looks for nobody."""
    async with open_test_node(hub, host, number, options=PRIVATE) as node:
        node.workers.discovery.pause()
        yield node


@asynccontextmanager
async def beside_liar(
    hub: WatchedHub, options: NetworkOptions = PRIVATE, **arguments: Any
) -> AsyncIterator[tuple[Node, Liar]]:
    """A node whose only peer is a liar; its discovery is stepped by hand."""
    liar = Liar()
    async with trio.open_nursery() as nursery:
        await nursery.start(liar.serve, hub)
        async with open_test_node(hub, options=options, **arguments) as node:
            node.workers.discovery.pause()
            await node.connect("liar")
            hub.dialed.clear()
            yield node, liar
        nursery.cancel_scope.cancel()


def known(node: Node) -> list[str]:
    return sorted(each.endpoint.host for each in node._context.known_nodes.nodes)


# --- what goes well -------------------------------------------------------------------------------


async def test_a_node_that_a_peer_tells_is_pinged_kept_and_dialed(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with listener(hub, "carol", 3), beside_liar(hub) as (node, liar):
        liar.tell("carol:6800", key=b"another key")
        assert await node.workers.discovery.step() == DiscoveryRound(
            told=1, skipped=0, verified=1, connected=1
        )
        assert hub.dialed_hosts() == ["carol", "carol"]  # a ping, and the peer
        peer = node.peer(identity(3).public_key)
        assert peer is not None
        assert not peer.info.inbound
        [carol] = node._context.known_nodes.nodes
        assert carol.public_key == identity(3).public_key  # the proved one, not the one told
        assert await node.workers.discovery.step() == DiscoveryRound(told=1)
        assert hub.dialed_hosts() == ["carol"]  # a probe


async def test_it_begins_with_the_node_and_goes_on_every_period(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    liar = Liar()
    async with trio.open_nursery() as nursery:
        await nursery.start(liar.serve, hub)
        async with open_test_node(hub, options=PRIVATE, boot_nodes=["liar"]) as node:
            await node.wait_initialized()
            await trio.sleep(1)
            assert liar.asked == 1
            await trio.sleep(600)
            assert liar.asked == 11
        nursery.cancel_scope.cancel()


async def test_a_lonely_node_asks_its_first_peer_at_once(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    """The peer may be full, and send it off in a moment."""
    liar = Liar()
    async with trio.open_nursery() as nursery:
        await nursery.start(liar.serve, hub)
        async with listener(hub, "carol", 3), open_test_node(hub, options=PRIVATE) as node:
            liar.tell("carol")
            await trio.sleep(30)
            async with ForeignNode(9, host="stranger").connect(hub):  # who dials us is no reason
                await trio.sleep(1)
                assert hub.dialed_hosts() == ["node"]
            await node.connect("liar")
            await trio.sleep(1)
            assert known(node) == ["carol"]
            assert len(node.peers()) == 2
        nursery.cancel_scope.cancel()


async def test_known_nodes_are_dialed_after_a_restart(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    state = MemoryStateStore()
    async with listener(hub, "carol", 3):
        async with beside_liar(hub, state=state) as (node, liar):
            liar.tell("carol")
            await node.workers.discovery.step()
        [carol] = state.state.nodes
        assert carol.endpoint == Endpoint("carol", 6800)
        async with open_test_node(hub, options=PRIVATE, state=state) as node:
            await trio.sleep(1)
            [peer] = node.peers()
            assert peer.info.public_key == identity(3).public_key


async def test_five_peers_are_asked_for_ten_nodes_each(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    liars = [Liar(number, f"liar{number}") for number in range(2, 10)]
    for liar in liars:
        liar.tell(*(f"10.0.{liar.node.identity.private_key[-1]}.{n}" for n in range(100)))
    async with trio.open_nursery() as nursery:
        for liar in liars:
            await nursery.start(liar.serve, hub)
        async with open_test_node(hub, options=NetworkOptions(worker_jitter=0)) as node:
            node.workers.discovery.pause()
            for liar in liars:
                await node.connect(liar.node.host)
            done = await node.workers.discovery.step()
        assert sorted(liar.asked for liar in liars) == [0] * 3 + [1] * 5
        assert (done.told, done.skipped) == (50, 50)
        nursery.cancel_scope.cancel()


async def test_a_node_with_few_peers_hurries_while_it_finds_new_ones(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    """Each of these peers knows the next one alone."""
    chain = [Liar(number, f"liar{number}") for number in range(2, 8)]
    for liar, following in pairwise(chain):
        liar.tell(following.node.host)
    async with trio.open_nursery() as nursery:
        for liar in chain:
            await nursery.start(liar.serve, hub)
        async with open_test_node(hub, options=PRIVATE, boot_nodes=["liar2"]) as node:
            await trio.sleep(4.5)  # a second each
            assert len(node.peers()) == 5
            await trio.sleep(50)
            assert len(node.peers()) == 5  # these are not few any more
            await trio.sleep(10)
            assert len(node.peers()) == 6
        nursery.cancel_scope.cancel()


# --- what is not believed -------------------------------------------------------------------------


@pytest.mark.fault(67)
async def test_a_hundred_thousand_nodes_are_ten(hub: WatchedHub, autojump_clock: MockClock) -> None:
    async with beside_liar(hub) as (node, liar):
        liar.tell(*(f"h{number}" for number in range(100_000)))
        done = await node.workers.discovery.step()
        assert (done.told, done.verified) == (10, 0)
        assert sorted(hub.dialed_hosts()) == [f"h{number}" for number in range(10)]


async def test_only_so_many_endpoints_are_tried_in_a_round(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    options = NetworkOptions(worker_jitter=0, dial_private=True, discovery_candidates=4)
    async with beside_liar(hub, options) as (node, liar):
        liar.tell(*(f"h{number}" for number in range(10)))
        await node.workers.discovery.step()
        assert len(hub.dialed_hosts()) == 4


async def test_silent_endpoints_are_tried_five_at_once(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with beside_liar(hub) as (node, liar):
        hub.partition([["node", "liar"]])
        liar.tell(*(f"h{number}" for number in range(10)))
        began = trio.current_time()
        await node.workers.discovery.step()
        assert trio.current_time() - began == 6
        assert len(hub.dialed_hosts()) == 10


async def test_the_same_dead_endpoint_for_ever_is_tried_every_ten_minutes(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with beside_liar(hub) as (node, liar):
        liar.tell("nobody")
        node.workers.discovery.resume()
        await trio.sleep(3600)
        assert liar.asked >= 59
        assert len(hub.dialed_hosts()) == 6
        assert known(node) == []


async def test_nobody_has_it_look_for_open_ports(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    """Ten other ports of one host a round: four that are dead rest at a time, ten minutes each."""
    async with beside_liar(hub, NetworkOptions(worker_jitter=0)) as (node, liar):
        for first in range(1, 601, 10):
            liar.tell(*(f"8.8.8.8:{port}" for port in range(first, first + 10)))
            await node.workers.discovery.step()
            if first == 1:
                assert hub.dialed_hosts() == ["8.8.8.8"] * 2
            await trio.sleep(60)
        assert len(hub.dialed_hosts()) == 6 * 4 - 2


HIDDEN = [
    "127.0.0.1:22",
    "10.0.0.1",
    "192.168.1.1:80",
    "169.254.169.254:80",
    "[::1]:6800",
    "[fd00::1]:6800",
    "0.0.0.0",
    "internal.example",
    "node",
]


async def test_strangers_do_not_make_it_knock_at_private_doors(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with beside_liar(hub, NetworkOptions(worker_jitter=0)) as (node, liar):
        liar.tell(*HIDDEN)
        done = await node.workers.discovery.step()
        assert (done.told, done.skipped) == (9, 9)
        assert hub.dialed_hosts() == []
        liar.tell("8.8.8.8", *HIDDEN)
        done = await node.workers.discovery.step()
        assert (done.told, done.skipped) == (10, 9)
        assert hub.dialed_hosts() == ["8.8.8.8"]


async def test_what_was_kept_when_it_was_allowed_is_not_dialed_when_it_is_not(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    node_of_before = KnownNode(
        endpoint=Endpoint("10.0.0.1", 6800), public_key=None, seen_at=EPOCH_NS / 1e9, available=True
    )
    state = MemoryStateStore(NetworkState(nodes=(node_of_before,)))
    async with open_test_node(hub, options=NetworkOptions(worker_jitter=0), state=state):
        await trio.sleep(300)
        assert hub.dialed_hosts() == []


async def test_it_pings_itself_once(hub: WatchedHub, autojump_clock: MockClock) -> None:
    async with beside_liar(hub) as (node, liar):
        liar.tell("node", key=b"someone else's")
        done = await node.workers.discovery.step()
        assert (done.verified, done.connected) == (0, 0)  # it refuses a ping of its own
        assert hub.dialed_hosts() == ["node"]
        assert known(node) == []
        for _ in range(20):
            await trio.sleep(600)
            await node.workers.discovery.step()
        assert hub.dialed_hosts() == []


async def test_a_peers_word_on_a_key_keeps_no_node_away(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with listener(hub, "carol", 3), beside_liar(hub) as (node, liar):
        liar.tell("carol", key=liar.node.key)  # a key that is connected already
        assert (await node.workers.discovery.step()).connected == 1


async def test_a_banned_host_is_neither_pinged_nor_dialed(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with listener(hub, "carol", 3), beside_liar(hub) as (node, liar):
        until = node._context.environment.wall_s() + 100
        liar.tell("carol")
        node._context.bans.ban("carol", BanReason.OPERATOR, until)
        assert await node.workers.discovery.step() == DiscoveryRound(told=1)
        assert hub.dialed_hosts() == []
        await trio.sleep(101)
        assert (await node.workers.discovery.step()).connected == 1


async def test_a_node_of_another_chain_is_forgotten_for_a_while(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with (
        open_test_node(hub, "carol", 3, chain_id="tDVV"),
        beside_liar(hub) as (node, liar),
    ):
        liar.tell("carol")
        await node.workers.discovery.step()
        assert hub.dialed_hosts() == ["carol", "carol"]
        assert known(node) == []
        await node.workers.discovery.step()
        assert hub.dialed_hosts() == []


async def test_whoever_answers_nonsense_or_nothing_costs_a_round_and_no_more(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with listener(hub, "carol", 3), beside_liar(hub) as (node, liar):
        liar.nodes = [("a:b:c", b""), ("host:99999", b""), ("", b""), ("carol", b"k" * 66)]
        assert await node.workers.discovery.step() == DiscoveryRound()
        hub.stall("node")
        began = trio.current_time()
        await node.workers.discovery.step()
        assert trio.current_time() - began == 2
        hub.unstall("node")
        await trio.sleep(1)
        assert len(node.peers()) == 1  # others see whether it lives


async def test_a_node_that_answers_pings_and_no_handshake_is_not_dialed_again(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    class OnlyPings(Liar):
        async def answer_handshake(self, request: bytes) -> bytes:
            return b"nonsense"

    async with trio.open_nursery() as nursery:
        await nursery.start(OnlyPings(3, "carol").serve, hub)
        async with beside_liar(hub) as (node, liar):
            liar.tell("carol")
            done = await node.workers.discovery.step()
            assert (done.verified, done.connected) == (1, 0)
            assert not node._context.known_nodes.nodes[0].available
        nursery.cancel_scope.cancel()


# --- whom it dials --------------------------------------------------------------------------------


async def test_a_node_that_is_gone_is_probed_and_not_dialed(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with beside_liar(hub) as (node, liar):
        async with listener(hub, "carol", 3):
            liar.tell("carol")
            await node.workers.discovery.step()
        liar.tell()
        hub.dialed_hosts()
        await trio.sleep(1000)
        for _ in range(3):
            await node.workers.discovery.step()
        assert hub.dialed_hosts() == ["carol"] * 3  # a probe each
        assert not node._context.known_nodes.nodes[0].available
        async with listener(hub, "carol", 3):
            done = await node.workers.discovery.step()
            assert done.connected == 1


async def test_a_full_node_is_asked_again_after_a_rest(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    full = NetworkOptions(max_peers=1, max_guests=0)
    async with (
        open_test_node(hub, "carol", 3, options=full) as carol,
        listener(hub, "dave", 4) as resident,
        beside_liar(hub) as (node, liar),
    ):
        carol.workers.discovery.pause()
        await resident.connect("carol")
        liar.tell("carol")
        hub.dialed_hosts()
        for _ in range(3):
            await node.workers.discovery.step()
        assert hub.dialed_hosts() == ["carol"] * 4  # a ping, a dial, and two probes
        await resident.disconnect(carol.public_key)
        await trio.sleep(600)
        assert (await node.workers.discovery.step()).connected == 1


async def test_a_node_that_waits_for_its_reconnection_is_left_to_it(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with listener(hub, "carol", 3), beside_liar(hub) as (node, liar):
        liar.tell("carol")
        await node.workers.discovery.step()
        await trio.sleep(700)
        hub.cut("node", "carol")
        await trio.sleep(1)
        assert (await node.workers.discovery.step()).connected == 0
        await trio.sleep(60)
        assert len(node.peers()) == 2


async def test_it_dials_while_there_is_room(hub: WatchedHub, autojump_clock: MockClock) -> None:
    options = NetworkOptions(worker_jitter=0, dial_private=True, discovery_target=3)
    hosts = [f"h{number}" for number in range(10)]
    async with trio.open_nursery() as nursery:

        async def serve(host: str, number: int, *, task_status: trio.TaskStatus[None]) -> None:
            async with listener(hub, host, number):
                task_status.started()
                await trio.sleep_forever()

        for number, host in enumerate(hosts, 10):
            await nursery.start(serve, host, number)
        async with beside_liar(hub, options) as (node, liar):
            liar.tell(*hosts)
            done = await node.workers.discovery.step()
            assert (done.verified, done.connected) == (10, 2)  # the liar was dialed too
            assert len(node.peers()) == 3
        nursery.cancel_scope.cancel()


async def test_a_table_that_is_full_keeps_what_it_has(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    options = NetworkOptions(worker_jitter=0, dial_private=True, max_known_nodes=1)
    async with (
        listener(hub, "carol", 3),
        listener(hub, "dave", 4),
        beside_liar(hub, options) as (node, liar),
    ):
        liar.tell("carol")
        await node.workers.discovery.step()
        liar.tell("dave")
        assert (await node.workers.discovery.step()).verified == 0
        assert known(node) == ["carol"]


# --- its end --------------------------------------------------------------------------------------


async def test_a_node_that_is_closed_in_the_middle_of_a_round(
    hub: WatchedHub, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:

        async def step(node: Node) -> None:
            with pytest.raises(ClosedByUsError):
                await node.workers.discovery.step()

        async with beside_liar(hub) as (node, liar):
            hub.partition([["node", "liar"]])
            liar.tell("nobody")
            nursery.start_soon(step, node)
            await trio.sleep(1)
            closing_at = trio.current_time()
    assert trio.current_time() - closing_at <= 1
    assert hub.connections == {}


@pytest.mark.parametrize("after_s", [0.0, 1.0, 2.5, 4.0])
async def test_a_round_that_is_cancelled_leaves_nothing_behind(
    after_s: float, hub: WatchedHub, autojump_clock: MockClock
) -> None:
    """Cancelled while it asks, pings, or dials; the next round is a whole one."""
    for pair in (("node", "carol"), ("carol", "node"), ("node", "liar"), ("liar", "node")):
        hub.set_latency(*pair, 0.4)
    async with listener(hub, "carol", 3), beside_liar(hub) as (node, liar):
        liar.tell("carol")
        with trio.move_on_after(after_s):
            await node.workers.discovery.step()
        await trio.sleep(10)
        await node.workers.discovery.step()
        await trio.sleep(10)
        assert len(node.peers()) == 2
        assert len(hub.connections) == 2


# --- a network ------------------------------------------------------------------------------------


def outbound(network: Simulation) -> list[int]:
    return [sum(not peer.info.inbound for peer in place.running.peers()) for place in network.nodes]


def test_a_hundred_nodes_find_eight_others_each_from_one_boot_node() -> None:
    async def scenario() -> None:
        # What keeps connections alive is not what this is about, and costs most of the time.
        options = NetworkOptions(
            dial_private=True, silence_probe_s=3600.0, health_check_period_s=3600.0
        )
        async with open_simulation(100, seed=5, options=options) as network:
            await network.start(0)
            for index in range(1, 100):
                await network.start(index, [0])
                await trio.sleep(1)
            deadline = trio.current_time() + 3600
            while min(outbound(network)) < 8:
                assert trio.current_time() < deadline, outbound(network)
                await trio.sleep(10)
            for place in network.nodes:
                assert len(place.running.peers()) <= 25 + options.max_guests

    run_deterministic(scenario, seed=5)
