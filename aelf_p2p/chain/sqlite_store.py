"""A chain store in a directory: what was stored outlives the process, however it ends."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import trio

from aelf_p2p.chain.directory_lock import lock_directory
from aelf_p2p.chain.sqlite_chain import SqliteChain
from aelf_p2p.core.block import Block, BlockHeader
from aelf_p2p.core.chain_id import resolve_chain_id
from aelf_p2p.core.chain_status import ChainRoot, ChainStatus
from aelf_p2p.core.errors import MisuseError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DATABASE_NAME = "chain.sqlite3"


class SqliteChainStore:
    """A ``ChainStore`` in SQLite, as ``open_sqlite_store`` gives it. All work is done in threads.

    Replies to peers are read on a connection of their own, one at a time, so that they never keep
    the node from following the chain. A call that is cancelled while its thread works ends when the
    work is done: what is stored, and ``status``, are whole in any case.
    """

    def __init__(self, chain: SqliteChain, serving: SqliteChain, status: ChainStatus) -> None:
        self._chain = chain
        self._serving = serving
        self._status = status
        self._chain_limiter = trio.CapacityLimiter(1)
        self._serving_limiter = trio.CapacityLimiter(1)

    @property
    def status(self) -> ChainStatus:
        """The tips."""
        return self._status

    async def has_block(self, block_hash: bytes) -> bool:
        """Whether the block is stored; the root counts as stored."""
        return await self._run(self._chain.height_of, block_hash) is not None

    async def get_header(self, block_hash: bytes) -> BlockHeader | None:
        """The header of a stored block, or None."""
        return await self._run(self._chain.header, block_hash)

    async def get_block(self, block_hash: bytes) -> Block | None:
        """A stored block, or None."""
        return await self._run(self._chain.block, block_hash)

    async def hash_at(self, height: int) -> bytes | None:
        """The hash of the best chain's block at a height, or None."""
        if not self._status.root.height <= height <= self._status.best_height:
            await trio.lowlevel.checkpoint()
            return None
        return await self._run(self._chain.hash_at, height)

    async def get_raw_block(self, block_hash: bytes) -> bytes | None:
        """A stored block as its bytes, or None."""
        return await self._serve(self._serving.raw_block, block_hash)

    async def raw_blocks_after(
        self, previous_hash: bytes, count: int, *, max_bytes: int
    ) -> list[bytes]:
        """At most ``count`` blocks of the best chain, and ``max_bytes``, that follow a block."""
        return await self._serve(self._serving.raw_blocks_after, previous_hash, count, max_bytes)

    async def put_block(self, block: Block) -> ChainStatus:
        """Store a block whose parent is stored, and move the tips."""
        self._status = await self._run(self._chain.put_block, block)
        return self._status

    async def set_lib(self, block_hash: bytes) -> ChainStatus:
        """Make a block of the best chain irreversible."""
        self._status = await self._run(self._chain.set_lib, block_hash)
        return self._status

    async def prune(self) -> None:
        """Forget what need not be kept. ``set_lib`` does it too, a bit at a time; it is much when
        fewer blocks are to be kept than when the chain was last open."""
        root = None
        while root != self._status.root:
            root = self._status.root
            self._status = await self._run(self._chain.prune)

    async def _run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        return await trio.to_thread.run_sync(work, *args, limiter=self._chain_limiter)

    async def _serve(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        return await trio.to_thread.run_sync(work, *args, limiter=self._serving_limiter)


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
    begins; that of an old one must be the same. With ``keep_blocks`` only so many irreversible
    blocks are kept: older ones are forgotten and can no longer be given to peers. The file keeps
    its size, and fills the room again.

    Raises StoreError when the directory is in use, cannot be used, is damaged or holds another
    chain; MisuseError for arguments that cannot be right.
    """
    if keep_blocks is not None and keep_blocks < 1:
        raise MisuseError(f"keep_blocks must be above zero, not {keep_blocks}")
    number = resolve_chain_id(chain_id)
    path = Path(directory) / DATABASE_NAME
    with lock_directory(path.parent):
        async with _connection(path, keep_blocks) as chain, _connection(path) as serving:
            status = await trio.to_thread.run_sync(chain.open_chain, number, root)
            store = SqliteChainStore(chain, serving, status)
            await store.prune()
            yield store


@asynccontextmanager
async def _connection(path: Path, keep_blocks: int | None = None) -> AsyncIterator[SqliteChain]:
    chain = await trio.to_thread.run_sync(partial(SqliteChain, path, keep_blocks=keep_blocks))
    try:
        yield chain
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(chain.close)
