"""Blocks and transactions made for tests: cheap ones that nobody signed, and right ones."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from os import PathLike

import pytest

from aelf_p2p.chain import sqlite_store
from aelf_p2p.chain.block_maker import make_block
from aelf_p2p.core.address import address_of
from aelf_p2p.core.block import Block, BlockHeader
from aelf_p2p.core.chain_id import chain_id_from_text_untrusted
from aelf_p2p.core.chain_status import ChainRoot
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.transaction import Transaction

CHAIN_ID = chain_id_from_text_untrusted("AELF")
GENESIS = bytes(32)
TIME_NS = 1_732_172_217_321_312_000
MINER = Identity.generate(random.Random("miner"))
SENDER = Identity.generate(random.Random("sender"))
_salts = count(1)


Parent = Block | ChainRoot | None
"""What a block is built on; None stands for the root of all chains."""


def tip_of(parent: Parent) -> tuple[bytes, int]:
    if isinstance(parent, Block):
        return parent.hash, parent.height
    root = parent or ChainRoot()
    return root.block_hash, root.height


def unsigned_block(parent: Parent, *, height: int | None = None) -> Block:
    """A block with a hash of its own; no store looks at its signature."""
    previous_hash, previous_height = tip_of(parent)
    header = BlockHeader.build(
        chain_id=CHAIN_ID,
        previous_hash=previous_hash,
        transactions_root=bytes(32),
        world_state_root=next(_salts).to_bytes(32),
        status_root=bytes(32),
        height=height or previous_height + 1,
        time_ns=TIME_NS,
        signer_pubkey=bytes(65),
    )
    return Block(header, ())


def unsigned_chain(parent: Parent, length: int) -> list[Block]:
    blocks: list[Block] = []
    for _ in range(length):
        blocks.append(unsigned_block(blocks[-1] if blocks else parent))
    return blocks


def signed_block(
    parent: Parent,
    transactions: Sequence[Transaction] = (),
    *,
    height: int | None = None,
    chain_id: int = CHAIN_ID,
) -> Block:
    """A block that a kernel accepts, unless told otherwise; no two are the same."""
    previous_hash, previous_height = tip_of(parent)
    return make_block(
        MINER,
        chain_id=chain_id,
        previous_hash=previous_hash,
        height=height or previous_height + 1,
        time_ns=TIME_NS + next(_salts),
        transactions=transactions,
    )


def signed_chain(parent: Parent, length: int) -> list[Block]:
    blocks: list[Block] = []
    for _ in range(length):
        blocks.append(signed_block(blocks[-1] if blocks else parent))
    return blocks


def signed_transaction(
    *, ref_block_number: int = 0, size: int = 8, sender: Identity = SENDER
) -> Transaction:
    """A transaction that a pool accepts; no two are the same."""
    unsigned = Transaction.build(
        from_address=address_of(sender.public_key),
        to_address=bytes(range(32)),
        method_name="Transfer",
        params=next(_salts).to_bytes(size),
        ref_block_number=ref_block_number,
        ref_block_prefix=b"\x01\x02\x03\x04",
    )
    return unsigned.with_signature(sender.sign(unsigned.id))


@asynccontextmanager
async def open_forgetful_store(
    directory: str | PathLike[str], keep_blocks: int | None, root: ChainRoot | None = None
) -> AsyncIterator[sqlite_store.SqliteChainStore]:
    """A store that keeps fewer blocks than anyone may ask for."""
    async with AsyncExitStack() as opened:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sqlite_store, "LEAST_KEPT_BLOCKS", 1)
            store = await opened.enter_async_context(
                sqlite_store.open_sqlite_store(
                    directory, chain_id=CHAIN_ID, root=root, keep_blocks=keep_blocks
                )
            )
        yield store
