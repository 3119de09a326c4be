"""The command ``aelf-p2p devnet``: processes on real sockets."""

import errno
import os
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from network_types_pb2 import BlockWithTransactions

from aelf_p2p.core.errors import KeyFileError
from aelf_p2p.ops import cli
from aelf_p2p.ops.devnet import processes, scenario
from aelf_p2p.ops.devnet.processes import Devnet
from aelf_p2p.ops.devnet.scenario import Plan
from aelf_p2p.testing.vectors import load_vectors
from tests.ops.processes import Process, pids_of, start, wait_gone

SMALL = ["devnet", "--nodes", "4", "--blocks", "12", "--block-interval", "0.02"]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the devnet puts its temporary directory."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setenv("TMPDIR", str(place))
    return place


def value(lines: list[str], name: str) -> str:
    """What the summary says behind a name."""
    [line] = [line for line in lines if line.startswith(name)]
    return line.removeprefix(name).strip()


@contextmanager
def running_devnet(*arguments: object, **settings: Any) -> Iterator[Process]:
    """A devnet of five nodes, of which three are up, with thousands of blocks before it."""
    with start("devnet", "--nodes", 5, "--blocks", 5000, *arguments, **settings) as process:
        process.wait_printed("node 2 listens")
        yield process


def test_a_small_devnet_ends_with_one_chain(
    temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*SMALL, "--transport", "tcp", "--insecure"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "4 nodes over tcp, 12 blocks, 64 transactions"
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["node", f"{index}", "listens"] for index in range(3)
    ]
    assert "node 3 joins with 0 blocks, 4 behind" in lines
    assert "node 2 is killed (-9) at height 6" in lines
    assert "node 2 joins with 6 blocks, 3 behind" in lines
    assert value(lines, "chains").startswith("4 at height 12, tip ")
    assert value(lines, "transactions") == "64 of 64 in every chain, each with its known id"
    assert value(lines, "propagation").endswith("(12 of 12 deliveries of blocks)")
    assert value(lines, "late joiner").startswith("caught up with 4 blocks in ")
    assert value(lines, "killed and back").startswith(
        "opened again at height 6, caught up with 3 blocks in "
    )
    assert value(lines, "broadcasts").endswith(" acknowledged, 0 lost")
    assert value(lines, "stop").startswith("all with status 0, within ")
    assert lines[-1] == "ok"
    assert printed.err == ""
    assert list(temporary.iterdir()) == []


def test_the_directories_that_are_kept_hold_the_chain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Looked at by SQL and AElf's own protos alone."""
    data = tmp_path / "kept"
    assert cli.main([*SMALL, "--data", str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 nodes over grpc, 12 blocks, 64 transactions"
    tip = value(lines, "chains").split()[-1]
    known = [vector.raw for vector in load_vectors().transactions]
    for index in range(4):
        with closing(sqlite3.connect(data / f"node{index}" / "chain.sqlite3")) as database:
            rows = database.execute(
                "SELECT best_chain.height, hash, transactions FROM best_chain "
                "JOIN block ON id = block_id ORDER BY best_chain.height"
            ).fetchall()
        assert [height for height, _, _ in rows] == list(range(1, 13))
        assert rows[-1][1].hex() == tip
        held = [
            transaction.SerializeToString()
            for _, _, transactions in rows
            for transaction in BlockWithTransactions.FromString(transactions).transactions
        ]
        assert sorted(held) == sorted(known)
        assert (data / f"node{index}.key").stat().st_mode & 0o777 == 0o600
        assert (data / f"node{index}.log").read_text()


def test_a_directory_that_is_there_already_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*SMALL, "--data", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"aelf-p2p devnet: {tmp_path}: exists already; the nodes need a new directory\n"
    )


def test_a_node_that_fails_is_told_and_is_the_status(
    temporary: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def kill_another(network: Devnet, plan: Plan) -> None:
        await network.nodes[plan.steady[0]].kill()

    monkeypatch.setattr(scenario, "_kill", kill_another)
    assert cli.main(SMALL) == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    [kept] = temporary.iterdir()
    [fault] = [line for line in lines if line.startswith("FAILED")]
    assert "node 1 has ended: status -9, " in fault
    assert f"(log: {kept / 'node1.log'})" in fault
    assert lines[-1] == "failed"
    assert printed.err == f"the nodes' data and logs are in {kept}\n"
    assert value(lines, "late joiner").startswith("caught up with")
    assert value(lines, "killed and back") == "was not reached"
    assert pids_of(kept) == []


@pytest.mark.parametrize("error", [OSError("no more files"), KeyFileError("no more keys")])
def test_a_fault_at_the_start_is_told_and_leaves_no_process(
    error: Exception,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object, **settings: object) -> None:
        raise error

    where = trio.lowlevel if isinstance(error, OSError) else processes
    monkeypatch.setattr(where, "open_process" if where is trio.lowlevel else "write_key_file", fail)
    assert cli.main([*SMALL, "--data", str(tmp_path / "net")]) == 1
    printed = capsys.readouterr()
    [fault] = [line for line in printed.out.splitlines() if line.startswith("FAILED")]
    assert str(error) in fault
    assert printed.err == f"the nodes' data and logs are in {tmp_path / 'net'}\n"


def test_a_node_that_breaks_down_is_named(tmp_path: Path) -> None:
    data = tmp_path / "net"
    with running_devnet("--data", data) as process:
        [pid] = pids_of(data, "node1.key")
        os.kill(pid, signal.SIGKILL)
        assert process.wait() == 1
        printed = process.printed()
        [fault] = [line for line in printed if line.startswith("FAILED")]
        assert "node 1 has ended: status -9, " in fault
    assert pids_of(data) == []


def test_no_place_for_a_temporary_directory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**settings: object) -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    assert cli.main(SMALL) == 2
    assert capsys.readouterr().err == (
        "aelf-p2p devnet: a temporary directory: No usable temporary directory found\n"
    )


def test_blocks_as_fast_as_they_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No transaction is sent before the nodes are connected, nor left out of the last block."""
    monkeypatch.chdir(tmp_path)
    fast = ["devnet", "--nodes", "7", "--blocks", "20", "--block-interval", "0.001"]
    assert cli.main([*fast, "--transport", "tcp", "--insecure", "--data=-odd name"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert value(lines, "transactions") == "64 of 64 in every chain, each with its known id"
    assert value(lines, "propagation").endswith("(80 of 80 deliveries of blocks)")


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_and_its_nodes(number: signal.Signals, tmp_path: Path) -> None:
    data = tmp_path / "net"
    with running_devnet("--data", data) as process:
        pids = pids_of(data)
        assert len(pids) >= 3
        process.send(number)
        assert process.wait() == 128 + number
        assert process.errors() == ["interrupted"]
    assert pids_of(data) == []
    for index in range(3):  # politely
        assert "SIGTERM: stopping" in (data / f"node{index}.log").read_text()


def test_what_is_interrupted_leaves_nothing_behind(temporary: Path) -> None:
    with running_devnet() as process:
        assert len(list(temporary.iterdir())) == 1
        process.send(signal.SIGTERM, signal.SIGHUP)
        assert process.wait() in (128 + signal.SIGTERM, 128 + signal.SIGHUP)
        assert process.errors() == ["interrupted"]
    assert list(temporary.iterdir()) == []


def test_a_reader_that_leaves_ends_it(temporary: Path) -> None:
    ours, its = os.pipe()
    with start("devnet", stdout=its) as process:
        os.close(its)
        assert os.read(ours, 1)
        os.close(ours)
        assert process.wait() == 1
        assert process.errors() == ["aelf-p2p devnet: stdout: Broken pipe"]
    assert list(temporary.iterdir()) == []
    assert pids_of(temporary) == []


def test_the_nodes_of_a_driver_that_is_killed_end_by_themselves(tmp_path: Path) -> None:
    data = tmp_path / "net"
    with running_devnet("--data", data) as process:
        pids = pids_of(data)
        assert len(pids) >= 3
        process.send(signal.SIGKILL)
        assert wait_gone(pids)
