"""The merkle root over a block's transaction ids."""

import hashlib
from collections.abc import Sequence

from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.steps import Steps, finish

HASH_SIZE = 32
EMPTY_ROOT = bytes(HASH_SIZE)
"""The root of no leaves: AElf's ``Hash.Empty``."""


HASHES_A_STEP = 2048
"""Computed at once: a millisecond or two."""


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The 32-byte root of AElf's binary merkle tree over ``leaves`` of 32 bytes each.

    A parent is the SHA-256 of its two children; a row with an odd number of nodes repeats its last,
    and a single leaf is hashed with itself (AElf.Types/Types/BinaryMerkleTree.cs). So ``[a, b, c]``
    and ``[a, b, c, c]`` have the same root: whoever trusts a root must refuse repeated leaves.

    Raises MisuseError for a leaf of another length.
    """
    return finish(merkle_root_in_steps(leaves))


def merkle_root_in_steps(leaves: Sequence[bytes]) -> Steps[bytes]:
    """The same a bit at a time."""
    if any(len(leaf) != HASH_SIZE for leaf in leaves):
        raise MisuseError(f"merkle leaves have {HASH_SIZE} bytes")
    if not leaves:
        return EMPTY_ROOT
    row = list(leaves)
    while True:
        if len(row) % 2:
            row.append(row[-1])
        parents: list[bytes] = []
        for start in range(0, len(row), 2 * HASHES_A_STEP):
            if start:
                yield
            step = row[start : start + 2 * HASHES_A_STEP]
            pairs = zip(step[::2], step[1::2], strict=True)
            parents += [hashlib.sha256(left + right).digest() for left, right in pairs]
        row = parents
        if len(row) == 1:
            return row[0]
