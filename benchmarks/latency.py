"""Request and response: what a ping takes, beside grpc.aio's, on a stream and as a unary call.

Contenders take turns, a block of pings each, so that what else the machine does meets them all
alike; each block's ratio is of two neighbours in time. One block that does not count comes first.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median

from benchmarks.arguments import Sized, add_rounds, add_wires, positive, wire_name
from benchmarks.children import Child
from benchmarks.contenders import GRPC, GRPC_AIO
from benchmarks.latency_ours import STREAM, UNARY
from benchmarks.pairs import left_out, pairs
from benchmarks.progress import progress
from benchmarks.registry import Benchmark
from benchmarks.results import Parameters, Result, Row, Target, ratio
from benchmarks.stalled import percentile

WAYS = (STREAM, UNARY)
MEDIAN = "ping p50"
TAILS = {"ping p99": 99.0, "ping p99.9": 99.9}
TARGETS = {(STREAM, True): Target(at_most=1.1), (UNARY, True): Target(at_most=1.5)}
"""Of our median to the rival's, by way and whether TLS is used."""

Blocks = dict[tuple[str, str], list[list[float]]]
"""Microseconds of each ping, block by block, by way and contender."""


def rows(contender: str, blocks: Sequence[Sequence[float]], parameters: Parameters) -> list[Row]:
    """Mean and median of each block, and the tails of all blocks together: one has too few for
    them."""
    samples = [sample for block in blocks for sample in block]

    def row(figure: str, rounds: Sequence[float], samples: Sequence[float] = ()) -> Row:
        return Row(
            contender=contender,
            parameters=parameters,
            figure=figure,
            unit="us",
            rounds=tuple(rounds),
            samples=tuple(samples),
        )

    return [
        row("ping", [fmean(block) for block in blocks], samples),
        row(MEDIAN, [median(block) for block in blocks]),
        *(row(figure, [percentile(samples, percent)]) for figure, percent in TAILS.items()),
    ]


def _measure(clients: dict[str, Child], rounds: int, pings: int) -> Blocks:
    found: Blocks = {(way, name): [] for way in WAYS for name in clients}
    for number in range(rounds + 1):
        for way, name in found:
            taken_ns = clients[name].ask([way, pings])
            if number:
                found[way, name].append([round(each / 1000, 1) for each in taken_ns])
    for way in WAYS:
        medians = (f"{name} {median(map(median, found[way, name])):.0f}" for name in clients)
        progress(f"{way}: {', '.join(medians)} us")
    return found


def _run(options: Namespace) -> Iterator[Result]:
    yield from left_out()
    for tls in options.wires:
        with pairs("latency", tls=tls) as clients:
            found = _measure(clients, options.rounds, options.pings)
        for way in WAYS:
            parameters = {"wire": wire_name(tls), "way": way}
            by_name = {name: rows(name, found[way, name], parameters) for name in clients}
            for each in by_name.values():
                yield from each
            if GRPC_AIO in by_name:
                yield from _ratios(by_name, TARGETS.get((way, tls)))


def _ratios(by_name: Mapping[str, Sequence[Row]], target: Target | None) -> Iterator[Result]:
    """The medians of all that are ours, to the rival's."""
    (theirs,) = (row for row in by_name[GRPC_AIO] if row.figure == MEDIAN)
    for name, all_rows in by_name.items():
        (ours,) = (row for row in all_rows if row.figure == MEDIAN)
        if name != GRPC_AIO:
            yield ratio(ours, theirs, target=target if name == GRPC else None)


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--pings",
        type=positive,
        default=Sized(250, 100),
        help="one after another in each round (%(default)s)",
    )
    add_rounds(parser, 20, 5)
    add_wires(parser)


BENCHMARK = Benchmark(
    name="latency",
    help="what a ping takes, on a stream and as a unary call",
    add_options=_add_options,
    run=_run,
)
