"""When a peer that says it is further, and gave nothing, is asked again."""

import math

from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.unmet_claims import UnmetClaims

A, B = b"a" * 65, b"b" * 65


def times_asked(claims: UnmetClaims, heights: dict[bytes, int], *, until: float) -> list[float]:
    """When A is asked, if the caller always comes back when the table says so."""
    asked: list[float] = []
    now = 0.0
    while now <= until:
        if claims.take_due(heights, 10, now) == A:
            asked.append(now)
        now = claims.next_due_at
    return asked


def test_twice_as_long_each_time_and_twelve_times_at_most() -> None:
    claims = UnmetClaims(5.0)
    waits = [5, 10, 20, 40, 80, 80, 80, 80, 80, 80, 80, 80]
    expected = [float(sum(waits[: number + 1])) for number in range(12)]
    assert times_asked(claims, {A: 11}, until=1e9) == expected
    assert claims.next_due_at == math.inf
    assert claims.take_due({A: 11}, 10, 1e9) is None
    assert claims.take_due({A: 12}, 10, 1e9) is None  # another claim: it begins anew
    assert claims.next_due_at == 1e9 + 5
    assert claims.take_due({A: 12}, 10, 1e9 + 5) == A


def test_nothing_is_asked_before_its_time() -> None:
    claims = UnmetClaims(5.0)
    assert claims.next_due_at == math.inf
    assert claims.take_due({A: 11, B: 10}, 10, 100.0) is None
    assert claims.next_due_at == 105.0
    assert claims.take_due({A: 11, B: 11}, 10, 104.9) is None
    assert claims.take_due({A: 11, B: 11}, 10, 105.0) == A
    assert claims.take_due({A: 11, B: 11}, 10, 109.8) is None
    assert claims.take_due({A: 11, B: 11}, 10, 109.9) == B


def test_one_at_a_time() -> None:
    claims = UnmetClaims(5.0)
    assert claims.take_due({A: 11, B: 11}, 10, 0.0) is None
    assert claims.take_due({A: 11, B: 11}, 10, 6.0) == A
    assert claims.next_due_at == 5.0
    assert claims.take_due({A: 11, B: 11}, 10, 7.0) == B
    assert claims.next_due_at == 16.0


def test_what_is_met_or_gone_is_forgotten() -> None:
    claims = UnmetClaims(5.0)
    claims.take_due({A: 11, B: 12}, 10, 0.0)
    assert claims.take_due({A: 11, B: 12}, 11, 5.0) == B
    assert claims.take_due({}, 11, 6.0) is None
    assert claims.next_due_at == math.inf
    claims.take_due({B: 12}, 11, 7.0)  # it came back
    assert claims.next_due_at == 12.0


@given(
    st.lists(
        st.tuples(st.dictionaries(st.sampled_from([A, B]), st.integers(0, 3)), st.floats(0, 50)),
        max_size=60,
    )
)
def test_whatever_peers_claim_they_are_asked_seldom(
    calls: list[tuple[dict[bytes, int], float]],
) -> None:
    claims = UnmetClaims(5.0)
    now, last_asked = 0.0, dict.fromkeys([A, B], -math.inf)
    for heights, after_s in calls:
        now += after_s
        while (key := claims.take_due(heights, 1, now)) is not None:
            assert heights[key] > 1
            assert now - last_asked[key] >= 5.0
            last_asked[key] = now
        open_claims = any(height > 1 for height in heights.values())
        assert open_claims or claims.next_due_at == math.inf
        assert claims.next_due_at > now
