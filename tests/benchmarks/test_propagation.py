"""A network in virtual time: who dials whom, and that the same seed gives the same run."""

import random
from collections import Counter

from benchmarks.propagation import spreading
from benchmarks.propagation_network import SLOWEST_S, Phase, links, run_network


def _virtual(**setup: int) -> list[tuple[float, tuple[float, ...]]]:
    """What is virtual of each phase: how long it took, and the arrivals."""
    phases: list[Phase] = []
    run_network(phases.append, **setup)
    return [(phase.virtual_s, phase.arrivals_s) for phase in phases]


def test_each_node_dials_as_many_and_no_two_each_other() -> None:
    found = list(links(30, 8, random.Random(1)))
    assert Counter(node for node, _ in found) == dict.fromkeys(range(30), 8)
    assert len({frozenset(link) for link in found}) == len(found)
    assert all(node != other for node, other in found)


def test_in_a_small_network_each_two_are_linked_once() -> None:
    found = {frozenset(link) for link in links(4, 8, random.Random(1))}
    assert len(found) == 6


def test_a_block_reaches_everyone_at_the_pace_of_the_links() -> None:
    connected, block, other, closed = _virtual(nodes=8, outbound=2, blocks=2, seed=3)
    for _, arrivals_s in (block, other):
        assert len(arrivals_s) == 7
        assert 0 < min(arrivals_s) <= max(arrivals_s) < 7 * 3 * SLOWEST_S
    assert connected[1] == closed[1] == ()


def test_the_same_seed_gives_the_same_run() -> None:
    run = _virtual(nodes=6, outbound=2, blocks=1, seed=3)
    assert run == _virtual(nodes=6, outbound=2, blocks=1, seed=3)
    assert run != _virtual(nodes=6, outbound=2, blocks=1, seed=4)


def test_rows_have_a_round_for_each_block() -> None:
    found = {row.figure: row for row in spreading([[0.1, 0.2, 0.6], [0.3]], {"nodes": 4})}
    assert found["p50 (virtual)"].rounds == (200.0, 300.0)
    assert found["last (virtual)"].rounds == (600.0, 300.0)
    assert found["arrival (virtual)"].rounds == (300.0, 300.0)
    assert found["arrival (virtual)"].samples == (100.0, 200.0, 600.0, 300.0)
