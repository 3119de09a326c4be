"""The minimal kernel: decides which blocks and transactions are right, and executes nothing."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import trio

from aelf_p2p.chain.block_content import check_content, name_of
from aelf_p2p.chain.block_maker import make_block
from aelf_p2p.chain.transaction_pool import TransactionPool
from aelf_p2p.contracts import ChainStore
from aelf_p2p.core.block import Block
from aelf_p2p.core.chain_id import resolve_chain_id
from aelf_p2p.core.errors import (
    InvalidItemError,
    InvalidReason,
    MisuseError,
    UnknownParentError,
)
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.kernel_events import (
    BlockAccepted,
    BlockMined,
    KernelEvent,
    NewIrreversibleBlockFound,
    TransactionAccepted,
)
from aelf_p2p.core.options import MAX_REF_BLOCK_AHEAD
from aelf_p2p.core.transaction import Transaction

DEFAULT_CONFIRMATIONS = 8
DEFAULT_POOL_CAPACITY = 5120
DEFAULT_POOL_BYTES = 16 * 1024 * 1024
MAX_BLOCK_TRANSACTIONS = 512
TRANSACTIONS_A_STEP = 2048
"""Taken out of the pool or back into it at once: a millisecond or two."""

T = TypeVar("T")


class MinimalKernel:
    """A ``Kernel`` that checks hashes, signatures, merkle roots, links and heights, in steps.

    A block becomes irreversible when ``confirmations`` blocks follow it; there is no consensus.
    """

    def __init__(
        self,
        store: ChainStore,
        *,
        chain_id: int | str,
        wall_ns: Callable[[], int] = time.time_ns,
        max_ref_block_ahead: int = MAX_REF_BLOCK_AHEAD,
        confirmations: int = DEFAULT_CONFIRMATIONS,
        pool_capacity: int = DEFAULT_POOL_CAPACITY,
        pool_bytes: int = DEFAULT_POOL_BYTES,
    ) -> None:
        self.pool = TransactionPool(pool_capacity, max_ref_block_ahead, max_bytes=pool_bytes)
        self._store = store
        self._chain_id = resolve_chain_id(chain_id)
        self._wall_ns = wall_ns
        self._confirmations = confirmations
        self._emit: Callable[[KernelEvent], None] = _nowhere
        self._writing = trio.Lock()

    def connect(self, emit: Callable[[KernelEvent], None]) -> None:
        """Where events go from now on; called by the node."""
        if self._emit is not _nowhere:
            raise MisuseError("this kernel belongs to another node already")
        self._emit = emit

    def submit_transaction(self, transaction: Transaction) -> bool:
        """Check a transaction and add it to the pool. False when it was seen already.

        Raises InvalidItemError. An accepted one is broadcast, by way of TransactionAccepted.
        """
        accepted = self.pool.add(transaction, self._store.status.longest_height)
        if accepted:
            self._emit(TransactionAccepted(transaction))
        return accepted

    async def accept_block(self, block: Block) -> bool:
        """Check and store a block. False when it was there already.

        Raises InvalidItemError, UnknownParentError.
        """
        async with self._writing:
            if await self._store.has_block(block.hash):
                return False
            await self._check_place(block)
            await check_content(block, self._chain_id, is_verified=self.pool.holds)
            await self._store_block(block)
            return True

    async def mine_block(
        self, identity: Identity, *, max_transactions: int = MAX_BLOCK_TRANSACTIONS
    ) -> Block:
        """Pack the oldest transactions of the pool into a block on the best chain; broadcast it.

        ``identity`` is the node's own: other nodes take a pushed block from its signer only.
        """
        async with self._writing:
            status = self._store.status
            block = make_block(
                identity,
                chain_id=self._chain_id,
                previous_hash=status.best_hash,
                height=status.best_height + 1,
                time_ns=self._wall_ns(),
                transactions=self.pool.oldest(max_transactions),
            )
            await self._store_block(block, mined=True)
            return block

    async def _check_place(self, block: Block) -> None:
        """A stored parent that is not below the last irreversible block follows it (ChainStore)."""
        status = self._store.status
        parent_height: int | None = status.root.height
        if block.previous_hash != status.root.block_hash:
            parent = await self._store.get_header(block.previous_hash)
            parent_height = None if parent is None else parent.height
        # The height comes first: a false one that is low must not pass for a block that is late.
        if parent_height is not None and block.height != parent_height + 1:
            raise InvalidItemError(InvalidReason.BAD_HEIGHT, name_of(block))
        if block.height <= status.lib_height:
            raise InvalidItemError(InvalidReason.BELOW_LIB, name_of(block))
        if parent_height is None:
            raise UnknownParentError(f"{name_of(block)}: its parent is not stored")

    async def _store_block(self, block: Block, *, mined: bool = False) -> None:
        before = self._store.status
        status = await self._store.put_block(block)
        if status.best_hash == before.best_hash:
            return  # on a fork, whose transactions still wait for the best chain
        with trio.CancelScope(shield=True):  # what is stored is told, and waits no longer
            await self._take_out(block)
        if mined:  # first: whoever gets the whole block needs no announcement
            self._emit(BlockMined(block))
        self._emit(BlockAccepted(block))
        if block.previous_hash != before.best_hash:
            await self._follow_reorganisation(before.best_hash)
        lib_height = status.best_height - self._confirmations
        if lib_height > status.lib_height:
            lib_hash = await self._store.hash_at(lib_height)
            if lib_hash is not None:
                await self._store.set_lib(lib_hash)
                self._emit(NewIrreversibleBlockFound(lib_hash, lib_height))

    async def _take_out(self, block: Block) -> None:
        for step in _steps(block.transaction_ids):
            self.pool.take_out(step)
            await trio.lowlevel.checkpoint()

    async def _follow_reorganisation(self, left_tip: bytes) -> None:
        """Another fork became the best chain: the transactions of the one that was left wait again,
        unless the fork's blocks, which joined with the new tip, hold them."""
        status = self._store.status
        left = await self._store.get_block(left_tip)
        while left is not None and await self._store.hash_at(left.height) != left.hash:
            for step in _steps(left.transactions):
                self.pool.take_back(step, status.longest_height)
                await trio.lowlevel.checkpoint()
            left = await self._store.get_block(left.previous_hash)
        fork_height = status.root.height if left is None else left.height
        joined = await self._store.get_block(status.best_hash)
        while joined is not None and joined.height > fork_height:
            await self._take_out(joined)
            joined = await self._store.get_block(joined.previous_hash)


def _steps(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """So many at once that nobody waits for long."""
    for start in range(0, len(items), TRANSACTIONS_A_STEP):
        yield items[start : start + TRANSACTIONS_A_STEP]


def _nowhere(event: KernelEvent) -> None:
    """A kernel without a node has nobody to tell."""
