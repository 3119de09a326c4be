"""The command ``aelf-p2p devnet``: processes on real sockets."""

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import cycle
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from network_types_pb2 import BlockWithTransactions
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from aelf_p2p.chain.sqlite_store import open_sqlite_store
from aelf_p2p.core.errors import InvalidItemError, InvalidReason, MalformedError
from aelf_p2p.ops import cli
from aelf_p2p.ops.devnet import messages, scenario
from aelf_p2p.ops.devnet.chains import StoredChain, compare, read_chain
from aelf_p2p.ops.devnet.messages import Lines
from aelf_p2p.ops.devnet.processes import Devnet, DevnetError, NodeProcess, open_devnet
from aelf_p2p.ops.devnet.report import Report
from aelf_p2p.ops.devnet.scenario import Plan
from aelf_p2p.testing.vectors import load_vectors
from tests.chain.made import CHAIN_ID, signed_block, signed_chain, signed_transaction

SMALL = ["devnet", "--nodes", "4", "--blocks", "12", "--block-interval", "0.02"]
PROGRAM = "import sys; from aelf_p2p.ops.cli import main; sys.exit(main())"
GONE_WITHIN_S = 30.0


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
    # it may be killed before it has the producer's last block
    [killed] = [line for line in lines if line.startswith("node 2 is killed (-9) at height ")]
    height = int(killed.split()[-1])
    assert height in (5, 6)
    assert f"node 2 joins with {height} blocks, {9 - height} behind" in lines
    assert value(lines, "chains").startswith("4 at height 12, tip ")
    assert value(lines, "transactions") == "64 of 64 in every chain, each with its known id"
    assert value(lines, "propagation").endswith("(of 12 deliveries of blocks)")
    assert value(lines, "late joiner").startswith("caught up with 4 blocks in ")
    assert value(lines, "killed and back").startswith(
        f"opened again at height {height}, caught up with {9 - height} blocks in "
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


async def test_a_node_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    node = NodeProcess(0, tmp_path, ["--chain-id", "nonsense"])
    async with open_devnet([node]) as network:
        with pytest.raises(DevnetError) as caught:
            await network.start(0, [])
        assert not node.is_up
    assert str(caught.value).startswith(
        "node 0 did not come up: status 2, devnet node: argument --chain-id: "
    )


async def test_a_process_that_breaks_down_is_told_to_whoever_waits(tmp_path: Path) -> None:
    node = NodeProcess(0, tmp_path, [])
    async with open_devnet([node]) as network:
        await network.start(0, [])
        assert (node.status.height, node.opened_at_height) == (0, 0)
        await node.mine()
        assert node.status.height == len(node.arrivals) == 1
        with pytest.raises(DevnetError, match="node 0 is at height 1, not at 2,"):
            await node.wait_height(2, timeout_s=0.01)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_end, node)
            [pid] = pids_of(tmp_path)
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(DevnetError, match="node 0 has ended: status -9"):
            await node.mine()
        # and it comes back with what it had
        await network.start(0, [])
        assert node.opened_at_height == 1
        assert await node.stop() < GONE_WITHIN_S
        with pytest.raises(DevnetError, match="node 0 has ended: status 0"):
            await node.stop()


async def expect_end(node: NodeProcess) -> None:
    with pytest.raises(DevnetError, match="node 0 has ended: status -9"):
        await node.wait_height(2, timeout_s=GONE_WITHIN_S)


# --- what is checked in the end -------------------------------------------------------------------


def chain(height: int = 12, tip: bytes = b"t" * 32, ids: bytes = b"abc") -> StoredChain:
    return StoredChain(height, tip, frozenset(bytes([each]) for each in ids))


KNOWN = frozenset([b"a", b"b", b"c"])


@pytest.mark.parametrize(
    ("chains", "faults"),
    [
        ([chain(), chain()], []),
        (
            [chain(), chain(tip=b"u" * 32)],
            ["the chains have 2 tips, their heights are [12, 12]"],
        ),
        ([chain(11), chain(11)], ["the chains have 1 tips, their heights are [11, 11]"]),
        (
            [chain(), chain(ids=b"ab")],
            ["of the transactions 1 are missing somewhere, and 0 have ids that are not known"],
        ),
        (
            [chain(ids=b"abcd"), chain(ids=b"abcd")],
            ["of the transactions 0 are missing somewhere, and 1 have ids that are not known"],
        ),
        (
            [chain(ids=b"abcd"), chain()],
            ["of the transactions 0 are missing somewhere, and 1 have ids that are not known"],
        ),
    ],
)
def test_chains_that_are_not_as_they_should_be(
    chains: list[StoredChain], faults: list[str]
) -> None:
    report = Report()
    compare(chains, 12, KNOWN, report)
    assert report.faults == faults


async def test_a_stored_chain_is_checked_anew(tmp_path: Path) -> None:
    blocks = signed_chain(None, 4)
    blocks.append(signed_block(blocks[-1], [signed_transaction()]))
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
        for block in blocks:
            await store.put_block(block)
    found = await read_chain(tmp_path)
    assert found == StoredChain(5, blocks[-1].hash, frozenset(blocks[-1].transaction_ids))
    # without its transactions the last block has another root than its header says
    with closing(sqlite3.connect(tmp_path / "chain.sqlite3")) as database:
        database.execute("UPDATE block SET transactions = x''")
        database.commit()
    with pytest.raises(InvalidItemError) as caught:
        await read_chain(tmp_path)
    assert caught.value.reason is InvalidReason.BAD_MERKLE_ROOT


# --- what goes over the pipes ---------------------------------------------------------------------


@given(st.lists(st.integers(1, 40), min_size=1), st.lists(st.text(max_size=9), max_size=9))
def test_messages_come_whole_however_they_are_cut(cuts: list[int], texts: list[str]) -> None:
    sent = [{"event": text} for text in texts]
    data = "".join(f"{json.dumps(message)}\n" for message in sent).encode()

    async def receive() -> list[dict[str, object]]:
        ours, theirs = memory_stream_pair()
        received = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_in_pieces, ours, data, cuts)
            lines = Lines(theirs)
            while (message := await lines.receive()) is not None:
                received.append(message)
        return received

    assert trio.run(receive) == sent


async def send_in_pieces(stream: trio.abc.SendStream, data: bytes, cuts: list[int]) -> None:
    for cut in cycle(cuts):
        if not data:
            break
        await stream.send_all(data[:cut])
        data = data[cut:]
        await wait_all_tasks_blocked()
    await stream.aclose()


@pytest.mark.parametrize("line", [b"node 1 is up\n", b"[1]\n", b"\xff\n", b"x" * 101])
async def test_what_is_no_message_is_malformed(
    line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_LINE_BYTES", 100)
    ours, theirs = memory_stream_pair()
    await ours.send_all(line)
    with pytest.raises(MalformedError):
        await Lines(theirs).receive()


async def test_a_line_that_is_cut_off_is_the_end() -> None:
    ours, theirs = memory_stream_pair()
    await ours.send_all(b'{"event": "st')
    await ours.aclose()
    assert await Lines(theirs).receive() is None


# --- how it ends ----------------------------------------------------------------------------------


def pids_of(directory: Path) -> list[int]:
    """The processes that were started with a directory in their arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{directory}/".encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


@contextmanager
def running_devnet(data: Path) -> Iterator[subprocess.Popen[str]]:
    """A devnet of four nodes, of which three are up, with thousands of blocks before it."""
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        "devnet",
        "--nodes",
        "5",
        "--blocks",
        "5000",
        "--data",
        str(data),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            while not process.stdout.readline().startswith("node 2 listens"):
                assert process.poll() is None
            yield process
        finally:
            process.kill()


def wait_gone(pids: list[int]) -> bool:
    """Whether all processes end in time, none of them a child of this one."""
    poll = select.poll()
    waiting = set()
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poll.register(descriptor, select.POLLIN)
        waiting.add(descriptor)
    try:
        while waiting:
            ended = poll.poll(GONE_WITHIN_S * 1000)
            if not ended:
                return False
            for descriptor, _ in ended:
                poll.unregister(descriptor)
                os.close(descriptor)
                waiting.discard(descriptor)
        return True
    finally:
        for descriptor in waiting:
            os.close(descriptor)


def test_a_signal_ends_it_and_its_nodes(tmp_path: Path) -> None:
    with running_devnet(tmp_path / "net") as process:
        pids = pids_of(tmp_path / "net")
        assert len(pids) >= 3
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=GONE_WITHIN_S)
    assert (process.returncode, errors) == (128 + signal.SIGTERM, "interrupted\n")
    assert wait_gone(pids)
    for index in range(3):  # politely
        log = (tmp_path / "net" / f"node{index}.log").read_text()
        assert "SIGTERM: stopping" in log


def test_the_nodes_of_a_driver_that_is_killed_end_by_themselves(tmp_path: Path) -> None:
    with running_devnet(tmp_path / "net") as process:
        pids = pids_of(tmp_path / "net")
        assert len(pids) >= 3
        process.kill()
        assert wait_gone(pids)
