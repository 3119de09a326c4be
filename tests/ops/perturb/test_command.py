"""The command ``aelf-p2p perturb``: processes on real sockets."""

import signal
import tempfile
from pathlib import Path

import pytest

from aelf_p2p.ops import cli
from tests.ops.processes import pids_of, start

SEED = "200"  # the last of its four faults is over after 8 s
SHORT = ["perturb", "--nodes", "5", "--faults", "4", "--block-interval", "0.2"]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it puts its temporary directory."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setenv("TMPDIR", str(place))
    return place


def summary(lines: list[str]) -> dict[str, str]:
    """What the summary says behind each name."""
    return {line[:14].strip(): line[14:] for line in lines[1:]}


def test_nodes_under_faults_find_together_again(
    temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*SHORT, "--seed", SEED]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == f"5 nodes over grpc, 4 faults, seed {SEED}"
    said = summary(lines)
    assert said["faults"] == "4: 1 kill, 1 pause, 1 disconnect, 1 restart"
    assert said["one height"].endswith(" s after the last fault")
    assert float(said["one height"].split()[0]) <= 20
    assert int(said["blocks"].split()[0]) >= 20
    assert said["chains"].startswith("5 at height ")
    assert said["transactions"].endswith(" in every chain")
    assert said["connections"].startswith("9 at the start, ")
    assert int(said["connections"].split()[-3]) >= 1
    assert said["stop"].startswith("all with status 0, within ")
    assert said["logs"].endswith(" 0 errors")
    assert lines[-1] == "ok"
    for kind in ("kill", "pause", "disconnect", "restart"):
        assert f": {kind} is over, at height " in printed.err
    assert list(temporary.iterdir()) == []


def test_nodes_that_do_not_find_together_in_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no time for the three blocks that are made after the last fault."""
    data = tmp_path / "net"
    fast = ["--nodes", "4", "--faults", "4", "--transport", "tcp", "--insecure"]
    fast += ["--seed", "304", "--deadline", "0.1", "--data", str(data)]
    assert cli.main(["perturb", *fast]) == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "4 nodes over tcp, 4 faults, seed 304"
    assert summary(lines)["one height"] == "was not reached"
    failure, *_ = [line for line in lines if line.startswith("FAILED")]
    assert "0.1 s after the last fault the nodes are at [" in failure
    assert lines[-1] == "failed"
    assert printed.err.endswith(f"the nodes' data and logs are in {data}\n")
    assert {path.name for path in data.glob("*.log")} == {f"node{index}.log" for index in range(4)}
    assert pids_of(data) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_interrupted_in_the_middle_leaves_nothing_behind(
    number: signal.Signals, temporary: Path
) -> None:
    """While a node is paused, which cannot end until it goes on."""
    with start(*SHORT, "--seed", "90") as process:  # which begins with a long one
        process.wait_logged(": pause, ")
        assert len(pids_of(temporary)) >= 4
        process.send(number)
        assert process.wait() == 128 + number
        assert process.errors()[-1] == "interrupted"
    assert pids_of(temporary) == []
    assert list(temporary.iterdir()) == []
