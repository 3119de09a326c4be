"""What is known of the own chain and of a peer's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.chain_status import (
    GENESIS_PREVIOUS_HASH,
    ChainRoot,
    ChainStatus,
    PeerChain,
)
from aelf_p2p.core.errors import MisuseError

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("root", "block_hash", "height"),
    [(ChainRoot(), bytes(32), 0), (ChainRoot(A, 5000), A, 5000)],
    ids=["from genesis", "from a trusted block"],
)
def test_a_chain_without_a_block(root: ChainRoot, block_hash: bytes, height: int) -> None:
    status = ChainStatus.at_root(root)
    assert status.root is root
    assert {status.best_hash, status.longest_hash, status.lib_hash} == {block_hash}
    assert {status.best_height, status.longest_height, status.lib_height} == {height}
    assert GENESIS_PREVIOUS_HASH.hex() == "00" * 32


def test_a_peer_as_its_handshake_describes_it() -> None:
    chain = PeerChain(A, 20, B, 10)
    assert (chain.best_hash, chain.best_height) == (A, 20)
    assert (chain.lib_hash, chain.lib_height) == (B, 10)
    assert not chain.synced


def test_a_lib_above_the_best_height_is_not_believed() -> None:
    chain = PeerChain(A, 20, B, 2**62)
    assert (chain.lib_hash, chain.lib_height) == (A, 20)
    chain = PeerChain(A, 20, B, 10)
    chain.saw_lib(C, 21)
    assert (chain.lib_hash, chain.lib_height) == (B, 10)
    chain.saw_lib(C, 20)
    assert (chain.lib_hash, chain.lib_height) == (C, 20)


def test_a_block_moves_the_tip_forward_only() -> None:
    chain = PeerChain(A, 20, B, 10)
    chain.saw_block(C, 20)
    assert (chain.best_hash, chain.best_height) == (A, 20)
    chain.saw_block(C, 21)
    assert (chain.best_hash, chain.best_height) == (C, 21)
    assert (chain.lib_hash, chain.lib_height) == (B, 10)


def test_a_lib_announcement_moves_forward_only() -> None:
    chain = PeerChain(A, 20, B, 10)
    for height in (9, 10):
        chain.saw_lib(C, height)
        assert (chain.lib_hash, chain.lib_height) == (B, 10)
    chain.saw_lib(C, 11)
    assert (chain.lib_hash, chain.lib_height) == (C, 11)
    assert (chain.best_hash, chain.best_height) == (A, 20)


def test_a_peer_is_synced_after_its_first_block_or_announcement() -> None:
    by_block, by_lib = PeerChain(A, 20, B, 10), PeerChain(A, 20, B, 10)
    by_block.saw_block(A, 1)  # even an old one
    by_lib.saw_lib(B, 1)
    assert by_block.synced
    assert by_lib.synced


heights = st.integers(0, 40)


@given(heights, heights, st.lists(st.tuples(st.booleans(), heights), max_size=30))
def test_against_what_it_told(best: int, lib: int, told: list[tuple[bool, int]]) -> None:
    chain = PeerChain(A, best, B, lib)
    blocks = [best]
    libs = [min(lib, best)]
    for number, (is_lib, height) in enumerate(told):
        hash_ = number.to_bytes(32)
        if is_lib:
            chain.saw_lib(hash_, height)
            libs += [height] if height <= max(blocks) else []
        else:
            chain.saw_block(hash_, height)
            blocks.append(height)
        assert chain.best_height == max(blocks)
        assert chain.lib_height == max(libs) <= chain.best_height
        # each hash is the one that was told with its height
        if chain.best_hash != A:
            assert told[int.from_bytes(chain.best_hash)] == (False, chain.best_height)
        if chain.lib_hash not in (A, B):
            assert told[int.from_bytes(chain.lib_hash)] == (True, chain.lib_height)
    assert chain.synced is bool(told)


@pytest.mark.parametrize(
    ("block_hash", "height"),
    [(b"", 0), (bytes(31), 0), (bytes(33), 0), (bytes(32), -1), (bytes(32), 2**63)],
)
def test_a_root_that_no_chain_can_have(block_hash: bytes, height: int) -> None:
    with pytest.raises(MisuseError):
        ChainRoot(block_hash, height)


def test_the_highest_root() -> None:
    assert ChainRoot(bytes(32), 2**63 - 1).height == 2**63 - 1
