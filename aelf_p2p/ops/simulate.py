"""``aelf-p2p simulate``: a network of real nodes in virtual time, following a chain."""

import argparse
import math
import random
import time
from dataclasses import dataclass, field

import trio

from aelf_p2p.chain.block_maker import BLOCK_INTERVAL_NS
from aelf_p2p.ops.arguments import Commands, seed, whole_number
from aelf_p2p.ops.exit_status import status_of
from aelf_p2p.ops.figures import median_and_p99
from aelf_p2p.ops.output import tell
from aelf_p2p.ops.real_transactions import real_transactions
from aelf_p2p.ops.signals import Ending, ended_by_signals
from aelf_p2p.testing.determinism import run_deterministic
from aelf_p2p.testing.simulation import Simulation, open_simulation

PRODUCER = 0
FASTEST_S, SLOWEST_S = 0.02, 0.2
BLOCK_INTERVAL_S = BLOCK_INTERVAL_NS / 1e9
SETTLING_S = 30.0
PROGRESS_LINES = 10


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "simulate",
        help="run a network of nodes in virtual time",
        description=(
            "Run a network of real nodes in one process, in virtual time, from one seed: a "
            "producer makes blocks out of real AElf transactions that other nodes send. After a "
            "third of the blocks one node is killed, which comes back after three quarters; after "
            "half of them one joins late and downloads the chain. The same seed gives the same "
            "run. Ends with status 0 when all nodes have the same chain with "
            "every transaction."
        ),
    )
    parser.add_argument(
        "--nodes", type=whole_number(4, 500), default=20, metavar="N", help="4 to 500 (20)"
    )
    parser.add_argument(
        "--blocks",
        type=whole_number(10, 100_000),
        default=100,
        metavar="N",
        help="at least 10 (100)",
    )
    parser.add_argument(
        "--seed",
        type=seed,
        default=1,
        metavar="N",
        help="of all randomness (1)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Simulate, print what happens, and return the exit status."""
    report = _Report(options.nodes, options.blocks, range(1, options.nodes - 2))
    began = time.perf_counter()
    with ended_by_signals() as ending:
        run_deterministic(_run, report, options.seed, ending, seed=options.seed)
    if ending.by is None:
        report.summarise(time.perf_counter() - began)
    return status_of(ending.by, failed=bool(report.faults))


@dataclass
class _Report:
    """What is measured on the way, and what went wrong."""

    nodes: int
    blocks: int
    steady: range
    """The nodes that are up all the time, the producer left out."""
    propagation_s: list[float] = field(default_factory=list)
    late_joiner_s: float = math.nan
    restarted_s: float = math.nan
    deliveries: int = 0
    lost: int = 0
    height: int = 0
    virtual_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    def progress(self, network: Simulation, height: int) -> None:
        places = [place for place in network.nodes if place.node is not None]
        heights = [place.height for place in places]
        peers = [len(place.running.peers()) for place in places]
        queued = sum(
            peer.statistics().queued_transactions + peer.statistics().queued_announcements
            for place in places
            for peer in place.running.peers()
        )
        tell(
            f"{trio.current_time():8.1f} s  block {height:5d}  nodes {len(places):3d}  "
            f"heights {min(heights)}-{max(heights)}  peers {min(peers)}-{max(peers)}  "
            f"queued {queued}"
        )

    def check(self, network: Simulation, transaction_ids: set[bytes], held: set[bytes]) -> None:
        tips = {place.store.status.best_hash for place in network.nodes}
        self.height = min(place.height for place in network.nodes)
        if len(tips) != 1 or self.height != self.blocks:
            heights = sorted(place.height for place in network.nodes)
            self.faults.append(f"the nodes ended with {len(tips)} chains, heights {heights}")
        if missing := transaction_ids - held:
            self.faults.append(f"{len(missing)} transactions are in no block")
        for arrivals in network.arrivals.values():
            mined_s = arrivals[PRODUCER]
            self.propagation_s += [
                arrivals[index] - mined_s for index in self.steady if index in arrivals
            ]
        for place in network.nodes:
            for peer in place.running.peers():
                statistics = peer.statistics()
                self.deliveries += sum(statistics.acknowledged.values())
                self.lost += sum(statistics.dropped.values())
        self.virtual_s = trio.current_time()

    def summarise(self, real_s: float) -> None:
        p50, p99 = median_and_p99(self.propagation_s)
        tell(f"nodes               {self.nodes}, the lowest at height {self.height}")
        tell(f"propagation         p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms (virtual)")
        tell(f"late joiner         caught up in {self.late_joiner_s:.2f} s (virtual)")
        tell(f"killed and back     caught up in {self.restarted_s:.2f} s (virtual)")
        tell(f"broadcasts          {self.deliveries} acknowledged, {self.lost} lost")
        tell(f"time                {self.virtual_s:.0f} s virtual, {real_s:.1f} s real")
        for fault in self.faults:
            tell(f"FAILED              {fault}")
        tell("ok" if not self.faults else "failed")


async def _run(report: _Report, seed: int, ending: Ending) -> None:
    with ending.cancels():
        await _scenario(report, seed)


async def _scenario(report: _Report, seed: int) -> None:
    """The chain grows at one node; the others send transactions, join late, die and come back."""
    rng = random.Random(f"scenario/{seed}")
    transactions = real_transactions()
    late, victim = report.nodes - 1, report.nodes - 2
    async with open_simulation(
        report.nodes, seed=seed, latency_s=lambda link_rng: link_rng.uniform(FASTEST_S, SLOWEST_S)
    ) as network:
        tell(f"{report.nodes} nodes, {report.blocks} blocks, {len(transactions)} transactions")
        for index in range(report.nodes):
            if index != late:
                await network.start(index, rng.sample(range(index), min(3, index)))
        for index in (PRODUCER, *report.steady):
            await network.nodes[index].running.wait_initialized()
        unsent = transactions[::-1]
        share = -(-len(transactions) // (report.blocks * 3 // 4))
        back_at = report.blocks * 3 // 4
        for height in range(1, report.blocks + 1):
            await trio.sleep(BLOCK_INTERVAL_S)
            for _ in range(min(share, len(unsent))):
                network.submit(rng.choice(report.steady), unsent.pop())
            await network.mine(PRODUCER)
            if height == report.blocks // 3:
                network.kill(victim)
            elif height == back_at:
                await network.stopped(victim)
                report.restarted_s = await _catch_up(network, victim, rng)
            if height == report.blocks // 2:
                report.late_joiner_s = await _catch_up(network, late, rng)
            if height % max(report.blocks // PROGRESS_LINES, 1) == 0:
                report.progress(network, height)
        await network.wait_for_height(report.blocks, timeout_s=SETTLING_S)
        held: set[bytes] = set()
        store = network.nodes[late].store
        block = await store.get_block(store.status.best_hash)
        while block is not None:
            held.update(block.transaction_ids)
            block = await store.get_block(block.previous_hash)
        report.check(network, {item.id for item in transactions}, held)


async def _catch_up(network: Simulation, index: int, rng: random.Random) -> float:
    """Start a node; returns the virtual seconds until it has what the producer has now."""
    goal = network.nodes[PRODUCER].height
    began = trio.current_time()
    await network.start(index, rng.sample(range(len(network.nodes) - 2), 2))
    await network.wait_for_height(goal, timeout_s=SETTLING_S)
    return trio.current_time() - began
