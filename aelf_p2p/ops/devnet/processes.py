"""The driver's side of a devnet: its nodes' processes, and what they have told."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from aelf_p2p.core.errors import AelfP2PError
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.keyfile import seal_key, write_key_file
from aelf_p2p.core.single_error import single_error_as_itself
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.ops.devnet.messages import Lines, Status

CHILD = ("-P", "-m", "aelf_p2p.ops.devnet.child")
"""What Python runs; -P: nothing that lies in the working directory."""
START_TIMEOUT_S = 30.0
MINE_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
POLITE_S = 5.0
"""So long may a process take to end when something went wrong; then it is killed."""


class DevnetError(AelfP2PError):
    """A node did not do what it should; the message says which, and what."""


class NodeProcess:
    """One place in a devnet: its key, its data, and its process while it is up.

    Key, data and log are in ``directory``; ``options`` are those of ``aelf-p2p run`` that all nodes
    share.
    """

    def __init__(self, index: int, directory: Path, options: Sequence[str]) -> None:
        self.index = index
        self.data = directory / f"node{index}"
        self.log = directory / f"node{index}.log"
        self.address = ""
        """Where it listens, since it was up first."""
        self.status = Status()
        self.opened_at_height = 0
        """What its chain had when its process began."""
        self.dialed_peers = 0
        """How often a peer was connected that it had dialed."""
        self.transaction_ids: set[str] = set()
        """Of those that it has accepted, in hex."""
        self.propagation_s: dict[str, float] = {}
        """How long each block that it accepted took from its maker's clock to here, by its hash in
        hex."""
        self._options = options
        self._key = directory / f"node{index}.key"
        write_key_file(self._key, seal_key(Identity.generate(), None))
        self._process: trio.Process | None = None
        self._exit_status: int | None = None
        self._may_end = False
        self._before = Status()  # what its processes before this one had counted
        self._told = trio.Event()  # replaced whenever it tells something, or ends

    def __str__(self) -> str:
        return f"node {self.index}"

    @property
    def is_up(self) -> bool:
        """Whether its process runs, and listens."""
        return self._process is not None

    async def live(self, boot_nodes: Sequence[str], *, task_status: trio.TaskStatus[None]) -> None:
        """Run a process until it ends, and tell when it is up. It goes when this is cancelled.

        Raises DevnetError when it does not come up, or ends when it should not.
        """
        self._may_end = False
        process = await self._open(boot_nodes)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with process.stdin, process.stdout:
                try:
                    lines = Lines(process.stdout)
                    while (message := await lines.receive()) is not None:
                        self._note(message)
                        if self._process is None and message["event"] == "status":
                            self._process = process
                            self.opened_at_height = self.status.height
                            task_status.started()
                    await process.wait()
                finally:
                    if process.returncode is None:
                        process.terminate()  # before its pipes close: the signal is what ends it
        finally:
            if process.returncode is None:
                await _end(process)
            was_up = self._process is not None
            self._process, self._exit_status = None, process.returncode
            self._before = replace(self.status, height=0, peers=0, queued=0)
            self._tell()
        if not was_up:
            raise DevnetError(f"{self} did not come up: {self._last_words()}")
        if not self._may_end:
            raise self._is_down()

    async def _open(self, boot_nodes: Sequence[str]) -> trio.Process:
        command = [sys.executable, *CHILD, f"--key={self._key}", f"--data={self.data}"]
        command += ["--listen", "127.0.0.1:0", *self._options]
        if boot_nodes:
            command += ["--boot-node", *boot_nodes]
        try:
            with self.log.open("ab") as log:
                return await trio.lowlevel.open_process(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,  # signals are for the driver, which ends its nodes
                )
        except OSError as error:
            raise DevnetError(f"{self} cannot be started: {error}") from error

    def _note(self, message: dict[str, Any]) -> None:
        match message:
            case {"event": "listening", "address": address}:
                self.address = address
            case {"event": "status", **told}:
                status = Status(**told)
                # all blocks that it accepts are told, those before this status maybe after it
                height = self.status.height if self.is_up else status.height
                self.status = replace(
                    status,
                    height=height,
                    tip=status.tip if status.height == height else "",
                    acknowledged=status.acknowledged + self._before.acknowledged,
                    lost=status.lost + self._before.lost,
                )
            case {"event": "dialed"}:
                self.dialed_peers += 1
            case {"event": "transaction", "id": transaction_id}:
                self.transaction_ids.add(transaction_id)
            case {"event": "block", "height": height, "hash": block_hash, **times}:
                self.propagation_s.setdefault(block_hash, (times["at_ns"] - times["made_ns"]) / 1e9)
                if height > self.status.height:
                    self.status = replace(self.status, height=height, tip="")
        self._tell()

    def _tell(self) -> None:
        self._told.set()
        self._told = trio.Event()

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()
        except OSError as error:
            lines = [f"its log cannot be read: {error.strerror}"]
        words = lines[-1] if lines else "it said nothing"
        return f"status {self._exit_status}, {words} (log: {self.log})"

    # --- what it is told ---

    async def mine(self) -> None:
        """Let it make a block out of its transactions, and wait for that."""
        height = self.status.height + 1
        await self._send({"command": "mine"})
        await self.wait_height(height, timeout_s=MINE_TIMEOUT_S)

    async def submit(self, transaction: Transaction) -> None:
        """Give it a transaction, which it checks and broadcasts."""
        await self._send({"command": "submit", "transaction": transaction.raw.hex()})

    async def _send(self, command: dict[str, str]) -> None:
        process = self._running()
        assert process.stdin is not None
        try:
            await process.stdin.send_all(json.dumps(command).encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._wait_down()
            raise self._is_down() from None

    async def wait_told(self) -> None:
        """Wait until it tells anything, or ends; how things stand it tells four times a second."""
        await self._told.wait()

    async def wait_height(self, height: int, *, timeout_s: float) -> None:
        """Wait until its chain has a height. Raises DevnetError when it ends, or takes too long."""
        await self._wait(
            lambda: self.status.height >= height,
            lambda: f"is at height {self.status.height}, not at {height}",
            timeout_s,
        )

    async def wait_peers(self, count: int, *, timeout_s: float) -> None:
        """Wait until it has so many peers. Raises DevnetError as :meth:`wait_height`."""
        await self._wait(
            lambda: self.status.peers >= count,
            lambda: f"has {self.status.peers} of {count} peers",
            timeout_s,
        )

    async def wait_transactions(self, ids: set[str], *, timeout_s: float) -> None:
        """Wait until it has accepted transactions, by their ids in hex. Raises DevnetError as
        :meth:`wait_height`."""
        await self._wait(
            lambda: self.transaction_ids >= ids,
            lambda: f"has {len(ids & self.transaction_ids)} of {len(ids)} transactions",
            timeout_s,
        )

    async def _wait(
        self, is_true: Callable[[], bool], otherwise: Callable[[], str], timeout_s: float
    ) -> None:
        with trio.move_on_after(timeout_s):
            while not is_true():
                self._running()
                await self._told.wait()
        if not is_true():
            raise DevnetError(f"{self} {otherwise()} after {timeout_s:g} s (log: {self.log})")

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._running().kill()
        self._may_end = True
        await self._wait_down()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """SIGSTOP, and SIGCONT when the block ends, however it does."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    async def stop(self) -> float:
        """Ask it to end, as SIGTERM does; returns the seconds that it took.

        Raises DevnetError when it does not end, or not with status 0.
        """
        began = trio.current_time()
        self._running().terminate()
        self._may_end = True
        with trio.move_on_after(STOP_TIMEOUT_S):
            await self._wait_down()
        if self.is_up:
            raise DevnetError(f"{self} did not end within {STOP_TIMEOUT_S:g} s (log: {self.log})")
        if self._exit_status != 0:
            raise self._is_down()
        return trio.current_time() - began

    async def _wait_down(self) -> None:
        while self.is_up:
            await self._told.wait()

    def _running(self) -> trio.Process:
        if self._process is None:
            raise self._is_down()
        return self._process

    def _is_down(self) -> DevnetError:
        return DevnetError(f"{self} has ended: {self._last_words()}")


async def _end(process: trio.Process) -> None:
    """Politely, if it is; never leaves it behind."""
    with trio.CancelScope(shield=True):
        process.terminate()
        with trio.move_on_after(POLITE_S):
            await process.wait()
            return
        process.kill()
        await process.wait()


class Devnet:
    """The places of a devnet, and the nursery that owns their processes."""

    def __init__(self, nodes: list[NodeProcess], nursery: trio.Nursery) -> None:
        self.nodes = nodes
        self._nursery = nursery

    async def start(self, index: int, boot_nodes: Sequence[int]) -> None:
        """Start a node with others as its boot nodes; again, with the data it had.

        Raises DevnetError when it does not come up in time.
        """
        await self.start_at(index, [self.nodes[other].address for other in boot_nodes])

    async def start_at(self, index: int, addresses: Sequence[str]) -> None:
        """The same, with the addresses of its boot nodes."""
        node = self.nodes[index]
        with trio.move_on_after(START_TIMEOUT_S) as waiting:
            await self._nursery.start(node.live, addresses)
        if waiting.cancelled_caught:
            raise DevnetError(
                f"{node} did not come up within {START_TIMEOUT_S:g} s (log: {node.log})"
            )

    async def stop(self) -> float:
        """Ask all to end at once, as when a machine is shut down; returns how many seconds the last
        one took. Raises DevnetError as each node's ``stop``."""
        took_s: list[float] = []

        async def stop(node: NodeProcess) -> None:
            took_s.append(await node.stop())

        async with trio.open_nursery() as nursery:
            for node in self.nodes:
                nursery.start_soon(stop, node)
        return max(took_s)


@asynccontextmanager
async def open_devnet(nodes: list[NodeProcess]) -> AsyncIterator[Devnet]:
    """A devnet whose processes, none of which is started, end with the block."""
    with single_error_as_itself():
        async with trio.open_nursery() as nursery:
            yield Devnet(nodes, nursery)
            nursery.cancel_scope.cancel()
