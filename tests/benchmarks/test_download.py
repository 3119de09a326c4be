"""The chains that are downloaded, what is checked of them, and the hashes that the rival makes."""

import zlib

import pytest

from aelf_p2p.core.chain_status import GENESIS_PREVIOUS_HASH
from aelf_p2p.core.payloads import encode_block_list
from aelf_p2p.wire import BlockList
from benchmarks.download_chain import make_blocks, make_large_chain
from benchmarks.download_grpc_aio import hashes_of
from benchmarks.download_ours import Expected


def test_the_same_seed_gives_the_same_chain() -> None:
    blocks = make_blocks(3, 20)
    assert [block.hash for block in blocks] == [block.hash for block in make_blocks(3, 20)]
    assert blocks[-1].hash != make_blocks(3, 20, seed=2)[-1].hash


def test_blocks_follow_each_other_and_no_transaction_comes_twice() -> None:
    blocks = make_blocks(3, 100)
    parents = [GENESIS_PREVIOUS_HASH, *(block.hash for block in blocks)]
    assert [block.previous_hash for block in blocks] == parents[:-1]
    ids = {transaction.id for block in blocks for transaction in block.transactions}
    assert len(ids) == 300


def test_the_chain_compresses_as_networks_do() -> None:
    raw = encode_block_list(block.encode() for block in make_blocks(2, 200))
    assert 1.3 < len(raw) / len(zlib.compress(raw, 1)) < 1.8


@pytest.mark.parametrize("params_bytes", [80, 64 * 1024])
def test_a_large_chain_weighs_what_it_is_to_weigh(params_bytes: int) -> None:
    blocks = make_large_chain(4, 2_000_000, params_bytes)
    assert len(blocks) == 4
    assert sum(block.size for block in blocks) == pytest.approx(2_000_000, rel=0.1)


def test_anything_but_the_whole_chain_is_refused() -> None:
    blocks = make_blocks(2, 3)
    expected = Expected.of(blocks)
    expected.check(blocks)
    for wrong in ([], blocks[:1], make_blocks(2, 3, seed=2)):
        with pytest.raises(RuntimeError, match="blocks came instead of"):
            expected.check(wrong)


def test_the_rival_makes_the_hashes_that_a_node_makes() -> None:
    (block,) = make_blocks(1, 70)
    (parsed,) = BlockList.FromString(encode_block_list([block.encode()])).blocks
    assert hashes_of(parsed) == [block.hash, *block.transaction_ids]
