"""The command line: ``python -m tests.fuzz --help``."""

import argparse
import random
import signal
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import trio

from tests.fuzz import at_random, campaign
from tests.fuzz.at_random import Tally
from tests.fuzz.campaign import Outcome, Plan
from tests.fuzz.harness import load, names
from tests.fuzz.keeping import keep
from tests.fuzz.rules import check

DEFAULT_SECONDS = 300.0
ATHERIS_IS_MISSING = """\
atheris is not installed in this environment. From the root of the repository,
    make .venv-fuzz/installed
    .venv-fuzz/bin/python -m tests.fuzz
fuzz, and `make fuzz` does both. What is kept in tests/fuzz/corpus is replayed without it:
    .venv/bin/python -m pytest tests/fuzz"""

FOUND, MISUSE, INTERRUPTED = 1, 2, 130  # exit statuses


def make_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Fuzz whatever reads bytes and text from outside, guided by coverage.",
        epilog="Exit status: 0 nothing was found, 1 something was, or a target could not be run, "
        "2 wrong usage or no atheris, 130 interrupted.",
    )
    add = parser.add_argument
    add("targets", nargs="*", metavar="TARGET", help="what to fuzz; all, when none is named")
    time = parser.add_mutually_exclusive_group()
    time.add_argument(
        "--seconds", type=_positive, metavar="S", help="for each target; 300 unless told otherwise"
    )
    time.add_argument(
        "--in-all", type=_positive, metavar="S", help="for all of them together, by the clock"
    )
    time.add_argument(
        "--inputs",
        type=int,
        metavar="N",
        help="so many random inputs for each instead, not guided by coverage; no atheris",
    )
    add(
        "--jobs", type=int, default=1, metavar="N", help="how many at once; 1 unless told otherwise"
    )
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of what is tried, and of the order with --in-all; another each time unless told so",
    )
    add("--keep", action="store_true", help="then choose anew what tests/fuzz/corpus keeps of them")
    add("--replay", type=Path, metavar="FILE", help="run this one input of one target; no atheris")
    add("--list", action="store_true", help="tell all targets, and what they are")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return value


def main(arguments: Sequence[str]) -> int:
    """Run the command; its exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.targets) - set(names())):
        parser.error(f"no such target: {', '.join(unknown)}; there are: {', '.join(names())}")
    for name in ("jobs", "inputs"):
        if (count := getattr(options, name)) is not None and count < 1:
            parser.error(f"--{name} must be at least 1")
    wanted = options.targets or names()
    if options.list:
        for name in wanted:
            print(f"{name:18} {_first_line(name)}")
        return 0
    if options.replay is not None:
        if len(options.targets) != 1:
            parser.error("--replay needs the one target whose input it is")
        return _replay(wanted[0], options.replay)
    signal.signal(signal.SIGTERM, _on_terminate)
    if options.inputs is not None:
        return _try_at_random(wanted, options)
    if find_spec("atheris") is None:
        _tell(ATHERIS_IS_MISSING)
        return MISUSE
    return _fuzz(wanted, options)


def _try_at_random(wanted: Sequence[str], options: argparse.Namespace) -> int:
    tallies = [Tally(name) for name in wanted]
    seed = options.seed or random.randrange(1, 1 << 32)
    _tell(f"--seed {seed}")
    try:
        at_random.try_all(tallies, options.inputs, jobs=options.jobs, seed=seed, tell=_tell)
    except KeyboardInterrupt:
        _tell("stopped")
        return INTERRUPTED
    except BrokenProcessPool:
        _tell("an input ended its process, or does not end: see above")
        return FOUND
    finally:
        print(columns([_TALLY_HEAD, *map(_tally_row, tallies)]))
        for tally in tallies:
            for problem, path in tally.found.items():
                print(f"\n{tally.name}: {problem}\n  {replay_command(tally.name, path)}")
        sys.stdout.flush()
    return FOUND if any(tally.found for tally in tallies) else 0


_TALLY_HEAD = ("target", "inputs", "1/s", "accepted", "slowest", "found")


def _tally_row(tally: Tally) -> Sequence[str]:
    return (
        tally.name,
        str(tally.inputs),
        f"{tally.inputs / tally.cpu_s:.0f}" if tally.cpu_s else "",
        f"{tally.accepted / tally.inputs:.0%}" if tally.inputs else "",
        f"{tally.slowest_s * 1000:.1f} ms",
        f"{len(tally.found)} problems" if tally.found else "nothing",
    )


def _fuzz(wanted: Sequence[str], options: argparse.Namespace) -> int:
    plan = Plan(options.jobs, options.seconds or DEFAULT_SECONDS, seed=options.seed)
    outcomes = [Outcome(name) for name in wanted]
    order = list(outcomes)
    if options.in_all is not None:
        plan = Plan(options.jobs, in_all_s=options.in_all, seed=options.seed)
        random.Random(options.seed or None).shuffle(
            order
        )  # should time run out for some, these are others each time
    try:
        trio.run(campaign.fuzz, order, plan, _tell)
    except KeyboardInterrupt:
        _tell("stopped")
        return INTERRUPTED
    finally:
        _print(outcomes)
    if options.keep:
        for name in wanted:
            count, size = keep(name)
            _tell(f"{name}: {count} inputs of {size} bytes are kept")
    return 0 if all(outcome.is_good for outcome in outcomes) else FOUND


def _print(outcomes: Sequence[Outcome]) -> None:
    print(table(outcomes))
    for outcome in outcomes:
        if outcome.progress.problem and outcome.progress.artifact:
            command = replay_command(outcome.name, Path(outcome.progress.artifact))
            print(f"\n{outcome.name}: {outcome.progress.problem}\n  {command}")
    sys.stdout.flush()


def table(outcomes: Sequence[Outcome]) -> str:
    """What came of it, a line a target."""
    rows = [("target", "executions", "1/s", "edges", "features", "new inputs", "found")]
    for each in outcomes:
        done = each.progress
        rows.append(
            (
                each.name,
                str(done.executions),
                f"{done.executions / each.took_s:.0f}" if each.took_s else "",
                f"{done.edges_at_first} > {done.edges}",
                f"{done.features_at_first} > {done.features}",
                str(done.new_inputs),
                done.problem or each.note or "nothing",
            )
        )
    return columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """A table; numbers are to the right, the first and the last column to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:-1]), row[-1]]
        ).rstrip()
        for row in rows
    )


def replay_command(name: str, artifact: Path) -> str:
    """What shows a finding again."""
    if artifact.is_relative_to(campaign.ROOT):
        artifact = artifact.relative_to(campaign.ROOT)
    return f"python -m tests.fuzz {name} --replay {artifact}"


def _replay(name: str, path: Path) -> int:
    try:
        data = path.read_bytes()
    except OSError as exc:
        _tell(f"{path}: {exc.strerror}")
        return MISUSE
    accepted = check(load(name).run, data)  # a finding is a traceback, and exit status 1
    print(f"{len(data)} bytes: {'accepted' if accepted else 'refused'}, as is right")
    return 0


def _first_line(name: str) -> str:
    text = sys.modules[load(name).run.__module__].__doc__ or ""
    return text.partition("\n")[0]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _on_terminate(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signal.SIGTERM)  # so that every block is left, and its processes end
