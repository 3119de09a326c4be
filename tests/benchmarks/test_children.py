"""Processes of a benchmark: their failures are told, and none outlives its parent."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.children import Child, ChildError, Children
from benchmarks.environments import ROOT, Environment
from benchmarks.sinks import connect

NODE_SETUP = {
    "workload": {"peers": 1, "payload_bytes": 300, "messages": 1, "tls": False},
    "transport": "tcp",
}


def start_node(children: Children) -> Child:
    """A worker that listens and waits for questions."""
    node = children.start("the node", "fanout_ours", NODE_SETUP)
    assert isinstance(node.receive(), int)
    return node


def is_running(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    with suppress(FileNotFoundError, ProcessLookupError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] not in "ZX"
    return False


def wait_gone(pid: int) -> None:
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            ended, _, _ = select.select([descriptor], [], [], 20)
        finally:
            os.close(descriptor)
        assert ended, f"{pid} is still there"


def test_a_child_ends_with_its_block() -> None:
    with Children() as children:
        pid = start_node(children).pid
        assert is_running(pid)
    assert not is_running(pid)


def test_a_child_ends_with_its_block_when_that_fails() -> None:
    def fail(children: Children) -> None:
        pids.append(start_node(children).pid)
        raise RuntimeError("the benchmark is wrong")

    pids: list[int] = []
    with pytest.raises(RuntimeError, match="wrong"), Children() as children:
        fail(children)
    assert not is_running(pids[0])


def test_a_child_that_fails_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    with Children() as children:
        sinks = children.start("the sinks", "sinks", {"address": 1, "peers": 1})
        with pytest.raises(ChildError, match="the sinks has failed"):
            sinks.receive()
    assert "KeyError" in capfd.readouterr().err


def test_a_child_that_is_killed_says_so_at_the_next_question() -> None:
    with Children() as children:
        node = start_node(children)
        os.kill(node.pid, signal.SIGKILL)
        wait_gone(node.pid)
        with pytest.raises(ChildError, match=r"the node (is gone|has failed)"):
            node.ask("round")


def test_a_child_that_says_nothing_is_not_waited_for_without_end() -> None:
    with Children() as children:
        node = start_node(children)
        with pytest.raises(ChildError, match="the node has not answered for 0 s"):
            node.receive(timeout_s=0.1)


def test_an_environment_that_is_not_there_has_nothing() -> None:
    nowhere = Environment(".venv-none", ROOT / ".venv-none/bin/python", (), ".venv-none/installed")
    assert nowhere.missing(["purerpc"]) == (
        "purerpc not installed in .venv-none (make .venv-none/installed)"
    )


BUSY_PARENT = """
from benchmarks.children import Children

with Children() as children:
    sender = children.start("the sender", "fanout_frames", {setup})
    print(sender.pid, sender.receive(), flush=True)
    input()
    sender.ask("round")
"""


def test_a_child_in_the_middle_of_its_work_ends_behind_a_parent_that_was_killed() -> None:
    """It waits for an acknowledgement that does not come, and looks at no question."""
    script = BUSY_PARENT.format(setup=NODE_SETUP)
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        pid, port = map(int, parent.stdout.readline().split())
        (sink,) = connect(port, 1, tls=False, wire="grpc")
        print(file=parent.stdin, flush=True)
        assert sink.socket.recv(1, socket.MSG_PEEK)  # the round has begun
        parent.kill()
    wait_gone(pid)
    sink.socket.close()


def start_benchmark() -> tuple[subprocess.Popen[str], list[int]]:
    """A benchmark of some minutes in a group of its own, and its processes, at work."""
    command = ["fanout", "--plain", "--messages", "1000", "--rounds", "100000", "--contenders"]
    parent = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *command, "aelf-p2p tcp"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert parent.stderr is not None
    for line in parent.stderr:
        if line.startswith("round 1 "):
            break
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    return parent, [int(pid) for pid in children.read_text().split()]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda parent: os.killpg(parent.pid, signal.SIGINT), 130),  # as Ctrl-C does
        (lambda parent: parent.terminate(), 128 + signal.SIGTERM),
        (lambda parent: parent.kill(), -signal.SIGKILL),
    ],
    ids=["Ctrl-C", "SIGTERM", "SIGKILL"],
)
def test_nothing_is_left_of_a_benchmark_that_is_ended(
    end: Callable[[subprocess.Popen[str]], None], status: int
) -> None:
    parent, pids = start_benchmark()
    assert len(pids) == 2
    end(parent)
    _, errors = parent.communicate(timeout=30)
    assert parent.returncode == status
    for pid in pids:
        wait_gone(pid)
    if status > 0:
        assert "Traceback" not in errors
