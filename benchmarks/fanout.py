"""Broadcast fan-out to acknowledging sinks, beside others that do the same exchange.

Senders take turns, round by round, so that what else the machine does meets them all alike. Each
round's ratio is of two neighbours in time.
"""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import ExitStack

from aelf_p2p.core.errors import MisuseError
from benchmarks.arguments import Sized, add_rounds, add_wires, positive
from benchmarks.contenders import CEILING, CONTENDERS, GRPC, GRPC_AIO, TCP, join, take_turns
from benchmarks.registry import Benchmark
from benchmarks.results import Note, Result, Target, ratio
from benchmarks.workload import TransactionSource, Workload

TARGETS = {
    (GRPC, GRPC_AIO, False): Target(at_least=18),
    (GRPC, GRPC_AIO, True): Target(at_least=15),
    (GRPC, "purerpc", False): Target(at_least=6),
    (GRPC, "purerpc", True): Target(at_least=6),
    (GRPC, "libp2p floodsub", True): Target(at_least=100),
    (GRPC, "libp2p gossipsub", True): Target(at_least=100),
    (GRPC, CEILING, False): Target(at_least=0.5),
    (GRPC, CEILING, True): Target(at_least=0.5),
    (TCP, GRPC, False): Target(at_least=1.3),
    (TCP, GRPC, True): Target(at_least=1.3),
}
"""Of one's deliveries to another's, and whether over TLS."""


def payload(text: str) -> int:
    """A type of arguments: a size that a transaction can have."""
    size = positive(text)
    try:
        TransactionSource(size)
    except MisuseError as exc:
        raise ArgumentTypeError(str(exc)) from exc
    return size


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in CONTENDERS:
            known = ", ".join(CONTENDERS)
            raise ArgumentTypeError(f"{name!r} is no contender; there are: {known}")
    return names


def _add_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--peers", type=positive, default=16, help="how many receive each (%(default)s)")
    add("--payload", type=payload, default=300, help="bytes of a transaction (%(default)s)")
    add(
        "--messages",
        type=positive,
        default=Sized(8000, 1600),
        help="transactions a round; who is slow sends fewer (%(default)s)",
    )
    add(
        "--contenders",
        type=_names,
        metavar="NAME,...",
        default=tuple(CONTENDERS),
        help="who takes part (all)",
    )
    add_rounds(parser, 5, 2)
    add_wires(parser)


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
            for name in options.contenders:
                how = CONTENDERS[name]
                if how.always_secure and not tls:
                    continue
                joined = join(stack, name, how, workload)
                if isinstance(joined, Note):
                    yield joined
                else:
                    contenders.append(joined)
            take_turns(contenders, options.rounds)
        rows = {each.name: each.deliveries() for each in contenders}
        for each in contenders:
            yield from each.rows()
        for first in (GRPC, TCP):
            for second, row in rows.items():
                if first in rows and second not in (first, TCP):
                    yield ratio(rows[first], row, target=TARGETS.get((first, second, tls)))


BENCHMARK = Benchmark(
    name="fanout",
    help="broadcast transactions to acknowledging sinks, beside all rivals",
    add_options=_add_options,
    run=_run,
)
