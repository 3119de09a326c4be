"""What the kernel tells the network: the four events of the description's AElf.OS layer."""

from dataclasses import dataclass

from aelf_p2p.core.block import Block
from aelf_p2p.core.transaction import Transaction


@dataclass(frozen=True)
class TransactionAccepted:
    """The transaction pool received a transaction and verified it."""

    transaction: Transaction


@dataclass(frozen=True)
class BlockMined:
    """This node, as block producer, packed a block."""

    block: Block


@dataclass(frozen=True)
class BlockAccepted:
    """This node executed a block."""

    block: Block


@dataclass(frozen=True)
class NewIrreversibleBlockFound:
    """The chain has a new last irreversible block (32-byte hash)."""

    block_hash: bytes
    height: int


KernelEvent = TransactionAccepted | BlockMined | BlockAccepted | NewIrreversibleBlockFound
