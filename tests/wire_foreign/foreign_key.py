"""A foreign node's key pair, and signatures by coincurve and hashlib alone (protocol §2)."""

import hashlib

import coincurve


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class ForeignKey:
    """A secp256k1 key pair; a new one unless its 32 secret bytes are given."""

    def __init__(self, secret: bytes | None = None) -> None:
        self._private = coincurve.PrivateKey(secret)
        self.public = self._private.public_key.format(compressed=False)
        """65 bytes, uncompressed."""
        self.hex = self.public.hex()
        self.address = sha256(sha256(self.public))

    def sign(self, data: bytes) -> bytes:
        """The 65-byte recoverable signature over the SHA-256 of ``data``."""
        return self._private.sign_recoverable(sha256(data), hasher=None)


def is_signed_by(public: bytes, data: bytes, signature: bytes) -> bool:
    """Whether the key recovered from a signature over the SHA-256 of ``data`` is ``public``."""
    try:
        key = coincurve.PublicKey.from_signature_and_message(signature, sha256(data), hasher=None)
    except ValueError:
        return False
    return key.format(compressed=False) == public
