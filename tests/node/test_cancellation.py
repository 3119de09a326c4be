"""Cancelling a node at any await leaves nothing behind, and its neighbours whole."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from aelf_p2p import Transaction
from aelf_p2p.node import DEFAULT_NODE_VERSION
from aelf_p2p.testing.cancellation import cancel_at_every_step
from aelf_p2p.testing.simulation import Simulation, open_simulation
from aelf_p2p.testing.vectors import load_vectors

ALICE, BOB, VICTIM = 0, 1, 2
TRANSACTION = Transaction.parse_untrusted(load_vectors().transactions[0].raw)


@asynccontextmanager
async def neighbourhood(node_version: str) -> AsyncIterator[Simulation]:
    async with open_simulation(3, seed=5, latency_s=0.02) as network:
        network.nodes[VICTIM].node_version = node_version
        await network.start(ALICE)
        for _ in range(15):
            await network.mine(ALICE)
        await network.start(BOB, [ALICE])
        await network.wait_for_height(15)
        yield network


async def live(network: Simulation) -> None:
    """The victim's life, within the scope that is cancelled: it dials, downloads, is dialed,
    broadcasts, mines, and leaves."""
    place = network.nodes[VICTIM]
    async with network.open_place(VICTIM, [ALICE]) as node:
        await node.wait_initialized()
        await network.nodes[BOB].running.connect(place.host)
        await network.wait_for_height(15)
        network.submit(VICTIM, TRANSACTION)
        await trio.sleep(0.3)
        await network.mine(VICTIM)
        await network.wait_for_height(16)


async def check(network: Simulation) -> None:
    """Its neighbours know within seconds, hold nothing of it, and go on without it."""
    place = network.nodes[VICTIM]
    assert place.node is None
    assert not [listener for listener in network.hub.listeners if listener.host == place.host]
    await trio.sleep(15)  # at worst, a handshake that was never confirmed
    alice, bob = network.nodes[ALICE].running, network.nodes[BOB].running
    assert [peer.info.public_key for peer in alice.peers()] == [bob.public_key]
    assert [peer.info.public_key for peer in bob.peers()] == [alice.public_key]
    assert len(network.hub.connections) == 1
    height = network.nodes[ALICE].height
    await network.mine(ALICE)
    await network.wait_for_height(height + 1, timeout_s=5)


@pytest.mark.parametrize("node_version", [DEFAULT_NODE_VERSION, "1.3.0.0"])
def test_cancelling_a_node_at_any_await_leaves_nothing_behind(node_version: str) -> None:
    around = partial(neighbourhood, node_version)
    report = cancel_at_every_step(live, around=around, check=check, sample=60, seed=5)
    assert report.steps > 300
    assert len(report.cancelled_at) == 60
