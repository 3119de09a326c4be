"""What a network under faults shows in the end."""

from collections import Counter
from pathlib import Path

import pytest

from aelf_p2p.ops.perturb.faults import Kind
from aelf_p2p.ops.perturb.report import Report


def test_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(
        inflicted=Counter({Kind.KILL: 3, Kind.RESTART: 1}),
        settled="at once",
        blocks="many",
        chains="one",
        transactions="all",
        connections="some",
        stopped="well",
        logs="none",
    )
    report.summarise(61.6)
    assert capsys.readouterr().out == (
        "faults        4: 3 kill, 0 pause, 0 disconnect, 1 restart\n"
        "one height    at once\n"
        "blocks        many\n"
        "chains        one\n"
        "transactions  all\n"
        "connections   some\n"
        "stop          well\n"
        "logs          none\n"
        "time          62 s\n"
        "ok\n"
    )


def test_the_summary_of_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    Report(failures=["one", "two"]).summarise(1.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "one height    was not reached"
    assert lines[-3:] == ["FAILED        one", "FAILED        two", "failed"]


AT = "2026-01-01T00:00:00.000Z"


def test_errors_in_the_logs_are_failures(tmp_path: Path) -> None:
    quiet, loud = tmp_path / "node0.log", tmp_path / "node1.log"
    quiet.write_text(f"{AT} INFO    some.module: an ERROR is not told\n{AT} WARNING a: b\n\n")
    report = Report()
    report.read_logs([quiet])
    assert (report.logs, report.failures) == ("1 warnings, 0 errors", [])
    loud.write_text(f"{AT} ERROR   some.module: what\nTraceback (most recent call last):\n  more\n")
    report.read_logs([quiet, loud])
    assert report.logs == "1 warnings, 2 errors"
    assert report.failures == [f"node1.log: {AT} ERROR   some.module: what"]
