"""Base58 and Base58Check, the text forms of addresses and chain names.

The alphabet is Bitcoin's. Base58Check here is AElf's: a 4-byte checksum, the start of the double
SHA-256, and no version byte (AElf.Types/Base58.cs).
"""

import hashlib

from aelf_p2p.core.errors import MalformedError

MAX_TEXT_LENGTH = 128
"""Characters accepted from outside: decoding is quadratic, and an address has at most 50."""

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {character: digit for digit, character in enumerate(_ALPHABET)}
_CHECKSUM_SIZE = 4


def b58encode(data: bytes) -> str:
    """The Base58 text of ``data``; each leading zero byte becomes a leading ``1``."""
    number = int.from_bytes(data)
    characters: list[str] = []
    while number:
        number, digit = divmod(number, 58)
        characters.append(_ALPHABET[digit])
    leading_zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * leading_zeros + "".join(reversed(characters))


def b58decode_untrusted(text: str) -> bytes:
    """The bytes whose Base58 text is ``text``; no two texts give the same bytes.

    Raises MalformedError for more than MAX_TEXT_LENGTH characters or one outside the alphabet.
    """
    if len(text) > MAX_TEXT_LENGTH:
        raise MalformedError(f"base58 text of {len(text)} characters, over {MAX_TEXT_LENGTH}")
    number = 0
    for character in text:
        digit = _DIGITS.get(character)
        if digit is None:
            raise MalformedError(f"{character!a} is not a base58 character")
        number = number * 58 + digit
    leading_ones = len(text) - len(text.lstrip("1"))
    return bytes(leading_ones) + number.to_bytes((number.bit_length() + 7) // 8)


def b58check_encode(payload: bytes) -> str:
    """The Base58 text of ``payload`` followed by its checksum."""
    return b58encode(payload + _checksum(payload))


def b58check_decode_untrusted(text: str) -> bytes:
    """The payload of a Base58Check text, without its checksum.

    Raises MalformedError as :func:`b58decode_untrusted` does, and for a wrong or missing checksum.
    """
    data = b58decode_untrusted(text)
    payload, checksum = data[:-_CHECKSUM_SIZE], data[-_CHECKSUM_SIZE:]
    if checksum != _checksum(payload):
        raise MalformedError("base58 checksum is wrong")
    return payload


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:_CHECKSUM_SIZE]
