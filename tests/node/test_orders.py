"""Whatever happens to a few nodes, in whatever order, they come to one chain once they are let."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from aelf_p2p.core.errors import (
    HandshakeRefusedError,
    NetworkError,
    ProtocolViolationError,
    TransportError,
)
from aelf_p2p.testing.determinism import run_deterministic
from aelf_p2p.testing.simulation import SimulatedNode, Simulation, open_simulation

NODES = 4
MAX_MINED = 7  # what is irreversible, eight blocks deep, never changes: a longer fork would stay
LONGEST_S = 20.0  # of anything that a node is asked to do
BAN_S = 30.0
SETTLING_S = 60.0
"""By then handshakes that were never confirmed are given up, and hosts where dial-backs failed are
dialed back again (docs/protocol.md)."""
CANNOT_CONNECT = TransportError, HandshakeRefusedError, ProtocolViolationError, NetworkError
"""What ``Node.connect`` may raise, when the endpoint is well-formed."""


@dataclass(frozen=True)
class Event:
    """Something that happens at a node, with regard to another one maybe."""

    what: str
    at: int
    other: int
    after_s: float
    """Since the event before it, which may still be under way."""


EVENTS = st.builds(
    Event,
    st.sampled_from(
        ["connect"] * 4
        + ["mine"] * 3
        + ["disconnect", "ban", "lift", "kill", "stop", "start", "start"]
        + ["cut", "heal", "stall", "unstall"]
    ),
    st.integers(0, NODES - 1),
    st.integers(0, NODES - 1),
    st.sampled_from([0.0, 0.0, 0.01, 0.1, 1.0, 5.0]),
)


class History:
    """Makes the events happen."""

    def __init__(self, network: Simulation) -> None:
        self._network = network
        self._mined = 0
        self._starting: set[int] = set()

    async def happen(self, event: Event) -> None:
        """Do what it says, if that makes sense now."""
        place, other = self._network.nodes[event.at], self._network.nodes[event.other]
        with trio.fail_after(LONGEST_S):
            if event.what in ("heal", "stall", "unstall", "cut"):
                self._change_conditions(event.what, place, other)
            elif event.what == "start":
                await self._start(place, [event.other])
            elif place.node is not None:
                await self._do(event.what, place, other)

    def _change_conditions(self, what: str, place: SimulatedNode, other: SimulatedNode) -> None:
        hub = self._network.hub
        match what:
            case "heal":
                hub.heal()
            case "stall":
                hub.stall(place.host)
            case "unstall":
                hub.unstall(place.host)
            case "cut" if place is not other:
                hub.cut(place.host, other.host)

    async def _start(self, place: SimulatedNode, boot_nodes: Sequence[int]) -> None:
        if place.node is None and place.index not in self._starting:
            self._starting.add(place.index)
            try:
                await self._network.start(place.index, [n for n in boot_nodes if n != place.index])
            finally:
                self._starting.discard(place.index)

    async def _do(self, what: str, place: SimulatedNode, other: SimulatedNode) -> None:
        node, key = place.running, other.identity.public_key
        match what:
            case "connect":
                with suppress(*CANNOT_CONNECT):  # it is down, cut off, banned, or itself
                    await node.connect(other.host)
            case "disconnect":
                await node.disconnect(key)
            case "ban":
                node.operator.ban(other.host, for_s=BAN_S)
                assert node.peer(key) is None
            case "lift":
                node.operator.lift(other.host)
            case "kill":
                self._network.kill(place.index)
                await self._network.stopped(place.index)
            case "stop":
                await self._network.stop(place.index)
            case "mine" if self._mined < MAX_MINED:
                self._mined += 1
                await self._network.mine(place.index)

    async def settle(self) -> None:
        """Nothing is in the way any more, and all are connected."""
        network = self._network
        network.hub.heal()
        for place in network.nodes:
            network.hub.unstall(place.host)
        for place in network.nodes:
            await self._start(place, [])
            for other in network.nodes:
                place.running.operator.lift(other.host)
        await trio.sleep(SETTLING_S)
        for place in network.nodes:
            for other in network.nodes:
                await self._do("connect", place, other)


def assert_sound(network: Simulation) -> None:
    """One connection to a node, none to oneself, none to who is banned."""
    for place in network.nodes:
        if place.node is None:
            continue
        keys = [peer.info.public_key for peer in place.running.peers()]
        assert len(keys) == len(set(keys))
        assert place.identity.public_key not in keys
        banned = {ban.subject for ban in place.running.operator.bans()}
        assert banned.isdisjoint(peer.info.endpoint.host for peer in place.running.peers())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(EVENTS, min_size=3, max_size=30),
    st.sets(st.integers(0, NODES - 1)),
    st.integers(0, 2**16),
)
def test_they_come_to_one_chain(events: list[Event], old: set[int], seed: int) -> None:
    """Some of them are before 1.4, and have unary peers."""

    async def scenario() -> None:
        async with open_simulation(
            NODES, seed=seed, latency_s=lambda rng: rng.uniform(0.001, 0.2)
        ) as network:
            for index in old:
                network.nodes[index].node_version = "1.3.0.0"
            await network.start_all()
            history = History(network)
            async with trio.open_nursery() as nursery:
                for event in events:
                    await trio.sleep(event.after_s)
                    nursery.start_soon(history.happen, event)
                    assert_sound(network)
            await history.settle()
            best = max(network.nodes, key=lambda place: place.height)
            await network.mine(best.index)
            await network.wait_for_height(best.height, timeout_s=20)
            assert_sound(network)
            assert {place.store.status.best_hash for place in network.nodes} == {
                best.store.status.best_hash
            }
            assert {place.host: len(place.running.peers()) for place in network.nodes} == {
                place.host: NODES - 1 for place in network.nodes
            }

    run_deterministic(scenario, seed=seed)
