"""The command line: ``python -m benchmarks --help``."""

import argparse
import os
import signal
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from benchmarks import report
from benchmarks.arguments import settle
from benchmarks.children import ChildError
from benchmarks.progress import progress
from benchmarks.registry import Benchmark, benchmarks
from benchmarks.results import Note, Result

ALL = "all"


def make_parser(known: Iterable[Benchmark]) -> argparse.ArgumentParser:
    """All subcommands; each sets ``benchmarks``, which are then to be run."""
    known = list(known)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure aelf-p2p beside others that do the same work in the same run.",
    )
    commands = parser.add_subparsers(dest="command", metavar="BENCHMARK", required=True)
    everything = commands.add_parser(ALL, help="all of them, one after the other")
    _add_common(everything)
    everything.set_defaults(benchmarks=known)
    for each in known:
        command = commands.add_parser(each.name, help=each.help, description=each.help)
        each.add_options(command)
        _add_common(command)
        command.set_defaults(benchmarks=[each])
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--quick", action="store_true", help="less of everything: does it run, and roughly how")
    add("--json", type=_file, metavar="FILE", help="write everything that was measured there too")
    add(
        "--out",
        type=_directory,
        metavar="DIR",
        help="write results.json, table.txt and plots there",
    )


def _own_options(each: Benchmark, given: argparse.Namespace) -> argparse.Namespace:
    """What one benchmark is run with: as given, or by its defaults when all are run."""
    if given.command == ALL:
        parser = argparse.ArgumentParser()
        each.add_options(parser)
        given = argparse.Namespace(**vars(parser.parse_args([])), quick=given.quick)
    return settle(given)


def _run(options: argparse.Namespace) -> tuple[dict[str, list[Result]], bool]:
    """Run what was asked for, and print each table when it is there; whether all went well."""
    found: dict[str, list[Result]] = {}
    well = True
    for each in options.benchmarks:
        progress(f"== {each.name}: {each.help}")
        results = found[each.name] = []
        try:
            for result in each.run(_own_options(each, options)):
                results.append(result)
        except ChildError as exc:  # the others may do better, and what was found stays
            results.append(Note(each.name, f"failed: {exc}"))
            well = False
        print(f"{each.name}, {os.cpu_count()} cores\n\n{report.table(results)}\n", flush=True)
    return found, well


def _write(found: dict[str, list[Result]], options: argparse.Namespace) -> None:
    if options.json is None and options.out is None:
        return
    text = report.as_json(found, report.machine())
    if options.json is not None:
        options.json.write_text(text)
    if options.out is not None:
        (options.out / "results.json").write_text(text)
        tables = [f"{name}\n\n{report.table(results)}\n" for name, results in found.items()]
        (options.out / "table.txt").write_text("\n".join(tables))
        from benchmarks.plots import draw_all  # noqa: PLC0415  # needs matplotlib

        for path in draw_all(found, options.out):
            progress(f"drawn: {path}")


def _directory(text: str) -> Path:
    """Made at once, so that a wrong one does not cost a quarter of an hour first."""
    path = Path(text)
    if find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("plots need matplotlib: make .venv/installed-bench")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise argparse.ArgumentTypeError(f"no directory {text} can be made: {exc}") from exc
    return path


def _file(text: str) -> Path:
    path = Path(text)
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {path.parent}")
    return path


def _on_terminate(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signal.SIGTERM)  # so that every block is left, and its processes end


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    options = make_parser(benchmarks().values()).parse_args(arguments)
    signal.signal(signal.SIGTERM, _on_terminate)
    try:
        found, well = _run(options)
        _write(found, options)
    except KeyboardInterrupt:
        progress("stopped")
        return 130
    return 0 if well else 1
