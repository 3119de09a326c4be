"""The stream's envelope: prefix and body together are what protobuf reads as a StreamMessage."""

from collections.abc import Callable, Iterator

import peer_service_pb2
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from aelf_p2p.core import envelope, fields
from aelf_p2p.core.encoders import encode_message_field, encode_varint_field
from aelf_p2p.core.envelope import (
    LARGE_BYTES,
    MAX_OVERHEAD_BYTES,
    decode_envelope_untrusted,
    envelope_body,
    reply_prefix,
    request_prefix,
    split_envelope_untrusted,
)
from aelf_p2p.core.errors import MalformedError
from aelf_p2p.wire import StreamMessage
from aelf_p2p.wire.peer_service_pb2 import StreamMessage as PlainStreamMessage

KEY = bytes.fromhex("04" + "ab" * 64)
SESSION = bytes.fromhex("0a0bff")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
message_types = st.integers(-(2**31), 2**31 - 1)


@given(message_types, texts, st.binary(max_size=300), st.none() | st.binary(max_size=20))
@example(0, "", b"", None)
@example(12, "1_2", b"\0", b"")
def test_a_request_is_read_by_protobuf(
    message_type: int, request_id: str, payload: bytes, session: bytes | None
) -> None:
    data = request_prefix(KEY, session) + envelope_body(message_type, request_id, payload)
    meta = {"public-key": "04" + "ab" * 64, "peer-info": "aelf-p2p"}
    if session is not None:
        meta["session-id-bin"] = "".join(f"{byte:02x}" for byte in session)
    # AElf's own schema, in another copy than the one that the code under test uses.
    message = peer_service_pb2.StreamMessage.FromString(data)
    assert message.stream_type == 1
    assert message.message_type == message_type
    assert message.request_id == request_id
    assert message.message == payload
    assert dict(message.meta) == meta


@given(message_types, texts, st.binary(max_size=300), st.none() | st.binary(max_size=20))
@example(0, "", b"", None)
def test_a_reply_is_read_by_protobuf(
    message_type: int, request_id: str, payload: bytes, session: bytes | None
) -> None:
    data = reply_prefix(session) + envelope_body(message_type, request_id, payload)
    message = peer_service_pb2.StreamMessage.FromString(data)
    assert message.stream_type == 2
    assert message.message_type == message_type
    assert message.request_id == request_id
    assert message.message == payload
    assert dict(message.meta) == ({} if session is None else {"session-id-bin": session.hex()})


def test_a_request_byte_by_byte() -> None:
    prefix = request_prefix(b"\x04", None)
    type_and_meta = (
        b"\x08\x01"  # stream_type: REQUEST
        b"\x2a\x10\x0a\x0apublic-key\x12\x0204"
        b"\x2a\x15\x0a\x09peer-info\x12\x08aelf-p2p"
    )
    assert sorted(prefix) == sorted(type_and_meta)  # protobuf writes map entries in any order
    assert len(prefix) == 2 + 18 + 23
    assert prefix.startswith(b"\x08\x01\x2a")
    assert envelope_body(9, "7_a", b"\xff\x00") == b"\x10\x09\x1a\x037_a\x22\x02\xff\x00"


def test_a_session_is_hex_in_meta() -> None:
    message = StreamMessage.FromString(request_prefix(KEY, SESSION))
    assert message.meta["session-id-bin"] == "0a0bff"
    message = StreamMessage.FromString(reply_prefix(SESSION))
    assert dict(message.meta) == {"session-id-bin": "0a0bff"}


def test_a_real_nodes_overhead_is_small() -> None:
    body = envelope_body(9, f"1700000000000_{'a' * 36}", b"")
    assert len(request_prefix(KEY, bytes(16)) + body) < 350


# --- decoding -------------------------------------------------------------------------------------


@given(
    st.builds(
        PlainStreamMessage,
        stream_type=st.sampled_from([0, 1, 2, 7]),
        message_type=message_types,
        request_id=texts,
        message=st.binary(max_size=400),
        meta=st.dictionaries(texts, texts, max_size=5),
    )
)
def test_what_protobuf_writes_is_decoded(message: StreamMessage) -> None:
    assert decode_envelope_untrusted(message.SerializeToString()) == message


@given(st.binary(max_size=200))
def test_random_bytes_are_decoded_or_malformed(data: bytes) -> None:
    try:
        expected = StreamMessage.FromString(data)
    except DecodeError:
        with pytest.raises(MalformedError):
            decode_envelope_untrusted(data)
    else:
        assert decode_envelope_untrusted(data) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"\x22\x05abc",  # cut short
        b"\x1a\x01\xff",  # a request id that is not UTF-8
        b"\x2a\x05\x0a\x01\xff\x12\x00",  # nor is a key of meta
        b"\xff" * 11,
        b"\x00",
    ],
)
def test_damaged_messages(data: bytes) -> None:
    with pytest.raises(MalformedError, match="not a StreamMessage"):
        decode_envelope_untrusted(data)


def test_the_limit_is_8_kib() -> None:
    assert MAX_OVERHEAD_BYTES == 8192


@pytest.mark.parametrize("payload_size", [1, 100, 1_000_000])
@pytest.mark.parametrize("where", ["request id", "meta"])
def test_ids_and_meta_weigh_at_most_8_kib(payload_size: int, where: str) -> None:
    def message(size: int) -> bytes:
        text = "x" * size
        built = StreamMessage(message=bytes(payload_size))
        if where == "meta":
            built.meta["k"] = text
        else:
            built.request_id = text
        return built.SerializeToString()

    # Found by what is on the wire: the whole less the payload.
    fits = max(size for size in range(8100, 8200) if len(message(size)) - payload_size <= 8192)
    assert len(decode_envelope_untrusted(message(fits)).message) == payload_size
    with pytest.raises(MalformedError, match="8 KiB"):
        decode_envelope_untrusted(message(fits + 1))


def test_a_megabyte_of_request_id_or_meta() -> None:
    megabyte = "x" * 1_000_000
    many = {str(number): "y" * 90 for number in range(10_000)}
    for message in (
        StreamMessage(request_id=megabyte, message=b"z"),
        StreamMessage(meta={"public-key": megabyte}),
        StreamMessage(meta={megabyte: ""}),
        StreamMessage(meta=many, message=b"z"),
    ):
        with pytest.raises(MalformedError, match="8 KiB"):
            decode_envelope_untrusted(message.SerializeToString())


def test_what_is_hidden_in_unknown_or_repeated_fields_weighs_too() -> None:
    small = StreamMessage(request_id="1_a", message=b"z").SerializeToString()
    unknown = b"\x9a\x3f\xa0\x9c\x01" + bytes(20_000)  # field 1011
    repeated = StreamMessage(message=bytes(20_000)).SerializeToString()
    assert decode_envelope_untrusted(small).message == b"z"
    for data in (small + unknown, repeated + small):
        assert StreamMessage.FromString(data).message == b"z"
        with pytest.raises(MalformedError, match="8 KiB"):
            decode_envelope_untrusted(data)


# --- large messages, which are not copied ---------------------------------------------------------

NUMBERS = st.integers(1, 6)
LARGE = st.integers(LARGE_BYTES - 20, LARGE_BYTES + 20).map(
    lambda size: encode_message_field(4, b"m" * size)
)
PLAIN_FIELDS = st.one_of(
    st.builds(encode_varint_field, NUMBERS, st.integers(-(1 << 63), (1 << 64) - 1)),
    st.builds(encode_message_field, NUMBERS, st.binary(max_size=40)),
    st.builds(encode_message_field, NUMBERS, texts.map(str.encode)),
    st.dictionaries(texts, texts, min_size=1, max_size=2).map(
        lambda meta: PlainStreamMessage(meta=meta).SerializeToString()
    ),
)
ODD_FIELDS = st.sampled_from(
    [
        b"\xa2\x00\x01a",  # message, its tag longer than it need be
        b"\x22\x81\x00a",  # its length
        b"\x10\x85\x00",  # message_type 5
        b"\x25abcd",  # number 4, fixed32
        b"\x21abcdefgh",  # number 4, fixed64
        b"\x23\x24",  # number 4, a group
        b"\x33\x08\x01\x34",  # another group
        b"\x1a\x01\xff",  # a request id that is not UTF-8
        b"\x2a\x04\x0a\x02k",  # an entry of meta that is cut short
        b"\x20",  # cut short
        b"\x22\x7f",
        b"\x00\x01",  # no field has the number 0
        b"\xfa\xff\xff\xff\x0f\x01a",  # the highest number
        b"\x82\x80\x80\x80\x10\x01a",  # and one above
    ]
)


def outcome(
    split: Callable[[bytes], tuple[StreamMessage, bytes | memoryview]], data: bytes
) -> tuple[StreamMessage, bytes] | type[MalformedError]:
    """What is in an envelope, the message apart."""
    try:
        envelope, message = split(data)
    except MalformedError:
        return MalformedError
    rest = StreamMessage()
    rest.CopyFrom(envelope)
    rest.ClearField("message")
    return rest, bytes(message)


def parsed(data: bytes) -> tuple[StreamMessage, bytes]:
    envelope = decode_envelope_untrusted(data)
    return envelope, envelope.message


@given(
    st.lists(PLAIN_FIELDS, max_size=4),
    st.lists(LARGE, min_size=1, max_size=2),
    st.lists(PLAIN_FIELDS | ODD_FIELDS, max_size=3),
)
@example([], [], [])
def test_a_large_message_is_split_as_it_would_be_parsed(
    before: list[bytes], large: list[bytes], behind: list[bytes]
) -> None:
    data = b"".join(before + large + behind)
    assert outcome(split_envelope_untrusted, data) == outcome(parsed, data)
    data = b"".join(behind + large + before)
    assert outcome(split_envelope_untrusted, data) == outcome(parsed, data)


@given(st.lists(PLAIN_FIELDS | ODD_FIELDS, max_size=4))
def test_a_small_message_is_split_as_it_is_parsed(fields: list[bytes]) -> None:
    data = b"".join(fields)
    assert outcome(split_envelope_untrusted, data) == outcome(parsed, data)


def test_a_large_message_is_not_copied() -> None:
    large = bytes(LARGE_BYTES)
    data = reply_prefix(SESSION) + envelope_body(6, "1_a", large)
    envelope, message = split_envelope_untrusted(data)
    assert isinstance(message, memoryview)
    assert message.obj is data
    assert message == large
    assert envelope == decode_envelope_untrusted(reply_prefix(SESSION) + envelope_body(6, "1_a"))


def test_a_small_message_is_all_there() -> None:
    data = reply_prefix(SESSION) + envelope_body(6, "1_a", b"small")
    assert split_envelope_untrusted(data) == (decode_envelope_untrusted(data), b"small")


@pytest.mark.parametrize("where", ["request id", "meta"])
def test_ids_and_meta_of_a_large_message_weigh_at_most_8_kib(where: str) -> None:
    large = bytes(LARGE_BYTES)
    # A text stands behind a tag and two bytes of length, an entry of meta behind a key besides.
    around = 3 if where == "request id" else 9
    around += len(encode_message_field(4, large)) - len(large)

    def message(size: int) -> bytes:
        text = "x" * size
        if where == "meta":
            return StreamMessage(message=large, meta={"k": text}).SerializeToString()
        return StreamMessage(message=large, request_id=text).SerializeToString()

    fits = MAX_OVERHEAD_BYTES - around
    assert len(message(fits)) == LARGE_BYTES + MAX_OVERHEAD_BYTES
    assert split_envelope_untrusted(message(fits))[1] == large
    with pytest.raises(MalformedError, match="8 KiB"):
        split_envelope_untrusted(message(fits + 1))


def test_a_message_of_nothing_but_messages_is_refused_without_a_walk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two million empty fields: each would be a step of a loop in Python."""
    steps = 0
    each_field = fields.each_field_untrusted

    def counted(raw: bytes | memoryview, pos: int = 0) -> Iterator[tuple[int, int, int, int]]:
        nonlocal steps
        for field in each_field(raw, pos):
            steps += 1
            yield field

    monkeypatch.setattr(fields, "each_field_untrusted", counted)
    with pytest.raises(MalformedError):
        split_envelope_untrusted(b"\x22\x00" * 2_000_000)
    assert steps < 10_000


def test_a_large_message_has_few_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protobuf would take seconds for a hundred megabytes of meta, before anybody weighs it."""
    tiny = b"\x7a\x00" * 100  # field 15, empty: more of them than any encoder writes
    few = StreamMessage(message=bytes(LARGE_BYTES)).SerializeToString() + tiny
    assert split_envelope_untrusted(few)[0].message == bytes(LARGE_BYTES)
    monkeypatch.setattr(envelope, "MAX_UNUSUAL_BYTES", LARGE_BYTES)
    with pytest.raises(MalformedError, match="fields"):
        split_envelope_untrusted(few)
