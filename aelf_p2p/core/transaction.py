"""A transaction as it was received: its bytes, its id and its fields."""

from dataclasses import dataclass
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


_ADDRESS_BYTES: Final = 32
_ADDRESS_START: Final = b"\x0a\x20"  # an Address's value, and its length
_FROM_START: Final = b"\x0a\x22" + _ADDRESS_START  # of the field: its tag and its length first
_TO_START: Final = b"\x12\x22" + _ADDRESS_START
_TO_AT: Final = len(_FROM_START) + _ADDRESS_BYTES
_SIGNATURE_TAG_BYTES: Final = 3


@dataclass(slots=True, eq=False, repr=False)
class Transaction:
    """A well-formed transaction; never changed after it was made.

    Whether its signature and its sender are right is the kernel's to judge, and ``params`` is
    opaque. Transactions hash by ``id``, and are equal when their bytes are: two that differ in
    nothing but the signature have one id, yet only one of them may be valid.

    Bytes and id are kept; the fields are read out of the bytes whenever they are asked for, since
    most nodes ask for few of them, once.
    """

    raw: bytes
    """The bytes that came, signature included."""
    id: bytes
    """SHA-256 of the bytes without the signature; 32 bytes, the digest that is signed."""

    @property
    def from_address(self) -> bytes:
        """32 bytes."""
        address: bytes = getattr(self._message, "from").value
        return address

    @property
    def to_address(self) -> bytes:
        """32 bytes."""
        return self._message.to.value

    @property
    def ref_block_number(self) -> int:
        """The height of the block that it refers to."""
        return self._message.ref_block_number

    @property
    def ref_block_prefix(self) -> bytes:
        """The first bytes of that block's hash."""
        return self._message.ref_block_prefix

    @property
    def method_name(self) -> str:
        """Of the contract's method; never empty."""
        return self._message.method_name

    @property
    def params(self) -> bytes:
        """What the method is given."""
        return self._message.params

    @property
    def signature(self) -> bytes:
        """65 bytes when it is right; empty when there is none."""
        return self._message.signature

    @property
    def _message(self) -> wire.Transaction:
        return wire.Transaction.FromString(self.raw)

    def __repr__(self) -> str:
        return f"<Transaction {self.id.hex()} {self.method_name!r}>"

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
        for any other, which may be well-formed all the same. A fifth of the other way's time."""
        if not (raw.startswith(_FROM_START) and raw.startswith(_TO_START, _TO_AT)):
            return None
        message = wire.Transaction()
        try:
            message.ParseFromString(raw)
        except DecodeError:
            return None
        message.DiscardUnknownFields()
        if message.SerializeToString() != raw:
            return None
        if not message.method_name or message.ref_block_number < 0:
            return None
        signed = raw
        if signature_bytes := len(message.signature):  # it comes last, behind its tag and length
            length_bytes = len(encode_varint(signature_bytes))
            signed = raw[: -signature_bytes - length_bytes - _SIGNATURE_TAG_BYTES]
        return cls(raw, sha256(signed).digest())

    @classmethod
    def _parse_any_untrusted(cls, raw: bytes) -> Self:
        values, (start, end) = walk_untrusted(raw, TRANSACTION_SPEC)
        for number in (_FROM, _TO, _METHOD_NAME):
            if number not in values:
                raise MalformedError(f"Transaction has no field {number}")
        if values.get(_REF_BLOCK_NUMBER, 0) < 0:
            raise MalformedError("Transaction's ref_block_number is negative")
        return cls(raw, sha256(raw[:start] + raw[end:]).digest())

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
