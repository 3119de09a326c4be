"""What people and programs read of results: a table, and JSON."""

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.environments import ALL, versions
from benchmarks.results import Note, Parameters, Ratio, Result, Row

_CPU_INFO = Path("/proc/cpuinfo")
_NUMBER = re.compile(r"([\d,.]+(e[-+]\d+)?x?)?")  # or a ratio, or nothing
_SIGNIFICANT_BELOW = 100
"""Values below it get decimals."""

Found = Mapping[str, Sequence[Result]]
"""Results by the name of their benchmark."""


def table(results: Sequence[Result]) -> str:
    """Of one benchmark: its rows, ratios and notes, in this order."""
    rows = [each for each in results if isinstance(each, Row)]
    ratios = [each for each in results if isinstance(each, Ratio)]
    notes = list(dict.fromkeys(each for each in results if isinstance(each, Note)))
    blocks = []
    if rows:
        head = ["contender", *_names(rows), "figure", "median", "min", "max", "unit"]
        lines = [
            [each.contender, *_values(each.parameters, rows), each.figure]
            + [number(value) for value in (each.median, min(each.rounds), max(each.rounds))]
            + [each.unit]
            for each in rows
        ]
        blocks.append(_align(head, lines))
    if ratios:
        head = ["ratio", *_names(ratios), "figure", "median", "min", "max", "target", ""]
        lines = [
            [f"{each.first} / {each.second}", *_values(each.parameters, ratios), each.figure]
            + [f"{value:.2f}x" for value in (each.median, min(each.rounds), max(each.rounds))]
            + _judged(each)
            for each in ratios
        ]
        blocks.append(_align(head, lines))
    if notes:
        blocks.append("\n".join(f"{each.about}: {each.text}" for each in notes))
    return "\n\n".join(blocks)


def number(value: float) -> str:
    """Short enough to compare at a glance."""
    if abs(value) >= _SIGNIFICANT_BELOW or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def as_json(found: Found, machine: Mapping[str, object]) -> str:
    """Everything that was measured, and on what."""
    benchmarks = {
        name: {
            "rows": [_row(each) for each in results if isinstance(each, Row)],
            "ratios": [_ratio(each) for each in results if isinstance(each, Ratio)],
            "notes": [vars(each) for each in results if isinstance(each, Note)],
        }
        for name, results in found.items()
    }
    return json.dumps({"machine": machine, "benchmarks": benchmarks}, indent=1) + "\n"


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "environments": {each.name: found for each in ALL if (found := versions(each))},
    }


def _cpu_model() -> str:
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _row(row: Row) -> dict[str, Any]:
    return {
        "contender": row.contender,
        "parameters": dict(row.parameters),
        "figure": row.figure,
        "unit": row.unit,
        "median": row.median,
        "min": min(row.rounds),
        "max": max(row.rounds),
        "rounds": row.rounds,
        "samples": row.samples,
    }


def _ratio(ratio: Ratio) -> dict[str, Any]:
    return {
        "first": ratio.first,
        "second": ratio.second,
        "parameters": dict(ratio.parameters),
        "figure": ratio.figure,
        "median": ratio.median,
        "min": min(ratio.rounds),
        "max": max(ratio.rounds),
        "rounds": ratio.rounds,
        "target": None if ratio.target is None else str(ratio.target),
        "met": None if ratio.target is None else ratio.target.is_met(ratio.median),
    }


def _judged(ratio: Ratio) -> list[str]:
    if ratio.target is None:
        return ["", ""]
    return [str(ratio.target), "met" if ratio.target.is_met(ratio.median) else "not met"]


def _names(results: Sequence[Row] | Sequence[Ratio]) -> list[str]:
    """The parameters that any of them has, in the order in which they come."""
    return list(dict.fromkeys(name for each in results for name in each.parameters))


def _values(parameters: Parameters, results: Sequence[Row] | Sequence[Ratio]) -> list[str]:
    return [
        f"{value:,}" if isinstance(value := parameters.get(name, ""), int) else value
        for name in _names(results)
    ]


def _align(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest value; numbers to the right."""
    columns = list(zip(head, *lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(_NUMBER.fullmatch(value) for value in column[1:]) for column in columns]
    return "\n".join(
        "  ".join(
            value.rjust(width) if to_right else value.ljust(width)
            for value, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in (head, *lines)
    )
