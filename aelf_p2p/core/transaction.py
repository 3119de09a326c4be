"""A transaction as it was received: its bytes, its id and its fields."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import Final, Self

from google.protobuf.message import DecodeError

from aelf_p2p import wire
from aelf_p2p.core.canonical import (
    ADDRESS,
    BYTES,
    INT64,
    STRING,
    MessageSpec,
    walk_in_steps_untrusted,
    walk_untrusted,
)
from aelf_p2p.core.encoders import (
    encode_bytes_field,
    encode_hash_field,
    encode_string_field,
    encode_varint,
    encode_varint_field,
)
from aelf_p2p.core.errors import MalformedError, MisuseError
from aelf_p2p.core.steps import Steps, finish

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


# With from and to, each an Address of 32 bytes: tag and length of the field, then of its value.
_begins_usually = re.compile(rb"\x0a\x22\x0a\x20.{32}\x12\x22\x0a\x20.{32}", re.DOTALL).match
_SIGNATURE_TAG_BYTES: Final = 3

_TAG: Final = b"\x12"  # of each transaction in a BlockWithTransactions: field 2, length-delimited


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
        return cls._parse_usual(raw) or finish(cls._parse_any_in_steps_untrusted(raw))

    @classmethod
    def parse_in_steps_untrusted(cls, raw: bytes) -> Steps[Self]:
        """The same a bit at a time: megabytes of fields that we do not know are not usual."""
        return cls._parse_usual(raw) or (yield from cls._parse_any_in_steps_untrusted(raw))

    @classmethod
    def parse_many_untrusted(cls, raws: Sequence[bytes], encoded: bytes = b"") -> list[Self]:
        """The same of several, in less time each; ``encoded`` is what ``encode_transactions`` makes
        of them, where that is at hand.

        :raises MalformedError: one of them is malformed.
        """
        together = cls._parse_many_usual(raws, encoded)
        return [cls.parse_untrusted(raw) for raw in raws] if together is None else together

    @classmethod
    def parse_each_untrusted(cls, raws: Sequence[bytes]) -> list[Self | None]:
        """The same, with None in the place of each that is malformed. Never raises."""
        together = cls._parse_many_usual(raws)
        if together is not None:
            return list(together)
        each: list[Self | None] = []
        for raw in raws:
            try:
                each.append(cls.parse_untrusted(raw))
            except MalformedError:
                each.append(None)
        return each

    @classmethod
    def _parse_usual(cls, raw: bytes) -> Self | None:
        """A transaction that protobuf would serialise just so, without a field unknown to it; None
        for any other, which may be well-formed all the same. Half of the other way's time."""
        if not _begins_usually(raw):
            return None
        message = wire.Transaction()
        id_ = _id_of_usual(message, raw) if _is_usual(message, raw) else None
        return None if id_ is None else cls(raw, id_)

    @classmethod
    def _parse_many_usual(cls, raws: Sequence[bytes], encoded: bytes = b"") -> list[Self] | None:
        """All of them; None when one is not so. Protobuf looks at all at once, in C."""
        if len(raws) < 2 or not all(map(_begins_usually, raws)):
            return None
        block = wire.BlockWithTransactions()
        if not _is_usual(block, encoded or encode_transactions(raws)):
            return None
        transactions: list[Self] = []
        for raw, message in zip(raws, block.transactions, strict=True):
            id_ = _id_of_usual(message, raw)
            if id_ is None:
                return None
            transactions.append(cls(raw, id_))
        return transactions

    @classmethod
    def _parse_any_in_steps_untrusted(cls, raw: bytes) -> Steps[Self]:
        values, (start, end) = yield from walk_in_steps_untrusted(raw, TRANSACTION_SPEC)
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


def encode_transactions(raws: Sequence[bytes]) -> bytes:
    """Transactions as they follow the header in a BlockWithTransactions."""
    starts = [_TAG + encode_varint(len(raw)) for raw in raws]
    return b"".join(chain.from_iterable(zip(starts, raws, strict=True)))


def _is_usual(message: wire.Transaction | wire.BlockWithTransactions, raw: bytes) -> bool:
    """Parse; whether protobuf would serialise the message just so, without unknown fields."""
    try:
        message.ParseFromString(raw)
    except DecodeError:
        return False
    message.DiscardUnknownFields()
    return message.SerializeToString() == raw


def _id_of_usual(message: wire.Transaction, raw: bytes) -> bytes | None:
    """The id of a transaction that is usual; None when C# computes none."""
    if not message.method_name or message.ref_block_number < 0:
        return None
    if signature := message.signature:  # it comes last, behind its tag and length
        size = len(signature)
        length_bytes = 1 if size < 0x80 else len(encode_varint(size))
        raw = raw[: -size - length_bytes - _SIGNATURE_TAG_BYTES]
    return sha256(raw).digest()
