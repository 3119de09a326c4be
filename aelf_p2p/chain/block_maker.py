"""Blocks that the minimal kernel produces."""

import hashlib
from collections.abc import Iterator, Sequence

from aelf_p2p.core.block import Block, BlockHeader
from aelf_p2p.core.chain_status import GENESIS_PREVIOUS_HASH
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.merkle import merkle_root
from aelf_p2p.core.transaction import Transaction

BLOCK_INTERVAL_NS = 500_000_000
"""Of AElf's chains."""


def make_block(
    identity: Identity,
    *,
    chain_id: int,
    previous_hash: bytes,
    height: int,
    time_ns: int,
    transactions: Sequence[Transaction],
) -> Block:
    """A signed block. ``time_ns`` is unix nanoseconds.

    Nothing is executed: the roots of world state and statuses stand for none, being hashes of what
    the block links to and holds.
    """
    transactions_root = merkle_root([transaction.id for transaction in transactions])
    header = BlockHeader.build(
        chain_id=chain_id,
        previous_hash=previous_hash,
        transactions_root=transactions_root,
        world_state_root=hashlib.sha256(previous_hash + transactions_root).digest(),
        status_root=hashlib.sha256(transactions_root).digest(),
        height=height,
        time_ns=time_ns,
        signer_pubkey=identity.public_key,
    )
    header = header.with_signature(identity.sign(header.signed_digest))
    return Block(header, tuple(transactions))


def make_chain(
    identity: Identity,
    count: int,
    *,
    chain_id: int,
    transactions: Sequence[Transaction],
    last_time_ns: int,
) -> Iterator[Block]:
    """A chain from its first block on, that holds the transactions, in order and spread evenly.

    The last block has ``last_time_ns`` (unix nanoseconds), those before it come at AElf's pace.
    """
    previous_hash = GENESIS_PREVIOUS_HASH
    for height in range(1, count + 1):
        block = make_block(
            identity,
            chain_id=chain_id,
            previous_hash=previous_hash,
            height=height,
            time_ns=last_time_ns - (count - height) * BLOCK_INTERVAL_NS,
            transactions=transactions[
                (height - 1) * len(transactions) // count : height * len(transactions) // count
            ],
        )
        yield block
        previous_hash = block.hash
