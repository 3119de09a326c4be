"""What a peer that reads nothing costs the others: their throughput, and how late they get things.

Two nodes take turns: one with 24 peers that read, and one with these and a 25th that does not.
Bursts tell the throughput; a steady pace, far below it, tells the latency of a delivery, from the
broadcast to the read that brings it.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import pairwise

from benchmarks.arguments import Sized, add_rounds, add_wires, positive, wire_name
from benchmarks.children import Child, ChildError, Children
from benchmarks.progress import progress
from benchmarks.registry import Benchmark
from benchmarks.results import OURS, Parameters, Result, Row, Target, ratio
from benchmarks.workload import Round, Workload

READERS = 24
PAYLOAD_BYTES = 300

Notes = Sequence[tuple[float, int]]
"""Of one sink: at a time it had so many transactions, of all that ever came."""


def latencies_s(sent: Sequence[float], notes: Notes, had_before: int) -> list[float]:
    """How long each transaction took to one sink: they come in the order in which they were sent.

    Raises ValueError when the notes do not tell of all.
    """
    found = []
    for (_, had), (time_s, has) in pairwise([(0.0, had_before), *notes]):
        found += [time_s - sent[number - had_before] for number in range(had, has)]
    if len(found) != len(sent):
        raise ValueError(f"{len(found)} of {len(sent)} transactions are in the notes")
    return found


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@dataclass
class _Side:
    """A node and its sinks, and what was measured."""

    stalled: int
    workload: Workload
    node: Child
    sinks: Child
    rates: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    _had: int = 0

    def burst(self) -> None:
        """Send all messages at once."""
        round_ = Round(**self.node.ask({"messages": self.workload.messages}))
        self._take_notes()
        self.rates.append(self.workload.messages * READERS / round_.seconds)

    def pace(self, per_s: int) -> None:
        """Send for a second, at a steady pace."""
        had = self._had
        sent = self.node.ask({"messages": per_s, "interval_s": 1 / per_s})
        taken = [took for notes in self._take_notes() for took in latencies_s(sent, notes, had)]
        self.p99_ms.append(percentile(taken, 99) * 1000)

    def warm_up(self, per_s: int) -> None:
        """Fill what a stalled peer can fill, and forget what was measured."""
        self.burst()
        self.pace(per_s)
        self.rates.clear()
        self.p99_ms.clear()

    def rows(self) -> tuple[Row, Row]:
        """Deliveries to those that read, and the latency that one in a hundred exceeds."""
        parameters: Parameters = {
            "wire": wire_name(self.workload.tls),
            "peers": READERS + self.stalled,
            "stalled": self.stalled,
        }
        return (
            Row(
                contender=OURS,
                parameters=parameters,
                figure="deliveries",
                unit="1/s",
                rounds=tuple(self.rates),
            ),
            Row(
                contender=OURS,
                parameters=parameters,
                figure="latency p99",
                unit="ms",
                rounds=tuple(self.p99_ms),
            ),
        )

    def _take_notes(self) -> list[Notes]:
        notes: list[Notes] = self.sinks.ask("notes")
        had = {each[-1][1] for each in notes if each}
        if len(had) != 1:
            raise ChildError(f"the sinks do not have the same: {sorted(had)}")
        self._had = had.pop()
        return notes


def _open(stack: ExitStack, stalled: int, workload: Workload, transport: str) -> _Side:
    name = f"the node with {stalled} stalled"
    progress(f"{name}: connecting")
    children = stack.enter_context(Children())
    node = children.start(
        name, "stalled_node", {"workload": asdict(workload), "transport": transport}
    )
    setup = {
        "address": node.receive(),
        "peers": READERS + stalled,
        "stalled": stalled,
        "tls": workload.tls,
        "wire": transport,
    }
    sinks = children.start(f"{name}'s sinks", "stalled_sinks", setup)
    node.ask(sinks.receive())
    return _Side(stalled, workload, node, sinks)


def _add_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--messages",
        type=positive,
        default=Sized(4000, 1000),
        help="transactions of 300 bytes in a burst (%(default)s)",
    )
    add("--pace", type=positive, default=200, help="transactions a second (%(default)s)")
    add("--transport", choices=("grpc", "tcp"), default="grpc", help="(%(default)s)")
    add_rounds(parser, 9, 3)
    add_wires(parser, (True,))


def _run(options: Namespace) -> Iterator[Result]:
    for tls in options.wires:
        workload = Workload(
            peers=READERS, payload_bytes=PAYLOAD_BYTES, messages=options.messages, tls=tls
        )
        with ExitStack() as stack:
            sides = [_open(stack, count, workload, options.transport) for count in (1, 0)]
            for side in sides:
                side.warm_up(options.pace)
            for number in range(1, options.rounds + 1):
                for side in sides:
                    side.burst()
                for side in sides:
                    side.pace(options.pace)
                p99s = ", ".join(
                    f"{side.stalled} stalled {side.rates[-1]:,.0f} deliveries/s, "
                    f"p99 {side.p99_ms[-1]:.1f} ms"
                    for side in sides
                )
                progress(f"round {number} of {options.rounds}: {p99s}")
        (rate, p99), (rate_without, p99_without) = (side.rows() for side in sides)
        yield from (rate, p99, rate_without, p99_without)
        names = ("1 stalled", "none")
        yield ratio(rate, rate_without, target=Target(at_least=0.95), names=names)
        yield ratio(p99, p99_without, target=Target(at_most=1.5), names=names)


BENCHMARK = Benchmark(
    name="stalled",
    help="what one peer of 25 that reads nothing costs the others",
    add_options=_add_options,
    run=_run,
)
