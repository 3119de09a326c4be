"""Base58 text, addresses, chain names: no two texts for the same bytes."""

from collections.abc import Iterator
from contextlib import suppress

from aelf_p2p.core.address import address_text, parse_address_untrusted
from aelf_p2p.core.base58 import (
    b58check_decode_untrusted,
    b58check_encode,
    b58decode_untrusted,
    b58encode,
)
from aelf_p2p.core.chain_id import chain_id_from_text_untrusted, chain_id_to_text
from aelf_p2p.core.errors import MalformedError
from aelf_p2p.testing.vectors import load_vectors

WORDS = (b"1", b"z", b"AELF")


def seeds() -> Iterator[bytes]:
    vectors = load_vectors()
    yield from (each.text.encode() for each in vectors.addresses[:5])
    yield from (each.encode() for each in vectors.invalid_addresses)
    yield from (each.text.encode() for each in vectors.chain_ids)
    yield from (b"", b"1", b"1111", b"z" * 128, b"z" * 129)


def target(data: bytes) -> bool:
    text = data.decode(errors="replace")
    with suppress(MalformedError):
        assert chain_id_to_text(chain_id_from_text_untrusted(text)) == text
    with suppress(MalformedError):
        assert address_text(parse_address_untrusted(text)) == text
    with suppress(MalformedError):
        assert b58check_encode(b58check_decode_untrusted(text)) == text
    # Bytes that may stand behind it, too: a checksum is not guessed.
    assert b58check_decode_untrusted(b58check_encode(data[:80])) == data[:80]
    try:
        assert b58encode(b58decode_untrusted(text)) == text
    except MalformedError:
        return False
    return True
