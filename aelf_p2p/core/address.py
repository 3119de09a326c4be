"""Addresses: 32 bytes made from a public key, and their Base58Check text."""

import hashlib

from aelf_p2p.core.base58 import b58check_decode_untrusted, b58check_encode
from aelf_p2p.core.errors import MalformedError, MisuseError

ADDRESS_SIZE = 32


def address_of(public_key: bytes) -> bytes:
    """The address of a public key: SHA-256 of its SHA-256, 32 bytes (AElf.Types/Types/Address.cs).

    For secp256k1 the key is the 65 uncompressed bytes; a compressed key has another address.
    """
    return hashlib.sha256(hashlib.sha256(public_key).digest()).digest()


def address_text(address: bytes) -> str:
    """The Base58Check text of a 32-byte address. Raises MisuseError for another length."""
    if len(address) != ADDRESS_SIZE:
        raise MisuseError(f"an address has {ADDRESS_SIZE} bytes, not {len(address)}")
    return b58check_encode(address)


def parse_address_untrusted(text: str) -> bytes:
    """The 32 bytes of an address text.

    Raises MalformedError for bad Base58, a wrong checksum, or another number of bytes.
    """
    address = b58check_decode_untrusted(text)
    if len(address) != ADDRESS_SIZE:
        raise MalformedError(f"an address has {ADDRESS_SIZE} bytes, not {len(address)}")
    return address
