"""How a block spreads in a network of many of our nodes, in virtual time; and what it costs to run
such a network.

The nodes are whole ones on the memory transport, and each link has a latency of its own. What is
virtual depends on the seed alone, and is the same on any machine; the rest is the machine's.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.arguments import Sized, positive
from benchmarks.children import Child, Children
from benchmarks.progress import progress
from benchmarks.propagation_network import Phase
from benchmarks.registry import Benchmark
from benchmarks.results import OURS, Parameters, Result, Row
from benchmarks.stalled import percentile

PHASE_TIMEOUT_S = 600.0
MB = 1_000_000
PERCENTILES = {"p50 (virtual)": 50.0, "p99 (virtual)": 99.0, "last (virtual)": 100.0}


def spreading(blocks: Sequence[Sequence[float]], parameters: Parameters) -> Iterator[Row]:
    """Of the seconds that each block took to each node: rows of milliseconds, a round a block."""
    blocks_ms = [[arrival_s * 1000 for arrival_s in block] for block in blocks]
    for figure, percent in PERCENTILES.items():
        yield _row(figure, "ms", [percentile(block, percent) for block in blocks_ms], parameters)
    samples = [round(arrival_ms, 1) for block in blocks_ms for arrival_ms in block]
    mean = [sum(block) / len(block) for block in blocks_ms]
    yield _row("arrival (virtual)", "ms", mean, parameters, samples)


def _row(
    figure: str,
    unit: str,
    rounds: Sequence[float],
    parameters: Parameters,
    samples: Sequence[float] = (),
) -> Row:
    return Row(
        contender=OURS,
        parameters=parameters,
        figure=figure,
        unit=unit,
        rounds=tuple(rounds),
        samples=tuple(samples),
    )


def _receive(network: Child, what: str) -> Phase:
    said: dict[str, Any] = network.receive(PHASE_TIMEOUT_S)
    phase = Phase(**said)
    progress(f"{what}: {phase.real_s:.1f} s, {phase.virtual_s:.2f} s virtual")
    return phase


def _run(options: Namespace) -> Iterator[Result]:
    setup = {
        "nodes": options.nodes,
        "outbound": options.outbound,
        "blocks": options.blocks,
        "seed": options.seed,
    }
    with Children() as children:
        network = children.start("the network", "propagation_network", setup)
        connected = _receive(network, "connected")
        blocks = [_receive(network, f"block {number}") for number in range(1, options.blocks + 1)]
        closed = _receive(network, "closed")
    parameters: Parameters = {"nodes": options.nodes, "outbound": options.outbound}
    yield from spreading([block.arrivals_s for block in blocks], parameters)
    yield _row("a block", "s of CPU", [block.cpu_s for block in blocks], parameters)
    deliveries = 2 * options.nodes * options.outbound  # each link, either way
    cpu_us = [block.cpu_s / deliveries * 1e6 for block in blocks]
    yield _row("a block, each way of a link", "us of CPU", cpu_us, parameters)
    dials = options.nodes * options.outbound
    yield _row("connecting, each link", "ms of CPU", [connected.cpu_s / dials * 1e3], parameters)
    total_s = sum(phase.real_s for phase in (connected, *blocks, closed))
    yield _row("the whole run", "s", [total_s], parameters)
    resident_mb = [block.resident_bytes / MB for block in blocks]
    yield _row("memory", "MB", resident_mb, parameters)


def _add_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--nodes", type=positive, default=Sized(1000, 100), help="in one process (%(default)s)")
    add("--outbound", type=positive, default=8, help="peers that each node dials (%(default)s)")
    add("--blocks", type=positive, default=3, help="mined, each by any node (%(default)s)")
    add("--seed", type=int, default=1, help="of all randomness (%(default)s)")


BENCHMARK = Benchmark(
    name="propagation",
    help="how blocks spread among a thousand nodes, in virtual time",
    add_options=_add_options,
    run=_run,
)
