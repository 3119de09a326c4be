"""Memory of idle peers: what a node with many of them uses, and that a broadcast reaches them all.

The peers are in another process. Of the server's memory the first peer's is not counted: with it
comes what there is once. How long a broadcast takes, until all have acknowledged it, is as much the
peers' time as the server's.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.arguments import Sized, add_wires, positives, wire_name
from benchmarks.children import ChildError, Children
from benchmarks.contenders import GRPC, GRPC_AIO
from benchmarks.pairs import PAIRS, left_out
from benchmarks.progress import progress
from benchmarks.registry import Benchmark
from benchmarks.results import Parameters, Ratio, Result, Row, Target, ratio

KB = 1000
MB = 1_000_000
MAX_KB = 100
CONNECTING_TIMEOUT_S = 300.0
BROADCASTS = 5


@dataclass
class Grown:
    """What was found of one contender."""

    name: str
    tls: bool
    resident: dict[int, int] = field(default_factory=dict)
    """Bytes by how many peers there were, none and one first."""
    broadcast_s: dict[int, list[float]] = field(default_factory=dict)
    """Of each broadcast, by how many peers there were."""

    def kb_a_peer(self, peers: int) -> float:
        """Of each peer behind the first."""
        return (self.resident[peers] - self.resident[1]) / (peers - 1) / KB

    def rows(self) -> Iterator[Row]:
        """Of each number of peers."""
        for peers, resident in self.resident.items():
            yield self._row("memory", "MB", [resident / MB], peers)
            if peers > 1:
                yield self._row("memory a peer", "KB", [self.kb_a_peer(peers)], peers)
        for peers, seconds in self.broadcast_s.items():
            yield self._row("broadcast", "ms", [each * 1000 for each in seconds], peers)

    def _row(self, figure: str, unit: str, rounds: Sequence[float], peers: int) -> Row:
        parameters: Parameters = {"wire": wire_name(self.tls), "peers": peers}
        return Row(
            contender=self.name,
            parameters=parameters,
            figure=figure,
            unit=unit,
            rounds=tuple(rounds),
        )


def _check(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise ChildError(f"{what}: {found} of {expected}")


def grow(children: Children, grown: Grown, counts: Sequence[int]) -> None:
    """Start a server and its peers, connect more and more of them, and look at the server's memory
    each time; then broadcast to all. Raises ChildError when one is not there or not reached."""
    ends = PAIRS[grown.name]
    setup = {"transport": ends.transport, "tls": grown.tls}
    server = children.start(
        f"{grown.name}'s server", f"memory_{ends.suffix}", setup, environment=ends.environment
    )
    # A server that is no node of ours is spoken to over grpc, too.
    setup = {**setup, "transport": ends.transport or "grpc", **server.receive()}
    peers = children.start(f"{grown.name}'s peers", "memory_peers", setup)
    grown.resident[0] = server.ask("memory")
    for count in (1, *counts):
        progress(f"{grown.name}, {wire_name(grown.tls)}: {count} peers")
        peers.ask(["connect", count], CONNECTING_TIMEOUT_S)
        _check("peers that are ready", server.ask("peers"), count)
        grown.resident[count] = server.ask("memory")
    most = counts[-1]
    grown.broadcast_s[most] = [server.ask("broadcast") for _ in range(BROADCASTS)]
    answered = BROADCASTS * most
    _check("acknowledged broadcasts", peers.ask(["answered", answered]), answered)


def _measure(name: str, counts: Sequence[int], *, tls: bool) -> Grown:
    grown = Grown(name, tls)
    with Children() as children:
        grow(children, grown, counts)
    return grown


def _compared(found: Sequence[Grown], most: int) -> Iterator[Result]:
    rows = {each.name: {row.figure: row for row in each.rows()} for each in found}
    for each in found:
        if each.name == GRPC:
            yield Ratio(
                first=each.name,
                second=f"{MAX_KB} KB",
                parameters={"wire": wire_name(each.tls), "peers": most},
                figure="memory a peer",
                rounds=(each.kb_a_peer(most) / MAX_KB,),
                target=Target(at_most=1),
            )
        else:
            yield ratio(rows[GRPC]["memory a peer"], rows[each.name]["memory a peer"])
            if each.name == GRPC_AIO:  # to which the peers speak as they do to ours
                yield ratio(rows[GRPC]["broadcast"], rows[each.name]["broadcast"])


def _run(options: Namespace) -> Iterator[Result]:
    notes = left_out()
    yield from notes
    names = [name for name in PAIRS if name not in {note.about for note in notes}]
    for tls in options.wires:
        found = [_measure(name, options.peers, tls=tls) for name in names]
        for each in found:
            yield from each.rows()
        yield from _compared(found, options.peers[-1])


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--peers",
        type=positives,
        default=Sized((100, 250, 500, 1000), (50, 100)),
        metavar="N,N",
        help="how many there are, in turn and growing (%(default)s)",
    )
    add_wires(parser, (True,))


BENCHMARK = Benchmark(
    name="memory",
    help="of idle peers, up to a thousand in one process",
    add_options=_add_options,
    run=_run,
)
