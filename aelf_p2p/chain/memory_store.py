"""A chain store in memory: nothing outlives the process."""

from collections.abc import Iterable
from dataclasses import replace

import trio

from aelf_p2p.chain.placing import check_lib, check_place
from aelf_p2p.core.block import Block, BlockHeader
from aelf_p2p.core.chain_status import ChainRoot, ChainStatus


class MemoryChainStore:
    """A ``ChainStore`` that keeps blocks as the objects it was given.

    With a ``root`` the chain begins behind that block, which need not be at hand.
    """

    def __init__(self, root: ChainRoot = ChainRoot()) -> None:  # noqa: B008 - it is immutable
        self._root = root
        self._blocks: dict[bytes, Block] = {}
        self._best = [root.block_hash]  # the best chain's hashes, from the root's height on
        self._open: dict[int, list[bytes]] = {}  # by height: all blocks above the irreversible one
        self._status = ChainStatus.at_root(root)

    @property
    def status(self) -> ChainStatus:
        """The tips."""
        return self._status

    async def has_block(self, block_hash: bytes) -> bool:
        """Whether the block is stored; the root counts as stored."""
        await trio.lowlevel.checkpoint()
        return self._height_of(block_hash) is not None

    async def get_header(self, block_hash: bytes) -> BlockHeader | None:
        """The header of a stored block, or None."""
        block = await self.get_block(block_hash)
        return None if block is None else block.header

    async def get_block(self, block_hash: bytes) -> Block | None:
        """A stored block, or None."""
        await trio.lowlevel.checkpoint()
        return self._blocks.get(block_hash)

    async def get_raw_block(self, block_hash: bytes) -> bytes | None:
        """A stored block as its bytes, or None."""
        block = await self.get_block(block_hash)
        return None if block is None else block.encode()

    async def raw_blocks_after(
        self, previous_hash: bytes, count: int, *, max_bytes: int
    ) -> list[bytes]:
        """At most ``count`` blocks of the best chain that follow a block, and ``max_bytes``."""
        await trio.lowlevel.checkpoint()
        raw_blocks: list[bytes] = []
        height = self._best_height_of(previous_hash)
        if height is None:
            return raw_blocks
        start = height - self._root.height + 1
        for block_hash in self._best[start : start + count]:
            raw_block = self._blocks[block_hash].encode()
            max_bytes -= len(raw_block)
            if max_bytes < 0 and raw_blocks:
                break
            raw_blocks.append(raw_block)
        return raw_blocks

    async def hash_at(self, height: int) -> bytes | None:
        """The hash of the best chain's block at a height, or None."""
        await trio.lowlevel.checkpoint()
        return self._hash_at(height)

    async def put_block(self, block: Block) -> ChainStatus:
        """Store a block whose parent is stored, and move the tips."""
        await trio.lowlevel.checkpoint()
        if block.hash in self._blocks:
            return self._status
        check_place(block, self._height_of(block.previous_hash), self._status)
        self._blocks[block.hash] = block
        self._open.setdefault(block.height, []).append(block.hash)
        if block.height > self._status.best_height:
            self._move_tip(block)
        return self._status

    async def set_lib(self, block_hash: bytes) -> ChainStatus:
        """Make a block of the best chain irreversible."""
        await trio.lowlevel.checkpoint()
        lib_height = check_lib(block_hash, self._best_height_of(block_hash), self._status)
        for height in range(self._status.lib_height + 1, lib_height + 1):
            best = self._hash_at(height)
            self._forget([stored for stored in self._open.pop(height) if stored != best])
        self._status = replace(self._status, lib_hash=block_hash, lib_height=lib_height)
        self._forget_what_follows(lib_height)
        return self._status

    def _forget_what_follows(self, height: int) -> None:
        """Blocks whose parents were forgotten go too, height by height."""
        while (height := height + 1) in self._open:
            orphans = [
                stored
                for stored in self._open[height]
                if self._height_of(self._blocks[stored].previous_hash) is None
            ]
            if not orphans:
                break
            self._open[height] = [each for each in self._open[height] if each not in orphans]
            self._forget(orphans)

    def _forget(self, block_hashes: Iterable[bytes]) -> None:
        for block_hash in block_hashes:
            del self._blocks[block_hash]

    def _height_of(self, block_hash: bytes) -> int | None:
        block = self._blocks.get(block_hash)
        if block is not None:
            return block.height
        return self._root.height if block_hash == self._root.block_hash else None

    def _best_height_of(self, block_hash: bytes) -> int | None:
        height = self._height_of(block_hash)
        return None if height is None or self._hash_at(height) != block_hash else height

    def _hash_at(self, height: int) -> bytes | None:
        index = height - self._root.height
        return self._best[index] if 0 <= index < len(self._best) else None

    def _move_tip(self, tip: Block) -> None:
        branch = [tip]  # the blocks that are not on the best chain yet, highest first
        while self._hash_at(branch[-1].height - 1) != branch[-1].previous_hash:
            branch.append(self._blocks[branch[-1].previous_hash])
        fork_height = branch[-1].height - 1
        self._best[fork_height - self._root.height + 1 :] = [
            block.hash for block in reversed(branch)
        ]
        self._status = replace(
            self._status,
            best_hash=tip.hash,
            best_height=tip.height,
            longest_hash=tip.hash,
            longest_height=tip.height,
        )
