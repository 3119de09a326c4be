"""Plots of results, as PNG and SVG: what grows with the peers, and how latencies are distributed.

Which ones there are follows from the results alone: a figure that was measured under several
numbers of peers becomes lines over them, rows with samples become their distributions.
"""

# Whoever only measures need not have it, nor who checks types.
# mypy: disable-error-code="import-not-found"

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report import Found
from benchmarks.results import Row

PEERS = "peers"
"""The parameter that lines are drawn over."""

_FORMATS = ("png", "svg")
_INCHES = (8.0, 5.0)


def draw_all(found: Found, directory: Path) -> list[Path]:
    """Draw whatever there is to draw; the files, in the order of the results."""
    files: list[Path] = []
    for benchmark, results in found.items():
        rows = [each for each in results if isinstance(each, Row)]
        for figure in dict.fromkeys(each.figure for each in rows):
            same = [each for each in rows if each.figure == figure]
            if lines := lines_over_peers(same):
                name = f"{benchmark}-{figure}-by-{PEERS}"
                files += _save(_draw_lines(lines, f"{benchmark}: {figure}"), directory, name)
            for wire, sampled in _by_wire([each for each in same if each.samples]).items():
                title = ", ".join([f"{benchmark}: {figure}", *wire])
                name = "-".join([benchmark, figure, *wire, "distribution"])
                files += _save(_draw_distribution(sampled, title), directory, name)
    return files


def _by_wire(rows: Sequence[Row]) -> dict[tuple[str, ...], list[Row]]:
    """Rows by what they went over, when that is known: together they are too many lines."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        wire = row.parameters.get("wire")
        groups[() if wire is None else (str(wire),)].append(row)
    return groups


def lines_over_peers(rows: Sequence[Row]) -> dict[str, list[tuple[int, Row]]]:
    """Rows of one figure that differ only in the peers, by what they have in common, in order of
    the peers; only where there are two or more."""
    lines: dict[str, list[tuple[int, Row]]] = defaultdict(list)
    for row in rows:
        peers = row.parameters.get(PEERS)
        if isinstance(peers, int):
            lines[label(row)].append((peers, row))
    return {
        name: sorted(line, key=lambda point: point[0])
        for name, line in lines.items()
        if len(line) > 1
    }


def label(row: Row) -> str:
    """A row's name in a legend: everything but the peers."""
    others = [str(value) for name, value in row.parameters.items() if name != PEERS]
    return ", ".join([row.contender, *others])


def _draw_lines(lines: dict[str, list[tuple[int, Row]]], title: str) -> Figure:
    figure, axes = _new(title)
    for name, line in lines.items():
        peers = [count for count, _ in line]
        axes.plot(peers, [row.median for _, row in line], marker="o", label=name)
        least = [min(row.rounds) for _, row in line]
        most = [max(row.rounds) for _, row in line]
        axes.fill_between(peers, least, most, alpha=0.2)
        axes.set_ylabel(line[0][1].unit)
    axes.set_xlabel(PEERS)
    counts = sorted({count for line in lines.values() for count, _ in line})
    if counts[0] > 0:  # no peers at all are as good a number, but not for a logarithm
        axes.set_xscale("log", base=2)
    axes.set_xticks(counts)
    axes.set_xticklabels([str(count) for count in counts])
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def _draw_distribution(rows: Sequence[Row], title: str) -> Figure:
    figure, axes = _new(title)
    for row in rows:
        samples = sorted(row.samples)
        # The part that took longer, so that the tail is what is easiest to see.
        longer = [1 - place / len(samples) for place in range(len(samples))]
        axes.step(samples, longer, where="post", label=label(row))
        axes.set_xlabel(row.unit)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylabel("part that took at least so long")
    axes.legend()
    return figure


def _new(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, directory: Path, name: str) -> Iterator[Path]:
    stem = re.sub(r"[^A-Za-z0-9.]+", "-", name)
    for extension in _FORMATS:
        path = directory / f"{stem}.{extension}"
        figure.savefig(path)
        yield path
