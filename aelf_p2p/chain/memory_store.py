"""A chain store in memory: nothing outlives the process."""

from dataclasses import replace

import trio

from aelf_p2p.core.block import Block
from aelf_p2p.core.chain_status import ChainRoot, ChainStatus
from aelf_p2p.core.errors import MisuseError, UnknownParentError


class MemoryChainStore:
    """A ``ChainStore`` that keeps every block, forks included, as the objects it was given.

    The best chain is the longest one; of two equally long ones, that which came first. The tips
    never move to a fork that leaves out the last irreversible block. With a ``root`` the chain
    begins behind that block, which need not be at hand.
    """

    def __init__(self, root: ChainRoot = ChainRoot()) -> None:  # noqa: B008 - it is immutable
        self._root = root
        self._blocks: dict[bytes, Block] = {}
        self._best = [root.block_hash]  # the best chain's hashes, from the root's height on
        self._status = ChainStatus.at_root(root)

    @property
    def status(self) -> ChainStatus:
        """The tips."""
        return self._status

    async def get_block(self, block_hash: bytes) -> Block | None:
        """A stored block, or None."""
        await trio.lowlevel.checkpoint()
        return self._blocks.get(block_hash)

    async def has_block(self, block_hash: bytes) -> bool:
        """Whether the block is stored; the root counts as stored."""
        await trio.lowlevel.checkpoint()
        return self._height_of(block_hash) is not None

    async def blocks_after(self, previous_hash: bytes, count: int) -> list[Block]:
        """At most ``count`` blocks of the best chain that follow a block of it, else none."""
        await trio.lowlevel.checkpoint()
        height = self._height_of(previous_hash)
        if height is None or self._hash_at(height) != previous_hash:
            return []
        start = height - self._root.height + 1
        return [self._blocks[hash_] for hash_ in self._best[start : start + count]]

    async def hash_at(self, height: int) -> bytes | None:
        """The hash of the best chain's block at a height, or None."""
        await trio.lowlevel.checkpoint()
        return self._hash_at(height)

    async def put_block(self, block: Block) -> ChainStatus:
        """Store a block whose parent is stored, and move the tips."""
        await trio.lowlevel.checkpoint()
        parent_height = self._height_of(block.previous_hash)
        if parent_height is None:
            raise UnknownParentError(
                f"block {block.height}: its parent {block.previous_hash.hex()} is not stored"
            )
        if block.height != parent_height + 1:
            raise MisuseError(f"block {block.height} is not one above its parent")
        self._blocks.setdefault(block.hash, block)
        if block.height > self._status.best_height:
            self._move_tip(block)
        return self._status

    async def set_lib(self, block_hash: bytes) -> ChainStatus:
        """Make a block of the best chain irreversible."""
        await trio.lowlevel.checkpoint()
        block = self._blocks.get(block_hash)
        if block is None or self._hash_at(block.height) != block_hash:
            raise MisuseError(f"{block_hash.hex()} is not on the best chain")
        if block.height < self._status.lib_height:
            raise MisuseError(f"block {block.height} is below the last irreversible block")
        self._status = replace(self._status, lib_hash=block_hash, lib_height=block.height)
        return self._status

    def _height_of(self, block_hash: bytes) -> int | None:
        block = self._blocks.get(block_hash)
        if block is not None:
            return block.height
        return self._root.height if block_hash == self._root.block_hash else None

    def _hash_at(self, height: int) -> bytes | None:
        index = height - self._root.height
        return self._best[index] if 0 <= index < len(self._best) else None

    def _move_tip(self, tip: Block) -> None:
        branch = [tip]  # the blocks that are not on the best chain yet, highest first
        while self._hash_at(branch[-1].height - 1) != branch[-1].previous_hash:
            branch.append(self._blocks[branch[-1].previous_hash])
        fork_height = branch[-1].height - 1
        if fork_height < self._status.lib_height:
            return
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
