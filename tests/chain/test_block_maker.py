"""Produced blocks: well-formed, signed, and accepted by whoever reads them."""

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p import wire
from aelf_p2p.chain.block_maker import make_block, make_chain
from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.core.block import Block
from aelf_p2p.core.identity import Identity, Scheme, recover_untrusted, verify
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.testing.vectors import load_vectors
from tests.chain.made import CHAIN_ID, GENESIS, MINER, TIME_NS, signed_transaction

PREVIOUS = bytes(range(32))


def made(identity: Identity, *transactions: Transaction, height: int = 7) -> Block:
    return make_block(
        identity,
        chain_id=CHAIN_ID,
        previous_hash=PREVIOUS,
        height=height,
        time_ns=TIME_NS,
        transactions=transactions,
    )


def test_a_block_says_what_it_was_told() -> None:
    transactions = signed_transaction(), signed_transaction()
    block = made(MINER, *transactions)
    message = wire.BlockWithTransactions.FromString(block.encode())
    header = message.header
    assert (header.version, header.chain_id, header.height) == (0, CHAIN_ID, 7)
    assert header.previous_block_hash.value == PREVIOUS
    assert header.time.seconds * 10**9 + header.time.nanos == TIME_NS
    assert header.signer_pubkey == MINER.public_key
    assert [each.SerializeToString() for each in message.transactions] == [
        each.raw for each in transactions
    ]
    root = sha256(transactions[0].id + transactions[1].id).digest()
    assert header.merkle_tree_root_of_transactions.value == root


def test_the_signature_is_over_the_header_without_it() -> None:
    block = made(MINER)
    message = wire.BlockHeader.FromString(block.header.raw)
    message.ClearField("signature")
    digest = sha256(message.SerializeToString()).digest()
    assert digest == block.hash
    assert recover_untrusted(digest, block.header.signature) == MINER.public_key


def test_a_block_survives_the_wire() -> None:
    block = made(MINER, signed_transaction())
    assert Block.parse_untrusted(block.encode()) == block


def test_an_empty_block_has_the_root_of_no_leaves() -> None:
    block = made(MINER)
    assert block.header.transactions_root == bytes(32)
    assert len({block.header.world_state_root, block.header.status_root, bytes(32)}) == 3


@pytest.mark.parametrize("scheme", Scheme)
def test_either_scheme_signs(scheme: Scheme) -> None:
    identity = Identity.from_private_key(bytes(range(1, 33)), scheme)
    header = made(identity).header
    assert header.signer_pubkey == identity.public_key
    assert verify(identity.public_key, header.hash, header.signature)


def test_the_same_block_twice_and_others() -> None:
    transaction = signed_transaction()
    assert made(MINER, transaction) == made(MINER, transaction)
    others = [made(MINER), made(MINER, transaction, height=8), made(MINER, signed_transaction())]
    assert len({made(MINER, transaction).hash, *(block.hash for block in others)}) == 4


def test_real_transactions_have_their_real_root() -> None:
    [vector] = [each for each in load_vectors().blocks if each.block_with_transactions]
    real = Block.parse_untrusted(vector.block_with_transactions or b"")
    block = make_block(
        MINER,
        chain_id=vector.chain_id,
        previous_hash=GENESIS,
        height=1,
        time_ns=TIME_NS,
        transactions=real.transactions,
    )
    assert block.header.transactions_root == vector.merkle_tree_root_of_transactions
    assert block.transaction_ids == vector.transaction_ids


# --- chains ---------------------------------------------------------------------------------------

TRANSACTIONS = [signed_transaction() for _ in range(40)]


def chain_of(count: int, transactions: Sequence[Transaction] = ()) -> list[Block]:
    blocks = make_chain(
        MINER, count, chain_id=CHAIN_ID, transactions=transactions, last_time_ns=TIME_NS
    )
    return list(blocks)


async def test_a_kernel_takes_a_made_chain() -> None:
    store = MemoryChainStore()
    kernel = MinimalKernel(store, chain_id=CHAIN_ID)
    chain = chain_of(20, TRANSACTIONS)
    for block in chain:
        assert await kernel.accept_block(block)
    assert (store.status.best_height, store.status.best_hash) == (20, chain[-1].hash)


def test_a_chain_from_the_first_block_to_the_last() -> None:
    chain = chain_of(3)
    assert [block.height for block in chain] == [1, 2, 3]
    assert [block.previous_hash for block in chain] == [GENESIS, chain[0].hash, chain[1].hash]
    assert [TIME_NS - block.time_ns for block in chain] == [1_000_000_000, 500_000_000, 0]
    assert {block.header.signer_pubkey for block in chain} == {MINER.public_key}


@given(st.integers(1, 60), st.integers(0, len(TRANSACTIONS)))
def test_transactions_are_spread_evenly_and_in_order(count: int, transactions: int) -> None:
    chain = chain_of(count, TRANSACTIONS[:transactions])
    held = [each for block in chain for each in block.transactions]
    assert held == TRANSACTIONS[:transactions]
    sizes = {len(block.transactions) for block in chain}
    assert max(sizes) - min(sizes) <= 1


def test_a_chain_is_made_as_it_is_read() -> None:
    blocks = make_chain(
        MINER, 10**8, chain_id=CHAIN_ID, transactions=TRANSACTIONS, last_time_ns=TIME_NS
    )
    assert next(blocks).time_ns == TIME_NS - (10**8 - 1) * 500_000_000
    assert next(blocks).height == 2


def test_no_blocks() -> None:
    assert chain_of(0, TRANSACTIONS) == []
