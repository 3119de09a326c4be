"""The memory store: forks, reorganisations, ties, and the last irreversible block.

A state machine compares it with a naive tree of blocks that walks from parent to parent.
"""

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.core.block import Block
from aelf_p2p.core.chain_status import ChainRoot, ChainStatus
from aelf_p2p.core.errors import MisuseError, UnknownParentError
from aelf_p2p.testing.vectors import load_vectors
from tests.chain.made import GENESIS, Parent, signed_block, unsigned_block, unsigned_chain

UNKNOWN = b"\xee" * 32


async def filled(*blocks: Block, root: ChainRoot = ChainRoot()) -> MemoryChainStore:  # noqa: B008
    store = MemoryChainStore(root)
    for block in blocks:
        await store.put_block(block)
    return store


async def best_chain(store: MemoryChainStore) -> list[bytes]:
    hashes: list[bytes] = []
    first = store.status.root.height + 1
    while (block_hash := await store.hash_at(first + len(hashes))) is not None:
        hashes.append(block_hash)
    return hashes


def hashes_of(blocks: list[Block]) -> list[bytes]:
    return [block.hash for block in blocks]


# --- against a naive tree -------------------------------------------------------------------------


class StoreMachine(RuleBasedStateMachine):
    """The model: all blocks by hash, the hash of the tip, the hash of the LIB."""

    def __init__(self) -> None:
        super().__init__()
        self.begin(ChainRoot())

    @initialize(root=st.sampled_from([ChainRoot(), ChainRoot(b"\x77" * 32, 96)]))
    def begin(self, root: ChainRoot) -> None:
        self.root = root
        self.store = MemoryChainStore(root)
        self.tree: dict[bytes, Block] = {}
        self.tip = self.lib = root.block_hash

    def path(self, block_hash: bytes) -> list[Block]:
        """From the first block behind the root to this one."""
        blocks: list[Block] = []
        while block_hash in self.tree:
            blocks.append(self.tree[block_hash])
            block_hash = blocks[-1].previous_hash
        return blocks[::-1]

    def height(self, block_hash: bytes) -> int:
        return self.root.height + len(self.path(block_hash))

    def status(self) -> ChainStatus:
        height, lib_height = self.height(self.tip), self.height(self.lib)
        return ChainStatus(
            root=self.root,
            best_hash=self.tip,
            best_height=height,
            longest_hash=self.tip,
            longest_height=height,
            lib_hash=self.lib,
            lib_height=lib_height,
        )

    def put(self, block: Block) -> None:
        self.tree.setdefault(block.hash, block)
        through = [self.root.block_hash, *hashes_of(self.path(block.hash))]
        if block.height > self.height(self.tip) and self.lib in through:
            self.tip = block.hash
        assert trio.run(self.store.put_block, block) == self.status()

    @rule(data=st.data(), length=st.integers(1, 3))
    def grow_anywhere(self, data: st.DataObject, length: int) -> None:
        anywhere: list[Parent] = [self.root, *self.tree.values()]
        parent = data.draw(st.sampled_from(anywhere))
        for block in unsigned_chain(parent, length):
            self.put(block)

    @rule(back=st.integers(0, 3), length=st.integers(1, 5))
    def fork_near_the_tip(self, back: int, length: int) -> None:
        path = self.path(self.tip)
        for block in unsigned_chain(path[-1 - back] if len(path) > back else self.root, length):
            self.put(block)

    @precondition(lambda self: self.tree)
    @rule(data=st.data())
    def put_again(self, data: st.DataObject) -> None:
        again = data.draw(st.sampled_from(list(self.tree.values())))
        self.put(Block.parse_untrusted(again.encode()))

    @rule(height=st.integers(1, 9))
    def put_an_orphan(self, height: int) -> None:
        orphan = unsigned_block(unsigned_block(None, height=height))
        with pytest.raises(UnknownParentError):
            trio.run(self.store.put_block, orphan)

    @precondition(lambda self: self.tip != self.root.block_hash)
    @rule(data=st.data())
    def move_the_lib(self, data: st.DataObject) -> None:
        path = self.path(self.tip)
        block = data.draw(st.sampled_from(path[max(len(self.path(self.lib)) - 1, 0) :]))
        self.lib = block.hash
        assert trio.run(self.store.set_lib, block.hash) == self.status()

    @precondition(lambda self: self.tree)
    @rule(data=st.data())
    def move_the_lib_where_it_cannot_be(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(list(self.tree.values())))
        if block not in self.path(self.tip) or block.height < self.height(self.lib):
            with pytest.raises(MisuseError):
                trio.run(self.store.set_lib, block.hash)

    @rule(data=st.data(), count=st.integers(0, 12))
    def ask_what_follows(self, data: st.DataObject, count: int) -> None:
        previous = data.draw(st.sampled_from([self.root.block_hash, UNKNOWN, *self.tree]))
        path = self.path(self.tip)
        on_chain = [self.root.block_hash, *hashes_of(path)]
        start = on_chain.index(previous) if previous in on_chain else len(path)
        expected = path[start : start + count]
        assert trio.run(self.store.blocks_after, previous, count) == expected

    @invariant()
    def same_as_the_model(self) -> None:
        async def compare() -> None:
            assert self.store.status == self.status()
            path = self.path(self.tip)
            assert await best_chain(self.store) == hashes_of(path)
            assert await self.store.hash_at(self.root.height) == self.root.block_hash
            assert await self.store.has_block(self.root.block_hash)
            for block_hash, block in self.tree.items():
                assert await self.store.get_block(block_hash) is block
                assert await self.store.has_block(block_hash)

        trio.run(compare)

    @invariant()
    def no_longer_chain_goes_through_the_lib(self) -> None:
        for block_hash in self.tree:
            path = hashes_of(self.path(block_hash))
            if self.lib in [self.root.block_hash, *path]:
                assert self.height(block_hash) <= self.store.status.best_height


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


# --- cases ----------------------------------------------------------------------------------------


async def test_an_empty_store() -> None:
    store = MemoryChainStore()
    assert store.status == ChainStatus.at_root(ChainRoot())
    assert (store.status.best_height, store.status.best_hash) == (0, GENESIS)
    assert await store.has_block(GENESIS)
    assert await store.get_block(GENESIS) is None
    assert await store.blocks_after(GENESIS, 10) == []
    assert await store.hash_at(1) is None


async def test_a_store_behind_a_trusted_root() -> None:
    root = ChainRoot(b"\x77" * 32, 96)
    blocks = unsigned_chain(root, 3)
    store = await filled(*blocks, root=root)
    assert [block.height for block in blocks] == [97, 98, 99]
    assert await best_chain(store) == hashes_of(blocks)
    assert await store.blocks_after(root.block_hash, 2) == blocks[:2]
    assert await store.blocks_after(GENESIS, 2) == []
    assert not await store.has_block(GENESIS)
    assert await store.get_block(root.block_hash) is None
    assert [await store.hash_at(height) for height in (-97, -1, 0, 1, 95, 100)] == [None] * 6
    with pytest.raises(UnknownParentError):
        await store.put_block(unsigned_block(None))


async def test_of_two_equally_long_chains_the_first_seen_stays() -> None:
    trunk = unsigned_chain(None, 2)
    first, second = unsigned_chain(trunk[-1], 2), unsigned_chain(trunk[-1], 3)
    store = await filled(*trunk, *first, *second[:2])
    assert store.status.best_hash == first[-1].hash
    await store.put_block(second[2])
    assert store.status.best_hash == second[2].hash
    assert await best_chain(store) == hashes_of(trunk + second)
    assert await store.get_block(first[-1].hash) is first[-1]  # forks are kept


async def test_a_reorganisation_and_back() -> None:
    one, other = unsigned_chain(None, 3), unsigned_chain(None, 4)  # nothing in common
    store = await filled(*one, *other)
    assert await best_chain(store) == hashes_of(other)
    one += unsigned_chain(one[-1], 2)
    for block in one[3:]:
        await store.put_block(block)
    assert await best_chain(store) == hashes_of(one)


async def test_the_tip_never_leaves_the_last_irreversible_block() -> None:
    trunk = unsigned_chain(None, 3)
    fork = unsigned_chain(trunk[0], 6)
    store = await filled(*trunk, fork[0])
    await store.set_lib(trunk[1].hash)
    for block in fork[1:]:
        status = await store.put_block(block)
    assert status.best_hash == status.longest_hash == trunk[-1].hash
    assert await best_chain(store) == hashes_of(trunk)
    assert await store.has_block(fork[-1].hash)
    assert await store.blocks_after(fork[0].hash, 5) == []


async def test_a_fork_at_the_last_irreversible_block_itself_can_win() -> None:
    trunk = unsigned_chain(None, 3)
    store = await filled(*trunk)
    await store.set_lib(trunk[1].hash)
    fork = unsigned_chain(trunk[1], 2)
    await store.put_block(fork[0])
    assert store.status.best_hash == trunk[2].hash
    await store.put_block(fork[1])
    assert await best_chain(store) == hashes_of([*trunk[:2], *fork])
    assert store.status.lib_hash == trunk[1].hash


async def test_what_follows_a_block() -> None:
    trunk = unsigned_chain(None, 5)
    fork = unsigned_chain(trunk[1], 2)
    store = await filled(*trunk, *fork)
    assert await store.blocks_after(GENESIS, 2) == trunk[:2]
    assert await store.blocks_after(trunk[1].hash, 50) == trunk[2:]
    assert await store.blocks_after(trunk[1].hash, 0) == []
    assert await store.blocks_after(trunk[-1].hash, 50) == []
    assert await store.blocks_after(fork[0].hash, 50) == []  # C# throws; ours answers empty
    assert await store.blocks_after(UNKNOWN, 50) == []
    assert await store.blocks_after(b"", 50) == []


@pytest.mark.parametrize("height", [-1, -3, 4, 2**62])
async def test_no_hash_outside_the_chain(height: int) -> None:
    store = await filled(*unsigned_chain(None, 3))
    assert await store.hash_at(height) is None


@pytest.mark.parametrize("height", [1, 2, 4, 9])
async def test_a_block_that_is_not_one_above_its_parent_is_refused(height: int) -> None:
    trunk = unsigned_chain(None, 2)
    store = await filled(*trunk)
    with pytest.raises(MisuseError):
        await store.put_block(unsigned_block(trunk[-1], height=height))
    with pytest.raises(MisuseError):
        await store.put_block(unsigned_block(None, height=2))
    assert await best_chain(store) == hashes_of(trunk)


async def test_the_lib_is_on_the_best_chain_and_never_goes_down() -> None:
    trunk = unsigned_chain(None, 4)
    fork = unsigned_chain(trunk[0], 1)
    store = await filled(*trunk, *fork)
    for wrong in (fork[0].hash, UNKNOWN, GENESIS):
        with pytest.raises(MisuseError):
            await store.set_lib(wrong)
    await store.set_lib(trunk[2].hash)
    with pytest.raises(MisuseError):
        await store.set_lib(trunk[1].hash)
    await store.set_lib(trunk[2].hash)  # no harm
    assert (store.status.lib_hash, store.status.lib_height) == (trunk[2].hash, 3)


# --- real data ------------------------------------------------------------------------------------

[RAW_97] = [
    vector.block_with_transactions
    for vector in load_vectors().blocks
    if vector.block_with_transactions
]


async def test_a_real_block_has_no_place_in_a_store_without_its_parent() -> None:
    store = MemoryChainStore()
    with pytest.raises(UnknownParentError):
        await store.put_block(Block.parse_untrusted(RAW_97))


async def test_a_real_block_comes_out_of_the_store_as_it_went_in() -> None:
    block = Block.parse_untrusted(RAW_97)
    assert block.height == 97
    root = ChainRoot(block.previous_hash, 96)
    store = await filled(block, *unsigned_chain(block, 2), root=root)
    kept = await store.get_block(block.hash)
    assert kept is not None
    assert kept.encode() == RAW_97
    [first] = await store.blocks_after(root.block_hash, 1)
    assert first.encode() == RAW_97
    assert await store.hash_at(97) == block.hash


async def test_real_transactions_come_out_of_the_store_as_they_went_in() -> None:
    real = Block.parse_untrusted(RAW_97)
    first = signed_block(None, real.transactions)
    blocks = [first, *unsigned_chain(first, 2)]
    store = await filled(*blocks)
    kept = await store.get_block(first.hash)
    assert kept is not None
    assert kept.encode() == first.encode()
    assert [each.raw for each in kept.transactions] == [each.raw for each in real.transactions]
    assert len(kept.transactions) == 2
    assert kept.header.transactions_root == real.header.transactions_root
    assert [each.encode() for each in await store.blocks_after(GENESIS, 3)] == [
        each.encode() for each in blocks
    ]
