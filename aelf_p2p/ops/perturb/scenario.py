"""What happens in a network under faults: nodes are in trouble while blocks are made, and find
together again."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from aelf_p2p.core.transaction import Transaction
from aelf_p2p.ops.devnet.processes import Devnet, NodeProcess
from aelf_p2p.ops.devnet.report import heading, progress
from aelf_p2p.ops.output import say
from aelf_p2p.ops.perturb.faults import Fault, Kind
from aelf_p2p.ops.perturb.links import Links
from aelf_p2p.ops.perturb.report import Report

PROGRESS_PERIOD_S = 2.0
CONNECTING_S = 30.0
BLOCKS_AFTER = 3
"""So many more are made when the last fault is over."""


@dataclass(frozen=True)
class Plan:
    """What is to happen; times are seconds."""

    faults: Sequence[Fault]
    block_interval_s: float
    deadline_s: float
    """How long after the last fault all are to be at one height."""
    transactions: Sequence[Transaction]


class Scenario:
    """A network that lives through a plan."""

    def __init__(
        self, network: Devnet, links: Links, plan: Plan, report: Report, rng: random.Random
    ) -> None:
        self._network = network
        self._nodes = network.nodes
        self._links = links
        self._plan = plan
        self._report = report
        self._rng = rng
        self._unsent = list(plan.transactions)[::-1]
        # Held by what a node is busy with: a fault, or what it was told to do.
        self._turns = [trio.Lock() for _ in self._nodes]
        self._is_over = False
        self._began = trio.current_time()

    async def drive(self) -> None:
        """Start the nodes, live through the plan, and end politely.

        Raises DevnetError when a process does not do what it should; what else goes wrong is in
        the report's ``failures``.
        """
        for node in self._nodes:
            await self._start(node)
        for node in self._nodes:
            await node.wait_peers(1, timeout_s=CONNECTING_S)
        dialed_before = self._dialed_peers()
        say(heading(self._nodes))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._show_progress)
            await self._live()
            nursery.cancel_scope.cancel()
        again = self._dialed_peers() - dialed_before
        self._report.connections = f"{dialed_before} at the start, {again} made again"
        self._report.stopped = f"all with status 0, within {await self._network.stop():.2f} s"

    async def _live(self) -> None:
        """The faults and the blocks, and how long it takes until all nodes have the same chain."""
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._make_blocks)
                await self._inflict_all()
                ended = trio.current_time()
                scope.deadline = ended + self._plan.deadline_s
                self._is_over = True
                self._say("the last fault is over")
            while len(self._tips()) > 1 or not all(self._tips()):
                await self._nodes[0].wait_told()  # as often as any other
            took_s = trio.current_time() - ended
            self._report.settled = f"{took_s:.2f} s after the last fault"
        say(progress(self._nodes, self._elapsed_s()))
        if scope.cancelled_caught:
            heights = [node.status.height for node in self._nodes]
            tips = sorted(tip[:8] for tip in self._tips())
            self._report.failures.append(
                f"{self._plan.deadline_s:g} s after the last fault the nodes are at {heights}, "
                f"with the tips {tips}"
            )

    def _tips(self) -> set[str]:
        return {node.status.tip for node in self._nodes}

    # --- blocks ---

    async def _make_blocks(self) -> None:
        turns = made = made_after = 0
        while made_after < BLOCKS_AFTER:
            await trio.sleep(self._plan.block_interval_s)
            turns += 1
            if (producer := self._next_producer()) is not None:
                async with self._turns[producer.index]:
                    await producer.mine()
                made += 1
                made_after += self._is_over
            if self._unsent and not self._is_over and (calm := self._calm()):
                sender = self._rng.choice(calm)
                async with self._turns[sender.index]:
                    await sender.submit(transaction := self._unsent.pop())
                self._report.submitted.add(transaction.id)
            self._report.blocks = f"{made} made, {turns - made} turns passed over"

    def _next_producer(self) -> NodeProcess | None:
        """One of those at the tip. None while most nodes do not have it yet.

        There is no consensus that keeps a node which is alone, or far behind, from making blocks;
        without any, eight blocks on a fork of its own are irreversible to it.
        """
        calm = self._calm()
        tip_height = max((node.status.height for node in calm), default=0)
        at_tip = [node for node in calm if node.status.height == tip_height]
        holders = sum(node.status.height >= tip_height for node in self._nodes)
        return self._rng.choice(at_tip) if at_tip and holders * 2 > len(self._nodes) else None

    def _calm(self) -> list[NodeProcess]:
        return [node for node in self._nodes if not self._turns[node.index].locked()]

    # --- faults ---

    async def _inflict_all(self) -> None:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for fault in self._plan.faults:
                await trio.sleep_until(began + fault.at_s)
                nursery.start_soon(self._inflict, fault)

    async def _inflict(self, fault: Fault) -> None:
        node = self._nodes[fault.node]
        async with self._turns[fault.node]:
            self._say(f"{node}: {fault.kind.value}, {fault.lasts_s:.1f} s")
            match fault.kind:
                case Kind.KILL:
                    await node.kill()
                    await self._come_back(node, fault.lasts_s)
                case Kind.RESTART:
                    await node.stop()
                    await self._come_back(node, fault.lasts_s)
                case Kind.PAUSE:
                    with node.paused():
                        await trio.sleep(fault.lasts_s)
                case Kind.DISCONNECT:
                    with self._links.cut(fault.node):
                        await trio.sleep(fault.lasts_s)
            self._say(f"{node}: {fault.kind.value} is over, at height {node.status.height}")
        self._report.inflicted[fault.kind] += 1

    async def _come_back(self, node: NodeProcess, after_s: float) -> None:
        accepted = node.status.height
        await trio.sleep(after_s)
        await self._start(node)
        if node.opened_at_height < accepted:
            self._report.failures.append(
                f"{node} had accepted {accepted} blocks, and came back with {node.opened_at_height}"
            )

    # --- the rest ---

    async def _start(self, node: NodeProcess) -> None:
        await self._network.start_at(node.index, self._links.boot_nodes(node.index))

    def _dialed_peers(self) -> int:
        return sum(node.dialed_peers for node in self._nodes)

    async def _show_progress(self) -> None:
        while True:
            say(progress(self._nodes, self._elapsed_s()))
            await trio.sleep(PROGRESS_PERIOD_S)

    def _elapsed_s(self) -> float:
        return trio.current_time() - self._began

    def _say(self, what: str) -> None:
        say(f"{self._elapsed_s():6.1f}s  {what}")
