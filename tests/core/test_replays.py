"""A handshake that was used is refused on any other connection, for as long as it is fresh."""

from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.replays import MAX_HANDSHAKES, Replays

NOW = 1_700_000_000.0


def test_one_connection_may_repeat_it() -> None:
    replays = Replays(1.5)
    assert not replays.is_replay(b"a", "here", NOW, NOW)
    assert not replays.is_replay(b"a", "here", NOW, NOW + 1)
    assert replays.is_replay(b"a", "there", NOW, NOW + 1)
    assert not replays.is_replay(b"b", "there", NOW, NOW + 1)


def test_it_is_remembered_while_it_is_fresh() -> None:
    """Made in the future by a clock that is ahead, it is fresh for longer."""
    for made, fresh_until in ((NOW, NOW + 1.5), (NOW - 1, NOW + 1.5), (NOW + 1.5, NOW + 3)):
        replays = Replays(1.5)
        replays.is_replay(b"a", "here", made, NOW)
        assert replays.is_replay(b"a", "there", made, fresh_until)
        assert not replays.is_replay(b"a", "there", made, fresh_until + 0.001)


def test_the_oldest_is_forgotten() -> None:
    replays = Replays(1.5)
    for number in range(MAX_HANDSHAKES + 1):
        assert not replays.is_replay(number.to_bytes(4), "here", NOW, NOW)
    assert replays.is_replay((1).to_bytes(4), "there", NOW, NOW)
    assert not replays.is_replay((0).to_bytes(4), "there", NOW, NOW)


handshakes = st.tuples(
    st.sampled_from([b"a", b"b"]), st.sampled_from(["x", "y"]), st.floats(0, 1), st.floats(0, 1)
)


@given(st.lists(handshakes, max_size=30))
def test_against_all_that_was_shown(shown: list[tuple[bytes, str, float, float]]) -> None:
    """Whoever shows first owns it until it is too old."""
    replays = Replays(1.5)
    owners: dict[bytes, tuple[str, float]] = {}
    now = NOW
    for digest, connection, gap_s, age_s in shown:
        now += gap_s
        owner, until = owners.get(digest, ("", 0.0))
        expected = until >= now and owner != connection
        assert replays.is_replay(digest, connection, now - age_s, now) is expected
        if until < now:
            owners[digest] = connection, now + 1.5
