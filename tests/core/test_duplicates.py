"""Both dial at once, and both must keep the same one connection."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from aelf_p2p.core.duplicates import Dialer, DialTimes, keep_own_dial, overlap

# Small numbers, so that equal times are common; large ones, as real clocks give.
times_ns = st.integers(0, 4) | st.integers(1_700_000_000 * 10**9, 1_700_000_010 * 10**9)
dials = st.builds(DialTimes, times_ns, times_ns)
keys = st.sampled_from([b"\x01" * 32, b"\x02" * 32, b"\x04" + bytes(64)]) | st.binary(
    min_size=32, max_size=65
)
dialers = st.builds(Dialer, keys, dials)

LOW, HIGH = b"\x04" + b"\x01" * 64, b"\x04" + b"\x02" * 64


@given(dialers, dialers)
@example(Dialer(LOW, DialTimes(7, 8)), Dialer(HIGH, DialTimes(7, 8)))
@example(Dialer(LOW, DialTimes(7, 9)), Dialer(HIGH, DialTimes(7, 8)))
def test_exactly_one_dial_stays(x: Dialer, y: Dialer) -> None:
    assume(x.public_key != y.public_key)
    at_x = keep_own_dial(x, y, other_is_csharp=False)
    at_y = keep_own_dial(y, x, other_is_csharp=False)
    assert at_x is not at_y
    kept, dropped = (x, y) if at_x else (y, x)
    assert kept.times.handshake_ns <= dropped.times.handshake_ns
    if kept.times.handshake_ns == dropped.times.handshake_ns:
        assert kept.public_key < dropped.public_key


@pytest.mark.parametrize("key", [LOW, HIGH])
def test_the_dial_that_began_first_stays(key: bytes) -> None:
    other_key = HIGH if key is LOW else LOW
    own = Dialer(key, DialTimes(100, 300))
    for theirs, own_stays in ((DialTimes(101, 102), True), (DialTimes(99, 400), False)):
        other = Dialer(other_key, theirs)
        assert keep_own_dial(own, other, other_is_csharp=False) is own_stays


def test_at_equal_times_the_lower_keys_dial_stays() -> None:
    # whatever the stream handshakes say: they come in any order
    for low_stream, high_stream in ((200, 300), (300, 200), (200, 200)):
        low = Dialer(LOW, DialTimes(100, low_stream))
        high = Dialer(HIGH, DialTimes(100, high_stream))
        assert keep_own_dial(low, high, other_is_csharp=False)
        assert not keep_own_dial(high, low, other_is_csharp=False)


def csharp_keeps_own(csharp: Dialer, other: Dialer) -> bool:
    """Protocol §3.3: its dial ends while the pool holds the other's inbound connection, which is
    replaced when the handshake received on it, the stream's, is later than the one sent."""
    return other.times.stream_handshake_ns > csharp.times.handshake_ns


@given(dialers, dialers)
@example(Dialer(LOW, DialTimes(5, 7)), Dialer(HIGH, DialTimes(7, 8)))
def test_facing_csharp_one_dial_stays(own: Dialer, csharp: Dialer) -> None:
    kept = keep_own_dial(own, csharp, other_is_csharp=True)
    assert kept is not csharp_keeps_own(csharp, own)
    assert kept is (own.times.stream_handshake_ns <= csharp.times.handshake_ns)


def test_two_csharp_nodes_may_lose_both() -> None:
    # Why their rule is not ours: the dials of two such nodes, begun together.
    x, y = Dialer(LOW, DialTimes(100, 200)), Dialer(HIGH, DialTimes(101, 201))
    assert csharp_keeps_own(x, y)
    assert csharp_keeps_own(y, x)
    assert keep_own_dial(x, y, other_is_csharp=False)
    assert not keep_own_dial(y, x, other_is_csharp=False)


# --- did they run at the same time? ---------------------------------------------------------------


@given(dials, dials)
def test_overlap_is_symmetric(one: DialTimes, other: DialTimes) -> None:
    assert overlap(one, other) is overlap(other, one)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_overlap_is_a_common_moment(begin: int, length: int, other: int, other_length: int) -> None:
    one, two = DialTimes(begin, begin + length), DialTimes(other, other + other_length)
    moments = set(range(begin, begin + length + 1)) & set(range(other, other + other_length + 1))
    assert overlap(one, two) is bool(moments)


def test_a_redial_does_not_overlap() -> None:
    lost = DialTimes(100, 200)
    assert not overlap(lost, DialTimes(201, 300))
    assert overlap(lost, DialTimes(200, 300))
    assert overlap(lost, DialTimes(120, 130))
