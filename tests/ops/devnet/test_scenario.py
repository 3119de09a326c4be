"""What happens in a devnet, where it is not the processes that do it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from aelf_p2p.core.transaction import Transaction
from aelf_p2p.ops.devnet import scenario
from aelf_p2p.ops.devnet.messages import Status
from aelf_p2p.ops.devnet.processes import Devnet, NodeProcess
from aelf_p2p.ops.devnet.report import Report
from aelf_p2p.ops.devnet.scenario import Plan
from tests.chain.made import signed_transaction

PLAN = Plan(nodes=7, blocks=200, block_interval_s=1.0, transactions=[])


def test_who_does_what() -> None:
    assert (PLAN.late, PLAN.victim, PLAN.steady) == (6, 3, [1, 2, 4, 5])
    assert [PLAN.neighbours(index) for index in (0, 3, 6)] == [[6, 1], [2, 4], [5, 0]]
    smallest = Plan(nodes=4, blocks=10, block_interval_s=1.0, transactions=[])
    assert (smallest.late, smallest.victim, smallest.steady) == (3, 2, [1])


@pytest.mark.parametrize("opened_at", [98, 99, 100])
async def test_a_node_that_comes_back_has_all_that_it_had(
    opened_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [NodeProcess(index, tmp_path, []) for index in range(PLAN.nodes)]
    victim = nodes[PLAN.victim]
    victim.status = Status(height=99)

    async def catch_up(network: Devnet, plan: Plan, index: int) -> str:
        assert network.nodes[index] is victim
        victim.opened_at_height = opened_at
        victim.status = Status(height=150)
        return "caught up"

    monkeypatch.setattr(scenario, "_catch_up", catch_up)
    report = Report()
    async with trio.open_nursery() as nursery:
        said = await scenario._come_back(Devnet(nodes, nursery), PLAN, report)
    assert said == f"opened again at height {opened_at}, caught up"
    lost = ["node 3 had accepted 99 blocks when it was killed, and came back with 98"]
    assert report.faults == (lost if opened_at == 98 else [])


class Recorder:
    """Nodes that do at once whatever they are told, and a list of it."""

    def __init__(self, plan: Plan) -> None:
        self.said: list[tuple[object, ...]] = []
        self.nodes: Any = [RecordedNode(index, self.said) for index in range(plan.nodes)]


@dataclass
class RecordedNode:
    index: int
    said: list[tuple[object, ...]]

    async def mine(self) -> None:
        self.said.append(("mine", self.index))

    async def submit(self, transaction: Transaction) -> None:
        self.said.append(("submit", self.index, transaction.id.hex()))

    async def wait_transactions(self, ids: set[str], *, timeout_s: float) -> None:
        self.said.append(("wait", self.index, frozenset(ids)))


@pytest.mark.parametrize("blocks", [10, 200])
async def test_the_order_of_things(
    blocks: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    transactions = [signed_transaction() for _ in range(64)]
    plan = replace(PLAN, blocks=blocks, transactions=transactions)
    network = Recorder(plan)
    for name in ("_catch_up", "_kill", "_come_back"):

        async def note(*arguments: object, event: str = name) -> str:
            network.said.append((event,))
            return f"{event} at {network.said.count(('mine', 0))}"

        monkeypatch.setattr(scenario, name, note)
    report = Report()
    await scenario._grow_chain(cast(Devnet, network), plan, report)
    assert trio.current_time() == pytest.approx(blocks)
    said = network.said
    assert said.count(("mine", 0)) == blocks
    assert report.late == f"_catch_up at {blocks // 3}"
    assert report.back == f"_come_back at {blocks * 3 // 4}"
    assert said[: said.index(("_kill",))].count(("mine", 0)) == blocks // 2
    sent = [each for each in said if each[0] == "submit"]
    ids = [transaction.id.hex() for transaction in transactions]
    assert [each[2] for each in sent] == ids
    assert {each[1] for each in sent} == set(plan.steady)
    # The last block is made when its maker has all of them, which were sent long before.
    assert said[-2:] == [("wait", 0, frozenset(ids)), ("mine", 0)]
    assert said[said.index(sent[-1]) :].count(("mine", 0)) >= blocks // 4
