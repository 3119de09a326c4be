"""The pool: what it takes, what it refuses and why, and how much it remembers."""

import random
from hashlib import sha256

import pytest

from aelf_p2p.chain.transaction_pool import TransactionPool
from aelf_p2p.core.errors import InvalidItemError, InvalidReason
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.testing.vectors import load_vectors
from tests.chain.made import SENDER, signed_transaction

FAR = 1 << 62
MIB = 1024 * 1024


def make_pool(capacity: int = 100, *, ahead: int = 512, max_bytes: int = MIB) -> TransactionPool:
    return TransactionPool(capacity, ahead, max_bytes=max_bytes)


def refusal(pool: TransactionPool, transaction: Transaction, height: int = 0) -> InvalidReason:
    with pytest.raises(InvalidItemError) as caught:
        pool.add(transaction, height)
    assert transaction.id.hex() in str(caught.value)
    return caught.value.reason


def test_all_real_transactions_are_taken() -> None:
    pool = make_pool(ahead=FAR)
    vectors = load_vectors().transactions
    assert len(vectors) == 64
    for vector in vectors:
        assert pool.add(Transaction.parse_untrusted(vector.raw), 0)
    assert len(pool) == 64
    assert [each.raw for each in pool.oldest(100)] == [vector.raw for vector in vectors]


def test_a_transaction_is_taken_once() -> None:
    pool = make_pool()
    transaction = signed_transaction()
    assert pool.add(transaction, 0) is True
    assert pool.add(transaction, 0) is False
    assert pool.add(Transaction.parse_untrusted(transaction.raw), 0) is False
    assert len(pool) == 1


def test_the_oldest_come_first() -> None:
    pool = make_pool()
    transactions = [signed_transaction() for _ in range(5)]
    for transaction in transactions:
        pool.add(transaction, 0)
    assert pool.oldest(3) == transactions[:3]
    assert pool.oldest(0) == []
    pool.take_out([transactions[1].id])
    assert pool.oldest(3) == [transactions[0], *transactions[2:4]]
    assert len(pool) == 4


@pytest.mark.parametrize("height", [0, 1, 1000])
def test_512_above_the_longest_chain_is_the_limit(height: int) -> None:
    pool = make_pool()
    assert pool.add(signed_transaction(ref_block_number=height + 512), height)
    too_far = signed_transaction(ref_block_number=height + 513)
    assert refusal(pool, too_far, height) is InvalidReason.TOO_FAR_AHEAD
    assert pool.add(too_far, height + 1)  # the chain has grown: nothing was remembered


@pytest.mark.parametrize("number", [2**63 - 1, 2**63 - 513])
def test_the_largest_numbers(number: int) -> None:
    transaction = signed_transaction(ref_block_number=number)
    assert refusal(make_pool(), transaction) is InvalidReason.TOO_FAR_AHEAD
    assert make_pool(ahead=2**63).add(transaction, 0)


def test_a_transaction_that_another_key_signed() -> None:
    transaction = signed_transaction()
    thief = Identity.generate(random.Random("thief"))
    pool = make_pool()
    forged = transaction.with_signature(thief.sign(transaction.id))
    assert refusal(pool, forged) is InvalidReason.WRONG_SENDER
    assert pool.add(transaction, 0)  # the forgery did not block the right one


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        bytes(65),
        b"\xff" * 65,
        SENDER.sign(bytes(32))[:64],
        SENDER.sign(bytes(32)) + b"\0",
        SENDER.sign(bytes(32))[:64] + b"\x04",
    ],
    ids=["none", "zeros", "over the order", "short", "long", "recovery id 4"],
)
def test_a_signature_that_recovers_nothing(signature: bytes) -> None:
    pool = make_pool()
    transaction = signed_transaction()
    reason = refusal(pool, transaction.with_signature(signature))
    assert reason is InvalidReason.BAD_SIGNATURE
    assert pool.add(transaction, 0)


def test_a_signature_over_something_else() -> None:
    transaction = signed_transaction()
    other = transaction.with_signature(SENDER.sign(sha256(b"other").digest()))
    assert refusal(make_pool(), other) is InvalidReason.WRONG_SENDER


def test_a_full_pool_refuses_what_is_new() -> None:
    pool = make_pool(3)
    transactions = [signed_transaction() for _ in range(4)]
    assert all(pool.add(each, 0) for each in transactions[:3])
    assert refusal(pool, transactions[3]) is InvalidReason.POOL_FULL
    assert pool.add(transactions[0], 0) is False  # known, so no error
    pool.take_out([transactions[1].id])
    assert pool.add(transactions[3], 0)
    assert len(pool) == 3


def test_a_pool_can_be_full_of_bytes() -> None:
    pool = make_pool(max_bytes=2000)
    large = [signed_transaction(size=1500) for _ in range(3)]
    assert pool.add(large[0], 0)
    assert pool.add(large[1], 0)  # the one that may go beyond
    assert refusal(pool, large[2]) is InvalidReason.POOL_FULL
    assert refusal(pool, signed_transaction()) is InvalidReason.POOL_FULL
    pool.take_out([large[0].id, large[0].id])  # the second time it counts for nothing
    assert pool.add(large[2], 0)
    assert refusal(pool, signed_transaction()) is InvalidReason.POOL_FULL


def test_what_a_block_held_is_not_taken_again() -> None:
    pool = make_pool()
    waited, never_waited = signed_transaction(), signed_transaction()
    pool.add(waited, 0)
    pool.take_out([waited.id, never_waited.id])
    assert pool.add(waited, 0) is False
    assert pool.add(never_waited, 0) is False
    assert len(pool) == 0


def test_ten_times_the_capacity_is_remembered() -> None:
    pool = make_pool(2)
    transaction = signed_transaction()
    pool.take_out([transaction.id])
    pool.take_out(sha256(bytes([number])).digest() for number in range(19))
    assert pool.add(transaction, 0) is False
    pool.take_out([sha256(b"one more").digest()])
    assert pool.add(transaction, 0) is True


def test_one_that_waits_is_never_forgotten() -> None:
    pool = make_pool(2)
    transaction = signed_transaction()
    pool.add(transaction, 0)
    pool.take_out(sha256(bytes([number])).digest() for number in range(200))
    assert pool.add(transaction, 0) is False
    assert pool.oldest(9) == [transaction]
