"""The stores of blocks, in memory and in SQLite: one behaviour.

Forks, reorganisations, ties, the last irreversible block. A state machine compares each store with
a naive tree of blocks that walks from parent to parent.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
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
from aelf_p2p.chain.sqlite_store import open_sqlite_store
from aelf_p2p.contracts import ChainStore
from aelf_p2p.core.block import Block, BlockHeader
from aelf_p2p.core.chain_status import ChainRoot, ChainStatus
from aelf_p2p.core.errors import MisuseError, UnknownParentError
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.testing.vectors import BlockVector, load_vectors
from tests.chain.made import (
    CHAIN_ID,
    GENESIS,
    Parent,
    open_forgetful_store,
    signed_block,
    unsigned_block,
    unsigned_chain,
)
from tests.portal import open_portal

UNKNOWN = b"\xee" * 32
MUCH = 1 << 40
ROOT_96 = ChainRoot(b"\x77" * 32, 96)


async def put(store: ChainStore, *blocks: Block) -> None:
    for block in blocks:
        await store.put_block(block)


async def best_chain(store: ChainStore) -> list[bytes]:
    hashes: list[bytes] = []
    first = store.status.root.height + 1
    while (block_hash := await store.hash_at(first + len(hashes))) is not None:
        hashes.append(block_hash)
    return hashes


async def after(
    store: ChainStore, previous: bytes, count: int, max_bytes: int = MUCH
) -> list[Block]:
    raw_blocks = await store.raw_blocks_after(previous, count, max_bytes=max_bytes)
    return [Block.parse_untrusted(raw_block) for raw_block in raw_blocks]


def hashes_of(blocks: list[Block]) -> list[bytes]:
    return [block.hash for block in blocks]


# --- against a naive tree -------------------------------------------------------------------------


class StoreMachine(RuleBasedStateMachine):
    """The model: all blocks by hash, the hash of the tip, the hash of the LIB, the root."""

    keeps: st.SearchStrategy[int | None]
    persistent: bool

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="aelf-p2p-test-"))
        self.opened = ExitStack()

    def open_store(self) -> AbstractAsyncContextManager[ChainStore]:
        raise NotImplementedError

    @initialize(root=st.sampled_from([ChainRoot(), ROOT_96]), data=st.data())
    def begin(self, root: ChainRoot, data: st.DataObject) -> None:
        self.origin = self.root = root
        self.keep = data.draw(self.keeps)
        self.portal = self.opened.enter_context(open_portal(self.open_store))
        self.store = self.portal.value
        self.tree: dict[bytes, Block] = {}
        self.tip = self.lib = root.block_hash

    def teardown(self) -> None:
        self.opened.close()
        shutil.rmtree(self.directory)

    # --- the model ---

    def path(self, block_hash: bytes) -> list[Block]:
        """From the lowest stored ancestor to this block."""
        blocks: list[Block] = []
        while block_hash in self.tree:
            blocks.append(self.tree[block_hash])
            block_hash = blocks[-1].previous_hash
        return blocks[::-1]

    def height(self, block_hash: bytes) -> int:
        return (
            self.root.height if block_hash == self.root.block_hash else self.tree[block_hash].height
        )

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

    def put(self, block: Block) -> bool:
        """Put a block whose parent is stored; False when it comes too late."""
        if block.hash not in self.tree and block.height <= self.height(self.lib):
            with pytest.raises(MisuseError):
                self.portal.call(self.store.put_block, block)
            return False
        if block.hash not in self.tree:
            self.tree[block.hash] = block
            if block.height > self.height(self.tip):
                self.tip = block.hash
        assert self.portal.call(self.store.put_block, block) == self.status()
        return True

    def forget(self) -> None:
        """What does not lead to the last irreversible block or follow it; what is below a pruned
        root."""
        leading = hashes_of(self.path(self.lib))
        lib_height = self.height(self.lib)
        if self.keep is not None and lib_height - self.keep > self.root.height:
            height = lib_height - self.keep
            [root_hash] = [each for each in leading if self.tree[each].height == height]
            self.root = ChainRoot(root_hash, height)
        self.tree = {
            block_hash: block
            for block_hash, block in self.tree.items()
            if block_hash in leading or self.lib in hashes_of(self.path(block_hash))
        }
        self.tree = {
            block_hash: block
            for block_hash, block in self.tree.items()
            if block.height > self.root.height
        }

    # --- what happens ---

    @rule(data=st.data(), length=st.integers(1, 3))
    def grow_anywhere(self, data: st.DataObject, length: int) -> None:
        anywhere: list[Parent] = [self.root, *self.tree.values()]
        parent = data.draw(st.sampled_from(anywhere))
        for block in unsigned_chain(parent, length):
            if not self.put(block):
                break

    @rule(back=st.integers(0, 3), length=st.integers(1, 5))
    def fork_near_the_tip(self, back: int, length: int) -> None:
        path = self.path(self.tip)
        for block in unsigned_chain(path[-1 - back] if len(path) > back else self.root, length):
            if not self.put(block):
                break

    @precondition(lambda self: self.tree)
    @rule(data=st.data())
    def put_again(self, data: st.DataObject) -> None:
        again = data.draw(st.sampled_from(list(self.tree.values())))
        assert self.put(Block.parse_untrusted(again.encode()))

    @rule(height=st.integers(1, 9))
    def put_an_orphan(self, height: int) -> None:
        orphan = unsigned_block(unsigned_block(None, height=height))
        with pytest.raises(UnknownParentError):
            self.portal.call(self.store.put_block, orphan)

    @precondition(lambda self: self.tip != self.root.block_hash)
    @rule(data=st.data())
    def move_the_lib(self, data: st.DataObject) -> None:
        path = self.path(self.tip)
        block = data.draw(
            st.sampled_from([each for each in path if each.height >= self.height(self.lib)])
        )
        self.lib = block.hash
        status = self.portal.call(self.store.set_lib, block.hash)
        self.forget()
        assert status == self.status()

    @precondition(lambda self: self.tree)
    @rule(data=st.data())
    def move_the_lib_where_it_cannot_be(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(list(self.tree.values())))
        if block not in self.path(self.tip) or block.height < self.height(self.lib):
            with pytest.raises(MisuseError):
                self.portal.call(self.store.set_lib, block.hash)

    @rule(data=st.data(), count=st.integers(0, 12), blocks_of_room=st.integers(0, 15))
    def ask_what_follows(self, data: st.DataObject, count: int, blocks_of_room: int) -> None:
        previous = data.draw(st.sampled_from([self.root.block_hash, UNKNOWN, *self.tree]))
        path = self.path(self.tip)
        on_chain = [self.root.block_hash, *hashes_of(path)]
        start = on_chain.index(previous) if previous in on_chain else len(path)
        expected = path[start : start + count][: max(blocks_of_room, 1)]
        room = sum(len(block.encode()) for block in path[start:][:blocks_of_room])
        assert self.portal.call(after, self.store, previous, count, room) == expected

    @precondition(lambda self: self.persistent)
    @rule()
    def open_again(self) -> None:
        self.opened.close()
        self.portal = self.opened.enter_context(open_portal(self.open_store))
        self.store = self.portal.value

    @invariant()
    def same_as_the_model(self) -> None:
        async def compare() -> None:
            assert self.store.status == self.status()
            path = self.path(self.tip)
            assert await best_chain(self.store) == hashes_of(path)
            assert await self.store.hash_at(self.root.height) == self.root.block_hash
            assert await self.store.has_block(self.root.block_hash)
            for block_hash, block in self.tree.items():
                assert await self.store.has_block(block_hash)
                assert await self.store.get_block(block_hash) == block
                assert await self.store.get_header(block_hash) == block.header
                assert await self.store.get_raw_block(block_hash) == block.encode()

        self.portal.call(compare)

    @invariant()
    def no_stored_chain_is_longer(self) -> None:
        assert all(block.height <= self.store.status.best_height for block in self.tree.values())

    @invariant()
    def all_blocks_above_the_lib_follow_it(self) -> None:
        for block_hash, block in self.tree.items():
            if block.height > self.height(self.lib):
                path = self.path(block_hash)
                assert self.lib in [path[0].previous_hash, *hashes_of(path)]


class MemoryMachine(StoreMachine):
    keeps = st.none()
    persistent = False

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[ChainStore]:
        yield MemoryChainStore(self.origin)


class SqliteMachine(StoreMachine):
    keeps = st.sampled_from([None, 1, 3])
    persistent = True

    def open_store(self) -> AbstractAsyncContextManager[ChainStore]:
        return open_forgetful_store(self.directory, self.keep, self.origin)


TestMemoryStore = MemoryMachine.TestCase
TestMemoryStore.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestSqliteStore = SqliteMachine.TestCase
TestSqliteStore.settings = settings(max_examples=12, stateful_step_count=30, deadline=None)


# --- cases ----------------------------------------------------------------------------------------


class OpenStore(Protocol):
    """Opens a store, empty, with a root."""

    def __call__(self, root: ChainRoot = ...) -> AbstractAsyncContextManager[ChainStore]: ...


@pytest.fixture(params=["memory", "sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    @asynccontextmanager
    async def open_memory(root: ChainRoot = ChainRoot()) -> AsyncIterator[ChainStore]:  # noqa: B008
        yield MemoryChainStore(root)

    def open_sqlite(root: ChainRoot = ChainRoot()) -> AbstractAsyncContextManager[ChainStore]:  # noqa: B008
        return open_sqlite_store(tmp_path, chain_id=CHAIN_ID, root=root)

    return open_memory if request.param == "memory" else open_sqlite


async def test_an_empty_store(open_store: OpenStore) -> None:
    async with open_store() as store:
        assert store.status == ChainStatus.at_root(ChainRoot())
        assert (store.status.best_height, store.status.best_hash) == (0, GENESIS)
        assert await store.has_block(GENESIS)
        assert await store.get_block(GENESIS) is None
        assert await store.get_header(GENESIS) is None
        assert await store.get_raw_block(GENESIS) is None
        assert await after(store, GENESIS, 10) == []
        assert await store.hash_at(1) is None


async def test_a_store_behind_a_trusted_root(open_store: OpenStore) -> None:
    blocks = unsigned_chain(ROOT_96, 3)
    assert [block.height for block in blocks] == [97, 98, 99]
    async with open_store(ROOT_96) as store:
        await put(store, *blocks)
        assert await best_chain(store) == hashes_of(blocks)
        assert await after(store, ROOT_96.block_hash, 2) == blocks[:2]
        assert await after(store, GENESIS, 2) == []
        assert not await store.has_block(GENESIS)
        assert await store.get_block(ROOT_96.block_hash) is None
        assert [await store.hash_at(height) for height in (-97, -1, 0, 1, 95, 100)] == [None] * 6
        with pytest.raises(UnknownParentError):
            await store.put_block(unsigned_block(None))


async def test_of_two_equally_long_chains_the_first_seen_stays(open_store: OpenStore) -> None:
    trunk = unsigned_chain(None, 2)
    first, second = unsigned_chain(trunk[-1], 2), unsigned_chain(trunk[-1], 3)
    async with open_store() as store:
        await put(store, *trunk, *first, *second[:2])
        assert store.status.best_hash == first[-1].hash
        await store.put_block(second[2])
        assert store.status.best_hash == second[2].hash
        assert await best_chain(store) == hashes_of(trunk + second)
        assert await store.get_block(first[-1].hash) == first[-1]  # forks are kept


async def test_a_reorganisation_and_back(open_store: OpenStore) -> None:
    one, other = unsigned_chain(None, 3), unsigned_chain(None, 4)  # nothing in common
    async with open_store() as store:
        await put(store, *one, *other)
        assert await best_chain(store) == hashes_of(other)
        one += unsigned_chain(one[-1], 2)
        await put(store, *one[3:])
        assert await best_chain(store) == hashes_of(one)


async def test_the_tip_never_leaves_the_last_irreversible_block(open_store: OpenStore) -> None:
    trunk = unsigned_chain(None, 3)
    fork = unsigned_chain(trunk[0], 6)
    async with open_store() as store:
        await put(store, *trunk, *fork[:2])
        await store.set_lib(trunk[1].hash)
        assert store.status.best_hash == store.status.longest_hash == trunk[-1].hash
        assert await best_chain(store) == hashes_of(trunk)
        # it is forgotten as a whole, and nothing can be put on it
        for block in fork:
            assert not await store.has_block(block.hash)
        assert await after(store, fork[1].hash, 5) == []
        with pytest.raises(MisuseError):
            await store.put_block(fork[0])
        with pytest.raises(UnknownParentError):
            await store.put_block(fork[2])


async def test_a_fork_at_the_last_irreversible_block_itself_can_win(open_store: OpenStore) -> None:
    trunk = unsigned_chain(None, 3)
    fork = unsigned_chain(trunk[1], 2)
    async with open_store() as store:
        await put(store, *trunk)
        await store.set_lib(trunk[1].hash)
        await store.put_block(fork[0])
        assert store.status.best_hash == trunk[2].hash
        await store.put_block(fork[1])
        assert await best_chain(store) == hashes_of([*trunk[:2], *fork])
        assert store.status.lib_hash == trunk[1].hash


async def test_what_follows_a_block(open_store: OpenStore) -> None:
    trunk = unsigned_chain(None, 5)
    fork = unsigned_chain(trunk[1], 2)
    async with open_store() as store:
        await put(store, *trunk, *fork)
        assert await after(store, GENESIS, 2) == trunk[:2]
        assert await after(store, trunk[1].hash, 50) == trunk[2:]
        assert await after(store, trunk[1].hash, 0) == []
        assert await after(store, trunk[-1].hash, 50) == []
        assert await after(store, fork[0].hash, 50) == []  # C# throws; ours answers empty
        assert await after(store, UNKNOWN, 50) == []
        assert await after(store, b"", 50) == []
        size = len(trunk[0].encode())  # all weigh the same
        assert await after(store, GENESIS, 50, size * 2) == trunk[:2]
        assert await after(store, GENESIS, 50, size * 2 - 1) == trunk[:1]
        assert await after(store, GENESIS, 50, size - 1) == trunk[:1]  # the first in any case
        assert await after(store, GENESIS, 50, 0) == trunk[:1]


@pytest.mark.parametrize("height", [-1, -3, 4, 2**62, 2**70])
async def test_no_hash_outside_the_chain(height: int, open_store: OpenStore) -> None:
    async with open_store() as store:
        await put(store, *unsigned_chain(None, 3))
        assert await store.hash_at(height) is None


@pytest.mark.parametrize("height", [1, 2, 4, 9])
async def test_a_block_that_is_not_one_above_its_parent_is_refused(
    height: int, open_store: OpenStore
) -> None:
    trunk = unsigned_chain(None, 2)
    async with open_store() as store:
        await put(store, *trunk)
        with pytest.raises(MisuseError):
            await store.put_block(unsigned_block(trunk[-1], height=height))
        with pytest.raises(MisuseError):
            await store.put_block(unsigned_block(None, height=2))
        assert await best_chain(store) == hashes_of(trunk)


async def test_the_lib_is_on_the_best_chain_and_never_goes_down(open_store: OpenStore) -> None:
    trunk = unsigned_chain(None, 4)
    fork = unsigned_chain(trunk[0], 1)
    async with open_store() as store:
        await put(store, *trunk, *fork)
        for wrong in (fork[0].hash, UNKNOWN):
            with pytest.raises(MisuseError):
                await store.set_lib(wrong)
        await store.set_lib(trunk[2].hash)
        for wrong in (trunk[1].hash, GENESIS):
            with pytest.raises(MisuseError):
                await store.set_lib(wrong)
        await store.set_lib(trunk[2].hash)  # no harm
        assert (store.status.lib_hash, store.status.lib_height) == (trunk[2].hash, 3)


# --- real data ------------------------------------------------------------------------------------

VECTORS = load_vectors()
[RAW_97] = [each.block_with_transactions for each in VECTORS.blocks if each.block_with_transactions]


async def test_a_real_block_has_no_place_in_a_store_without_its_parent(
    open_store: OpenStore,
) -> None:
    async with open_store() as store:
        with pytest.raises(UnknownParentError):
            await store.put_block(Block.parse_untrusted(RAW_97))


async def test_a_real_block_comes_out_of_the_store_as_it_went_in(open_store: OpenStore) -> None:
    block = Block.parse_untrusted(RAW_97)
    assert block.height == 97
    async with open_store(ChainRoot(block.previous_hash, 96)) as store:
        await put(store, block, *unsigned_chain(block, 2))
        kept = await store.get_block(block.hash)
        assert kept is not None
        assert kept.encode() == RAW_97
        assert await store.get_raw_block(block.hash) == RAW_97
        assert await store.raw_blocks_after(block.previous_hash, 1, max_bytes=MUCH) == [RAW_97]
        assert await store.hash_at(97) == block.hash


@pytest.mark.parametrize("vector", VECTORS.blocks, ids=lambda vector: f"{vector.height}")
async def test_a_real_header_comes_out_of_the_store_as_it_went_in(
    vector: BlockVector, open_store: OpenStore
) -> None:
    raw = vector.header or vector.header_without_signature
    root = ChainRoot(vector.previous_block_hash, vector.height - 1)
    async with open_store(root) as store:
        await store.put_block(Block(BlockHeader.parse_untrusted(raw), ()))
        kept = await store.get_header(vector.block_hash)
        assert kept is not None
        assert (kept.raw, kept.hash) == (raw, vector.block_hash)


async def test_real_transactions_come_out_of_the_store_as_they_went_in(
    open_store: OpenStore,
) -> None:
    known = [(vector.raw, vector.id) for vector in VECTORS.transactions]
    assert len(known) == 64
    block = signed_block(None, [Transaction.parse_untrusted(raw) for raw, _ in known])
    async with open_store() as store:
        await put(store, block, *unsigned_chain(block, 2))
        kept = await store.get_block(block.hash)
        assert kept is not None
        assert [(each.raw, each.id) for each in kept.transactions] == known
