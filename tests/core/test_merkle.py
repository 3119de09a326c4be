import hashlib
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core import merkle
from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.merkle import merkle_root, merkle_root_in_steps
from aelf_p2p.testing.vectors import load_vectors
from tests.core.pauses import count_pauses

A, B, C, D, E = (hashlib.sha256(name.encode()).digest() for name in "ABCDE")


def parent(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(left + right).digest()


def test_known_roots() -> None:
    vectors = load_vectors()
    for vector in vectors.merkle_roots:
        assert merkle_root(vector.leaves) == vector.root
    roots = {vector.root for vector in vectors.merkle_roots}
    blocks = [block for block in vectors.blocks if block.transaction_ids]
    assert roots == {block.merkle_tree_root_of_transactions for block in blocks}
    for block in blocks:
        assert merkle_root(block.transaction_ids) == block.merkle_tree_root_of_transactions


def test_no_leaves() -> None:
    assert merkle_root([]) == bytes(32)


def test_an_odd_row_repeats_its_last_node() -> None:
    assert merkle_root([A]) == parent(A, A)
    assert merkle_root([A, B, C]) == parent(parent(A, B), parent(C, C))
    ee = parent(E, E)
    five = parent(parent(parent(A, B), parent(C, D)), parent(ee, ee))
    assert merkle_root([A, B, C, D, E]) == five


def test_a_repeated_last_leaf_does_not_show() -> None:
    assert merkle_root([A, B, C]) == merkle_root([A, B, C, C])


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40, unique=True))
def test_order_and_every_leaf_matter(leaves: list[bytes]) -> None:
    given_leaves = list(leaves)
    root = merkle_root(leaves)
    assert leaves == given_leaves  # the caller's list is left alone
    if len(leaves) > 1:
        assert merkle_root(leaves[::-1]) != root
    for position in range(len(leaves)):
        changed = bytes([leaves[position][0] ^ 1]) + leaves[position][1:]
        assert merkle_root([*leaves[:position], changed, *leaves[position + 1 :]]) != root


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70), st.integers(1, 9))
def test_in_steps_it_is_the_same_root(leaves: list[bytes], hashes_a_step: int) -> None:
    whole = merkle_root(leaves)  # of so few leaves in one step
    with patch.object(merkle, "HASHES_A_STEP", hashes_a_step):
        root, pauses = count_pauses(merkle_root_in_steps(leaves))
    assert root == whole
    assert pauses >= (len(leaves) + 1) // 2 // hashes_a_step - 1
    if len(leaves) <= 2 * hashes_a_step:
        assert pauses == 0


@pytest.mark.parametrize("leaf", [b"", bytes(31), bytes(33)])
def test_leaves_of_another_length_are_refused(leaf: bytes) -> None:
    with pytest.raises(MisuseError, match="32 bytes"):
        merkle_root([A, leaf])
