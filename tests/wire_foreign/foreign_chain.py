"""Blocks and transactions as a foreign node makes and names them (protocol §1 and §2)."""

import time
from collections.abc import Iterable, Sequence

import kernel_pb2
import network_types_pb2 as types
from aelf import core_pb2

from tests.wire_foreign.foreign_key import ForeignKey, sha256

CHAIN_ID = 9992731
"""``AELF``, from Base58, little-endian."""

NO_HASH = bytes(32)
"""What the first block links to, and the merkle root of no transactions."""


def make_transaction(
    key: ForeignKey, number: int = 0, *, padding: bytes = b""
) -> core_pb2.Transaction:
    """A signed transaction, another for each number."""
    transaction = core_pb2.Transaction(
        to=core_pb2.Address(value=bytes(32)),
        ref_block_prefix=b"\x01\x02\x03\x04",
        method_name="Transfer",
        params=number.to_bytes(8, "little") + padding,
    )
    getattr(transaction, "from").value = key.address
    transaction.signature = key.sign(transaction.SerializeToString())
    return transaction


def transaction_id(transaction: core_pb2.Transaction) -> bytes:
    """SHA-256 of all but the signature."""
    bare = core_pb2.Transaction()
    bare.CopyFrom(transaction)
    bare.ClearField("signature")
    return sha256(bare.SerializeToString())


def make_block(
    key: ForeignKey, *, previous_hash: bytes = NO_HASH, height: int = 1
) -> types.BlockWithTransactions:
    """A signed block of this moment without transactions."""
    header = kernel_pb2.BlockHeader(
        chain_id=CHAIN_ID,
        previous_block_hash=core_pb2.Hash(value=previous_hash),
        merkle_tree_root_of_transactions=core_pb2.Hash(value=NO_HASH),
        merkle_tree_root_of_world_state=core_pb2.Hash(value=b"w" * 32),
        merkle_tree_root_of_transaction_status=core_pb2.Hash(value=b"s" * 32),
        bloom=bytes(256),
        height=height,
        extra_data={"Consensus": b"round"},
        signer_pubkey=key.public,
    )
    header.time.FromNanoseconds(time.time_ns())
    header.signature = key.sign(header.SerializeToString())
    return types.BlockWithTransactions(header=header)


def make_chain(key: ForeignKey, count: int) -> list[types.BlockWithTransactions]:
    """The first blocks of a chain."""
    blocks: list[types.BlockWithTransactions] = []
    for height in range(1, count + 1):
        previous_hash = block_hash(blocks[-1]) if blocks else NO_HASH
        blocks.append(make_block(key, previous_hash=previous_hash, height=height))
    return blocks


def block_hash(block: types.BlockWithTransactions) -> bytes:
    """SHA-256 of all of the header but the signature."""
    bare = kernel_pb2.BlockHeader()
    bare.CopyFrom(block.header)
    bare.ClearField("signature")
    return sha256(bare.SerializeToString())


class ForeignChain:
    """The blocks that a foreign node has, and its answers to who asks for them (protocol §4)."""

    def __init__(self, blocks: Iterable[types.BlockWithTransactions] = ()) -> None:
        self.blocks = list(blocks)

    @property
    def tip(self) -> tuple[bytes, int]:
        """Hash and height of the last block."""
        return (block_hash(self.blocks[-1]), len(self.blocks)) if self.blocks else (NO_HASH, 0)

    def block_reply(self, request: bytes) -> bytes:
        wanted = types.BlockRequest.FromString(request).hash.value
        found = [block for block in self.blocks if block_hash(block) == wanted]
        return types.BlockReply(block=found[0] if found else None).SerializeToString()

    def block_list(self, request: bytes) -> bytes:
        asked = types.BlocksRequest.FromString(request)
        hashes = [NO_HASH, *map(block_hash, self.blocks)]
        found: Sequence[types.BlockWithTransactions] = ()
        if asked.previous_block_hash.value in hashes and 0 < asked.count <= 50:
            first = hashes.index(asked.previous_block_hash.value)
            found = self.blocks[first : first + asked.count]
        return types.BlockList(blocks=found).SerializeToString()
