"""The processes of a devnet: what they tell, and what becomes of those that break down."""

import json
import os
import signal
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from aelf_p2p.core.transaction import Transaction
from aelf_p2p.ops.devnet import processes
from aelf_p2p.ops.devnet.messages import Status
from aelf_p2p.ops.devnet.processes import DevnetError, NodeProcess, open_devnet
from aelf_p2p.testing.vectors import load_vectors
from tests.ops.processes import WAIT_S, pids_of

LISTENING = json.dumps({"event": "listening", "address": "127.0.0.1:7000", "public_key": "04"})


def status_line(**content: int) -> str:
    return json.dumps({"event": "status", "height": 0, "peers": 0, "queued": 0, **content})


def run_instead(monkeypatch: pytest.MonkeyPatch, program: str, *lines: str) -> None:
    """Nodes are processes that say some lines, and then do something else."""
    said = f"print({chr(10).join(lines)!r}, flush=True)" if lines else ""
    monkeypatch.setattr(
        processes, "CHILD", ("-c", f"import signal, sys\n{program.format(say=said)}\n")
    )


async def test_a_node_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    node = NodeProcess(0, tmp_path, ["--chain-id", "nonsense"])
    async with open_devnet([node]) as network:
        with pytest.raises(DevnetError) as caught:
            await network.start(0, [])
        assert not node.is_up
    assert str(caught.value).startswith(
        "node 0 did not come up: status 2, devnet node: argument --chain-id: "
    )


async def test_a_process_that_is_killed_comes_back_with_what_it_had(tmp_path: Path) -> None:
    node = NodeProcess(0, tmp_path, [])
    async with open_devnet([node]) as network:
        await network.start(0, [])
        assert (node.status.height, node.opened_at_height) == (0, 0)
        [pid] = pids_of(tmp_path)
        assert os.getsid(pid) == pid  # no Ctrl-C for the driver is for it
        await node.mine()
        assert node.status.height == len(node.propagation_s) == 1
        with pytest.raises(DevnetError, match="node 0 is at height 1, not at 2 after"):
            await node.wait_height(2, timeout_s=0.01)
        await node.kill()
        with pytest.raises(DevnetError, match="node 0 has ended: status -9"):
            await node.mine()
        await network.start(0, [])
        assert node.opened_at_height == 1
        assert await node.stop() < WAIT_S
        with pytest.raises(DevnetError, match="node 0 has ended: status 0"):
            await node.stop()


async def test_a_process_that_breaks_down_ends_the_devnet(tmp_path: Path) -> None:
    node = NodeProcess(0, tmp_path, [])

    async def live_on() -> None:
        async with open_devnet([node]) as network:
            await network.start(0, [])
            [pid] = pids_of(tmp_path)
            os.kill(pid, signal.SIGKILL)
            await trio.sleep_forever()

    with pytest.raises(DevnetError, match="node 0 has ended: status -9"):
        await live_on()
    assert not node.is_up


async def test_whoever_waits_for_a_process_that_ends_is_told(tmp_path: Path) -> None:
    node = NodeProcess(0, tmp_path, [])
    async with open_devnet([node]) as network:
        await network.start(0, [])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_end, node)
            await wait_all_tasks_blocked()
            await node.kill()


async def expect_end(node: NodeProcess) -> None:
    with pytest.raises(DevnetError, match="node 0 has ended: status -9"):
        await node.wait_height(2, timeout_s=WAIT_S)


async def test_a_command_for_a_process_that_is_just_ending(tmp_path: Path) -> None:
    """Its pipes are closed before its end is known."""
    node = NodeProcess(0, tmp_path, [])
    async with open_devnet([node]) as network:
        await network.start(0, [])
        process = node._process
        assert process is not None
        assert process.stdin is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.kill)
            await process.stdin.aclose()
            with pytest.raises(DevnetError, match="node 0 has ended: status -9"):
                await node.mine()


async def test_a_transaction_is_in_the_next_block(tmp_path: Path) -> None:
    vector = load_vectors().transactions[0]
    node = NodeProcess(0, tmp_path, [])
    async with open_devnet([node]) as network:
        await network.start(0, [])
        with pytest.raises(DevnetError, match=r"node 0 has 0 of 1 transactions after 0\.01 s"):
            await node.wait_transactions({vector.id.hex()}, timeout_s=0.01)
        await node.submit(Transaction.parse_untrusted(vector.raw))
        await node.wait_transactions({vector.id.hex()}, timeout_s=WAIT_S)
        assert node.transaction_ids == {vector.id.hex()}
        await node.mine()
        [propagation_s] = node.propagation_s.values()
        assert 0 < propagation_s < WAIT_S


async def test_processes_that_are_told_of_each_other_are_peers(tmp_path: Path) -> None:
    nodes = [NodeProcess(index, tmp_path, []) for index in range(2)]
    async with open_devnet(nodes) as network:
        await network.start(0, [])
        with pytest.raises(DevnetError, match=r"node 0 has 0 of 1 peers after 0\.01 s"):
            await nodes[0].wait_peers(1, timeout_s=0.01)
        await network.start(1, [0])
        for node in nodes:
            await node.wait_peers(1, timeout_s=WAIT_S)
        with trio.fail_after(WAIT_S):
            while (nodes[0].dialed_peers, nodes[1].dialed_peers) != (0, 1):
                await nodes[1].wait_told()
            await nodes[1].mine()
            [tip] = nodes[1].propagation_s
            while [node.status.tip for node in nodes] != [tip, tip]:
                await nodes[0].wait_told()
        assert await network.stop() < WAIT_S
        assert not any(node.is_up for node in nodes)


async def test_a_process_that_is_paused_says_nothing_until_it_goes_on(tmp_path: Path) -> None:
    node = NodeProcess(0, tmp_path, [])
    async with open_devnet([node]) as network:
        await network.start(0, [])
        [pid] = pids_of(tmp_path)
        with trio.fail_after(WAIT_S):
            with node.paused():
                await trio.to_thread.run_sync(wait_stopped, pid, abandon_on_cancel=True)
            await node.mine()
            with node.paused():
                await node.kill()  # which goes through
        with pytest.raises(DevnetError, match="node 0 has ended: status -9"), node.paused():
            pass


def wait_stopped(pid: int) -> None:
    """Until a child is stopped; it stays one to be waited for."""
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


async def test_a_tip_is_known_once_it_is_told_after_its_block(tmp_path: Path) -> None:
    """Both come from tasks of their own, in either order."""
    node = NodeProcess(0, tmp_path, [])
    node._process = object()  # type: ignore[assignment]
    block = {"event": "block", "hash": "bb", "made_ns": 0, "at_ns": 1}
    node._note({"event": "status", "height": 0, "tip": "aa"})
    assert node.status == Status(height=0, tip="aa")
    node._note(block | {"height": 1})
    assert node.status == Status(height=1, tip="")
    node._note({"event": "status", "height": 0, "tip": "aa"})
    assert node.status == Status(height=1, tip="")
    node._note({"event": "status", "height": 1, "tip": "bb"})
    node._note(block | {"height": 1, "hash": "fork"})
    assert node.status == Status(height=1, tip="bb")
    node._note({"event": "status", "height": 2, "tip": "cc"})
    assert node.status == Status(height=1, tip="")


async def test_one_that_does_not_come_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_instead(monkeypatch, "{say}\nsys.stdin.read()", LISTENING)
    monkeypatch.setattr(processes, "START_TIMEOUT_S", 0.01)
    node = NodeProcess(0, tmp_path, [])
    async with open_devnet([node]) as network:
        with pytest.raises(DevnetError) as caught:
            await network.start(0, [])
    assert str(caught.value) == f"node 0 did not come up within 0.01 s (log: {node.log})"
    assert pids_of(tmp_path) == []


async def test_one_that_cannot_even_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = NodeProcess(0, tmp_path, [])
    node.log = tmp_path / "nowhere" / "log"
    async with open_devnet([node]) as network:
        with pytest.raises(DevnetError, match=r"node 0 cannot be started: .*nowhere/log"):
            await network.start(0, [])


async def test_one_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{say}\nwhile True: signal.pause()"
    run_instead(monkeypatch, deaf, LISTENING, status_line())
    monkeypatch.setattr(processes, "STOP_TIMEOUT_S", 0.01)
    monkeypatch.setattr(processes, "POLITE_S", 0.01)
    node = NodeProcess(0, tmp_path, [])
    async with open_devnet([node]) as network:
        await network.start(0, [])
        with pytest.raises(DevnetError, match=r"node 0 did not end within 0\.01 s"):
            await node.stop()
        assert node.is_up
    assert pids_of(tmp_path) == []


async def test_one_that_ends_with_another_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n{say}\nsys.stdin.read()"
    run_instead(monkeypatch, fails, LISTENING, status_line())
    node = NodeProcess(0, tmp_path, [])
    async with open_devnet([node]) as network:
        await network.start(0, [])
        with pytest.raises(DevnetError, match="node 0 has ended: status 3, it said nothing"):
            await node.stop()


async def test_what_earlier_processes_counted_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = status_line(height=7, peers=2, queued=4, acknowledged=5, lost=1)
    run_instead(monkeypatch, "{say}\nsys.stdin.read()", LISTENING, counted)
    node = NodeProcess(0, tmp_path, [])
    async with open_devnet([node]) as network:
        for times in (1, 2, 3):
            await network.start(0, [])
            assert node.status == Status(
                height=7, peers=2, queued=4, acknowledged=5 * times, lost=times
            )
            await node.kill()
            assert not node.is_up
            assert (node.status.acknowledged, node.status.lost) == (5 * times, times)
