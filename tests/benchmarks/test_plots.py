"""Which plots follow from results. Drawing needs matplotlib, which only the benchmarks bring."""

from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="it comes with the extra bench")

from benchmarks.plots import draw_all, lines_over_peers
from benchmarks.results import Row


def row(peers: int, contender: str = "ours", samples: tuple[float, ...] = ()) -> Row:
    return Row(
        contender=contender,
        parameters={"wire": "TLS", "peers": peers},
        figure="memory / peer",
        unit="KB",
        rounds=(1.0, 2.0, 3.0),
        samples=samples,
    )


def test_rows_that_differ_in_their_peers_alone_become_a_line() -> None:
    lines = lines_over_peers([row(64), row(8), row(8, "rival")])
    assert {name: [peers for peers, _ in line] for name, line in lines.items()} == {
        "ours, TLS": [8, 64]
    }


def test_lines_and_distributions_are_drawn_in_both_formats(tmp_path: Path) -> None:
    files = draw_all({"memory": [row(0), row(8, samples=(1.0, 2.0, 2.0, 9.0))]}, tmp_path)
    assert [file.name for file in files] == [
        "memory-memory-peer-by-peers.png",
        "memory-memory-peer-by-peers.svg",
        "memory-memory-peer-TLS-distribution.png",
        "memory-memory-peer-TLS-distribution.svg",
    ]
    assert all(file.stat().st_size > 1000 for file in files)


def test_what_has_neither_is_not_drawn(tmp_path: Path) -> None:
    assert draw_all({"memory": [row(8)]}, tmp_path) == []
