"""Whether to sync, and to what height."""

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aelf_p2p.core.sync_target import SyncState, choose_target


@pytest.mark.parametrize(
    ("peer_libs", "target"),
    [
        ([], None),
        ([15, 15], 15),
        ([5, 15], None),
        ([10], 10),
        ([9], None),
        ([20, 12, 9], 12),
        ([20, 9, 9], None),
        ([30, 20, 12, 9], 12),
        ([30, 20, 9, 9], None),
        ([30, 20, 12, 11, 9], 11),
        ([30, 20, 12, 9, 9], None),  # ⌈10/3⌉ are 4
        ([30, 20, 12, 11, 9, 9], 11),
    ],
)
def test_known_cases(peer_libs: list[int], target: int | None) -> None:
    assert choose_target(0, peer_libs, 10) == target


def test_the_networks_distance() -> None:
    assert choose_target(1000, [1511, 1511], 512) is None
    assert choose_target(1000, [1512, 1512], 512) == 1512


@given(
    st.integers(0, 10**9), st.lists(st.integers(0, 30), max_size=12), st.integers(1, 12), st.data()
)
@example(5, [], 1, None)
def test_two_thirds_must_be_ahead(
    own: int, offsets: list[int], distance: int, data: st.DataObject | None
) -> None:
    libs = [own + offset for offset in offsets]
    ahead = [own + offset for offset in offsets if offset >= distance]
    enough = ahead and len(ahead) >= ceil(Fraction(2, 3) * len(libs))
    assert choose_target(own, libs, distance) == (min(ahead) if enough else None)
    if data is not None:
        shuffled = data.draw(st.permutations(libs))
        assert choose_target(own, shuffled, distance) == choose_target(own, libs, distance)


def test_the_states() -> None:
    assert [state.value for state in SyncState] == ["not started", "syncing", "finished"]
