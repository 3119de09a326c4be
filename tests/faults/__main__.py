"""Run the tests of all cases, and write what came of them: ``make faults``."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.faults.cases import MEANINGS, SECTIONS, Case
from tests.faults.floods import AFTER_S, ATTACKS, LASTING_S, Figures, measure
from tests.faults.marks import OF_CASE

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

HEAD = """# Faults and attacks

What a node withstands, each with the tests that try it, as `make faults` ran them. A case passes
when all of its tests do; {skipped}figures are of this run, on a machine that did other things as
well, and the slowest of each test.

Tests in `transports/hostile` attack nodes on gRPC from raw sockets, those in its `tcp` nodes on
tcp, and in `wire_foreign` grpcio's C core is at the other end. Peers and services are attacked on
the memory transport: they do not know which one they are on. What purerpc withstands stands in
[purerpc.md](purerpc.md), from a run too.

| | must come to |
|---|---|
"""

COLUMNS = """\
| | case | | result | tests | figures |
|---|---|---|---|---|---|
"""
FLOODS_HEAD = f"""
## Floods on a whole node

Over TLS, with the default limits; node and healthy peer are processes of their own. Each flood is
made twice, and these are figures of the second. One that nobody ends is gone on with for
{LASTING_S:g} s. Wanted: dropped within 2 s, a p99 of at most 250 ms, 16 MB of growth (of a large
message, five times its size), of which less than 4 MB are kept {AFTER_S:g} s later.

| flood | dropped after | a healthy peer's p99 | growth, MB | kept, MB |
|---|---|---|---|---|
"""


@dataclass
class Result:
    """What came of the tests of one case that have one name."""

    outcomes: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """For all of its parameters."""
        for word in ("failed", "skipped"):
            if word in self.outcomes:
                return word
        return "passed"


class Collector:
    """A plugin of pytest that notes results by case and test."""

    def __init__(self) -> None:
        self.results: dict[int, dict[str, Result]] = defaultdict(lambda: defaultdict(Result))
        self._cases: dict[str, tuple[int, ...]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """See pytest: which cases a test is of."""
        for item in items:
            marks = item.iter_markers("fault")
            self._cases[item.nodeid] = tuple(number for mark in marks for number in mark.args)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """See pytest: a test's setup, call or teardown is over."""
        if report.when != "call" and report.passed:
            return
        name = report.nodeid.split("[")[0].removeprefix("tests/")
        figures = dict(report.user_properties)
        of_case = figures.pop(OF_CASE, None)
        for number in self._cases[report.nodeid]:
            if of_case not in (None, number):
                continue
            result = self.results[number][name]
            result.outcomes.append(report.outcome)
            for what, value in figures.items():
                result.figures[what] = max(result.figures.get(what, ""), str(value), key=_first)


def _first(text: str) -> float:
    """The number that a figure begins with."""
    return float(text.split(maxsplit=1)[0]) if text else -1.0


def page(results: Mapping[int, Mapping[str, Result]], floods: Sequence[Figures]) -> str:
    """The whole page of the docs."""
    skipped = any(r.word == "skipped" for tests in results.values() for r in tests.values())
    text = HEAD.format(skipped="those that could not be run here say so; " if skipped else "")
    text += "".join(f"| {code.value} | {meaning} |\n" for code, meaning in MEANINGS.items())
    for title, cases in SECTIONS.items():
        text += f"\n## {title}\n\n{COLUMNS}"
        text += "".join(_row(case, results[case.number]) for case in cases)
    return text + FLOODS_HEAD + "".join(map(_flood_row, floods))


def _flood_row(flood: Figures) -> str:
    ended = "it is borne" if flood.ended_s is None else f"{flood.ended_s * 1000:.0f} ms"
    p99 = f"{flood.neighbour_p99_s * 1000:.0f} ms"
    return f"| {flood.name} | {ended} | {p99} | {flood.growth_mb:.1f} | {flood.kept_mb:.1f} |\n"


def _row(case: Case, tests: Mapping[str, Result]) -> str:
    codes = " ".join(sorted(each.value for each in case.outcomes))
    words = {result.word for result in tests.values()}
    word = next(each for each in ("failed", "skipped", "passed") if each in words)
    names = "<br>".join(f"`{name}`" for name in sorted(tests))
    figures = dict(figure for result in tests.values() for figure in result.figures.items())
    told = "<br>".join(f"{what} {value}" for what, value in figures.items())
    return f"| {case.number} | {case.what} | {codes} | {word} | {names} | {told} |\n"


def main(arguments: Iterable[str]) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the floods on a whole node")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} of the docs")
    options = parser.parse_args(list(arguments))
    collector = Collector()
    status = pytest.main(["-q", "-m", "fault", "--no-header"], plugins=[collector])
    if not collector.results:
        return int(status)
    floods: list[Figures] = []
    if not options.quick:
        print(f"{len(ATTACKS)} floods on a whole node, some three minutes")
        trio.run(measure, partial(_tell, floods))
    text = page(collector.results, floods)
    if options.write:
        PAGE.write_text(text)
        print(f"{PAGE} is written")
    else:
        print(text)
    return int(status)


def _tell(floods: list[Figures], flood: Figures) -> None:
    floods.append(flood)
    print(_flood_row(flood), end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
