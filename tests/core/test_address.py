import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.address import address_of, address_text, parse_address_untrusted
from aelf_p2p.core.base58 import b58check_encode
from aelf_p2p.core.errors import MalformedError, MisuseError
from aelf_p2p.testing.vectors import load_vectors

VECTORS = load_vectors()


def test_texts_of_known_addresses() -> None:
    for vector in VECTORS.addresses:
        assert address_text(vector.address) == vector.text
        assert parse_address_untrusted(vector.text) == vector.address


def test_addresses_of_known_public_keys() -> None:
    for vector in VECTORS.pubkey_addresses:
        assert address_text(address_of(vector.public_key)) == vector.address


def test_senders_are_their_signers_addresses() -> None:
    for transaction in VECTORS.transactions:
        assert address_text(address_of(transaction.signer_pubkey)) == transaction.from_address
        assert len(parse_address_untrusted(transaction.to_address)) == 32


@pytest.mark.parametrize("text", VECTORS.invalid_addresses)
def test_invalid_addresses(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_address_untrusted(text)


@given(st.binary(max_size=64).filter(lambda payload: len(payload) != 32))
def test_other_lengths_are_refused(payload: bytes) -> None:
    with pytest.raises(MalformedError, match="32 bytes"):
        parse_address_untrusted(b58check_encode(payload))
    with pytest.raises(MisuseError, match="32 bytes"):
        address_text(payload)


@given(st.binary(min_size=32, max_size=32))
def test_any_address_comes_back(address: bytes) -> None:
    assert parse_address_untrusted(address_text(address)) == address


@given(st.text())
def test_any_text_is_an_address_or_malformed(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_address_untrusted(text)  # no random text has a right checksum
