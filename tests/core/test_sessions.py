"""Session ids: what a peer must show."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.sessions import SESSION_ID_BYTES, Sessions, new_session_id

SESSIONS = Sessions(ours=bytes.fromhex("00ff0a" + "7c" * 13), theirs=b"theirs")


def test_a_new_id_has_16_bytes() -> None:
    assert SESSION_ID_BYTES == 16
    assert len(new_session_id(random.SystemRandom())) == 16
    assert new_session_id(random.Random(1)) == random.Random(1).randbytes(16)
    made = random.Random(2)
    assert len({new_session_id(made) for _ in range(100)}) == 100


def test_our_own_id_is_shown_as_bytes_or_hex() -> None:
    assert SESSIONS.authenticate(SESSIONS.ours)
    assert SESSIONS.authenticate("00ff0a" + "7c" * 13)


@pytest.mark.parametrize(
    "shown",
    [
        b"",
        "",
        SESSIONS.theirs,
        SESSIONS.theirs.hex(),
        SESSIONS.ours[:-1],
        SESSIONS.ours + b"\0",
        b"00ff0a" + b"7c" * 13,  # hex belongs into text
        "00FF0A" + "7C" * 13,  # lower case only (protocol §3)
        " 00ff0a" + "7c" * 13,
        "00ff0a" + "7c" * 12 + "7é",
        "\ud800",
    ],
)
def test_anything_else_is_wrong(shown: str | bytes) -> None:
    assert not SESSIONS.authenticate(shown)


@given(st.binary(min_size=1, max_size=20), st.binary(max_size=20) | st.text(max_size=40))
def test_only_the_same_id_authenticates(ours: bytes, shown: str | bytes) -> None:
    sessions = Sessions(ours, b"")
    same = shown == (ours if isinstance(shown, bytes) else "".join(f"{b:02x}" for b in ours))
    assert sessions.authenticate(shown) is same
    assert sessions.authenticate(ours)
    assert sessions.authenticate(ours.hex())


def test_ids_are_in_no_repr() -> None:
    for text in (repr(SESSIONS), str(SESSIONS)):
        for secret in ("7c7c", "theirs", SESSIONS.theirs.hex()):
            assert secret not in text
