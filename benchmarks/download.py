"""Bulk download of blocks, plain and gzipped, beside grpc.aio; and what a very large reply takes of
memory where it is received.

Each download of ours ends with Block objects: parsed, checked for their layout, hashed. On grpc.aio
the reply is parsed with protobuf and hashed too; one more contender leaves the hashes out. A ratio
is of two neighbours in time.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from statistics import median

from benchmarks.arguments import Sized, add_rounds, add_wires, positive, wire_name
from benchmarks.children import Child
from benchmarks.contenders import GRPC, GRPC_AIO
from benchmarks.download_ours import GZIP, PLAIN
from benchmarks.pairs import left_out, pair, pairs
from benchmarks.progress import progress
from benchmarks.registry import Benchmark
from benchmarks.results import Parameters, Ratio, Result, Row, Target, ratio
from benchmarks.workload import Round

ENCODINGS = (PLAIN, GZIP)
WITHOUT_HASHES = "grpc.aio, not hashing"
TARGETS = {PLAIN: Target(at_least=0.8), GZIP: Target(at_least=1.3)}
"""Of our blocks a second to the rival's that hashes as we do."""

SHAPES = {"64 KiB": 64 * 1024, "250 bytes": 80}
"""Of what the transactions of a very large reply weigh: their parameters, in bytes."""
MAX_PEAK = Target(at_most=3)
"""Of the memory that it takes to what it weighs."""
MB = 1_000_000


def _setup(options: Namespace, *, hashing: bool) -> dict[str, object]:
    chain = {"blocks": options.blocks, "transactions_each": options.transactions}
    return {"chain": chain, "hashing": hashing}


def _rows(
    name: str, rounds: Sequence[Round], blocks: int, parameters: Parameters
) -> tuple[Row, Row]:
    """Of downloads that brought so many blocks each."""

    def row(figure: str, unit: str, values: Iterator[float]) -> Row:
        return Row(
            contender=name, parameters=parameters, figure=figure, unit=unit, rounds=tuple(values)
        )

    return (
        row("download", "blocks/s", (blocks / each.seconds for each in rounds)),
        row("client's CPU", "ms/block", (each.cpu_seconds / blocks * 1e3 for each in rounds)),
    )


def _measure(clients: Mapping[str, Child], options: Namespace) -> dict[str, dict[str, list[Round]]]:
    """By encoding and contender, round by round."""
    found: dict[str, dict[str, list[Round]]] = {
        encoding: {name: [] for name in clients} for encoding in ENCODINGS
    }
    for number in range(options.rounds + 1):
        for encoding, by_name in found.items():
            for name, rounds in by_name.items():
                took = clients[name].ask([encoding, options.downloads])
                if number:  # the first does not count
                    rounds.append(Round(**took))
    for encoding, by_name in found.items():
        seconds = {name: median(each.seconds for each in by_name[name]) for name in by_name}
        texts = (f"{name} {each / options.downloads * 1e3:.0f}" for name, each in seconds.items())
        progress(f"{encoding}: {', '.join(texts)} ms")
    return found


def _download(options: Namespace, *, tls: bool) -> Iterator[Result]:
    setup = _setup(options, hashing=True)
    with ExitStack() as stack:
        clients = stack.enter_context(pairs("download", tls=tls, setup=setup))
        if GRPC_AIO in clients:
            setup = _setup(options, hashing=False)
            client = stack.enter_context(pair("download", GRPC_AIO, tls=tls, setup=setup))
            clients[WITHOUT_HASHES] = client
        found = _measure(clients, options)
    for encoding, by_name in found.items():
        parameters = {"wire": wire_name(tls), "reply": encoding}
        blocks = options.blocks * options.downloads
        rows = {name: _rows(name, rounds, blocks, parameters) for name, rounds in by_name.items()}
        for both in rows.values():
            yield from both
        for rival in (GRPC_AIO, WITHOUT_HASHES):
            if rival in rows:
                target = TARGETS[encoding] if rival == GRPC_AIO else None
                yield ratio(rows[GRPC][0], rows[rival][0], target=target)


def _peaks(options: Namespace, *, tls: bool) -> Iterator[Result]:
    """Each in a process that has received nothing before: its peak is never taken back."""
    absent = {note.about for note in left_out()}
    for encoding, shape in ((PLAIN, "64 KiB"), (GZIP, "64 KiB"), (PLAIN, "250 bytes")):
        setup = {
            "encoding": encoding,
            "chain": {
                "blocks": options.blocks,
                "total_bytes": options.reply_mb * MB,
                "params_bytes": SHAPES[shape],
            },
        }
        for name in {GRPC, GRPC_AIO} - absent:
            with pair("download_peak", name, tls=tls, setup=setup) as client:
                before, most = client.ask(None)
            times = (most - before) / (options.reply_mb * MB)
            progress(f"{name}, {encoding}, transactions of {shape}: {times:.2f} times its size")
            parameters = {"wire": wire_name(tls), "reply": encoding, "transactions": shape}
            yield Ratio(
                first=name,
                second="the reply",
                parameters=parameters,
                figure=f"peak memory, {options.reply_mb} MB",
                rounds=(times,),
                target=MAX_PEAK if name == GRPC else None,
            )


def _run(options: Namespace) -> Iterator[Result]:
    yield from left_out()
    for tls in options.wires:
        yield from _download(options, tls=tls)
    yield from _peaks(options, tls=options.wires[-1])


def _add_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--blocks", type=positive, default=50, help="in each reply (%(default)s)")
    add("--transactions", type=positive, default=200, help="in each block (%(default)s)")
    add(
        "--downloads",
        type=positive,
        default=Sized(3, 1),
        help="one after another in each round (%(default)s)",
    )
    add(
        "--reply-mb",
        type=positive,
        default=Sized(100, 20),
        metavar="MB",
        help="what the reply weighs whose peak memory is looked at (%(default)s)",
    )
    add_rounds(parser, 5, 2)
    add_wires(parser, (True,))


BENCHMARK = Benchmark(
    name="download",
    help="blocks in bulk, plain and gzipped, and the peak memory of a large reply",
    add_options=_add_options,
    run=_run,
)
