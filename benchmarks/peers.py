"""Broadcast fan-out by the number of peers: what a delivery costs, to one and to a thousand.

All numbers take turns within a round, each with a sender and sinks of its own, so that a busy
moment meets them all.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.arguments import Sized, add_rounds, add_wires, positive, positives
from benchmarks.contenders import CONTENDERS, GRPC, GRPC_AIO, Contender, join, take_turns
from benchmarks.registry import Benchmark
from benchmarks.results import Note, Result, Target, ratio
from benchmarks.workload import Workload

FEW, MANY = 8, 512
TARGET = Target(at_most=1.5)
"""Of the cost of a delivery to one of many peers to that of one of few."""
LEAST_MESSAGES = 16


def _add_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--peers",
        type=positives,
        metavar="N,...",
        default=Sized((1, 8, 16, 64, 128, 256, 512, 1000), (1, 8, 64)),
        help="how many receive each (%(default)s)",
    )
    add(
        "--rival-peers",
        type=positive,
        default=128,
        metavar="N",
        help="beside grpc.aio up to so many (%(default)s)",
    )
    add(
        "--deliveries",
        type=positive,
        default=Sized(64_000, 16_000),
        help="of 300 bytes in a round, at least 16 to each (%(default)s)",
    )
    add_rounds(parser, 5, 2)
    add_wires(parser, (False,))


def _run(options: Namespace) -> Iterator[Result]:
    for tls in options.wires:
        with ExitStack() as stack:
            contenders: dict[tuple[str, int], Contender] = {}
            for count in options.peers:
                workload = Workload(
                    peers=count,
                    payload_bytes=300,
                    messages=max(LEAST_MESSAGES, options.deliveries // count),
                    tls=tls,
                )
                for name in (GRPC, GRPC_AIO) if count <= options.rival_peers else (GRPC,):
                    joined = join(stack, name, CONTENDERS[name], workload)
                    if isinstance(joined, Note):
                        yield joined
                    else:
                        contenders[name, count] = joined
            take_turns(list(contenders.values()), options.rounds)
        for each in contenders.values():
            yield from each.rows()
        for (name, count), each in contenders.items():
            if name == GRPC_AIO:
                yield ratio(contenders[GRPC, count].deliveries(), each.deliveries())
        if (GRPC, FEW) in contenders and (GRPC, MANY) in contenders:
            yield ratio(
                contenders[GRPC, MANY].cpu(),
                contenders[GRPC, FEW].cpu(),
                target=TARGET,
                names=(f"{MANY} peers", f"{FEW} peers"),
            )


BENCHMARK = Benchmark(
    name="peers",
    help="broadcast transactions to 1 to 1,000 peers: what a delivery costs",
    add_options=_add_options,
    run=_run,
)
