"""Networks of real nodes in virtual time, from a seed."""

import os
import subprocess
import sys

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p import Transaction, TransactionsReceived
from aelf_p2p.core.broadcast import BroadcastKind, DropReason
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.testing.conditions import ConditionedHub
from aelf_p2p.testing.determinism import run_deterministic
from aelf_p2p.testing.simulation import Simulation, open_simulation
from aelf_p2p.testing.vectors import load_vectors
from tests.services.foreign import open_test_node
from tests.services.support import make_transaction, read_all

NODES = 20
TRANSACTIONS = [Transaction.parse_untrusted(item.raw) for item in load_vectors().transactions]


async def start_network(network: Simulation) -> None:
    await network.start_all()
    for place in network.nodes:
        await place.running.wait_initialized()


def test_a_block_reaches_all_and_the_real_transactions_arrive_unchanged() -> None:
    async def scenario() -> None:
        async with open_simulation(
            NODES, seed=1, latency_s=lambda rng: rng.uniform(0.02, 0.2)
        ) as network:
            await start_network(network)
            for number, transaction in enumerate(TRANSACTIONS):
                assert network.submit(number % NODES, transaction)
            await trio.sleep(2)
            block = await network.mine(NODES - 1)
            await network.wait_for_height(1, timeout_s=5)
            assert len(block.transactions) == len(TRANSACTIONS)
            for place in network.nodes:
                stored = await place.store.get_block(block.hash)
                assert stored is not None
                assert stored.encode() == block.encode()
                arrived = {item.id: item.raw for item in stored.transactions}
                assert arrived == {item.id: item.raw for item in load_vectors().transactions}

    run_deterministic(scenario, seed=1)


def test_a_network_of_old_and_new_nodes() -> None:
    """Every other node is before 1.4: blocks and transactions of both kinds reach all, and one that
    was away catches up with peers of both kinds."""

    async def scenario() -> None:
        async with open_simulation(
            12, seed=8, latency_s=lambda rng: rng.uniform(0.01, 0.1)
        ) as network:
            for place in network.nodes[::2]:
                place.node_version = "1.3.0.0"
            await start_network(network)
            for number, transaction in enumerate(TRANSACTIONS[:24]):
                assert network.submit(number % 12, transaction)
            await trio.sleep(2)
            network.kill(3)
            network.kill(4)
            for number in range(20):
                await network.mine(number % 3)
                await trio.sleep(1)
            await network.start(3, [1, 2])
            await network.start(4, [1, 2])
            await network.wait_for_height(20, timeout_s=30)
            assert len({place.store.status.best_hash for place in network.nodes}) == 1
            first = await network.nodes[7].store.get_block(
                await network.nodes[7].store.hash_at(1) or b""
            )
            assert first is not None
            assert {each.id for each in first.transactions} == {
                each.id for each in TRANSACTIONS[:24]
            }
            kinds = {
                (place.index % 2, peer.info.uses_stream)
                for place in network.nodes
                for peer in place.running.peers()
            }
            assert kinds == {(0, False), (1, False), (1, True)}

    run_deterministic(scenario, seed=8)


def test_a_node_that_is_far_behind_downloads_the_chain() -> None:
    async def scenario() -> None:
        async with open_simulation(3, seed=2) as network:
            await network.start(0)
            for _ in range(120):
                await network.mine(0)
            await network.start(1, [0])
            await network.wait_for_height(120, timeout_s=10)
            # By now node 1 can serve what it downloaded, and node 0 is not there to ask.
            await network.stop(0)
            await network.start(2, [1])
            await network.wait_for_height(120, timeout_s=10)
            last, first = network.nodes[2].store.status, network.nodes[0].store.status
            assert last.best_hash == first.best_hash

    run_deterministic(scenario, seed=2)


def test_a_partition_heals_to_the_longer_chain() -> None:
    """Sides that produce apart end with one chain once they are connected again.

    Six blocks apart at most: what is irreversible, eight blocks deep, never changes.
    """

    async def scenario() -> None:
        async with open_simulation(6, seed=3) as network:
            await network.start_all()
            await trio.sleep(2)
            left = [place.host for place in network.nodes[:3]]
            right = [place.host for place in network.nodes[3:]]
            network.hub.partition([left, right])
            for _ in range(4):
                await network.mine(0)
                await trio.sleep(0.5)
            for _ in range(6):
                await network.mine(5)
                await trio.sleep(0.5)
            assert network.nodes[1].height == 4
            network.hub.heal()
            for host in right:
                await network.nodes[0].running.connect(host)
            for place in network.nodes[1:3]:
                await place.running.connect(right[0])
            await network.mine(5)
            await network.wait_for_height(7, timeout_s=10)
            assert len({place.store.status.best_hash for place in network.nodes}) == 1

    run_deterministic(scenario, seed=3)


@pytest.mark.fault(71)
def test_a_slow_peer_loses_only_its_own() -> None:
    """One of six reads nothing: it loses what its queue and window do not hold, counted; the
    others lose nothing and are not slower."""
    burst, rounds = 20, 80
    # Any well-formed transaction travels; that the kernels refuse these must not part the nodes.
    options = NetworkOptions(max_invalid_transactions=rounds * burst)

    async def scenario() -> None:
        async with open_simulation(6, seed=4, latency_s=0.02, options=options) as network:
            await network.start(0)
            for index in range(1, 6):
                await network.start(index, [0])
                await network.nodes[index].running.wait_initialized()
            slow = network.nodes[3]
            network.hub.stall(slow.host)
            source = network.nodes[0].running
            kept = 0
            for number in range(rounds * burst):
                made = Transaction.build(
                    from_address=TRANSACTIONS[0].from_address,
                    to_address=TRANSACTIONS[0].to_address,
                    method_name=f"number {number}",
                    params=bytes(20_000),
                )
                report = source.network.broadcast_transaction(made)
                dropped = sum((report.dropped or {}).values())
                assert report.queued + dropped == 5
                kept += report.queued
                if number % burst == burst - 1:
                    await trio.sleep(0.1)
            await trio.sleep(1)
            for peer in source.peers():
                statistics = peer.statistics()
                acknowledged = statistics.acknowledged.get(BroadcastKind.TRANSACTION, 0)
                full = statistics.dropped.get((BroadcastKind.TRANSACTION, DropReason.QUEUE_FULL), 0)
                if peer.info.public_key == slow.identity.public_key:
                    assert acknowledged == 0
                    assert full == rounds * burst * 5 - kept > 0
                    assert statistics.queued_transactions == 100
                else:
                    assert acknowledged == rounds * burst
                    assert full == 0

    run_deterministic(scenario, seed=4)


def trace_of(seed: int) -> list[str]:
    """What happens in a busy minute of a network, in order."""
    trace: list[str] = []

    async def scenario() -> None:
        async with open_simulation(
            NODES, seed=seed, latency_s=lambda rng: rng.uniform(0.02, 0.2), clock_skew_s=0.5
        ) as network:
            await start_network(network)
            for height in range(1, 6):
                for transaction in TRANSACTIONS[height * 4 : height * 4 + 4]:
                    network.submit(height, transaction)
                await trio.sleep(1)
                await network.mine(0)
            network.kill(7)
            await network.wait_for_height(5)
            trace.extend(network.trace)

    run_deterministic(scenario, seed=seed)
    return trace


def test_the_same_seed_gives_the_same_order_of_events() -> None:
    first = trace_of(11)
    assert len(first) > 500
    assert trace_of(11) == first
    assert trace_of(12) != first


def test_the_order_of_events_does_not_depend_on_the_process() -> None:
    program = (
        "import sys, runpy; from hashlib import sha256;"
        f"names = runpy.run_path({__file__!r});"
        "print(sha256('\\n'.join(names['trace_of'](11)).encode()).hexdigest())"
    )
    digests = set()
    path = os.pathsep.join(sys.path)
    for hash_seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": path,
            },
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(ran.stdout)
    assert len(digests) == 1


async def test_a_burst_is_relayed_whole(autojump_clock: MockClock) -> None:
    """What comes in one read is more than a queue holds; the next node has room for it in turns."""
    hub = ConditionedHub(latency_s=0.02)
    roomy = NetworkOptions(max_queued_transactions=1000)
    async with (
        open_test_node(hub, "alice", 1, options=roomy) as alice,
        open_test_node(hub, "bob", 2) as bob,
        open_test_node(hub, "carol", 3) as carol,
    ):
        for node in alice, bob, carol:
            node.workers.discovery.pause()
        await alice.connect("bob")
        await carol.connect("bob")
        transactions = [make_transaction(number) for number in range(400)]
        with carol.subscribe() as events:
            for transaction in transactions:
                assert alice.network.broadcast_transaction(transaction).queued == 1
            await trio.sleep(5)
            received = [
                each for each in await read_all(events) if type(each) is TransactionsReceived
            ]
        assert sum(len(each.transactions) for each in received) == len(transactions)
        [to_carol] = [peer for peer in bob.peers() if peer.info.public_key == carol.public_key]
        assert to_carol.statistics().dropped == {}
