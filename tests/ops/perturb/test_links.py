"""Who dials whom, and what is cut."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from aelf_p2p.ops.perturb import links as links_module
from aelf_p2p.ops.perturb.links import Links


@dataclass
class Place:
    """As much of a node as links ask for."""

    address: str
    is_up: bool = True


def places(count: int) -> Any:
    return [Place(f"127.0.0.1:{7000 + index}") for index in range(count)]


async def test_each_dials_three_of_those_before_it_over_relays_of_its_own() -> None:
    nodes = places(10)
    links = Links(nodes, random.Random(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(links.run)
        dialed = [links.boot_nodes(index) for index in range(10)]
        nursery.cancel_scope.cancel()
    assert [len(addresses) for addresses in dialed] == [0, 1, 2, 3, 3, 3, 3, 3, 3, 3]
    addresses = [address for each in dialed for address in each]
    assert len(set(addresses)) == len(addresses) == 24
    assert not {node.address for node in nodes} & set(addresses)


class NotedRelay:
    """Notes whether it is cut; leads where it is told."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.cuts = 0

    @contextmanager
    def cut(self) -> Iterator[None]:
        self.cuts += 1
        yield
        self.cuts -= 1


def test_a_node_is_cut_off_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "Relay", NotedRelay)
    nodes = places(4)  # so few that each dials all before it
    relays: Any = (links := Links(nodes, random.Random(1)))._relays
    assert set(relays) == {(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)}
    assert relays[3, 1].target() == nodes[1].address
    nodes[1].is_up = False
    assert relays[3, 1].target() is None
    with ExitStack() as cuts:
        cuts.enter_context(links.cut(1))
        assert {ends for ends, relay in relays.items() if relay.cuts} == {(1, 0), (2, 1), (3, 1)}
        cuts.enter_context(links.cut(2))
        assert relays[2, 1].cuts == 2
        assert relays[3, 0].cuts == 0
    assert not any(relay.cuts for relay in relays.values())
