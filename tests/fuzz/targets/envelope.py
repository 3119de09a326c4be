"""The StreamMessage envelope, small and large, beside protobuf's reading of it."""

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from aelf_p2p.core.encoders import encode_message_field
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
from tests.fuzz.mutation import mutate_message

mutate = mutate_message
MAX_BYTES = 16_384
_LARGE = encode_message_field(4, bytes(LARGE_BYTES))


def seeds() -> Iterator[bytes]:
    request = request_prefix(b"\4" * 65, bytes(16))
    yield request + envelope_body(9, "1700000000000_1", b"a transaction")
    yield reply_prefix(bytes(5)) + envelope_body(2, "1700000000000_2")
    yield request + encode_message_field(3, bytes(MAX_OVERHEAD_BYTES))
    yield b"\x1a\x01\xff"
    yield request + encode_message_field(4, b"one") + encode_message_field(4, b"two")


def target(data: bytes) -> bool:
    for large in (data + _LARGE, _LARGE + data):  # the one message in force, or one that is not
        _split(large)
    accepted = _split(data)
    try:
        assert accepted == (decode_envelope_untrusted(data) is not None)
    except MalformedError:
        assert not accepted
    return accepted


def _split(data: bytes) -> bool:
    """Accepted is what protobuf reads and has little beside its message; it says the same then."""
    try:
        envelope, content = split_envelope_untrusted(data)
    except MalformedError:
        envelope = None
    try:
        whole = StreamMessage.FromString(data)
    except DecodeError:
        assert envelope is None, "accepted, and protobuf cannot read it"
        return False
    if envelope is None:
        assert len(data) - len(whole.message) > MAX_OVERHEAD_BYTES, "refused without a reason"
        return False
    assert bytes(content) == whole.message
    if isinstance(content, memoryview):
        envelope.message = bytes(content)
    envelope.DiscardUnknownFields()
    whole.DiscardUnknownFields()
    assert envelope == whole
    return True
