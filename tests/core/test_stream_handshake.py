"""The first exchange on a stream."""

import peer_service_pb2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.stream_handshake import (
    encode_opening,
    parse_answer_untrusted,
    parse_opening_untrusted,
)

KEY = bytes.fromhex("04" + "ab" * 64)
LIMIT = 64 * 1024
REQUEST, REPLY, HAND_SHAKE, PING = 1, 2, 1, 2

payloads = st.binary(max_size=100)


def message(
    stream_type: int = REQUEST,
    message_type: int = HAND_SHAKE,
    request_id: str = "1_a",
    payload: bytes = b"p",
    **meta: str,
) -> bytes:
    built = peer_service_pb2.StreamMessage(
        request_id=request_id, message=payload, meta={k.replace("_", "-"): meta[k] for k in meta}
    )
    # unknown numbers are what a peer may send, whatever the stubs think of them
    built.MergeFromString(bytes([8, stream_type, 16, message_type]))
    return built.SerializeToString()


def test_what_a_dialer_begins_with() -> None:
    data = encode_opening(KEY, "1_a", b"handshake")
    built = peer_service_pb2.StreamMessage.FromString(data)
    assert (built.stream_type, built.message_type) == (REQUEST, HAND_SHAKE)
    assert (built.request_id, built.message) == ("1_a", b"handshake")
    assert dict(built.meta) == {"public-key": KEY.hex(), "peer-info": "aelf-p2p"}


@given(st.lists(payloads, max_size=4), payloads)
def test_an_opening(early: list[bytes], handshake: bytes) -> None:
    first = message(payload=handshake, public_key="04ab", peer_info="x")
    opening = parse_opening_untrusted([first, *early], LIMIT)
    assert (opening.request_id, opening.claimed_key) == ("1_a", "04ab")
    assert opening.handshake == handshake
    assert opening.early == early  # as they are: nothing of them is read yet


def test_an_opening_without_meta_claims_nothing() -> None:
    assert parse_opening_untrusted([message()], LIMIT).claimed_key == ""


def test_its_reply() -> None:
    opening = parse_opening_untrusted([message(request_id="17_x")], LIMIT)
    data = opening.reply(b"answer")
    built = peer_service_pb2.StreamMessage.FromString(data)
    assert (built.stream_type, built.message_type) == (REPLY, HAND_SHAKE)
    assert (built.request_id, built.message) == ("17_x", b"answer")
    assert dict(built.meta) == {}


@given(payloads, payloads, st.lists(payloads, max_size=3))
def test_both_sides(handshake: bytes, answer: bytes, early: list[bytes]) -> None:
    opening = parse_opening_untrusted([encode_opening(KEY, "1_b", handshake)], LIMIT)
    assert (opening.claimed_key, opening.handshake) == (KEY.hex(), handshake)
    read = [opening.reply(answer), *early]
    assert parse_answer_untrusted(read, "1_b", LIMIT) == (answer, early)


@pytest.mark.parametrize(
    "first",
    [
        message(message_type=PING),
        message(message_type=5),  # a request before the handshake
        message(message_type=0),
        message(message_type=99),
        message(stream_type=REPLY),
        message(stream_type=0),
        b"",
    ],
)
def test_a_stream_begins_with_a_handshake(first: bytes) -> None:
    with pytest.raises(MalformedError, match="does not begin with a handshake"):
        parse_opening_untrusted([first, message()], LIMIT)


@pytest.mark.parametrize(
    "first",
    [
        message(stream_type=REQUEST),
        message(stream_type=REPLY, message_type=PING),
        message(stream_type=REPLY, request_id="1_b"),
        message(stream_type=REPLY, request_id=""),
        message(stream_type=0),
        b"",
    ],
)
def test_the_answer_is_a_handshake_with_the_same_id(first: bytes) -> None:
    right = message(stream_type=REPLY)
    assert parse_answer_untrusted([right], "1_a", LIMIT) == (b"p", [])
    with pytest.raises(MalformedError, match="something else"):
        parse_answer_untrusted([first, right], "1_a", LIMIT)


def test_a_stream_that_ends_at_once() -> None:
    with pytest.raises(MalformedError, match="ended before its handshake"):
        parse_opening_untrusted([], LIMIT)
    with pytest.raises(MalformedError, match="ended before its handshake"):
        parse_answer_untrusted([], "1_a", LIMIT)


@pytest.mark.parametrize("spread", [False, True])
def test_the_bytes_before_the_handshake_is_checked(spread: bool) -> None:
    opening = message()
    room = LIMIT - len(opening)
    early = [bytes(room // 2), bytes(room - room // 2)] if spread else [bytes(room)]
    assert parse_opening_untrusted([opening, *early], LIMIT).early == early
    with pytest.raises(MalformedError, match="over 65536 bytes"):
        parse_opening_untrusted([opening, *early, b"x"], LIMIT)


def test_a_dialer_limits_the_answer_and_not_what_comes_behind_it() -> None:
    answer, block = message(stream_type=REPLY), bytes(LIMIT)
    assert parse_answer_untrusted([answer, block], "1_a", len(answer))[1] == [block]
    with pytest.raises(MalformedError, match="bytes before the handshake"):
        parse_answer_untrusted([answer], "1_a", len(answer) - 1)


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_random_bytes(read: list[bytes]) -> None:
    with pytest.raises(MalformedError):
        parse_answer_untrusted(read, "1_a", LIMIT)
    try:
        opening = parse_opening_untrusted(read, LIMIT)
    except MalformedError:
        return
    assert opening.early == read[1:]
