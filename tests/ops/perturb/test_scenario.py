"""What happens in a network under faults, where it is not the processes that do it."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.core.transaction import Transaction
from aelf_p2p.ops.devnet.messages import Status
from aelf_p2p.ops.devnet.processes import Devnet, NodeProcess
from aelf_p2p.ops.perturb.faults import Fault, Kind
from aelf_p2p.ops.perturb.links import Links
from aelf_p2p.ops.perturb.report import Report
from aelf_p2p.ops.perturb.scenario import Plan, Scenario
from tests.chain.made import signed_transaction


class FakeNode:
    """Does at once what it is told, and notes it. It has a block as soon as another node made it,
    unless it is in trouble or ``stays_behind``."""

    def __init__(self, index: int, network: "FakeNetwork") -> None:
        self.index = index
        self.network = network
        self.status = Status(peers=1)
        self.is_up = False
        self.in_trouble = False
        self.stays_behind = False
        self.forgets = 0
        self.opened_at_height = 0
        self.dialed_peers = 0

    def __str__(self) -> str:
        return f"node {self.index}"

    def note(self, what: str) -> None:
        self.network.noted.append((round(trio.current_time(), 3), what, self.index))

    def come_back(self) -> None:
        self.in_trouble = False
        if not self.stays_behind:
            self.status = replace(self.status, height=self.network.height, tip="tip")

    async def kill(self) -> None:
        self.note("kill")
        self.is_up, self.in_trouble = False, True

    async def stop(self) -> float:
        self.note("stop")
        self.is_up, self.in_trouble = False, True
        return 0.1

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.note("pause")
        self.in_trouble = True
        yield
        self.note("go on")
        self.come_back()

    async def mine(self) -> None:
        assert self.is_up
        assert not self.in_trouble
        self.note("mine")
        self.network.height = self.status.height + 1
        for node in self.network.nodes:
            if node.is_up and not node.in_trouble:
                node.come_back()

    async def submit(self, transaction: Transaction) -> None:
        assert self.is_up
        assert not self.in_trouble
        self.note("submit")

    async def wait_peers(self, count: int, *, timeout_s: float) -> None:
        self.dialed_peers += 1

    async def wait_told(self) -> None:
        await trio.sleep(0.25)


class FakeNetwork:
    """A devnet of such nodes, and the links between them."""

    def __init__(self, count: int) -> None:
        self.noted: list[tuple[float, str, int]] = []
        self.height = 0
        self.nodes = [FakeNode(index, self) for index in range(count)]

    def boot_nodes(self, index: int) -> list[str]:
        return [f"127.0.0.1:{7000 + other}" for other in range(index)]

    @contextmanager
    def cut(self, index: int) -> Iterator[None]:
        node = self.nodes[index]
        node.note("cut")
        node.in_trouble = True
        yield
        node.note("mend")
        node.come_back()

    async def start_at(self, index: int, addresses: Sequence[str]) -> None:
        assert addresses == self.boot_nodes(index)
        node = self.nodes[index]
        node.note("start")
        node.opened_at_height = node.status.height - node.forgets
        node.is_up = True
        node.come_back()

    async def stop(self) -> float:
        return 0.3

    def done_to(self, index: int) -> list[tuple[float, str]]:
        return [
            (at, what)
            for at, what, node in self.noted
            if node == index and at > 0 and what not in ("mine", "submit")
        ]


def scenario(network: FakeNetwork, plan: Plan, report: Report) -> Scenario:
    devnet, links = cast(Devnet, network), cast(Links, network)
    return Scenario(devnet, links, plan, report, random.Random(1))


FAULTS = [
    Fault(Kind.KILL, 1, 1.0, 2.0),
    Fault(Kind.PAUSE, 2, 2.0, 8.0),
    Fault(Kind.DISCONNECT, 3, 4.0, 1.5),
    Fault(Kind.RESTART, 1, 5.0, 0.5),
]
PLAN = Plan(FAULTS, block_interval_s=0.7, deadline_s=20.0, transactions=[])


async def test_faults_are_inflicted_and_healed(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    network, report = FakeNetwork(7), Report()
    transactions = [signed_transaction() for _ in range(20)]
    await scenario(network, replace(PLAN, transactions=transactions), report).drive()
    assert network.done_to(1) == [(1.0, "kill"), (3.0, "start"), (5.0, "stop"), (5.5, "start")]
    assert network.done_to(2) == [(2.0, "pause"), (10.0, "go on")]
    assert network.done_to(3) == [(4.0, "cut"), (5.5, "mend")]
    assert network.done_to(0) == []
    # Blocks all the time, and three more once the last fault is over, at 10 s.
    mined = [at for at, what, _ in network.noted if what == "mine"]
    assert mined == pytest.approx([0.7 * turn for turn in range(1, 18)])
    producers = {node for _, what, node in network.noted if what == "mine"}
    assert len(producers) > 3
    # A transaction each time, as long as blocks may still take it.
    submitted = [at for at, what, _ in network.noted if what == "submit"]
    assert submitted == mined[:14]
    assert report.submitted == {transaction.id for transaction in transactions[:14]}
    assert report.failures == []
    assert report.inflicted == dict.fromkeys(Kind, 1)
    assert report.settled == "1.90 s after the last fault"
    assert report.blocks == "17 made, 0 turns passed over"
    assert report.connections == "7 at the start, 0 made again"
    assert report.stopped == "all with status 0, within 0.30 s"
    said = capsys.readouterr().err
    assert "   1.0s  node 1: kill, 2.0 s" in said
    assert "  10.0s  node 2: pause is over, at height " in said


async def test_a_fault_waits_for_the_one_before_it_on_the_same_node(
    autojump_clock: MockClock,
) -> None:
    """A restart takes longer than planned: nobody can plan how long a process takes to start."""
    network = FakeNetwork(4)
    faults = [Fault(Kind.PAUSE, 2, 1.0, 5.0), Fault(Kind.KILL, 2, 3.0, 1.0)]
    await scenario(network, replace(PLAN, faults=faults), Report()).drive()
    assert network.done_to(2) == [(1.0, "pause"), (6.0, "go on"), (6.0, "kill"), (7.0, "start")]


async def test_a_node_that_comes_back_with_less_is_a_failure(autojump_clock: MockClock) -> None:
    network, report = FakeNetwork(7), Report()
    network.nodes[1].forgets = 1
    await scenario(network, replace(PLAN, faults=FAULTS[:1]), report).drive()
    assert report.failures == ["node 1 had accepted 1 blocks, and came back with 0"]


async def test_a_node_that_stays_behind_is_a_failure(autojump_clock: MockClock) -> None:
    network, report = FakeNetwork(4), Report()
    network.nodes[3].stays_behind = True
    await scenario(network, PLAN, report).drive()
    assert trio.current_time() == pytest.approx(10 + 20)
    [failure] = report.failures
    assert failure.startswith("20 s after the last fault the nodes are at [")
    assert failure.endswith(", 0], with the tips ['', 'tip']")
    assert report.settled == "was not reached"
    assert report.stopped == "all with status 0, within 0.30 s"


@pytest.mark.parametrize(
    ("heights", "busy", "may_be"),
    [
        ([5, 5, 5, 5, 5], [], {0, 1, 2, 3, 4}),
        ([5, 5, 5, 5, 5], [1, 3], {0, 2, 4}),
        ([6, 5, 5, 5, 5], [], {None}),  # a block that nobody else has yet
        ([6, 6, 5, 5, 5], [], {None}),
        ([6, 6, 6, 5, 5], [], {0, 1, 2}),
        ([6, 6, 6, 5, 5], [0], {1, 2}),  # which has it on its disk
        ([9, 5, 5, 5, 5], [0], {1, 2, 3, 4}),  # it was alone with that when its trouble began
        ([5, 5, 5, 5, 5], [0, 1, 2, 3, 4], {None}),
    ],
)
def test_who_may_make_the_next_block(
    heights: list[int], busy: list[int], may_be: set[int | None]
) -> None:
    network = FakeNetwork(len(heights))
    for node, height in zip(network.nodes, heights, strict=True):
        node.status = Status(height=height)

    async def producers() -> set[int | None]:
        found = scenario(network, PLAN, Report())
        for index in busy:
            await found._turns[index].acquire()
        chosen: list[NodeProcess | None] = [found._next_producer() for _ in range(200)]
        return {None if node is None else node.index for node in chosen}

    assert trio.run(producers) == may_be
