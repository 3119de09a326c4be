"""A block header and a block as they were received."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Self

from aelf_p2p.core.canonical import (
    BYTES,
    HASH,
    INT32,
    INT64,
    MAP_STRING_BYTES,
    TIMESTAMP,
    MessageSpec,
    walk_in_steps_untrusted,
    walk_untrusted,
)
from aelf_p2p.core.encoders import (
    encode_bytes_field,
    encode_hash_field,
    encode_message_field,
    encode_string_field,
    encode_timestamp_field,
    encode_varint,
    encode_varint_field,
)
from aelf_p2p.core.errors import MalformedError, MisuseError
from aelf_p2p.core.fields import repeated_runs_untrusted, repeated_untrusted
from aelf_p2p.core.steps import Steps, finish
from aelf_p2p.core.transaction import Transaction, encode_transactions

_VERSION: Final = 1
_CHAIN_ID: Final = 2
_PREVIOUS_HASH: Final = 3
_TRANSACTIONS_ROOT: Final = 4
_WORLD_STATE_ROOT: Final = 5
_BLOOM: Final = 6
_HEIGHT: Final = 7
_EXTRA_DATA: Final = 8
_TIME: Final = 9
_STATUS_ROOT: Final = 10
_SIGNER_PUBKEY: Final = 9999
_SIGNATURE: Final = 10000

BLOCK_HEADER_SPEC: Final = MessageSpec(
    "BlockHeader",
    {
        _VERSION: INT32,
        _CHAIN_ID: INT32,
        _PREVIOUS_HASH: HASH,
        _TRANSACTIONS_ROOT: HASH,
        _WORLD_STATE_ROOT: HASH,
        _BLOOM: BYTES,
        _HEIGHT: INT64,
        _EXTRA_DATA: MAP_STRING_BYTES,
        _TIME: TIMESTAMP,
        _STATUS_ROOT: HASH,
        _SIGNER_PUBKEY: BYTES,
        _SIGNATURE: BYTES,
    },
    cut=_SIGNATURE,
)

# BlockWithTransactions and BlockList (protocol.md §1).
_HEADER: Final = 1
_TRANSACTIONS: Final = 2
_BLOCKS: Final = 1

_FIRST_HEIGHT: Final = 1

TRANSACTIONS_A_STEP: Final = 256
STEP_BYTES: Final = 32 * 1024
"""Parsed at once, unless one transaction is larger, and no more than twice as many: half a
millisecond, of usual ones."""


@dataclass(slots=True, eq=False)
class BlockHeader:
    """A well-formed header; never changed after it was made.

    Headers hash by ``hash``, and are equal when their bytes are, signature included. Whether the
    signature is right is the kernel's to judge.
    """

    raw: bytes = field(repr=False)
    """The bytes that came, signature included."""
    hash: bytes
    """The block's hash: SHA-256 of the bytes without the signature; 32 bytes."""
    version: int = field(repr=False)
    chain_id: int
    previous_hash: bytes
    """32 bytes, as are the three roots."""
    transactions_root: bytes = field(repr=False)
    world_state_root: bytes = field(repr=False)
    status_root: bytes = field(repr=False)
    bloom: bytes = field(repr=False)
    height: int
    """1 for the first block."""
    time_ns: int
    """Unix time in nanoseconds; between the years 1 and 9999, so it can exceed 64 bits."""
    signer_pubkey: bytes = field(repr=False)
    """65 bytes when it is right; empty in the first block."""
    signature: bytes = field(repr=False)
    """65 bytes when it is right; empty when there is none."""

    @classmethod
    def parse_untrusted(cls, raw: bytes) -> Self:
        """Parse the bytes of an aelf.BlockHeader.

        :raises MalformedError: not laid out as C# would (see :mod:`aelf_p2p.core.canonical`), or
            incomplete, so that C# computes no hash of it: without height (1 or more), previous
            hash, one of the three roots, time, or, above height 1, signer; or with a negative
            chain id.
        """
        return finish(cls.parse_in_steps_untrusted(raw))

    @classmethod
    def parse_in_steps_untrusted(cls, raw: bytes) -> Steps[Self]:
        """The same a bit at a time: there may be megabytes of extra data."""
        values, (start, end) = yield from walk_in_steps_untrusted(raw, BLOCK_HEADER_SPEC)
        chain_id = values.get(_CHAIN_ID, 0)
        height = values.get(_HEIGHT, 0)
        signer_pubkey = values.get(_SIGNER_PUBKEY, b"")
        if height < _FIRST_HEIGHT:
            raise MalformedError("BlockHeader's height is below 1")
        if chain_id < 0:
            raise MalformedError("BlockHeader's chain id is negative")
        if not signer_pubkey and height > _FIRST_HEIGHT:
            raise MalformedError("BlockHeader has no signer")
        try:
            return cls(
                raw=raw,
                hash=sha256(raw[:start] + raw[end:]).digest(),
                version=values.get(_VERSION, 0),
                chain_id=chain_id,
                previous_hash=values[_PREVIOUS_HASH],
                transactions_root=values[_TRANSACTIONS_ROOT],
                world_state_root=values[_WORLD_STATE_ROOT],
                status_root=values[_STATUS_ROOT],
                bloom=values.get(_BLOOM, b""),
                height=height,
                time_ns=values[_TIME],
                signer_pubkey=signer_pubkey,
                signature=values.get(_SIGNATURE, b""),
            )
        except KeyError as missing:
            raise MalformedError(f"BlockHeader has no field {missing}") from None

    @classmethod
    def build(
        cls,
        *,
        chain_id: int,
        previous_hash: bytes,
        transactions_root: bytes,
        world_state_root: bytes,
        status_root: bytes,
        height: int,
        time_ns: int,
        signer_pubkey: bytes = b"",
        extra_data: Iterable[tuple[str, bytes]] = (),
        bloom: bytes = b"",
        version: int = 0,
        signature: bytes = b"",
    ) -> Self:
        """Make a new header; sign its ``signed_digest`` and give that to :meth:`with_signature`.

        ``extra_data`` is written in the order given.

        :raises MisuseError: a hash is not 32 bytes, there is no signer above height 1, a key of
            ``extra_data`` is repeated, or a number is out of its range.
        """
        entries = [
            encode_message_field(
                _EXTRA_DATA, encode_string_field(1, key) + encode_bytes_field(2, value)
            )
            for key, value in extra_data
        ]
        raw = b"".join(
            (
                encode_varint_field(_VERSION, version),
                encode_varint_field(_CHAIN_ID, chain_id),
                encode_hash_field(_PREVIOUS_HASH, previous_hash),
                encode_hash_field(_TRANSACTIONS_ROOT, transactions_root),
                encode_hash_field(_WORLD_STATE_ROOT, world_state_root),
                encode_bytes_field(_BLOOM, bloom),
                encode_varint_field(_HEIGHT, height),
                *entries,
                encode_timestamp_field(_TIME, time_ns),
                encode_hash_field(_STATUS_ROOT, status_root),
                encode_bytes_field(_SIGNER_PUBKEY, signer_pubkey),
                encode_bytes_field(_SIGNATURE, signature),
            )
        )
        # The same gate as for received ones, so that nobody refuses what we build.
        try:
            return cls.parse_untrusted(raw)
        except MalformedError as error:
            raise MisuseError(f"not a block header: {error}") from error

    @property
    def extra_data(self) -> tuple[tuple[str, bytes], ...]:
        """In wire order, which counts in the hash. Read out of the bytes each time: tiny entries
        weigh twenty times what they do there."""
        values = walk_untrusted(self.raw, BLOCK_HEADER_SPEC).values
        return tuple(values.get(_EXTRA_DATA, {}).items())

    @property
    def signed_digest(self) -> bytes:
        """The 32 bytes that the signer signs: the hash."""
        return self.hash

    def with_signature(self, signature: bytes) -> Self:
        """Return this header with that signature; the hash stays, unknown fields too."""
        start, end = walk_untrusted(self.raw, BLOCK_HEADER_SPEC).span
        field_bytes = encode_bytes_field(_SIGNATURE, signature)
        return self.parse_untrusted(self.raw[:start] + field_bytes + self.raw[end:])

    def __eq__(self, other: object) -> bool:
        return self.raw == other.raw if isinstance(other, BlockHeader) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.hash)


@dataclass(frozen=True, slots=True)
class Block:
    """A header and its transactions, as BlockWithTransactions carries them.

    That the transactions have the header's merkle root is the kernel's to judge.
    """

    header: BlockHeader
    transactions: tuple[Transaction, ...] = field(repr=False)

    @classmethod
    def parse_untrusted(cls, raw: bytes | memoryview) -> Self:
        """Parse the bytes of a BlockWithTransactions, whose few unknown fields are dropped.

        :raises MalformedError: no header, two of them, one of the parts is malformed, or so many
            unknown fields that walking over them is all they are for.
        """
        return finish(cls.parse_in_steps_untrusted(raw))

    @classmethod
    def parse_in_steps_untrusted(cls, raw: bytes | memoryview) -> Steps[Self]:
        """The same a bit at a time: megabytes of small transactions take most of a second."""
        header: BlockHeader | None = None
        transactions: list[Transaction] = []
        step_bytes = 0
        for number, bodies, fields in repeated_runs_untrusted(
            raw, _HEADER, _TRANSACTIONS, most=TRANSACTIONS_A_STEP
        ):
            if number == _TRANSACTIONS:
                if len(bodies) == 1 and len(bodies[0]) > STEP_BYTES:
                    one = yield from Transaction.parse_in_steps_untrusted(bodies[0])
                    transactions.append(one)
                else:
                    transactions += Transaction.parse_many_untrusted(bodies, fields)
                step_bytes += sum(map(len, bodies))
                if step_bytes >= STEP_BYTES or len(bodies) == TRANSACTIONS_A_STEP:
                    step_bytes = 0
                    yield
            elif header is not None or len(bodies) > 1:
                raise MalformedError("BlockWithTransactions has two headers")
            else:
                header = yield from BlockHeader.parse_in_steps_untrusted(bodies[0])
        if header is None:
            raise MalformedError("BlockWithTransactions has no header")
        return cls(header, tuple(transactions))

    def encode(self) -> bytes:
        """Lay out a BlockWithTransactions of the very bytes that the parts were received in."""
        return encode_block(self.header.raw, self.encode_transactions())

    def encode_transactions(self) -> bytes:
        """What follows the header in a BlockWithTransactions."""
        return encode_transactions([each.raw for each in self.transactions])

    @property
    def size(self) -> int:
        """How many bytes :meth:`encode` gives."""
        parts = [len(self.header.raw), *(len(each.raw) for each in self.transactions)]
        # One byte of tag each: the field numbers are below 16.
        return sum(1 + len(encode_varint(length)) + length for length in parts)

    @property
    def hash(self) -> bytes:
        """The header's hash, 32 bytes."""
        return self.header.hash

    @property
    def previous_hash(self) -> bytes:
        """The hash of the block before this one, 32 bytes."""
        return self.header.previous_hash

    @property
    def height(self) -> int:
        """The header's height, 1 for the first block."""
        return self.header.height

    @property
    def time_ns(self) -> int:
        """The header's unix time, in nanoseconds."""
        return self.header.time_ns

    @property
    def transaction_ids(self) -> tuple[bytes, ...]:
        """The ids in the block's order, 32 bytes each."""
        return tuple(each.id for each in self.transactions)

    def __hash__(self) -> int:
        return hash(self.header)


def encode_block(raw_header: bytes, encoded_transactions: bytes) -> bytes:
    """The bytes of a BlockWithTransactions, of those of its two parts."""
    return encode_message_field(_HEADER, raw_header) + encoded_transactions


def encoded_block_size(header_size: int, transactions_size: int) -> int:
    """How many bytes :func:`encode_block` gives, of what its two parts weigh."""
    return 1 + len(encode_varint(header_size)) + header_size + transactions_size


def parse_block_list_untrusted(raw: bytes | memoryview) -> Iterator[Block | None]:
    """Parse a BlockList lazily, a block at a step; only that block's bytes are copied. A large
    block takes several steps: None comes before it then.

    :raises MalformedError: when the walk comes to the damage, after the blocks before it.
    """
    for _, body in repeated_untrusted(raw, _BLOCKS):
        yield (yield from Block.parse_in_steps_untrusted(body))
