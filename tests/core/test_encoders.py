"""The encoders against google.protobuf's own."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aelf_p2p.core.encoders import (
    encode_bytes_field,
    encode_hash_field,
    encode_string_field,
    encode_varint,
    encode_varint_field,
)
from aelf_p2p.core.errors import MisuseError
from aelf_p2p.wire import Transaction

INT64S = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.integers(-(1 << 63), (1 << 64) - 1))
@example(0)
@example(127)
@example(128)
@example(-(1 << 63))
@example((1 << 64) - 1)
def test_a_varint_is_read_back(value: int) -> None:
    encoded = encode_varint(value)
    decoded = sum((byte & 0x7F) << 7 * i for i, byte in enumerate(encoded))
    assert decoded == value % (1 << 64)
    assert all(byte & 0x80 for byte in encoded[:-1])
    assert encoded[-1] & 0x80 == 0
    assert len(encoded) == max(1, -(-(value % (1 << 64)).bit_length() // 7))


@pytest.mark.parametrize("value", [-(1 << 63) - 1, 1 << 64])
def test_a_varint_has_64_bits(value: int) -> None:
    with pytest.raises(MisuseError, match="64 bits"):
        encode_varint(value)


@given(st.binary(max_size=300), st.text(max_size=20), INT64S, st.binary(max_size=40))
def test_encoders_lay_fields_out_as_protobuf_does(
    data: bytes, text: str, integer: int, value: bytes
) -> None:
    message = Transaction(ref_block_number=integer, method_name=text, params=data, signature=data)
    getattr(message, "from").SetInParent()
    getattr(message, "from").value = value
    assert message.SerializeToString() == b"".join(
        (
            encode_hash_field(1, value),
            encode_varint_field(3, integer),
            encode_string_field(5, text),
            encode_bytes_field(6, data),
            encode_bytes_field(10000, data),
        )
    )


def test_text_that_utf8_cannot_hold_is_misuse() -> None:
    with pytest.raises(MisuseError, match="field 5"):
        encode_string_field(5, "\ud800")
