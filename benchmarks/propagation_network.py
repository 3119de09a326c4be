"""A large network of our nodes in one process and in virtual time: how blocks spread in it."""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial

import trio

from aelf_p2p import Endpoint, NetworkOptions
from aelf_p2p.core.endpoint import DEFAULT_PORT
from aelf_p2p.testing.determinism import run_deterministic
from aelf_p2p.testing.simulation import Simulation, open_simulation
from benchmarks.memory_use import resident_bytes
from benchmarks.progress import progress
from benchmarks.worker import Parent

FASTEST_S, SLOWEST_S = 0.02, 0.1
BLOCK_INTERVAL_S = 4.0
"""Virtual, and longer than a block takes to reach everyone."""
SETTLING_S = 60.0
"""Virtual: a block that has not reached everyone by then never will."""

PROGRESS_LINKS = 2000


@dataclass(frozen=True)
class Phase:
    """What a part of the run took, and what is there behind it."""

    real_s: float
    cpu_s: float
    virtual_s: float
    resident_bytes: int
    arrivals_s: tuple[float, ...] = ()
    """Of a block: when each node but its producer accepted it, in virtual seconds since it was
    mined."""


class _Stopwatch:
    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time(), trio.current_time()

    def phase(self, arrivals_s: tuple[float, ...] = ()) -> Phase:
        """All since it was made."""
        real, cpu, virtual = self._began
        return Phase(
            real_s=time.perf_counter() - real,
            cpu_s=time.process_time() - cpu,
            virtual_s=trio.current_time() - virtual,
            resident_bytes=resident_bytes(collect=False),
            arrivals_s=arrivals_s,
        )


def links(nodes: int, outbound: int, rng: random.Random) -> Iterator[tuple[int, int]]:
    """Who dials whom, by number: each node ``outbound`` others, and no two nodes each other."""
    linked: set[tuple[int, int]] = set()
    for node in range(nodes):
        others = [other for other in range(nodes) if other != node and (other, node) not in linked]
        for other in rng.sample(others, min(outbound, len(others))):
            linked.add((node, other))
            yield node, other


async def _connect(network: Simulation, outbound: int, rng: random.Random) -> None:
    """All nodes dial at once, each one peer after another; every link has a latency of its own."""
    dials: dict[int, list[int]] = defaultdict(list)
    for node, other in links(len(network.nodes), outbound, rng):
        dials[node].append(other)
        latency_s = rng.uniform(FASTEST_S, SLOWEST_S)
        hosts = network.nodes[node].host, network.nodes[other].host
        for sender, receiver in (hosts, hosts[::-1]):
            network.hub.set_latency(sender, receiver, latency_s)

    total = sum(map(len, dials.values()))
    connected = 0

    async def dial_all(node: int, others: list[int]) -> None:
        nonlocal connected
        for other in others:
            endpoint = Endpoint(network.nodes[other].host, DEFAULT_PORT)
            await network.nodes[node].running.connect(endpoint)
            connected += 1
            if connected % PROGRESS_LINKS == 0:
                progress(f"{connected} of {total} links")

    async with trio.open_nursery() as nursery:
        for node, others in dials.items():
            nursery.start_soon(dial_all, node, others)


async def _spread(network: Simulation, height: int, rng: random.Random) -> tuple[float, ...]:
    """Let any node mine a block; how long it took to each other node (virtual seconds)."""
    producer = rng.randrange(len(network.nodes))
    block = await network.mine(producer)
    await network.wait_for_height(height, timeout_s=SETTLING_S)
    arrivals = network.arrivals[block.hash]
    mined_s = arrivals.pop(producer)
    return tuple(sorted(arrived_s - mined_s for arrived_s in arrivals.values()))


async def _scenario(
    tell: Callable[[Phase], None], *, nodes: int, outbound: int, blocks: int, seed: int
) -> None:
    rng = random.Random(f"propagation/{seed}")
    options = NetworkOptions(max_peers=0)
    async with open_simulation(nodes, seed=seed, options=options) as network:
        stopwatch = _Stopwatch()
        for index in range(nodes):
            node = await network.start(index)
            node.workers.discovery.pause()  # the links are those that are drawn
        progress(f"{nodes} nodes: connecting, {outbound} outbound peers each")
        await _connect(network, outbound, rng)
        tell(stopwatch.phase())
        for height in range(1, blocks + 1):
            await trio.sleep(BLOCK_INTERVAL_S)
            stopwatch = _Stopwatch()
            arrivals_s = await _spread(network, height, rng)
            tell(stopwatch.phase(arrivals_s))
        stopwatch = _Stopwatch()
        progress(f"{nodes} nodes: closing")
    tell(stopwatch.phase())


def run_network(
    tell: Callable[[Phase], None], *, nodes: int, outbound: int, blocks: int, seed: int
) -> None:
    """Connect a network, let it spread blocks, and end it: ``tell`` is called behind the first,
    behind each block, and behind the end."""
    scenario = partial(_scenario, tell, nodes=nodes, outbound=outbound, blocks=blocks, seed=seed)
    run_deterministic(scenario, seed=seed)


def _main(parent: Parent) -> None:
    """One network, of the setup's arguments; sends each ``Phase`` as a dictionary of fields."""
    with suppress(EOFError):
        run_network(lambda phase: parent.send(asdict(phase)), **parent.setup)


if __name__ == "__main__":
    _main(Parent())
