"""Requests cut by a learned layout, against protobuf's own parser."""

from itertools import accumulate, takewhile

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.stream_request import RequestLayout, StreamRequest
from aelf_p2p.wire import StreamMessage, StreamType

META = {"public-key": "04ab", "session-id-bin": "00ff", "peer-info": "a peer"}
IDS = st.text(max_size=200) | st.text("0123456789abcdef-_", min_size=1, max_size=130)
MESSAGES = st.binary(max_size=300) | st.integers(0, 20_000).map(bytes)
TYPES = st.integers(0, 200)
LAYOUTS = st.sampled_from(["ours", "c#"])


def own_fields(message_type: int, request_id: str, message: bytes) -> StreamMessage:
    own = StreamMessage(request_id=request_id, message=message)
    # mypy knows the enum's members alone; on the wire it is open
    own.message_type = message_type  # type: ignore[assignment]
    return own


def encode(
    layout: str, message_type: int, request_id: str, message: bytes, meta: dict[str, str] = META
) -> bytes:
    """With the session's part first, or with all fields in their order, meta last."""
    session = StreamMessage(stream_type=StreamType.REQUEST, meta=meta)
    own = own_fields(message_type, request_id, message)
    if layout == "ours":
        return session.SerializeToString() + own.SerializeToString()
    own.MergeFrom(session)
    return own.SerializeToString(deterministic=True)


def request_of(parsed: StreamMessage) -> StreamRequest:
    return StreamRequest.of(parsed, parsed.message)


def learned(layout: str) -> RequestLayout:
    data = encode(layout, 9, "1700000000000_first", b"first")
    found = RequestLayout.learn(data, StreamMessage.FromString(data))
    assert found is not None
    return found


def cut(layout: RequestLayout, data: bytes) -> StreamRequest | None:
    """One message by itself."""
    run = layout.cut_run([b"before", data], 1, 1, 0)
    return None if run is None else only(run.requests())


def only(requests: list[StreamRequest]) -> StreamRequest:
    (request,) = requests
    return request


@given(LAYOUTS, TYPES, IDS, MESSAGES)
def test_what_is_cut_is_what_would_be_parsed(
    layout: str, message_type: int, request_id: str, message: bytes
) -> None:
    data = encode(layout, message_type, request_id, message)
    request = cut(learned(layout), data)
    usual = request_id.isascii() and 0 < len(request_id) < 128 and 0 < message_type < 128
    if usual and 0 < len(message) < 16 * 1024:
        assert request == request_of(StreamMessage.FromString(data))
    else:
        assert request is None


@given(LAYOUTS, st.data())
def test_bytes_that_are_changed_are_parsed_alike_or_not_cut(
    layout: str, data: st.DataObject
) -> None:
    raw = bytearray(encode(layout, 9, "1700000000000_00000001", b"\x10\x01 some message"))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        how = data.draw(st.sampled_from(["change", "insert", "remove"]))
        byte = data.draw(st.sampled_from([0, 1, 8, 0x10, 0x1A, 0x22, 0x2A, 0x7F, 0x80, 0xFF]))
        if how == "change":
            raw[at] = byte
        elif how == "insert":
            raw.insert(at, byte)
        else:
            del raw[at]
    request = cut(learned(layout), bytes(raw))
    try:
        parsed = StreamMessage.FromString(bytes(raw))
    except DecodeError:
        assert request is None
        return
    if request is not None:
        assert (request.message_type, request.message) == (parsed.message_type, parsed.message)
        assert request.reply_body(b"") == request_of(parsed).reply_body(b"")
        assert (parsed.stream_type, dict(parsed.meta)) == (StreamType.REQUEST, META)


@pytest.mark.parametrize("layout", ["ours", "c#"])
def test_another_session_is_not_cut(layout: str) -> None:
    other = {**META, "session-id-bin": "00fe"}
    assert cut(learned(layout), encode(layout, 9, "1700000000000_x", b"m", other)) is None


def test_every_short_beginning_is_not_cut() -> None:
    data = encode("ours", 9, "1700000000000_x", b"m")
    layout = learned("ours")
    assert cut(layout, data) is not None
    assert [cut(layout, data[:size]) for size in range(len(data))] == [None] * len(data)


def test_a_layout_that_cannot_be_learned() -> None:
    whole = encode("ours", 9, "1_a", b"message")
    own = own_fields(9, "1_a", b"message").SerializeToString()
    scattered = own + whole[: -len(own)] + b"\x10\x0a"  # the type comes once more, and counts
    assert RequestLayout.learn(scattered, StreamMessage.FromString(scattered)) is None
    hidden = encode("c#", 9, "", b"", {**META, "peer-info": "x"})
    assert RequestLayout.learn(hidden + own[2:], StreamMessage.FromString(hidden + own[2:])) is None
    large = encode("ours", 9, "1_a", b"message", {**META, "peer-info": "x" * 8000})
    assert RequestLayout.learn(large, StreamMessage.FromString(large)) is None


def test_a_body_inside_the_meta_is_no_place_to_cut() -> None:
    own = own_fields(9, "1_a", b"m").SerializeToString()
    assert own.isascii()
    for info in ({"peer-info": own.decode()}, {}):  # in front of the other entries, and last
        meta = {**info, **META, "note": own.decode()}
        parts = [encode("ours", 0, "", b"", {key: value}) for key, value in meta.items()]
        data = b"".join(parts) + own
        assert RequestLayout.learn(data, StreamMessage.FromString(data)) is None


def test_a_request_that_says_nothing_teaches_nothing() -> None:
    data = encode("ours", 0, "", b"")
    assert RequestLayout.learn(data, StreamMessage.FromString(data)) is None


@given(LAYOUTS, TYPES, IDS, MESSAGES, st.dictionaries(st.text(max_size=9), st.text(max_size=9)))
def test_learning_never_fails_and_cuts_what_it_learned_from(
    layout: str, message_type: int, request_id: str, message: bytes, meta: dict[str, str]
) -> None:
    data = encode(layout, message_type, request_id, message, meta)
    parsed = StreamMessage.FromString(data)
    found = RequestLayout.learn(data, parsed)
    assert found is None or cut(found, data) in (None, request_of(parsed))


SMALL = st.tuples(
    st.sampled_from([9, 9, 9, 10]),
    st.text("0123456789", min_size=1, max_size=2),
    st.binary(min_size=1, max_size=200),
    st.sampled_from([META, META, META, {**META, "peer-info": "another"}]),
)


@given(LAYOUTS, st.lists(SMALL, min_size=1, max_size=8), st.data())
def test_a_run_is_what_is_laid_out_alike(
    layout: str, parts: list[tuple[int, str, bytes, dict[str, str]]], data: st.DataObject
) -> None:
    messages = [encode(layout, *part) for part in parts]
    begin = data.draw(st.integers(0, len(parts) - 1))
    most = data.draw(st.integers(1, 9))
    most_bytes = data.draw(st.one_of(st.just(100_000), st.integers(0, 1000)))
    alike = [
        request_of(StreamMessage.FromString(message))
        for message, _ in takewhile(
            lambda pair: (
                (pair[1][0], len(pair[1][1]), pair[1][3])
                == (parts[begin][0], len(parts[begin][1]), META)
            ),
            list(zip(messages, parts, strict=True))[begin : begin + most],
        )
    ]
    run = learned(layout).cut_run(messages, begin, most, most_bytes)
    requests = run.requests() if run is not None else []
    sizes = list(accumulate(map(len, messages[begin : begin + len(alike)])))
    assert requests == alike[: max(1, sum(size <= most_bytes for size in sizes))]
