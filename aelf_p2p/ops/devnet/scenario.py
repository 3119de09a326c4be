"""What happens in a devnet: a chain grows, a node joins late, one is killed and comes back."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from aelf_p2p.core.transaction import Transaction
from aelf_p2p.ops.devnet.processes import Devnet
from aelf_p2p.ops.devnet.report import Report, heading, progress
from aelf_p2p.ops.output import tell

PRODUCER = 0
PROGRESS_PERIOD_S = 2.0
CONNECTING_S = 30.0
SETTLING_S = 30.0


@dataclass(frozen=True)
class Plan:
    """Who does what, and when."""

    nodes: int
    blocks: int
    block_interval_s: float
    transactions: Sequence[Transaction]

    @property
    def late(self) -> int:
        """The node that joins after a third of the blocks, and closes the ring."""
        return self.nodes - 1

    @property
    def victim(self) -> int:
        """The node that is killed after half of the blocks, and comes back after three quarters."""
        return self.nodes // 2

    @property
    def steady(self) -> list[int]:
        """Those that are up all the time, the producer left out; transactions come from them."""
        return [index for index in range(1, self.late) if index != self.victim]

    def neighbours(self, index: int) -> list[int]:
        """Those beside a node in the ring."""
        return [(index - 1) % self.nodes, (index + 1) % self.nodes]


async def drive(network: Devnet, plan: Plan, report: Report) -> None:
    """Let the network live until its chain has all blocks, and end it politely.

    Raises DevnetError when a node does not do what it should.
    """
    began = trio.current_time()
    for index in range(plan.late):
        await network.start(index, [index - 1] if index else [])
        tell(f"node {index} listens on {network.nodes[index].address}")
    for index in range(plan.late):
        neighbours = 1 if index in (0, plan.late - 1) else 2  # the late one will close the ring
        await network.nodes[index].wait_peers(neighbours, timeout_s=CONNECTING_S)
    tell(heading(network.nodes))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_show_progress, network, began)
        await _grow_chain(network, plan, report)
        for node in network.nodes:
            await node.wait_height(plan.blocks, timeout_s=SETTLING_S)
        nursery.cancel_scope.cancel()
    tell(progress(network.nodes, trio.current_time() - began))
    report.expected_deliveries = plan.blocks * len(plan.steady)
    for index in plan.steady:
        report.propagation_s += network.nodes[index].propagation_s.values()
    report.stopped = f"all with status 0, within {await network.stop():.2f} s"


async def _show_progress(network: Devnet, began: float) -> None:
    while True:
        tell(progress(network.nodes, trio.current_time() - began))
        await trio.sleep(PROGRESS_PERIOD_S)


async def _grow_chain(network: Devnet, plan: Plan, report: Report) -> None:
    rng = random.Random(plan.nodes)
    producer = network.nodes[PRODUCER]
    unsent = list(plan.transactions)[::-1]
    back_at = plan.blocks * 3 // 4
    share = -(-len(unsent) // back_at)
    for height in range(1, plan.blocks + 1):
        await trio.sleep(plan.block_interval_s)
        for _ in range(min(share, len(unsent))):
            await network.nodes[rng.choice(plan.steady)].submit(unsent.pop())
        if height == plan.blocks:  # which takes all that are left
            ids = {transaction.id.hex() for transaction in plan.transactions}
            await producer.wait_transactions(ids, timeout_s=SETTLING_S)
        await producer.mine()
        if height == plan.blocks // 3:
            report.late = await _catch_up(network, plan, plan.late)
        elif height == plan.blocks // 2:
            await _kill(network, plan)
        elif height == back_at:
            report.back = await _come_back(network, plan, report)


async def _catch_up(network: Devnet, plan: Plan, index: int) -> str:
    """Start a node, and wait until it has what the producer has; tells how long that took."""
    node = network.nodes[index]
    await network.start(index, plan.neighbours(index))
    began = trio.current_time()
    goal = network.nodes[PRODUCER].status.height
    missing = goal - node.opened_at_height
    tell(f"{node} joins with {node.opened_at_height} blocks, {missing} behind")
    await node.wait_height(goal, timeout_s=SETTLING_S)
    took_s = trio.current_time() - began
    for neighbour in (index, *plan.neighbours(index)):  # the ring is closed
        await network.nodes[neighbour].wait_peers(2, timeout_s=CONNECTING_S)
    return f"caught up with {missing} blocks in {took_s:.2f} s"


async def _kill(network: Devnet, plan: Plan) -> None:
    victim = network.nodes[plan.victim]
    await victim.wait_height(network.nodes[PRODUCER].status.height, timeout_s=SETTLING_S)
    await victim.kill()
    tell(f"{victim} is killed (-9) at height {victim.status.height}")


async def _come_back(network: Devnet, plan: Plan, report: Report) -> str:
    victim = network.nodes[plan.victim]
    accepted = victim.status.height
    caught_up = await _catch_up(network, plan, plan.victim)
    if victim.opened_at_height < accepted:
        report.faults.append(
            f"{victim} had accepted {accepted} blocks when it was killed, and came back with "
            f"{victim.opened_at_height}"
        )
    return f"opened again at height {victim.opened_at_height}, {caught_up}"
