"""The minimal kernel: what it refuses and why, what it tells, and in which order."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

import pytest
import trio

from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.core.block import Block, BlockHeader
from aelf_p2p.core.chain_status import ChainRoot
from aelf_p2p.core.errors import InvalidItemError, InvalidReason, MisuseError, UnknownParentError
from aelf_p2p.core.identity import Identity, Scheme
from aelf_p2p.core.kernel_events import (
    BlockAccepted,
    BlockMined,
    KernelEvent,
    NewIrreversibleBlockFound,
    TransactionAccepted,
)
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.testing.cancellation import cancel_at_every_step
from aelf_p2p.testing.vectors import load_vectors
from tests.chain.made import (
    CHAIN_ID,
    GENESIS,
    MINER,
    TIME_NS,
    signed_block,
    signed_chain,
    signed_transaction,
)

[RAW_97] = [
    vector.block_with_transactions
    for vector in load_vectors().blocks
    if vector.block_with_transactions
]


class Watched:
    """A kernel with its store, and the events that it told."""

    def __init__(
        self,
        *,
        confirmations: int = 8,
        ahead: int = 512,
        capacity: int = 100,
        connect: bool = True,
        root: ChainRoot | None = None,
    ) -> None:
        self.store = MemoryChainStore(root or ChainRoot())
        self.wall_ns = TIME_NS
        self.kernel = MinimalKernel(
            self.store,
            chain_id=CHAIN_ID,
            wall_ns=lambda: self.wall_ns,
            max_ref_block_ahead=ahead,
            confirmations=confirmations,
            pool_capacity=capacity,
        )
        self.events: list[KernelEvent] = []
        if connect:
            self.kernel.connect(self.events.append)

    async def accept(self, *blocks: Block) -> None:
        for block in blocks:
            assert await self.kernel.accept_block(block) is True

    async def refusal(self, block: Block) -> InvalidReason:
        """Why a block is refused; that it left no trace."""
        status, events = self.store.status, list(self.events)
        with pytest.raises(InvalidItemError) as caught:
            await self.kernel.accept_block(block)
        assert block.hash.hex() in str(caught.value)
        assert (self.store.status, self.events) == (status, events)
        assert not await self.store.has_block(block.hash)
        return caught.value.reason

    def mined_and_accepted(self) -> list[tuple[str, int]]:
        return [
            (type(event).__name__, event.block.height)
            for event in self.events
            if isinstance(event, BlockMined | BlockAccepted)
        ]


def rebuilt(block: Block, *, signer: Identity | None = MINER, **changes: object) -> Block:
    """The block with other fields in its header; signed again unless there is no signer."""
    header = block.header
    fields: dict[str, object] = {
        "chain_id": header.chain_id,
        "previous_hash": header.previous_hash,
        "transactions_root": header.transactions_root,
        "world_state_root": header.world_state_root,
        "status_root": header.status_root,
        "height": header.height,
        "time_ns": header.time_ns,
        "signer_pubkey": signer.public_key if signer else b"",
    }
    new = BlockHeader.build(**{**fields, **changes})  # type: ignore[arg-type]
    if signer:
        new = new.with_signature(signer.sign(new.signed_digest))
    return Block(new, block.transactions)


def with_signature(block: Block, signature: bytes) -> Block:
    return Block(block.header.with_signature(signature), block.transactions)


# --- right blocks ---------------------------------------------------------------------------------


async def test_a_chain_is_accepted_and_told() -> None:
    node = Watched()
    blocks = signed_chain(None, 3)
    await node.accept(*blocks)
    assert node.events == [BlockAccepted(block) for block in blocks]
    assert node.store.status.best_hash == blocks[-1].hash


async def test_a_block_that_is_there_already() -> None:
    node = Watched()
    block = signed_block(None)
    await node.accept(block)
    assert await node.kernel.accept_block(block) is False
    assert await node.kernel.accept_block(Block.parse_untrusted(block.encode())) is False
    assert len(node.events) == 1


async def test_either_scheme_may_sign() -> None:
    ed25519 = Identity.generate(random.Random(1), Scheme.ED25519)
    await Watched().accept(rebuilt(signed_block(None), signer=ed25519))


async def test_a_first_block_may_have_no_signer() -> None:
    node = Watched()
    first = rebuilt(signed_block(None), signer=None)
    assert first.header.signer_pubkey == first.header.signature == b""
    await node.accept(first, signed_block(first))


async def test_real_transactions_in_a_made_block() -> None:
    node = Watched()
    block = signed_block(None, Block.parse_untrusted(RAW_97).transactions)
    await node.accept(Block.parse_untrusted(block.encode()))
    kept = await node.store.get_block(block.hash)
    assert kept is not None
    assert kept.encode() == block.encode()


async def test_the_real_block_97() -> None:
    block = Block.parse_untrusted(RAW_97)
    with pytest.raises(UnknownParentError):
        await Watched().kernel.accept_block(block)
    node = Watched(root=ChainRoot(block.previous_hash, 96))
    forged = Block(block.header, block.transactions[::-1])
    assert await node.refusal(forged) is InvalidReason.BAD_MERKLE_ROOT
    await node.accept(block)
    assert node.events == [BlockAccepted(block)]
    assert await node.store.get_raw_block(block.hash) == RAW_97


@pytest.mark.parametrize("height", [1, 96, 10**12])
async def test_a_chain_behind_a_trusted_root(height: int) -> None:
    root = ChainRoot(b"\x77" * 32, height)
    node = Watched(root=root, confirmations=2)
    blocks = signed_chain(root, 3)
    for orphan in (blocks[1], signed_block(None)):
        if orphan.height <= height:
            assert await node.refusal(orphan) is InvalidReason.BELOW_LIB
        else:
            with pytest.raises(UnknownParentError):
                await node.kernel.accept_block(orphan)
    assert await node.refusal(signed_block(root, height=height + 2)) is InvalidReason.BAD_HEIGHT
    unsigned = rebuilt(blocks[0], signer=MINER, height=height + 1)
    assert await node.refusal(with_signature(unsigned, b"")) is InvalidReason.BAD_SIGNATURE
    await node.accept(*blocks)
    assert node.store.status.lib_height == height + 1
    mined = await node.kernel.mine_block(MINER)
    assert (mined.height, mined.previous_hash) == (height + 4, blocks[-1].hash)


# --- wrong blocks ---------------------------------------------------------------------------------


async def test_an_unknown_parent_is_no_fault_of_the_block() -> None:
    node = Watched()
    blocks = signed_chain(None, 3)
    for orphan in (blocks[1], blocks[2]):
        with pytest.raises(UnknownParentError):
            await node.kernel.accept_block(orphan)
    await node.accept(blocks[0])
    with pytest.raises(UnknownParentError):
        await node.kernel.accept_block(blocks[2])
    await node.accept(*blocks[1:])


@pytest.mark.parametrize("chain_id", [0, 1, CHAIN_ID + 1, 2**31 - 1])
async def test_wrong_chain(chain_id: int) -> None:
    block = signed_block(None, chain_id=chain_id)
    assert await Watched().refusal(block) is InvalidReason.WRONG_CHAIN


async def test_bad_signature() -> None:
    node = Watched()
    trunk = signed_block(None)
    await node.accept(trunk)
    block = signed_block(trunk)
    thief = Identity.generate(random.Random("thief"))
    right = block.header.signature
    flipped = bytes([*right[:64], right[64] ^ 1])
    wrong = [
        b"",
        bytes(65),
        right[:64],
        right + b"\0",
        flipped,
        right[:64] + b"\x04",
        thief.sign(block.hash),
        MINER.sign(sha256(b"other").digest()),
    ]
    for signature in wrong:
        assert await node.refusal(with_signature(block, signature)) is InvalidReason.BAD_SIGNATURE
    for key in (b"\x04", bytes(32), bytes(65), b"\x04" + bytes(64), MINER.public_key[:33]):
        forged = rebuilt(block, signer_pubkey=key)
        assert await node.refusal(forged) is InvalidReason.BAD_SIGNATURE
    await node.accept(block)  # the forgeries did not block the right one


async def test_a_first_block_that_names_a_signer_is_signed_by_it() -> None:
    block = signed_block(None)
    assert await Watched().refusal(with_signature(block, b"")) is InvalidReason.BAD_SIGNATURE


async def test_bad_merkle_root() -> None:
    node = Watched()
    a, b, c = (signed_transaction() for _ in range(3))
    header = signed_block(None, [a, b, c]).header
    for transactions in [(), (a,), (a, b), (b, a, c), (a, b, signed_transaction()), (a, b, c, a)]:
        block = Block(header, transactions)
        assert await node.refusal(block) is InvalidReason.BAD_MERKLE_ROOT
    empty = signed_block(None).header
    assert await node.refusal(Block(empty, (a,))) is InvalidReason.BAD_MERKLE_ROOT
    await node.accept(Block(header, (a, b, c)))


@pytest.mark.parametrize("count", [1, 3, 5, 6, 7])
async def test_repeated_transactions_do_not_hide_in_the_right_root(count: int) -> None:
    # CVE-2012-2459: a row of odd length repeats its last node
    transactions = [signed_transaction() for _ in range(count)]
    header = signed_block(None, transactions).header
    tail = {1: 1, 3: 1, 5: 1, 6: 2, 7: 1}[count]
    doubled = (*transactions, *transactions[-tail:])
    assert signed_block(None, doubled).header.transactions_root == header.transactions_root
    node = Watched()
    assert await node.refusal(Block(header, doubled)) is InvalidReason.BAD_MERKLE_ROOT
    # neither with another signature, which the id does not cover
    other = (*transactions, *(each.with_signature(b"x" * 65) for each in transactions[-tail:]))
    assert await node.refusal(Block(header, other)) is InvalidReason.BAD_MERKLE_ROOT
    await node.accept(Block(header, tuple(transactions)))


async def test_a_transaction_of_a_block_has_a_signature_of_its_sender() -> None:
    node = Watched()
    trunk, right, other = signed_block(None), signed_transaction(), signed_transaction()
    await node.accept(trunk)
    assert node.kernel.submit_transaction(right)
    for signature, reason in [
        (b"", InvalidReason.BAD_SIGNATURE),
        (bytes(65), InvalidReason.BAD_SIGNATURE),
        (MINER.sign(right.id), InvalidReason.WRONG_SENDER),
        (other.signature, InvalidReason.WRONG_SENDER),
    ]:
        # The hash does not cover it, and the pool holds the id with its right signature.
        forged = signed_block(trunk, [other, right.with_signature(signature)])
        assert await node.refusal(forged) is reason
    await node.accept(signed_block(trunk, [other, right]))


async def test_a_first_block_may_hold_unsigned_transactions_and_no_wrong_ones() -> None:
    transaction = signed_transaction()
    unsigned, wrong = transaction.with_signature(b""), transaction.with_signature(bytes(65))
    refused = await Watched().refusal(signed_block(None, [wrong]))
    assert refused is InvalidReason.BAD_SIGNATURE
    await Watched().accept(signed_block(None, [unsigned]))


@pytest.mark.parametrize("height", [1, 2, 4, 5, 100, 2**62])
async def test_bad_height(height: int) -> None:
    node = Watched(confirmations=1)
    trunk = signed_chain(None, 2)
    await node.accept(*trunk)
    block = signed_block(trunk[-1], height=height)
    assert await node.refusal(block) is InvalidReason.BAD_HEIGHT


async def test_bad_height_of_a_first_block() -> None:
    for height in (2, 3, 2**62):
        block = signed_block(None, height=height)
        assert await Watched().refusal(block) is InvalidReason.BAD_HEIGHT


async def test_below_the_last_irreversible_block() -> None:
    node = Watched(confirmations=2)
    trunk = signed_chain(None, 6)
    await node.accept(*trunk)
    assert node.store.status.lib_height == 4
    for parent in (None, *trunk[:3]):
        assert await node.refusal(signed_block(parent)) is InvalidReason.BELOW_LIB
    await node.accept(signed_block(trunk[3]))  # forks off at the LIB itself


async def test_a_fork_that_leaves_out_the_last_irreversible_block_does_not_grow() -> None:
    node = Watched(confirmations=2)
    trunk = signed_chain(None, 5)
    await node.accept(*trunk[:4])
    assert node.store.status.lib_height == 2
    fork = signed_chain(trunk[1], 2)
    await node.accept(*fork)
    await node.accept(trunk[4])  # irreversible now: height 3, which the fork leaves out
    assert node.store.status.lib_hash == trunk[2].hash
    assert fork[-1].height == 4
    for block in fork[-1], signed_block(fork[-1]):  # it is forgotten as a whole
        with pytest.raises(UnknownParentError):
            await node.kernel.accept_block(block)


# --- forks and what is told -----------------------------------------------------------------------


async def test_a_fork_is_told_when_it_becomes_the_best_chain() -> None:
    node = Watched()
    trunk = signed_chain(None, 2)
    fork = signed_chain(trunk[0], 3)
    await node.accept(*trunk, fork[0])
    assert node.events == [BlockAccepted(block) for block in trunk]
    await node.accept(fork[1])
    assert node.events[2:] == [BlockAccepted(fork[1])]
    assert node.store.status.best_hash == fork[1].hash


async def test_mined_comes_before_accepted_before_irreversible() -> None:
    node = Watched(confirmations=2)
    mined = [await node.kernel.mine_block(MINER) for _ in range(4)]
    expected: list[KernelEvent] = []
    for index, block in enumerate(mined):
        expected += [BlockMined(block), BlockAccepted(block)]
        if index >= 2:
            irreversible = mined[index - 2]
            expected.append(NewIrreversibleBlockFound(irreversible.hash, irreversible.height))
    assert node.events == expected


@pytest.mark.parametrize("confirmations", [1, 3, 8])
async def test_irreversible_after_so_many_blocks(confirmations: int) -> None:
    node = Watched(confirmations=confirmations)
    blocks = signed_chain(None, confirmations + 3)
    for block in blocks:
        await node.accept(block)
        assert node.store.status.lib_height == max(block.height - confirmations, 0)
    found = [event for event in node.events if isinstance(event, NewIrreversibleBlockFound)]
    assert found == [NewIrreversibleBlockFound(block.hash, block.height) for block in blocks[:3]]
    assert node.events.index(found[0]) == confirmations + 1  # after its last confirmation


async def test_a_kernel_belongs_to_one_node() -> None:
    node = Watched()
    with pytest.raises(MisuseError):
        node.kernel.connect(lambda event: None)


async def test_a_kernel_without_a_node_has_nobody_to_tell() -> None:
    node = Watched(connect=False)
    await node.kernel.mine_block(MINER)
    assert node.kernel.submit_transaction(signed_transaction())
    node.kernel.connect(node.events.append)
    assert node.events == []
    block = await node.kernel.mine_block(MINER)
    assert node.events == [BlockMined(block), BlockAccepted(block)]


# --- transactions ---------------------------------------------------------------------------------


async def test_a_transaction_is_told_once() -> None:
    node = Watched()
    transaction = signed_transaction()
    assert node.kernel.submit_transaction(transaction) is True
    assert node.kernel.submit_transaction(transaction) is False
    assert node.events == [TransactionAccepted(transaction)]


@pytest.mark.parametrize(
    ("transaction", "reason"),
    [
        (signed_transaction(ref_block_number=513), InvalidReason.TOO_FAR_AHEAD),
        (signed_transaction().with_signature(b""), InvalidReason.BAD_SIGNATURE),
        (signed_transaction().with_signature(MINER.sign(bytes(32))), InvalidReason.WRONG_SENDER),
    ],
)
async def test_a_refused_transaction_is_not_told(
    transaction: Transaction, reason: InvalidReason
) -> None:
    node = Watched()
    with pytest.raises(InvalidItemError) as caught:
        node.kernel.submit_transaction(transaction)
    assert caught.value.reason is reason
    assert (node.events, len(node.kernel.pool)) == ([], 0)


async def test_a_full_pool() -> None:
    node = Watched(capacity=2)
    for _ in range(2):
        node.kernel.submit_transaction(signed_transaction())
    with pytest.raises(InvalidItemError) as caught:
        node.kernel.submit_transaction(signed_transaction())
    assert caught.value.reason is InvalidReason.POOL_FULL
    await node.kernel.mine_block(MINER)
    assert node.kernel.submit_transaction(signed_transaction())


async def test_too_far_ahead_is_counted_from_the_longest_chain() -> None:
    node = Watched(ahead=10)
    transaction = signed_transaction(ref_block_number=12)
    for _ in range(2):
        with pytest.raises(InvalidItemError):
            node.kernel.submit_transaction(transaction)
        await node.kernel.mine_block(MINER)
    assert node.kernel.submit_transaction(transaction)


async def test_a_block_packs_the_oldest_transactions() -> None:
    node = Watched()
    transactions = [signed_transaction() for _ in range(5)]
    for transaction in transactions:
        node.kernel.submit_transaction(transaction)
    first = await node.kernel.mine_block(MINER, max_transactions=3)
    second = await node.kernel.mine_block(MINER, max_transactions=3)
    third = await node.kernel.mine_block(MINER)
    assert [list(block.transactions) for block in (first, second, third)] == [
        transactions[:3],
        transactions[3:],
        [],
    ]
    assert [block.height for block in (first, second, third)] == [1, 2, 3]
    assert (second.previous_hash, first.previous_hash) == (first.hash, GENESIS)
    # what one kernel mines, another accepts
    await Watched().accept(*(Block.parse_untrusted(each.encode()) for each in (first, second)))


async def test_a_mined_block_has_the_time_of_the_clock() -> None:
    node = Watched()
    node.wall_ns = 1_800_000_000_123_456_789
    assert (await node.kernel.mine_block(MINER)).time_ns == node.wall_ns


async def test_an_accepted_block_takes_its_transactions_out_of_the_pool() -> None:
    node = Watched()
    inside, outside, later = (signed_transaction() for _ in range(3))
    for transaction in (inside, outside):
        node.kernel.submit_transaction(transaction)
    await node.accept(signed_block(None, [inside, later]))
    assert node.kernel.pool.oldest(9) == [outside]
    assert node.kernel.submit_transaction(later) is False


async def test_a_block_on_a_fork_takes_nothing_out_of_the_pool() -> None:
    # else whoever makes forks could keep transactions out of the chain
    node = Watched()
    trunk = signed_chain(None, 3)
    await node.accept(*trunk)
    waiting, other = signed_transaction(), signed_transaction()
    node.kernel.submit_transaction(waiting)
    fork = [signed_block(trunk[0], [waiting, other])]
    await node.accept(*fork)
    assert node.kernel.pool.oldest(9) == [waiting]
    assert node.kernel.submit_transaction(other)
    # until the fork is the best chain
    fork += signed_chain(fork[0], 2)
    await node.accept(*fork[1:])
    assert node.store.status.best_hash == fork[-1].hash
    assert node.kernel.pool.oldest(9) == []


async def test_transactions_of_a_fork_that_was_left_wait_again() -> None:
    node = Watched()
    trunk = signed_chain(None, 2)
    lost, kept = signed_transaction(), signed_transaction()
    await node.accept(*trunk, signed_block(trunk[1], [lost, kept]))
    assert node.kernel.submit_transaction(lost) is False
    left = signed_block(trunk[0], [kept])
    longer = [left, *signed_chain(left, 2)]
    await node.accept(*longer)
    assert node.store.status.best_hash == longer[-1].hash
    assert node.kernel.pool.oldest(9) == [lost]


async def test_unsigned_transactions_of_a_first_block_do_not_wait_again() -> None:
    node = Watched()
    signed, unsigned = signed_transaction(), signed_transaction().with_signature(b"")
    await node.accept(signed_block(None, [signed, unsigned]))
    await node.accept(*signed_chain(None, 2))
    assert node.kernel.pool.oldest(9) == [signed]


# --- several at once ------------------------------------------------------------------------------


async def test_the_same_block_many_times_at_once() -> None:
    node = Watched()
    block = signed_block(None)
    answers: list[bool] = []

    async def accept() -> None:
        answers.append(await node.kernel.accept_block(block))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(accept)
    assert sorted(answers) == [False] * 9 + [True]
    assert node.events == [BlockAccepted(block)]


async def test_a_whole_chain_at_once_in_any_order() -> None:
    node = Watched(confirmations=3)
    trunk = signed_chain(None, 12)

    async def keep_trying(block: Block) -> None:
        while True:
            try:
                await node.kernel.accept_block(block)
            except UnknownParentError:
                await trio.lowlevel.checkpoint()
            else:
                return

    async with trio.open_nursery() as nursery:
        for block in [*reversed(trunk), *trunk]:
            nursery.start_soon(keep_trying, block)
    assert node.store.status.best_hash == trunk[-1].hash
    assert node.mined_and_accepted() == [("BlockAccepted", height) for height in range(1, 13)]
    libs = [event.height for event in node.events if isinstance(event, NewIrreversibleBlockFound)]
    assert libs == list(range(1, 10))


async def test_mining_and_accepting_at_once() -> None:
    node = Watched()
    first = signed_block(None)
    other = signed_chain(first, 5)
    await node.accept(first)
    for _ in range(8):
        node.kernel.submit_transaction(signed_transaction())

    async def mine() -> None:
        await node.kernel.mine_block(MINER, max_transactions=2)

    async def accept_others() -> None:
        for block in other:
            await node.kernel.accept_block(block)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(mine)
        nursery.start_soon(accept_others)
    mined = [event.block for event in node.events if isinstance(event, BlockMined)]
    assert len(mined) == 4
    packed = [each for block in mined for each in block.transactions]
    assert len(packed) == len(set(packed)) == 8
    assert node.store.status.best_height >= 6
    for event in node.events:
        if isinstance(event, BlockMined):
            position = node.events.index(event)
            assert node.events[position + 1] == BlockAccepted(event.block)


# --- cancelled ------------------------------------------------------------------------------------


@asynccontextmanager
async def young_chain() -> AsyncIterator[Watched]:
    node = Watched(confirmations=2)
    for _ in range(3):
        node.kernel.submit_transaction(signed_transaction())
    yield node


async def mine_and_accept(node: Watched) -> None:
    first = await node.kernel.mine_block(MINER, max_transactions=1)
    for block in [signed_block(None), *signed_chain(first, 3)]:
        await node.kernel.accept_block(block)
    await node.kernel.mine_block(MINER)


async def whole(node: Watched) -> None:
    """What is stored was told, and the other way round; the kernel goes on."""
    accepted = [event.block for event in node.events if isinstance(event, BlockAccepted)]
    stored = await node.store.raw_blocks_after(GENESIS, 100, max_bytes=1 << 30)
    assert [block.encode() for block in accepted] == stored
    in_blocks = {each for block in accepted for each in block.transactions}
    assert in_blocks.isdisjoint(node.kernel.pool.oldest(9))
    assert len(in_blocks) + len(node.kernel.pool) == 3
    block = await node.kernel.mine_block(MINER)  # the lock is free
    assert node.store.status.best_hash == block.hash
    assert node.store.status.lib_height == max(block.height - 2, 0)
    heights = [e.height for e in node.events if isinstance(e, NewIrreversibleBlockFound)]
    assert heights == sorted(set(heights))


def test_cancelled_at_every_step_the_chain_stays_whole() -> None:
    report = cancel_at_every_step(mine_and_accept, around=young_chain, check=whole)
    assert report.steps > 15
