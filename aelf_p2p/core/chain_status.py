"""How far a chain is: the own one, and what peers say of theirs."""

from dataclasses import dataclass
from typing import Self

from aelf_p2p.core.errors import MisuseError

GENESIS_PREVIOUS_HASH = bytes(32)
"""What the first block of a chain links to."""

LEAST_KEPT_BLOCKS = 512
"""So many irreversible blocks has every node that forgets old ones. Fewer would leave out peers
that are a little behind: they could not follow us, nor we them."""


@dataclass(frozen=True)
class ChainRoot:
    """What the first stored block links to: what is before the genesis block, or a block of a known
    chain that is trusted instead of all before it. A 32-byte hash and its height.

    Raises MisuseError for a hash of another length, or a height that is no int64 of 0 or more.
    """

    block_hash: bytes = GENESIS_PREVIOUS_HASH
    height: int = 0

    def __post_init__(self) -> None:
        if len(self.block_hash) != len(GENESIS_PREVIOUS_HASH):
            raise MisuseError(f"a root's hash has 32 bytes, not {len(self.block_hash)}")
        if not 0 <= self.height < 1 << 63:
            raise MisuseError(f"a root cannot have the height {self.height}")


@dataclass(frozen=True, kw_only=True)
class ChainStatus:
    """Tips of the own chain: hashes of 32 bytes, and their heights. Without a block all are the
    root.

    ``best`` is the tip of what is executed, ``longest`` that of what is linked, ``lib`` the last
    irreversible block.
    """

    root: ChainRoot
    best_hash: bytes
    best_height: int
    longest_hash: bytes
    longest_height: int
    lib_hash: bytes
    lib_height: int

    @classmethod
    def at_root(cls, root: ChainRoot) -> Self:
        """The status of a chain without a block."""
        return cls(
            root=root,
            best_hash=root.block_hash,
            best_height=root.height,
            longest_hash=root.block_hash,
            longest_height=root.height,
            lib_hash=root.block_hash,
            lib_height=root.height,
        )


class PeerChain:
    """What a peer told of its chain. A LIB is never believed above the peer's best height."""

    def __init__(
        self, best_hash: bytes, best_height: int, lib_hash: bytes, lib_height: int
    ) -> None:
        self.best_hash = best_hash
        self.best_height = best_height
        if lib_height > best_height:
            lib_hash, lib_height = best_hash, best_height
        self.lib_hash = lib_hash
        self.lib_height = lib_height
        self.synced = False
        """Whether it sent a block, announcement or LIB announcement since it is connected; only
        such peers are asked at random for blocks."""

    def saw_block(self, hash_: bytes, height: int) -> None:
        """It announced or sent a block."""
        self.synced = True
        if height > self.best_height:
            self.best_hash, self.best_height = hash_, height

    def saw_lib(self, hash_: bytes, height: int) -> None:
        """It announced a last irreversible block."""
        self.synced = True
        if self.lib_height < height <= self.best_height:
            self.lib_hash, self.lib_height = hash_, height
