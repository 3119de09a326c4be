"""A chain store in a directory: what was stored outlives the process, however it ends."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from os import PathLike
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import trio

from aelf_p2p.chain.directory_lock import lock_directory
from aelf_p2p.chain.sqlite_chain import SqliteChain
from aelf_p2p.core.block import Block, BlockHeader
from aelf_p2p.core.chain_id import resolve_chain_id
from aelf_p2p.core.chain_status import LEAST_KEPT_BLOCKS, ChainRoot, ChainStatus
from aelf_p2p.core.errors import MisuseError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DATABASE_NAME = "chain.sqlite3"


class _Lane:
    """One connection, on which one thread at a time works, in the order of asking."""

    def __init__(self, chain: SqliteChain, turns: trio.CapacityLimiter) -> None:
        self.chain = chain
        self._turns = turns

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Work that has begun is done before a cancellation arrives."""
        return await trio.to_thread.run_sync(work, *args, limiter=self._turns)


class SqliteChainStore:
    """A ``ChainStore`` in SQLite, as ``open_sqlite_store`` gives it. All work is done in threads.

    Replies to peers are read on a connection of their own, one at a time, so that they never keep
    the node from following the chain. A call that is cancelled while its thread works ends when the
    work is done: what is stored, and ``status``, are whole in any case.
    """

    def __init__(
        self, following: _Lane, serving: _Lane, status: ChainStatus, keep_blocks: int | None
    ) -> None:
        """Internal: use ``open_sqlite_store``."""
        self._following = following
        self._serving = serving
        self._status = status
        self._keep_blocks = keep_blocks

    @property
    def status(self) -> ChainStatus:
        """The tips."""
        return self._status

    async def has_block(self, block_hash: bytes) -> bool:
        """Whether the block is stored; the root counts as stored."""
        lane = self._following
        return await lane.run(lane.chain.height_of, block_hash) is not None

    async def get_header(self, block_hash: bytes) -> BlockHeader | None:
        """The header of a stored block, or None."""
        return await self._following.run(self._following.chain.header, block_hash)

    async def get_block(self, block_hash: bytes) -> Block | None:
        """A stored block, or None."""
        return await self._following.run(self._following.chain.block, block_hash)

    async def hash_at(self, height: int) -> bytes | None:
        """The hash of the best chain's block at a height, or None."""
        if not self._status.root.height <= height <= self._status.best_height:
            await trio.lowlevel.checkpoint()
            return None
        return await self._following.run(self._following.chain.hash_at, height)

    async def get_raw_block(self, block_hash: bytes) -> bytes | None:
        """A stored block as its bytes, or None."""
        return await self._serving.run(self._serving.chain.raw_block, block_hash)

    async def raw_blocks_after(
        self, previous_hash: bytes, count: int, *, max_bytes: int
    ) -> list[bytes]:
        """At most ``count`` blocks of the best chain that follow a block, and ``max_bytes``."""
        lane = self._serving
        return await lane.run(lane.chain.raw_blocks_after, previous_hash, count, max_bytes)

    async def put_block(self, block: Block) -> ChainStatus:
        """Store a block whose parent is stored, and move the tips."""
        self._status = await self._following.run(self._following.chain.put_block, block)
        return self._status

    async def set_lib(self, block_hash: bytes) -> ChainStatus:
        """Make a block of the best chain irreversible."""
        lane = self._following
        self._status = await lane.run(lane.chain.set_lib, block_hash, self._keep_blocks)
        return self._status


@asynccontextmanager
async def open_sqlite_store(
    directory: str | PathLike[str],
    *,
    chain_id: int | str,
    root: ChainRoot | None = None,
    keep_blocks: int | None = None,
) -> AsyncIterator[SqliteChainStore]:
    """The chain that a data directory holds, as long as the block runs; a new one when it is empty.

    The directory is this process's meanwhile. A ``root`` says behind which block a new chain
    begins; that of an old one must be the same. With ``keep_blocks``, 512 or more, only so many
    irreversible blocks are kept: older ones are forgotten and can no longer be given to peers. The
    file keeps its size, and fills the room again.

    Raises StoreError when the directory is in use, cannot be used, is damaged or holds another
    chain; MisuseError for arguments that cannot be right.
    """
    if keep_blocks is not None and keep_blocks < LEAST_KEPT_BLOCKS:
        raise MisuseError(f"keep_blocks must be {LEAST_KEPT_BLOCKS} or more, not {keep_blocks}")
    number = resolve_chain_id(chain_id)
    path = Path(directory) / DATABASE_NAME
    with lock_directory(path.parent):
        async with _open_lane(path) as following, _open_lane(path) as serving:
            status = await following.run(following.chain.open_chain, number, root)
            # It takes several steps when fewer blocks are to be kept than before.
            while (pruned := await following.run(following.chain.prune, keep_blocks)) != status:
                status = pruned
            yield SqliteChainStore(following, serving, status, keep_blocks)


@asynccontextmanager
async def _open_lane(path: Path) -> AsyncIterator[_Lane]:
    turns = trio.CapacityLimiter(1)
    chain = await trio.to_thread.run_sync(SqliteChain, path, limiter=turns)
    lane = _Lane(chain, turns)
    try:
        yield lane
    finally:
        with trio.CancelScope(shield=True):
            await lane.run(chain.close)
