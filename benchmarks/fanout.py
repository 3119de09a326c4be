"""Broadcast fan-out to acknowledging sinks, beside others that do the same exchange.

Senders take turns, round by round, so that what else the machine does meets them all alike. Each
round's ratio is of two neighbours in time.
"""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import ExitStack

from aelf_p2p.core.errors import MisuseError
from benchmarks.arguments import Sized, add_rounds, add_wires, positive, wire_name
from benchmarks.contenders import CONTENDERS, Contender, connected
from benchmarks.progress import progress
from benchmarks.registry import Benchmark
from benchmarks.results import Note, Result, Target, ratio
from benchmarks.workload import TransactionSource, Workload

OURS = "aelf-p2p grpc"
TARGETS = {
    ("grpc.aio", False): Target(at_least=18),
    ("grpc.aio", True): Target(at_least=15),
}
"""Of our deliveries to a rival's, by rival and whether TLS is used."""


def payload(text: str) -> int:
    """A type of arguments: a size that a transaction can have."""
    size = positive(text)
    try:
        TransactionSource(size)
    except MisuseError as exc:
        raise ArgumentTypeError(str(exc)) from exc
    return size


def _add_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--peers", type=positive, default=16, help="how many receive each (%(default)s)")
    add("--payload", type=payload, default=300, help="bytes of a transaction (%(default)s)")
    add(
        "--messages",
        type=positive,
        default=Sized(4000, 1000),
        help="transactions a round (%(default)s)",
    )
    add_rounds(parser, 5, 2)
    add_wires(parser)


def _measure(contenders: list[Contender], rounds: int) -> None:
    for number in range(1, rounds + 1):
        for contender in contenders:
            contender.run_round()
        rates = ", ".join(f"{each.name} {each.rates[-1]:,.0f}" for each in contenders)
        progress(f"round {number} of {rounds}: {rates} deliveries/s")


def _run(options: Namespace) -> Iterator[Result]:
    for tls in options.wires:
        workload = Workload(
            peers=options.peers,
            payload_bytes=options.payload,
            messages=options.messages,
            tls=tls,
        )
        with ExitStack() as stack:
            contenders = []
            for name, sender in CONTENDERS.items():
                if missing := sender.environment.missing(sender.packages):
                    yield Note(name, f"left out: {missing}")
                    continue
                progress(f"{name}, {wire_name(tls)}: connecting")
                contenders.append(stack.enter_context(connected(name, workload)))
            _measure(contenders, options.rounds)
        rows = {each.name: each.deliveries() for each in contenders}
        for each in contenders:
            yield rows[each.name]
            yield each.cpu()
            yield each.sinks_cpu()
        for name, row in rows.items():
            if name != OURS:
                yield ratio(rows[OURS], row, target=TARGETS.get((name, tls)))


BENCHMARK = Benchmark(
    name="fanout",
    help="broadcast transactions to acknowledging peers",
    add_options=_add_options,
    run=_run,
)
