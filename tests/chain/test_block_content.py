"""Large blocks are checked in steps, between which other tasks have their turn."""

from collections.abc import Awaitable, Callable, Sequence
from unittest.mock import patch

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.chain import block_content, kernel, transaction_pool
from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.core import merkle
from aelf_p2p.core.block import Block
from aelf_p2p.core.errors import InvalidItemError
from aelf_p2p.core.transaction import Transaction
from tests.chain.made import CHAIN_ID, signed_block, signed_transaction

FIRST = signed_block(None)
TRANSACTIONS = [signed_transaction() for _ in range(400)]
LARGE = signed_block(FIRST, TRANSACTIONS)


async def turns_of_another_task(work: Callable[[], Awaitable[object]]) -> int:
    """How often a task that is always ready runs while the work is done."""
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        await trio.lowlevel.checkpoint()
        await work()
        nursery.cancel_scope.cancel()
    return turns


async def kernel_with(*blocks: Block) -> MinimalKernel:
    made = MinimalKernel(MemoryChainStore(), chain_id=CHAIN_ID, pool_capacity=1000)
    for block in blocks:
        await made.accept_block(block)
    return made


class Counted:
    """Does what it stands for, and counts the calls between two turns of the loop."""

    def __init__(self) -> None:
        self.calls = self.most = 0

    def called(self) -> None:
        self.calls += 1
        self.most = max(self.most, self.calls)


async def test_never_more_than_a_step_of_signatures_at_once(autojump_clock: MockClock) -> None:
    counted, accepting = Counted(), await kernel_with(FIRST)

    def check(transaction: Transaction) -> None:
        counted.called()
        transaction_pool.check_signature(transaction)

    class Instrument(trio.abc.Instrument):
        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            counted.calls = 0

    trio.lowlevel.add_instrument(Instrument())
    with patch.object(block_content, "check_signature", check):
        assert await accepting.accept_block(LARGE)
    assert counted.most == block_content.SIGNATURES_A_STEP == 64


async def test_others_have_their_turn_between_the_steps() -> None:
    accepting = await kernel_with(FIRST)
    small = await turns_of_another_task(lambda: accepting.accept_block(signed_block(FIRST)))
    large = await turns_of_another_task(lambda: accepting.accept_block(LARGE))
    assert large >= small + len(TRANSACTIONS) // 64 - 1


async def test_the_root_and_the_pool_go_in_steps_too() -> None:
    with (
        patch.object(merkle, "HASHES_A_STEP", 8),
        patch.object(kernel, "TRANSACTIONS_A_STEP", 10),
        patch.object(block_content, "SIGNATURES_A_STEP", 10**6),
    ):
        small_one, large_one = await kernel_with(FIRST), await kernel_with(FIRST)
        small = await turns_of_another_task(lambda: small_one.accept_block(signed_block(FIRST)))
        large = await turns_of_another_task(lambda: large_one.accept_block(LARGE))
    # rows of 200, 100, 50, 26 and 14 parents, and all out of the pool
    steps_of_root = 24 + 12 + 6 + 3 + 1
    assert large >= small + steps_of_root + 39 - 1


async def test_what_the_pool_has_checked_is_not_checked_again() -> None:
    accepting = await kernel_with(FIRST)
    for transaction in TRANSACTIONS[:100]:
        accepting.submit_transaction(transaction)
    checked: list[Transaction] = []
    with patch.object(block_content, "check_signature", checked.append):
        assert await accepting.accept_block(LARGE)
    assert checked == TRANSACTIONS[100:]
    assert len(accepting.pool) == 0


@pytest.mark.parametrize("at", [0, 63, 64, 399])
async def test_one_wrong_signature_anywhere(at: int) -> None:
    wrong: Sequence[Transaction] = [
        each.with_signature(bytes(65)) if index == at else each
        for index, each in enumerate(TRANSACTIONS)
    ]
    accepting = await kernel_with(FIRST)
    block = Block(LARGE.header, tuple(wrong))  # under the hash of the right one
    with pytest.raises(InvalidItemError, match=TRANSACTIONS[at].id.hex()):
        await accepting.accept_block(block)
    assert await accepting.accept_block(LARGE)
