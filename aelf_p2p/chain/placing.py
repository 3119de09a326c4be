"""Where a block may stand in a chain: the rules that every store keeps."""

from aelf_p2p.core.block import Block
from aelf_p2p.core.chain_status import ChainStatus
from aelf_p2p.core.errors import MisuseError, UnknownParentError


def check_place(block: Block, parent_height: int | None, status: ChainStatus) -> None:
    """A new block stands one above its parent, and above the last irreversible block.

    ``parent_height`` is None when the parent is not stored. Raises UnknownParentError, MisuseError.
    """
    if parent_height is None:
        raise UnknownParentError(
            f"block {block.height}: its parent {block.previous_hash.hex()} is not stored"
        )
    if block.height != parent_height + 1:
        raise MisuseError(f"block {block.height} is not one above its parent")
    if block.height <= status.lib_height:
        raise MisuseError(f"block {block.height} is not above the last irreversible block")


def check_lib(block_hash: bytes, best_height: int | None, status: ChainStatus) -> int:
    """A block of the best chain may become irreversible, and the irreversible one never goes down.

    ``best_height`` is None when the block is not on the best chain; else it is returned. Raises
    MisuseError.
    """
    if best_height is None:
        raise MisuseError(f"{block_hash.hex()} is not on the best chain")
    if best_height < status.lib_height:
        raise MisuseError(f"block {best_height} is below the last irreversible block")
    return best_height
