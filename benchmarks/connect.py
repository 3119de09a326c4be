"""Connection set-up: how long a dial takes, alone and with others at once, beside grpc.aio.

Each dial is of a node, or a channel, that is new. One for a ``peer`` ends, where it is ours, when a
peer is ready: after signed handshakes both ways, twice. On grpc.aio it ends with the first answer
on a stream, and nobody signs. One for a ``ping`` ends with the answer to a unary call, and is the
same for both.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks.arguments import Sized, add_rounds, add_wires, positive, wire_name
from benchmarks.children import Child
from benchmarks.connect_ours import PEER, PING_ANSWER
from benchmarks.contenders import GRPC, GRPC_AIO
from benchmarks.pairs import left_out, pairs
from benchmarks.progress import progress
from benchmarks.registry import Benchmark
from benchmarks.results import Parameters, Result, Row, ratio

ALONE = 5
"""Dials one after another, in a round."""

Rounds = dict[tuple[str, int, str], list[list[float]]]
"""When each dial of a round was done, in seconds since it began: by what was dialed for, how many
dialed at once, and contender."""


def rows(contender: str, rounds: Sequence[Sequence[float]], parameters: Parameters) -> list[Row]:
    """How long a dial takes, the median of a round's; and how many there are in a second."""

    def row(figure: str, unit: str, values: Iterator[float]) -> Row:
        return Row(
            contender=contender,
            parameters=parameters,
            figure=figure,
            unit=unit,
            rounds=tuple(values),
        )

    made = [row("dial", "ms", (median(done) * 1000 for done in rounds))]
    if parameters["at once"] != 1:
        made.append(row("dials", "1/s", (len(done) / max(done) for done in rounds)))
    return made


def _measure(clients: dict[str, Child], options: Namespace) -> Rounds:
    """Rounds in turns. One of dials that are alone has some, one after another."""
    found: Rounds = {
        (what, at_once, name): []
        for what in (PEER, PING_ANSWER)
        for at_once in dict.fromkeys((1, options.at_once))
        for name in clients
    }
    for number in range(options.rounds + 1):
        for (what, at_once, name), rounds in found.items():
            repeats = ALONE if at_once == 1 else 1
            done = [
                seconds for _ in range(repeats) for seconds in clients[name].ask([what, at_once])
            ]
            if number:  # the first does not count
                rounds.append(done)
    for (what, at_once, name), rounds in found.items():
        ms = median(map(median, rounds)) * 1000
        progress(f"{name}, {what}, {at_once} at once: {ms:.1f} ms")
    return found


def _run(options: Namespace) -> Iterator[Result]:
    yield from left_out()
    for tls in options.wires:
        with pairs("connect", tls=tls) as clients:
            found = _measure(clients, options)
        compared: dict[tuple[str, int], dict[str, list[Row]]] = {}
        for (what, at_once, name), rounds in found.items():
            parameters: Parameters = {"wire": wire_name(tls), "for": what, "at once": at_once}
            made = compared.setdefault((what, at_once), {})[name] = rows(name, rounds, parameters)
            yield from made
        for by_name in compared.values():
            if GRPC_AIO in by_name:
                for ours, theirs in zip(by_name[GRPC], by_name[GRPC_AIO], strict=True):
                    yield ratio(ours, theirs)


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--at-once",
        type=positive,
        default=Sized(50, 10),
        help="how many dial at the same time, beside one alone (%(default)s)",
    )
    add_rounds(parser, 9, 3)
    add_wires(parser, (True,))


BENCHMARK = Benchmark(
    name="connect",
    help="connection set-up, one at a time and many at once",
    add_options=_add_options,
    run=_run,
)
