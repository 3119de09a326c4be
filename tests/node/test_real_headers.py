"""Real blocks and transactions keep their hashes on the way through nodes and their stores."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from aelf_p2p import (
    Block,
    BlockHeader,
    Identity,
    MemoryChainStore,
    MemoryHub,
    MinimalKernel,
    Node,
    open_node,
)
from aelf_p2p.core.chain_status import ChainRoot
from aelf_p2p.testing.vectors import BlockVector, load_vectors

BLOCKS = load_vectors().blocks


def block_of(vector: BlockVector) -> Block:
    """The block whole, as far as it is known: of most, the header alone, of some unsigned."""
    if vector.block_with_transactions is not None:
        return Block.parse_untrusted(vector.block_with_transactions)
    return Block(BlockHeader.parse_untrusted(raw_header(vector)), ())


def raw_header(vector: BlockVector) -> bytes:
    return vector.header or vector.header_without_signature


class UncheckedKernel(MinimalKernel):
    """Takes a header without its transactions, or unsigned, for a block."""

    async def accept_block(self, block: Block) -> bool:
        await self._store.put_block(block)
        return True


@asynccontextmanager
async def two_nodes(
    vector: BlockVector, kernel: type[MinimalKernel]
) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes of the block's chain, which begins right before it; the first has the block."""
    hub = MemoryHub()
    block = block_of(vector)
    root = ChainRoot(block.previous_hash, block.height - 1)
    stores = MemoryChainStore(root), MemoryChainStore(root)
    await stores[0].put_block(block)
    async with (
        open_node(
            identity=Identity.generate(),
            transport=hub.transport("alice"),
            chain_id=vector.chain_id,
            store=stores[0],
        ) as alice,
        open_node(
            identity=Identity.generate(),
            transport=hub.transport("bob"),
            chain_id=vector.chain_id,
            store=stores[1],
            kernel=kernel(stores[1], chain_id=vector.chain_id),
        ) as bob,
    ):
        await alice.wait_initialized()
        await trio.testing.wait_all_tasks_blocked()
        yield alice, bob


@pytest.mark.parametrize("vector", BLOCKS, ids=lambda vector: f"{vector.height}")
async def test_a_real_header_travels_unchanged(
    vector: BlockVector, autojump_clock: trio.abc.Clock
) -> None:
    async with two_nodes(vector, UncheckedKernel) as (_, bob):
        peer = await bob.connect("alice")
        fetched = await peer.request_block(vector.block_hash)
        assert fetched is not None
        assert fetched.hash == vector.block_hash
        assert fetched.header.raw == raw_header(vector)
        await trio.sleep(1)  # it was followed as well, and is in bob's store
        stored = await bob.store.get_block(vector.block_hash)
        assert stored is not None
        assert stored.encode() == block_of(vector).encode()
        assert bob.store.status.best_hash == vector.block_hash
        assert bob.store.status.best_height == vector.height


async def test_a_whole_real_block_is_followed(autojump_clock: trio.abc.Clock) -> None:
    """Its signature and merkle root are right, so that a node accepts it from a peer."""
    [vector] = [vector for vector in BLOCKS if vector.block_with_transactions is not None]
    async with two_nodes(vector, MinimalKernel) as (_, bob):
        await bob.connect("alice")
        await trio.sleep(1)
        stored = await bob.store.get_block(vector.block_hash)
        assert stored is not None
        assert stored.encode() == vector.block_with_transactions
        assert list(stored.transaction_ids) == list(vector.transaction_ids)
