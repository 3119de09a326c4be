"""What a devnet shows."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from aelf_p2p.ops.devnet.messages import Status
from aelf_p2p.ops.devnet.report import Report, heading, progress


@dataclass
class Place:
    """As much of a node as is shown."""

    status: Status = field(default_factory=Status)
    is_up: bool = True


def places(*statuses: Status | None) -> Any:
    """Nodes; None is one that is down, and had counted some deliveries before."""
    down = Place(Status(height=9, peers=1, queued=7, acknowledged=100, lost=3), is_up=False)
    return [down if status is None else Place(status) for status in statuses]


UP = Status(height=12, peers=2, queued=3, acknowledged=40, lost=1)
BEHIND = Status(height=5, peers=1, queued=0, acknowledged=2)


def test_a_line_of_progress() -> None:
    nodes = places(UP, None, BEHIND)
    names, line = heading(nodes), progress(nodes, 12.345)
    assert names.split() == ["time", "heights", "peers", "queued", "delivered"]
    assert line.split() == ["12.3s", "12", "-", "5", "2", "-", "1", "3", "142"]
    for column, last in (("heights", "5"), ("peers", "1"), ("queued", "3"), ("delivered", "142")):
        end = names.index(column) + len(column)
        assert line[:end].split()[-1] == last
        assert line[end : end + 1].strip() == ""


def test_a_line_of_progress_of_many_nodes() -> None:
    nodes = places(*[UP] * 6, BEHIND, None, *[UP] * 3)
    names, line = heading(nodes), progress(nodes, 1.0)
    assert line.split() == ["1.0s", "5", "to", "12", "1", "to", "2", "27", "462"]
    assert line[: names.index("heights") + 7].endswith(" 5 to 12")
    assert len(line) == len(names) <= 140


def summary(report: Report, *statuses: Status | None, capsys: pytest.CaptureFixture[str]) -> str:
    report.summarise(places(*statuses), 61.6)
    return capsys.readouterr().out


def test_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(
        propagation_s=[number / 1000 for number in range(100, 0, -1)],
        expected_deliveries=101,
        late="in no time",
        back="later",
        chains="one",
        transactions="all",
        stopped="at once",
    )
    assert summary(report, UP, None, BEHIND, capsys=capsys) == (
        "chains          one\n"
        "transactions    all\n"
        "propagation     p50 50 ms, p99 99 ms (100 of 101 deliveries of blocks)\n"
        "late joiner     in no time\n"
        "killed and back later\n"
        "broadcasts      142 acknowledged, 4 lost\n"
        "stop            at once\n"
        "time            62 s\n"
        "ok\n"
    )


def test_the_summary_of_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    lines = summary(Report(faults=["one", "two"]), capsys=capsys).splitlines()
    assert lines[-3:] == ["FAILED          one", "FAILED          two", "failed"]
    assert "propagation     was not measured" in lines
    assert "chains          were not compared" in lines
