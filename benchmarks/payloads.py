"""Broadcast fan-out by the size of what is sent, ours beside grpc.aio."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.arguments import Sized, add_rounds, add_wires, positive
from benchmarks.contenders import CONTENDERS, GRPC, GRPC_AIO, TCP, join, take_turns
from benchmarks.registry import Benchmark
from benchmarks.results import Note, Result, ratio
from benchmarks.workload import Workload, smallest_payload

WANTED_BYTES = 50
SIZES = (300, 64 * 1024, 1024 * 1024)
MOST_MESSAGES = 4000
LEAST_MESSAGES = 4


def _add_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--peers", type=positive, default=16, help="how many receive each (%(default)s)")
    add(
        "--mebibytes",
        type=positive,
        default=Sized(16, 4),
        help="of transactions a round, at most 4000 of them (%(default)s)",
    )
    add_rounds(parser, 5, 2)
    add_wires(parser, (False,))


def _run(options: Namespace) -> Iterator[Result]:
    smallest = smallest_payload()
    if smallest > WANTED_BYTES:
        yield Note("payload", f"{smallest} bytes is as small as a transaction can be made here")
    for tls in options.wires:
        for size in (max(smallest, WANTED_BYTES), *SIZES):
            fitting = options.mebibytes * 1024 * 1024 // size
            workload = Workload(
                peers=options.peers,
                payload_bytes=size,
                messages=max(LEAST_MESSAGES, min(MOST_MESSAGES, fitting)),
                tls=tls,
            )
            with ExitStack() as stack:
                contenders = []
                for name in (GRPC, TCP, GRPC_AIO):
                    joined = join(stack, name, CONTENDERS[name], workload)
                    if isinstance(joined, Note):
                        yield joined
                    else:
                        contenders.append(joined)
                take_turns(contenders, options.rounds)
            rows = {each.name: each.deliveries() for each in contenders}
            for each in contenders:
                yield from each.rows()
            if GRPC_AIO in rows:
                yield ratio(rows[GRPC], rows[GRPC_AIO])
            yield ratio(rows[TCP], rows[GRPC])


BENCHMARK = Benchmark(
    name="payloads",
    help="broadcast transactions of 50 B (or as small as they get) to 1 MiB",
    add_options=_add_options,
    run=_run,
)
