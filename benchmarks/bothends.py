"""Broadcast fan-out with both ends the same: nodes of ours, beside grpc.aio on both sides."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.arguments import Sized, add_rounds, add_wires, positive
from benchmarks.contenders import GRPC, GRPC_AIO, TCP, How, join, take_turns
from benchmarks.registry import Benchmark
from benchmarks.results import Note, Result, Target, ratio
from benchmarks.workload import Workload

CONTENDERS = {
    GRPC: How(sender="fanout_ours", setup={"transport": "grpc"}, receivers="fanout_nodes"),
    TCP: How(sender="fanout_ours", setup={"transport": "tcp"}, receivers="fanout_nodes"),
    GRPC_AIO: How(
        sender="fanout_grpc_aio",
        receivers="fanout_grpc_aio_receivers",
        packages=["grpcio"],
        part=0.25,
    ),
}
TARGET = Target(at_least=8)


def _add_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--peers", type=positive, default=16, help="how many receive each (%(default)s)")
    add(
        "--messages",
        type=positive,
        default=Sized(4000, 800),
        help="transactions of 300 bytes a round; who is slow sends fewer (%(default)s)",
    )
    add_rounds(parser, 5, 2)
    add_wires(parser)


def _run(options: Namespace) -> Iterator[Result]:
    for tls in options.wires:
        workload = Workload(
            peers=options.peers, payload_bytes=300, messages=options.messages, tls=tls
        )
        with ExitStack() as stack:
            contenders = []
            for name, how in CONTENDERS.items():
                joined = join(stack, name, how, workload)
                if isinstance(joined, Note):
                    yield joined
                else:
                    contenders.append(joined)
            take_turns(contenders, options.rounds)
        rows = {each.name: each.deliveries() for each in contenders}
        for each in contenders:
            yield from each.rows()
        if GRPC_AIO in rows:
            yield ratio(rows[GRPC], rows[GRPC_AIO], target=TARGET)
            yield ratio(rows[TCP], rows[GRPC_AIO])
        yield ratio(rows[TCP], rows[GRPC])


BENCHMARK = Benchmark(
    name="bothends",
    help="broadcast transactions with both ends the same, ours beside grpc.aio",
    add_options=_add_options,
    run=_run,
)
