"""The command line of the benchmarks, with benchmarks that measure nothing."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import cli
from benchmarks.arguments import Sized, add_rounds, add_wires, positive, positives, settle
from benchmarks.children import ChildError
from benchmarks.registry import MODULES, Benchmark, benchmarks
from benchmarks.results import Result, Row


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_rounds(parser, 5, 2)
    add_wires(parser)


def _one_row(options: argparse.Namespace) -> Iterator[Result]:
    yield Row(
        contender="ours",
        parameters={"wires": len(options.wires)},
        figure="deliveries",
        unit="1/s",
        rounds=(1.0,) * options.rounds,
    )


def _fail(options: argparse.Namespace) -> Iterator[Result]:
    yield from _one_row(options)
    raise ChildError("the sender has failed")


GOOD = Benchmark("good", "measures", _add_options, _one_row)
BAD = Benchmark("bad", "fails", _add_options, _fail)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "benchmarks", lambda: {"bad": BAD, "good": GOOD})


def test_every_registered_benchmark_is_a_subcommand_with_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = benchmarks()
    assert set(known) == set(MODULES)
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())  # lines are broken as the terminal is wide
    assert all(each.help in text for each in known.values())
    for each in ("all", *known):
        with pytest.raises(SystemExit) as ended:
            cli.main([each, "--help"])
        assert ended.value.code == 0


@pytest.mark.usefixtures("fakes")
def test_results_are_written_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    assert cli.main(["good", "--tls", "--quick", "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())["benchmarks"]["good"]["rows"]
    assert row["rounds"] == [1.0, 1.0]  # as --quick has it
    assert row["parameters"] == {"wires": 1}
    assert "deliveries" in capsys.readouterr().out


@pytest.mark.usefixtures("fakes")
def test_all_runs_each_with_its_defaults_and_goes_on_after_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    assert cli.main(["all", "--json", str(file)]) == 1
    found = json.loads(file.read_text())["benchmarks"]
    assert [len(each["rows"][0]["rounds"]) for each in found.values()] == [5, 5]
    assert found["bad"]["notes"] == [{"about": "bad", "text": "failed: the sender has failed"}]
    assert "bad: failed: the sender has failed" in capsys.readouterr().out


@pytest.mark.usefixtures("fakes")
def test_a_file_nowhere_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["good", "--json", str(tmp_path / "none" / "found.json")])
    assert "there is no directory" in capsys.readouterr().err


@pytest.mark.usefixtures("fakes")
def test_an_interruption_has_its_own_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_options: argparse.Namespace) -> Iterator[Result]:
        raise KeyboardInterrupt

    stopped = Benchmark("good", "is stopped", _add_options, interrupted)
    monkeypatch.setattr(cli, "benchmarks", lambda: {"good": stopped})
    assert cli.main(["good"]) == 130


def test_a_contender_that_is_none_is_refused_with_those_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["fanout", "--contenders", "grpc.oia"])
    error = capsys.readouterr().err
    assert "'grpc.oia' is no contender" in error
    assert "grpc.aio" in error


def test_sizes_depend_on_quick() -> None:
    given = argparse.Namespace(quick=True, rounds=Sized(5, 2), peers=16)
    assert vars(settle(given)) == {"quick": True, "rounds": 2, "peers": 16}
    assert str(Sized((1, 8), (1,))) == "1,8; quick: 1"


def test_numbers_are_checked() -> None:
    assert positives("1,8,64") == (1, 8, 64)
    with pytest.raises(argparse.ArgumentTypeError, match="0 is below 1"):
        positive("0")
