"""The merkle root over a block's transaction ids."""

import hashlib
from collections.abc import Sequence

from aelf_p2p.core.errors import MisuseError

HASH_SIZE = 32
EMPTY_ROOT = bytes(HASH_SIZE)
"""The root of no leaves: AElf's ``Hash.Empty``."""


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The 32-byte root of AElf's binary merkle tree over ``leaves`` of 32 bytes each.

    A parent is the SHA-256 of its two children; a row with an odd number of nodes repeats its last,
    and a single leaf is hashed with itself (AElf.Types/Types/BinaryMerkleTree.cs). So ``[a, b, c]``
    and ``[a, b, c, c]`` have the same root: whoever trusts a root must refuse repeated leaves.

    Raises MisuseError for a leaf of another length.
    """
    if any(len(leaf) != HASH_SIZE for leaf in leaves):
        raise MisuseError(f"merkle leaves have {HASH_SIZE} bytes")
    if not leaves:
        return EMPTY_ROOT
    row = list(leaves)
    while True:
        if len(row) % 2:
            row.append(row[-1])
        pairs = zip(row[::2], row[1::2], strict=True)
        row = [hashlib.sha256(left + right).digest() for left, right in pairs]
        if len(row) == 1:
            return row[0]
