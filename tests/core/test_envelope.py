"""The stream's envelope: prefix and body together are what protobuf reads as a StreamMessage."""

import peer_service_pb2
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from aelf_p2p.core.envelope import (
    MAX_OVERHEAD_BYTES,
    decode_envelope_untrusted,
    envelope_body,
    reply_prefix,
    request_prefix,
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
