"""Which faults come when: a pure function of the seed."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.ops.perturb.faults import Fault, Kind, plan_faults

SEEDS = st.integers(0, 2**63 - 1)
NODES = st.integers(4, 40)
COUNTS = st.integers(4, 60)
BOUNDS_S = {
    Kind.KILL: (0.2, 3),
    Kind.PAUSE: (1, 8),
    Kind.DISCONNECT: (1, 5),
    Kind.RESTART: (0.2, 3),
}


def planned(seed: int, nodes: int, count: int) -> list[Fault]:
    return plan_faults(nodes, count, random.Random(seed))


@given(SEEDS, NODES, COUNTS)
def test_every_kind_is_there_and_all_times_are_bounded(seed: int, nodes: int, count: int) -> None:
    faults = planned(seed, nodes, count)
    assert len(faults) == count
    assert set(Counter(fault.kind for fault in faults)) == set(BOUNDS_S)
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)
    long_ones = 0
    for fault in faults:
        least, most = BOUNDS_S[fault.kind]
        assert 0 <= fault.node < nodes
        if fault.lasts_s > most:  # longer than 20 s of silence, and 10 s for an answer
            assert fault.kind is Kind.PAUSE
            assert 31 <= fault.lasts_s <= 35
            long_ones += 1
        else:
            assert least <= fault.lasts_s
    assert long_ones == (1 if count >= 10 else 0)


@given(SEEDS, NODES, COUNTS)
def test_nodes_are_left_alone_often_enough(seed: int, nodes: int, count: int) -> None:
    faults = planned(seed, nodes, count)
    for number, fault in enumerate(faults):
        under_way = [other for other in faults[:number] if other.at_s + other.lasts_s > fault.at_s]
        # a third at most, this one counted; of four and five nodes, one
        assert (len(under_way) + 1) * 3 <= max(nodes, 3)
        for other in faults[:number]:
            if other.node == fault.node:
                assert other.at_s + other.lasts_s + 1.9 < fault.at_s


@given(SEEDS)
def test_the_same_seed_gives_the_same_plan(seed: int) -> None:
    assert planned(seed, 10, 20) == planned(seed, 10, 20)


def test_another_seed_gives_another_plan() -> None:
    plans = [tuple(planned(seed, 10, 20)) for seed in range(50)]
    assert len(set(plans)) == len(plans)
    assert {fault.node for plan in plans for fault in plan} == set(range(10))
