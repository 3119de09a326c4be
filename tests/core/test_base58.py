import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.base58 import (
    MAX_TEXT_LENGTH,
    b58check_decode_untrusted,
    b58check_encode,
    b58decode_untrusted,
    b58encode,
)
from aelf_p2p.core.errors import MalformedError

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

# draft-msporny-base58 §5 and Bitcoin Core's base58_encode_decode.json.
PUBLISHED = [
    ("", ""),
    ("61", "2g"),
    ("626262", "a3gV"),
    ("636363", "aPEr"),
    ("516b6fcd0f", "ABnLTmg"),
    ("572e4794", "3EFU7m"),
    ("10c8511e", "Rt5zm"),
    ("00000000000000000000", "1111111111"),
    ("0000287fb4cd", "11233QC4"),
    ("00eb15231dfceb60925886b67d065299925915aeb172c06647", "1NS17iag9jJgTHD1VXjvLCEnZuQ3rJDE9L"),
    (b"Hello World!".hex(), "2NEpo7TZRRrLZSi2U"),
]


@pytest.mark.parametrize(("data", "text"), PUBLISHED)
def test_published_values(data: str, text: str) -> None:
    assert b58encode(bytes.fromhex(data)) == text
    assert b58decode_untrusted(text) == bytes.fromhex(data)


@given(st.binary(max_size=80))
def test_bytes_come_back(data: bytes) -> None:
    assert b58decode_untrusted(b58encode(data)) == data
    assert b58check_decode_untrusted(b58check_encode(data)) == data


@given(st.text(ALPHABET, max_size=MAX_TEXT_LENGTH))
def test_every_text_of_the_alphabet_is_the_only_one_of_its_bytes(text: str) -> None:
    assert b58encode(b58decode_untrusted(text)) == text


@given(st.text(max_size=40))
def test_any_text_decodes_or_is_malformed(text: str) -> None:
    if set(text) <= set(ALPHABET):
        b58decode_untrusted(text)
    else:
        with pytest.raises(MalformedError, match="not a base58 character"):
            b58decode_untrusted(text)


def test_length_is_bounded() -> None:
    assert b58decode_untrusted("1" * MAX_TEXT_LENGTH) == bytes(MAX_TEXT_LENGTH)
    with pytest.raises(MalformedError, match="129 characters"):
        b58decode_untrusted("1" * (MAX_TEXT_LENGTH + 1))


def test_checksum_is_the_start_of_the_double_hash() -> None:
    checksum = hashlib.sha256(hashlib.sha256(b"payload").digest()).digest()[:4]
    assert b58decode_untrusted(b58check_encode(b"payload")) == b"payload" + checksum
    assert b58check_encode(b"") == "3QJmnh"


@given(st.binary(max_size=40), st.integers(0, 3), st.integers(1, 255))
def test_changed_checksum_is_malformed(payload: bytes, position: int, change: int) -> None:
    data = bytearray(b58decode_untrusted(b58check_encode(payload)))
    data[len(payload) + position] ^= change
    with pytest.raises(MalformedError, match="checksum"):
        b58check_decode_untrusted(b58encode(bytes(data)))


@pytest.mark.parametrize("size", range(4))
def test_no_room_for_a_checksum_is_malformed(size: int) -> None:
    with pytest.raises(MalformedError, match="checksum"):
        b58check_decode_untrusted(b58encode(b"\x5d\xf6\xe0"[:size]))
