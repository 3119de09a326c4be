"""Chain files: what is in them, what is refused, and how a store takes them in."""

import errno
import io
import os
import resource
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import network_types_pb2 as types
import pytest
import trio
import trio.lowlevel
from google.protobuf import proto
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.chain import chain_file
from aelf_p2p.chain.block_maker import make_chain
from aelf_p2p.chain.chain_file import (
    ImportReport,
    import_chain_file,
    read_chain_file,
    write_chain_file,
)
from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.chain.sqlite_store import open_sqlite_store
from aelf_p2p.contracts import ChainStore
from aelf_p2p.core.block import Block
from aelf_p2p.core.chain_status import ChainRoot, ChainStatus
from aelf_p2p.core.errors import AelfP2PError, MalformedError, MisuseError
from aelf_p2p.testing.cancellation import cancel_at_every_step
from aelf_p2p.testing.vectors import load_vectors
from tests.chain.made import (
    CHAIN_ID,
    MINER,
    TIME_NS,
    open_forgetful_store,
    signed_block,
    signed_chain,
    signed_transaction,
)

T = TypeVar("T")

[VECTOR_97] = [vector for vector in load_vectors().blocks if vector.block_with_transactions]
RAW_97 = VECTOR_97.block_with_transactions or b""
ROOT_96 = ChainRoot(VECTOR_97.previous_block_hash, 96)

TRANSACTION = signed_transaction()
SMALL = list(
    make_chain(MINER, 2, chain_id=CHAIN_ID, transactions=[TRANSACTION], last_time_ns=TIME_NS)
)
"""Two blocks, the second one with a transaction."""


def read(path: Path) -> list[Block]:
    return list(read_chain_file(path))


def refusal(path: Path, kind: type[AelfP2PError] = MalformedError) -> str:
    """What is said of a file, behind its name."""
    with pytest.raises(AelfP2PError) as caught:
        read(path)
    assert type(caught.value) is kind
    name, said = str(caught.value).split(": ", 1)
    assert name == str(path)
    return said


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("small") / "chain"
    write_chain_file(path, SMALL)
    return path.read_bytes()


# --- the file -------------------------------------------------------------------------------------

transaction_lists = st.lists(st.builds(signed_transaction, size=st.integers(8, 200)), max_size=5)


@given(st.lists(transaction_lists, min_size=1, max_size=5))
def test_what_was_written_is_read(contents: list[Any]) -> None:
    blocks: list[Block] = []
    for transactions in contents:
        blocks.append(signed_block(blocks[-1] if blocks else None, transactions))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "chain"
        assert write_chain_file(path, blocks) is blocks[-1]
        assert read(path) == blocks
        assert os.listdir(directory) == ["chain"]


def test_other_programs_read_it_as_delimited_messages(tmp_path: Path) -> None:
    blocks = signed_chain(None, 3)
    blocks.append(signed_block(blocks[-1], [signed_transaction(size=20_000), TRANSACTION]))
    write_chain_file(tmp_path / "chain", blocks)
    with (tmp_path / "chain").open("rb") as file:
        stream = io.BytesIO(file.read())
    for block in blocks:
        message = proto.parse_length_prefixed(types.BlockWithTransactions, stream)
        assert message is not None
        assert message.SerializeToString() == block.encode()
        assert message.header.height == block.height
        assert message.header.previous_block_hash.value == block.previous_hash
        assert len(message.transactions) == len(block.transactions)
    assert proto.parse_length_prefixed(types.BlockWithTransactions, stream) is None


def test_delimited_messages_of_other_programs_are_read(tmp_path: Path) -> None:
    stream = io.BytesIO()
    for block in SMALL:
        message = types.BlockWithTransactions.FromString(block.encode())
        proto.serialize_length_prefixed(message, stream)
    (tmp_path / "chain").write_bytes(stream.getvalue())
    assert read(tmp_path / "chain") == SMALL


def test_a_real_block_behind_its_length(tmp_path: Path) -> None:
    assert len(RAW_97) == 1587 == 0x33 + (0x0C << 7)
    (tmp_path / "chain").write_bytes(b"\xb3\x0c" + RAW_97)
    [block] = read(tmp_path / "chain")
    assert block.hash == VECTOR_97.block_hash
    assert block.transaction_ids == VECTOR_97.transaction_ids
    write_chain_file(tmp_path / "again", [block])
    assert (tmp_path / "again").read_bytes() == b"\xb3\x0c" + RAW_97


def test_blocks_are_read_one_by_one(tmp_path: Path, small: bytes) -> None:
    (tmp_path / "chain").write_bytes(small + b"\x01\x00")
    blocks = read_chain_file(tmp_path / "chain")
    assert [next(blocks), next(blocks)] == SMALL
    with pytest.raises(MalformedError, match="chain: block 3 of the file: "):
        next(blocks)


# --- writing --------------------------------------------------------------------------------------


def test_an_existing_file_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "chain").write_bytes(b"precious")
    for path in (tmp_path / "chain", tmp_path):
        with pytest.raises(MisuseError, match=f"{path}: exists already and is left as it is"):
            write_chain_file(path, SMALL)
    assert (tmp_path / "chain").read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["chain"]


@pytest.mark.parametrize("code", [None, errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_that_came_meanwhile_is_left_as_it_is(
    code: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a file cannot have two names."""

    def blocks() -> Iterator[Block]:
        yield from SMALL
        (tmp_path / "chain").write_bytes(b"precious")

    def no_link(*paths: Path) -> None:
        raise OSError(code, "no links")

    if code is not None:
        monkeypatch.setattr(os, "link", no_link)
    write_chain_file(tmp_path / "other", SMALL)
    assert read(tmp_path / "other") == SMALL
    with pytest.raises(MisuseError, match="chain: exists already and is left as it is"):
        write_chain_file(tmp_path / "chain", blocks())
    assert (tmp_path / "chain").read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["chain", "other"]


def test_other_errors_of_naming_it_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*paths: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", no_room)
    with pytest.raises(MisuseError, match="chain: No space left on device"):
        write_chain_file(tmp_path / "chain", SMALL)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError("why"), KeyboardInterrupt(), GeneratorExit()])
def test_an_exception_midway_leaves_no_file(tmp_path: Path, error: BaseException) -> None:
    def blocks() -> Iterator[Block]:
        yield from SMALL
        assert len(os.listdir(tmp_path)) == 1
        raise error

    with pytest.raises(type(error)) as caught:
        write_chain_file(tmp_path / "chain", blocks())
    assert caught.value is error
    assert os.listdir(tmp_path) == []


async def test_cancelled_midway_it_leaves_no_file(tmp_path: Path) -> None:
    def blocks() -> Iterator[Block]:
        for block in SMALL:
            trio.from_thread.check_cancelled()
            yield block
            trio.from_thread.run_sync(scope.cancel)

    with trio.CancelScope() as scope:
        await trio.to_thread.run_sync(write_chain_file, tmp_path / "chain", blocks())
    assert scope.cancelled_caught
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("count", [1, 100], ids=["at the end", "midway"])
def test_where_no_more_can_be_written_no_file_is_left(count: int, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    blocks = [signed_block(None)] * count  # 30 KiB, the 100 of them
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(MisuseError, match="chain: File too large"):
            write_chain_file(tmp_path / "chain", blocks)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []


def test_no_block_no_file(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="chain: a chain file holds at least one block"):
        write_chain_file(tmp_path / "chain", [])
    assert os.listdir(tmp_path) == []


def test_where_there_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="nowhere/chain: No such file or directory"):
        write_chain_file(tmp_path / "nowhere" / "chain", SMALL)


@pytest.mark.parametrize("path", [".", "/", "", "a" * 300], ids=["here", "/", "none", "too long"])
def test_paths_that_no_file_can_have(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MisuseError):
        write_chain_file(path, SMALL)
    assert os.listdir(tmp_path) == []


# --- what is no chain file ------------------------------------------------------------------------


def test_no_such_file_and_no_file_at_all(tmp_path: Path) -> None:
    assert refusal(tmp_path / "chain", MisuseError) == "No such file or directory"
    assert refusal(tmp_path, MisuseError) == "Is a directory"
    (tmp_path / "chain").touch()
    assert refusal(tmp_path / "chain", MisuseError) == "it holds no block"


def test_cut_anywhere(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / "chain"
    first = 2 + len(SMALL[0].encode())
    for size in range(1, len(small)):
        path.write_bytes(small[:size])
        if size == first:
            assert read(path) == SMALL[:1]
        else:
            number = 1 if size < first else 2
            assert refusal(path) == f"block {number} of the file: it is cut short"


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
async def test_any_byte_flipped(mask: int, tmp_path: Path, small: bytes) -> None:
    """Whatever it becomes, an import says that the file is wrong."""
    path = tmp_path / "chain"
    # no hash covers a transaction's signature, and the kernel looks at blocks only
    start = small.index(TRANSACTION.signature)
    for position in [*range(start), *range(start + len(TRANSACTION.signature), len(small))]:
        flipped = bytearray(small)
        flipped[position] ^= mask
        path.write_bytes(flipped)
        store = MemoryChainStore()
        with pytest.raises((MalformedError, MisuseError)) as caught:
            await take_in(path, store)
        assert str(caught.value).startswith(f"{path}: "), position


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_are_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "chain"
        path.write_bytes(data)
        assert refusal(path).startswith("block 1 of the file: ")


@pytest.mark.parametrize(
    ("prefix", "size"),
    [
        (b"\x81\x80\x80\x32", 100 * 2**20 + 1),
        (b"\xff\xff\xff\x7f", 2**28 - 1),
        (b"\x80\x80\x80\x80\x01", 2**28),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 2**64 - 1),
    ],
)
def test_a_block_that_is_too_large_is_not_read(prefix: bytes, size: int, tmp_path: Path) -> None:
    path = tmp_path / "chain"
    with path.open("wb") as file:
        file.write(prefix)
        file.truncate(len(prefix) + min(size, 2**29))  # with holes, so that it takes no room
    tracemalloc.start()
    try:
        said = refusal(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert said == "block 1 of the file: it is larger than 104857600 bytes"
    assert most < 2**20


def test_the_largest_block_would_be_read(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    path.write_bytes(b"\x80\x80\x80\x32" + RAW_97)
    assert refusal(path) == "block 1 of the file: it is cut short"


# --- taking it in ---------------------------------------------------------------------------------

OpenStore = Callable[[], AbstractAsyncContextManager[ChainStore]]


@pytest.fixture(params=["memory", "sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    @asynccontextmanager
    async def open_memory() -> AsyncIterator[ChainStore]:
        yield MemoryChainStore()

    def open_sqlite() -> AbstractAsyncContextManager[ChainStore]:
        return open_sqlite_store(tmp_path / "data", chain_id=CHAIN_ID)

    return open_memory if request.param == "memory" else open_sqlite


async def take_in(path: Path, store: ChainStore, *, chain_id: int = CHAIN_ID) -> ImportReport:
    kernel = MinimalKernel(store, chain_id=chain_id)
    return await import_chain_file(path, kernel, store, chain_id=chain_id)


async def import_refusal(path: Path, store: ChainStore, **settings: Any) -> str:
    """What an import says of a file, behind its name."""
    with pytest.raises(MisuseError) as caught:
        await take_in(path, store, **settings)
    name, said = str(caught.value).split(": ", 1)
    assert name == str(path)
    return said


def file_of(path: Path, blocks: Sequence[Block]) -> Path:
    write_chain_file(path, blocks)
    return path


async def is_whole(store: ChainStore, chain: Sequence[Block]) -> bool:
    """Whether a store holds the beginning of a chain, and nothing else."""
    height = store.status.best_height
    held = chain[:height]
    raw_blocks = await store.raw_blocks_after(bytes(32), len(chain), max_bytes=2**40)
    stored = [await store.has_block(block.hash) for block in chain]
    return (
        raw_blocks == [block.encode() for block in held]
        and stored == [index < height for index in range(len(chain))]
        and store.status.best_hash == (held[-1].hash if held else bytes(32))
    )


async def test_a_chain_is_taken_in_once(open_store: OpenStore, tmp_path: Path) -> None:
    chain = signed_chain(None, 30)
    path = file_of(tmp_path / "chain", chain)
    async with open_store() as store:
        assert await take_in(path, store) == ImportReport(blocks=30, new=30)
        assert await is_whole(store, chain)
        status = store.status
        assert (status.best_height, status.lib_height) == (30, 22)
        assert await take_in(path, store) == ImportReport(blocks=30, new=0)
        assert store.status == status


async def test_a_longer_file_goes_on_and_a_shorter_one_changes_nothing(
    open_store: OpenStore, tmp_path: Path
) -> None:
    chain = signed_chain(None, 30)
    async with open_store() as store:
        await take_in(file_of(tmp_path / "middle", chain[:20]), store)
        report = await take_in(file_of(tmp_path / "short", chain[:5]), store)
        assert report == ImportReport(blocks=5, new=0)
        assert await is_whole(store, chain[:20])
        report = await take_in(file_of(tmp_path / "long", chain), store)
        assert report == ImportReport(blocks=30, new=10)
        assert await is_whole(store, chain)
        # one that begins in the middle does as well
        more = [*chain[25:], *signed_chain(chain[-1], 2)]
        report = await take_in(file_of(tmp_path / "end", more), store)
        assert report == ImportReport(blocks=7, new=2)


async def test_a_real_block(tmp_path: Path) -> None:
    (tmp_path / "chain").write_bytes(b"\xb3\x0c" + RAW_97)
    store = MemoryChainStore(ROOT_96)
    report = await take_in(tmp_path / "chain", store, chain_id=VECTOR_97.chain_id)
    assert report == ImportReport(blocks=1, new=1)
    assert (store.status.best_height, store.status.best_hash) == (97, VECTOR_97.block_hash)


class CancellingKernel(MinimalKernel):
    """Cancels a scope when it is given a block, and takes that block in."""

    def __init__(self, store: ChainStore, scope: trio.CancelScope, at_height: int) -> None:
        super().__init__(store, chain_id=CHAIN_ID)
        self._scope = scope
        self._at_height = at_height

    async def accept_block(self, block: Block) -> bool:
        if block.height != self._at_height:
            return await super().accept_block(block)
        self._scope.cancel()
        with trio.CancelScope(shield=True):
            new = await super().accept_block(block)
        return new


@pytest.mark.parametrize("height", [1, 9, 19])
async def test_an_import_that_was_cancelled_goes_on(
    height: int, open_store: OpenStore, tmp_path: Path
) -> None:
    chain = signed_chain(None, 20)
    path = file_of(tmp_path / "chain", chain)
    async with open_store() as store:
        with trio.CancelScope() as scope:
            kernel = CancellingKernel(store, scope, height)
            await import_chain_file(path, kernel, store, chain_id=CHAIN_ID)
        assert scope.cancelled_caught
        assert store.status.best_height == height
        assert await is_whole(store, chain)
    async with open_store() as store:
        held = store.status.best_height  # in memory it was forgotten
        assert await take_in(path, store) == ImportReport(blocks=20, new=20 - held)
        assert await is_whole(store, chain)


async def read_here(function: Callable[..., T], *arguments: Any, **settings: Any) -> T:
    """Instead of in a thread, which a virtual clock does not wait for."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


def test_cancelled_at_any_step_the_store_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", read_here)
    chain = signed_chain(None, 12)
    path = file_of(tmp_path / "chain", chain)

    @asynccontextmanager
    async def around() -> AsyncIterator[ChainStore]:
        yield MemoryChainStore()

    async def scenario(store: ChainStore) -> None:
        await take_in(path, store)

    async def check(store: ChainStore) -> None:
        held = store.status.best_height
        # a block is stored first, and makes another one irreversible then
        assert held - store.status.lib_height <= 9
        assert await is_whole(store, chain)
        report = await take_in(path, store)
        assert report == ImportReport(blocks=12, new=12 - held)
        assert await is_whole(store, chain)

    report = cancel_at_every_step(scenario, around=around, check=check)
    assert report.steps > 12


async def test_cancelled_while_it_passes_over_what_was_pruned(tmp_path: Path) -> None:
    chain = signed_chain(None, 3)
    path = file_of(tmp_path / "chain", chain)
    store = MemoryChainStore(ChainRoot(chain[-1].hash, 3))
    with trio.CancelScope() as scope:
        scope.cancel()
        await take_in(path, store)
    assert scope.cancelled_caught


async def test_cancelled_while_a_pipe_gives_nothing(tmp_path: Path, small: bytes) -> None:
    os.mkfifo(tmp_path / "chain")
    store = MemoryChainStore()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_in, tmp_path / "chain", store)
        pipe = await trio.to_thread.run_sync((tmp_path / "chain").open, "wb", 0)
        with pipe, trio.fail_after(60):
            pipe.write(small)
            while store.status.best_height < 2:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert store.status.best_height == 2


async def test_progress_is_logged_every_five_seconds(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    mock_clock: trio.testing.MockClock,
) -> None:
    class SlowKernel(MinimalKernel):
        async def accept_block(self, block: Block) -> bool:
            mock_clock.jump(2)
            return await super().accept_block(block)

    path = file_of(tmp_path / "chain", signed_chain(None, 8))
    store = MemoryChainStore()
    caplog.set_level("INFO", chain_file.__name__)
    kernel = SlowKernel(store, chain_id=CHAIN_ID)
    await import_chain_file(path, kernel, store, chain_id=CHAIN_ID)
    assert caplog.messages == [
        f"{path}: imported 3 blocks, up to height 3",
        f"{path}: imported 5 blocks, up to height 5",
        f"{path}: imported 8 blocks, up to height 8",
    ]


# --- what is not taken in -------------------------------------------------------------------------


async def test_the_chain_id_of_another_chain(open_store: OpenStore, tmp_path: Path) -> None:
    path = file_of(tmp_path / "chain", [signed_block(None, chain_id=1931928)])
    async with open_store() as store:
        said = await import_refusal(path, store)
        assert said == "it holds the chain tDVW (1931928), not AELF (9992731)"
        assert store.status == ChainStatus.at_root(ChainRoot())


@pytest.mark.parametrize("length", [5, 12, 40])
async def test_another_chain_of_the_same_id(
    length: int, open_store: OpenStore, tmp_path: Path
) -> None:
    chain = signed_chain(None, 20)
    async with open_store() as store:
        await take_in(file_of(tmp_path / "chain", chain), store)
        said = await import_refusal(file_of(tmp_path / "other", signed_chain(None, length)), store)
        assert said == "its blocks are not of the chain that is there, up to height 20"
        assert await is_whole(store, chain)


async def test_while_nothing_is_irreversible_the_longer_chain_wins(
    open_store: OpenStore, tmp_path: Path
) -> None:
    async with open_store() as store:
        await take_in(file_of(tmp_path / "chain", signed_chain(None, 5)), store)
        said = await import_refusal(file_of(tmp_path / "short", signed_chain(None, 4)), store)
        assert said == "its blocks are not of the chain that is there, up to height 5"
        longer = signed_chain(None, 6)
        report = await take_in(file_of(tmp_path / "long", longer), store)
        assert report == ImportReport(blocks=6, new=6)
        assert store.status.best_hash == longer[-1].hash


async def test_a_wrong_signature(open_store: OpenStore, tmp_path: Path) -> None:
    chain = signed_chain(None, 3)
    wrong = Block(chain[1].header.with_signature(chain[0].header.signature), ())
    path = file_of(tmp_path / "chain", [chain[0], wrong, chain[2]])
    async with open_store() as store:
        said = await import_refusal(path, store)
        assert said == f"block 2 {wrong.hash.hex()}: its signature does not recover its signer"
        assert store.status.best_height == 1


async def test_a_gap(open_store: OpenStore, tmp_path: Path) -> None:
    chain = signed_chain(None, 4)
    async with open_store() as store:
        path = file_of(tmp_path / "no beginning", chain[1:])
        said = await import_refusal(path, store)
        assert said == f"block 2 {chain[1].hash.hex()}: its parent is not stored"
        path = file_of(tmp_path / "no middle", [*chain[:2], chain[3]])
        said = await import_refusal(path, store)
        assert said == f"block 4 {chain[3].hash.hex()}: its parent is not stored"
        assert store.status.best_height == 2


async def test_damage_is_told_when_it_comes_to_it(open_store: OpenStore, tmp_path: Path) -> None:
    chain = signed_chain(None, 3)
    path = file_of(tmp_path / "chain", chain)
    path.write_bytes(path.read_bytes()[:-1])
    async with open_store() as store:
        with pytest.raises(MalformedError, match="chain: block 3 of the file: it is cut short"):
            await take_in(path, store)
        assert store.status.best_height == 2


# --- a store that forgets -------------------------------------------------------------------------


async def test_a_pruned_store_takes_the_file_of_its_chain(tmp_path: Path) -> None:
    chain = signed_chain(None, 60)
    path = file_of(tmp_path / "chain", chain[:40])
    async with open_forgetful_store(tmp_path / "data", 5) as store:
        assert await take_in(path, store) == ImportReport(blocks=40, new=40)
        assert store.status.root == ChainRoot(chain[26].hash, 27)
        assert await take_in(path, store) == ImportReport(blocks=40, new=0)
        report = await take_in(file_of(tmp_path / "long", chain), store)
        assert report == ImportReport(blocks=60, new=20)
        assert store.status.best_hash == chain[-1].hash
        assert store.status.root.height == 47


@pytest.mark.parametrize("length", [27, 28, 40, 60])
async def test_a_pruned_store_refuses_the_file_of_another_chain(
    length: int, tmp_path: Path
) -> None:
    chain = signed_chain(None, 40)
    async with open_forgetful_store(tmp_path / "data", 5) as store:
        await take_in(file_of(tmp_path / "chain", chain), store)
        status = store.status
        assert status.root.height == 27
        said = await import_refusal(file_of(tmp_path / "other", signed_chain(None, length)), store)
        assert said == "its blocks are not of the chain that is there, up to height 40"
        assert store.status == status
