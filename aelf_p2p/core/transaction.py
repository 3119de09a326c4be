"""A transaction as it was received: its bytes, its id and its fields."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Self

from google.protobuf.message import DecodeError

from aelf_p2p import wire
from aelf_p2p.core.canonical import (
    ADDRESS,
    BYTES,
    INT64,
    STRING,
    MessageSpec,
    encode_bytes_field,
    encode_hash_field,
    encode_string_field,
    encode_varint,
    encode_varint_field,
    walk_untrusted,
)
from aelf_p2p.core.errors import MalformedError, MisuseError

_FROM: Final = 1
_TO: Final = 2
_REF_BLOCK_NUMBER: Final = 3
_REF_BLOCK_PREFIX: Final = 4
_METHOD_NAME: Final = 5
_PARAMS: Final = 6
_SIGNATURE: Final = 10000

TRANSACTION_SPEC: Final = MessageSpec(
    "Transaction",
    {
        _FROM: ADDRESS,
        _TO: ADDRESS,
        _REF_BLOCK_NUMBER: INT64,
        _REF_BLOCK_PREFIX: BYTES,
        _METHOD_NAME: STRING,
        _PARAMS: BYTES,
        _SIGNATURE: BYTES,
    },
    cut=_SIGNATURE,
)


@dataclass(slots=True, eq=False)
class Transaction:
    """A well-formed transaction; never changed after it was made.

    Whether its signature and its sender are right is the kernel's to judge, and ``params`` is
    opaque. Transactions hash by ``id``, and are equal when their bytes are: two that differ in
    nothing but the signature have one id, yet only one of them may be valid.
    """

    raw: bytes = field(repr=False)
    """The bytes that came, signature included."""
    id: bytes
    """SHA-256 of the bytes without the signature; 32 bytes, the digest that is signed."""
    from_address: bytes = field(repr=False)
    """32 bytes."""
    to_address: bytes = field(repr=False)
    """32 bytes."""
    ref_block_number: int
    ref_block_prefix: bytes = field(repr=False)
    method_name: str
    params: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    """65 bytes when it is right; empty when there is none."""

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Parse the bytes of an aelf.Transaction.

        :raises MalformedError: not laid out as C# would (see :mod:`aelf_p2p.core.canonical`), or
            without from, to or method_name, or with a negative ref_block_number: C# computes no
            id of such a transaction.
        """
        return cls._parse_usual(raw) or cls._parse_any_untrusted(raw)

    @classmethod
    def _parse_usual(cls, raw: bytes) -> Self | None:
        """A transaction that protobuf would serialise just so, without a field unknown to it; None
        for any other, which may be well-formed all the same. A third of the other way's time."""
        message = wire.Transaction()
        try:
            message.ParseFromString(raw)
        except DecodeError:
            return None
        message.DiscardUnknownFields()
        from_address: bytes = getattr(message, "from").value
        to_address = message.to.value
        method_name, signature = message.method_name, message.signature
        if not (len(from_address) == len(to_address) == 32 and method_name):
            return None
        if message.ref_block_number < 0 or message.SerializeToString() != raw:
            return None
        signed = raw
        if signature:  # it comes last, behind its tag of three bytes and its length
            signed = raw[: -3 - len(encode_varint(len(signature))) - len(signature)]
        return cls(
            raw,
            sha256(signed).digest(),
            from_address,
            to_address,
            message.ref_block_number,
            message.ref_block_prefix,
            method_name,
            message.params,
            signature,
        )

    @classmethod
    def _parse_any_untrusted(cls, raw: bytes) -> Self:
        values, (start, end) = walk_untrusted(raw, TRANSACTION_SPEC)
        try:
            from_address = values[_FROM]
            to_address = values[_TO]
            method_name = values[_METHOD_NAME]
        except KeyError as missing:
            raise MalformedError(f"Transaction has no field {missing}") from None
        ref_block_number = values.get(_REF_BLOCK_NUMBER, 0)
        if ref_block_number < 0:
            raise MalformedError("Transaction's ref_block_number is negative")
        return cls(
            raw,
            sha256(raw[:start] + raw[end:]).digest(),
            from_address,
            to_address,
            ref_block_number,
            values.get(_REF_BLOCK_PREFIX, b""),
            method_name,
            values.get(_PARAMS, b""),
            values.get(_SIGNATURE, b""),
        )

    @classmethod
    def build(
        cls,
        *,
        from_address: bytes,
        to_address: bytes,
        method_name: str,
        params: bytes = b"",
        ref_block_number: int = 0,
        ref_block_prefix: bytes = b"",
        signature: bytes = b"",
    ) -> Self:
        """Make a new transaction; sign its ``id`` and give that to :meth:`with_signature`.

        :raises MisuseError: an address is not 32 bytes, there is no method name, or a number is
            out of its range.
        """
        raw = b"".join(
            (
                encode_hash_field(_FROM, from_address),
                encode_hash_field(_TO, to_address),
                encode_varint_field(_REF_BLOCK_NUMBER, ref_block_number),
                encode_bytes_field(_REF_BLOCK_PREFIX, ref_block_prefix),
                encode_string_field(_METHOD_NAME, method_name),
                encode_bytes_field(_PARAMS, params),
                encode_bytes_field(_SIGNATURE, signature),
            )
        )
        # The same gate as for received ones, so that nobody refuses what we build.
        try:
            return cls.parse_untrusted(raw)
        except MalformedError as error:
            raise MisuseError(f"not a transaction: {error}") from error

    def with_signature(self, signature: bytes) -> Self:
        """Return this transaction with that signature; the id stays, unknown fields too."""
        start, end = walk_untrusted(self.raw, TRANSACTION_SPEC).span
        field_bytes = encode_bytes_field(_SIGNATURE, signature)
        return self.parse_untrusted(self.raw[:start] + field_bytes + self.raw[end:])

    def __eq__(self, other: object) -> bool:
        return self.raw == other.raw if isinstance(other, Transaction) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)
