"""What happens in a devnet, where it is not the processes that do it."""

from pathlib import Path

import pytest
import trio

from aelf_p2p.ops.devnet import scenario
from aelf_p2p.ops.devnet.messages import Status
from aelf_p2p.ops.devnet.processes import Devnet, NodeProcess
from aelf_p2p.ops.devnet.report import Report
from aelf_p2p.ops.devnet.scenario import Plan

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
