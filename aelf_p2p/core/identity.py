"""Key pairs and signatures, in the two schemes that a node may have.

A public key's length tells its scheme (RFC 8032 for Ed25519; for secp256k1 the recoverable
signatures of AElf.Cryptography/CryptoHelper.cs, with the nonces of RFC 6979).
"""

import random
from enum import Enum
from typing import Self

from coincurve import PrivateKey, PublicKey
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from aelf_p2p.core.errors import MalformedError, MisuseError

DIGEST_SIZE = 32
PRIVATE_KEY_SIZE = 32


class Scheme(Enum):
    """How a key pair signs; AElf's networks know the first only."""

    SECP256K1 = "secp256k1"
    """Public key 65 bytes, uncompressed (``04…``); signature 65 bytes, ``r‖s‖recid``."""

    ED25519 = "ed25519"
    """Public key 32 bytes; signature 64 bytes."""


class Identity:
    """A private key and what follows from it. The private key is in no ``repr``."""

    __slots__ = ("_key", "private_key", "public_key", "scheme")

    def __init__(self, key: PrivateKey | SigningKey) -> None:
        """Internal: use :meth:`generate` or :meth:`from_private_key`."""
        self._key = key
        if isinstance(key, PrivateKey):
            self.scheme = Scheme.SECP256K1
            self.private_key = key.secret
            self.public_key = key.public_key.format(compressed=False)
        else:
            self.scheme = Scheme.ED25519
            self.private_key = bytes(key)
            self.public_key = bytes(key.verify_key)

    @classmethod
    def generate(cls, rng: random.Random | None = None, scheme: Scheme = Scheme.SECP256K1) -> Self:
        """A new key pair, from the system's randomness unless ``rng`` is given."""
        rng = rng or random.SystemRandom()
        while True:
            try:
                return cls.from_private_key(rng.randbytes(PRIVATE_KEY_SIZE), scheme)
            except MisuseError:
                continue  # zero or not below secp256k1's order: one in 2**128

    @classmethod
    def from_private_key(cls, private_key: bytes, scheme: Scheme = Scheme.SECP256K1) -> Self:
        """The key pair of 32 secret bytes: a secp256k1 scalar, or an Ed25519 seed.

        Raises MisuseError for another length, or a scalar of zero or not below the curve's order.
        """
        if len(private_key) != PRIVATE_KEY_SIZE:
            raise MisuseError(f"a private key has {PRIVATE_KEY_SIZE} bytes, not {len(private_key)}")
        if scheme is Scheme.ED25519:
            return cls(SigningKey(private_key))
        try:
            return cls(PrivateKey(private_key))
        except ValueError as error:
            raise MisuseError("the private key is outside secp256k1's range") from error

    def sign(self, digest: bytes) -> bytes:
        """The signature over a 32-byte digest; the same digest always gives the same signature.

        Raises MisuseError for a digest of another length.
        """
        if len(digest) != DIGEST_SIZE:
            raise MisuseError(f"a digest has {DIGEST_SIZE} bytes, not {len(digest)}")
        if isinstance(self._key, PrivateKey):
            return self._key.sign_recoverable(digest, hasher=None)
        return self._key.sign(digest).signature

    def __repr__(self) -> str:
        return f"<Identity {self.scheme.value} {short_key(self.public_key)}>"


def scheme_of_untrusted(public_key: bytes) -> Scheme:
    """The scheme of a public key, by its length and first byte alone. Raises MalformedError.

    That the key is a point of its curve is not checked: no signature verifies with one that is not.
    """
    if len(public_key) == 32:
        return Scheme.ED25519
    if len(public_key) == 65 and public_key[0] == 4:
        return Scheme.SECP256K1
    raise MalformedError(f"a key of {len(public_key)} bytes is of no known scheme")


def verify(public_key: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is one of ``public_key`` over the 32-byte ``digest``. Never raises.

    For secp256k1 the key is recovered and compared, as AElf does: so a high ``s`` is valid too, and
    anyone can turn a signature into a second valid one. Never take a signature for an identifier.
    """
    try:
        if scheme_of_untrusted(public_key) is Scheme.SECP256K1:
            return recover_untrusted(digest, signature) == public_key
    except MalformedError:
        return False
    if len(digest) != DIGEST_SIZE or len(signature) != 64:
        return False
    try:
        VerifyKey(public_key).verify(digest, signature)
    except BadSignatureError:
        return False
    return True


def recover_untrusted(digest: bytes, signature: bytes) -> bytes:
    """The 65-byte secp256k1 public key that made a signature of 65 bytes, ``r‖s‖recid``.

    Any well-formed signature recovers *some* key: compare it with the one expected. Raises
    MalformedError for wrong lengths, a recid over 3, and an ``r`` or ``s`` of zero, not below the
    curve's order, or of no point.
    """
    try:
        key = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except ValueError as error:
        raise MalformedError("no public key can be recovered from the signature") from error
    return key.format(compressed=False)


def short_key(public_key: bytes) -> str:
    """A public key for logs: its first and last four bytes in hex, ``04eed00e..9fb21bbd``.

    The last ones matter: every secp256k1 key starts with 04.
    """
    return f"{public_key[:4].hex()}..{public_key[-4:].hex()}"
