"""The store in a directory: what it outlives, what it refuses, and what it says then."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
import trio

from aelf_p2p.chain import sqlite_chain
from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.chain.sqlite_schema import APPLICATION_ID, MIGRATIONS, migrate
from aelf_p2p.chain.sqlite_store import DATABASE_NAME, SqliteChainStore, open_sqlite_store
from aelf_p2p.core.block import Block
from aelf_p2p.core.chain_status import ChainRoot
from aelf_p2p.core.errors import AelfP2PError, MisuseError, StoreError
from aelf_p2p.testing.vectors import load_vectors
from tests.chain.made import CHAIN_ID, GENESIS, signed_chain, unsigned_chain

MUCH = 1 << 40


async def fill(directory: Path, *blocks: Block) -> None:
    async with open_sqlite_store(directory, chain_id=CHAIN_ID) as store:
        await put(store, *blocks)


async def put(store: SqliteChainStore, *blocks: Block) -> None:
    for block in blocks:
        await store.put_block(block)


async def refusal(directory: Path, chain_id: int | str = CHAIN_ID, **settings: object) -> str:
    """What a directory says that does not open."""
    with pytest.raises(StoreError) as caught:
        async with open_sqlite_store(directory, chain_id=chain_id, **settings):  # type: ignore[arg-type]
            raise AssertionError("it opens")
    return str(caught.value)


# --- what outlives the process --------------------------------------------------------------------


async def test_a_chain_is_there_again(tmp_path: Path) -> None:
    trunk = unsigned_chain(None, 4)
    fork = unsigned_chain(trunk[1], 1)
    async with open_sqlite_store(tmp_path / "new" / "place", chain_id="AELF") as store:
        await put(store, *trunk, *fork)
        await store.set_lib(trunk[1].hash)
        status = store.status
    async with open_sqlite_store(tmp_path / "new" / "place", chain_id="AELF") as store:
        assert store.status == status
        assert (status.best_height, status.lib_height) == (4, 2)
        assert await store.raw_blocks_after(GENESIS, 9, max_bytes=MUCH) == [
            block.encode() for block in trunk
        ]
        assert await store.get_block(fork[0].hash) == fork[0]


PUTS_UNTIL_KILLED = """
import sys, trio
sys.path[:0] = sys.argv[2:]
from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.chain.sqlite_store import open_sqlite_store
from tests.chain.made import MINER

async def main():
    async with open_sqlite_store(sys.argv[1], chain_id="AELF") as store:
        kernel = MinimalKernel(store, chain_id="AELF", confirmations=2)
        while True:
            block = await kernel.mine_block(MINER)
            print(block.height, block.hash.hex(), flush=True)

trio.run(main)
"""


def test_a_killed_process_loses_nothing_that_it_stored(tmp_path: Path) -> None:
    program = [sys.executable, "-c", PUTS_UNTIL_KILLED, str(tmp_path), os.getcwd()]
    rng = random.Random(9)
    last_height, last_hash = "0", GENESIS.hex()
    for _ in range(4):
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(rng.randrange(3, 40)):
                last_height, last_hash = process.stdout.readline().split()
            process.send_signal(signal.SIGKILL)
            for line in process.stdout.read().splitlines(keepends=True):
                if line.endswith("\n"):  # the last one may be cut
                    last_height, last_hash = line.split()
        trio.run(is_whole, tmp_path, int(last_height), bytes.fromhex(last_hash))


async def is_whole(directory: Path, height: int, block_hash: bytes) -> None:
    async with open_sqlite_store(directory, chain_id="AELF") as store:
        status = store.status
        assert await store.hash_at(height) == block_hash
        assert height <= status.best_height <= height + 1
        assert status.best_height - 3 <= status.lib_height
        raw_blocks = await store.raw_blocks_after(GENESIS, 10**6, max_bytes=MUCH)
        previous = GENESIS
        for raw_block in raw_blocks:
            block = Block.parse_untrusted(raw_block)
            assert block.previous_hash == previous
            previous = block.hash
        assert (len(raw_blocks), previous) == (status.best_height, status.best_hash)


# --- one process a directory ----------------------------------------------------------------------


async def test_a_directory_belongs_to_one_process(tmp_path: Path) -> None:
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
        assert await refusal(tmp_path) == (
            f"{tmp_path} is in use by process {os.getpid()}: "
            "each node needs a data directory of its own"
        )
        await store.put_block(unsigned_chain(None, 1)[0])  # the first one goes on
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
        assert store.status.best_height == 1


HOLDS_UNTIL_KILLED = """
import sys, trio
from aelf_p2p.chain.sqlite_store import open_sqlite_store

async def main():
    async with open_sqlite_store(sys.argv[1], chain_id="AELF"):
        print("open", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    program = [sys.executable, "-c", HOLDS_UNTIL_KILLED, str(tmp_path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        assert f"in use by process {process.pid}:" in trio.run(refusal, tmp_path)
        process.kill()
    trio.run(fill, tmp_path)


# --- what is refused ------------------------------------------------------------------------------


async def test_another_chain(tmp_path: Path) -> None:
    await fill(tmp_path)
    assert await refusal(tmp_path, "tDVW") == (
        f"{tmp_path / DATABASE_NAME}: it holds the chain AELF (9992731), not tDVW (1931928)"
    )


async def test_another_root(tmp_path: Path) -> None:
    root = ChainRoot(b"\x77" * 32, 96)
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID, root=root) as store:
        await store.put_block(unsigned_chain(root, 1)[0])
    for other in (ChainRoot(), ChainRoot(root.block_hash, 95), ChainRoot(bytes(32), 96)):
        message = await refusal(tmp_path, root=other)
        assert f"its chain begins behind block 96 {root.block_hash.hex()}, not behind" in message
    for same in (root, None):
        async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID, root=same) as store:
            assert (store.status.root, store.status.best_height) == (root, 97)


async def test_something_else_than_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert await refusal(tmp_path / "file") == f"{tmp_path / 'file'}: File exists"
    assert "Not a directory" in await refusal(tmp_path / "file" / "below")


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / DATABASE_NAME).write_text("a chain, of a kind\n" * 100)
    assert await refusal(tmp_path) == f"{tmp_path / DATABASE_NAME}: file is not a database"


@pytest.mark.parametrize(
    "made_by", ["PRAGMA application_id = 77", "PRAGMA user_version = 1", "CREATE TABLE other (a)"]
)
async def test_the_database_of_another_program(made_by: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as database:
        database.execute(made_by)
    assert "another program's" in await refusal(tmp_path)


async def test_the_database_of_a_newer_version(tmp_path: Path) -> None:
    await fill(tmp_path)
    newer = len(MIGRATIONS) + 1
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as database:
        database.execute(f"PRAGMA user_version = {newer}")
    assert f"the database has version {newer}" in await refusal(tmp_path)


@pytest.mark.parametrize("keep_blocks", [0, -1])
async def test_keeping_no_blocks_is_misuse(keep_blocks: int, tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="keep_blocks"):
        async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID, keep_blocks=keep_blocks):
            pass


# --- damage ---------------------------------------------------------------------------------------


async def read_everything(directory: Path, known: list[bytes]) -> None:
    async with open_sqlite_store(directory, chain_id=CHAIN_ID) as store:
        await store.raw_blocks_after(GENESIS, 50, max_bytes=MUCH)
        for block_hash in known:
            await store.get_block(block_hash)
            await store.get_header(block_hash)
        tip = await store.get_block(store.status.best_hash)
        for block in unsigned_chain(tip, 1):
            await store.put_block(block)
        for height in range(store.status.lib_height + 1, store.status.best_height + 1):
            block_hash_at = await store.hash_at(height)
            if block_hash_at is not None:
                await store.set_lib(block_hash_at)


def test_damage_is_told_as_such(tmp_path: Path) -> None:
    """Random bytes of the file are overwritten: whatever is noticed is a StoreError."""
    blocks = [*(trunk := unsigned_chain(None, 30)), *unsigned_chain(trunk[3], 3)]
    trio.run(fill, tmp_path, *blocks)
    path = tmp_path / DATABASE_NAME
    whole = path.read_bytes()
    told = 0
    for seed in range(60):
        rng = random.Random(seed)
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 5, 50])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        if rng.random() < 0.2:
            del damaged[rng.randrange(len(damaged)) :]
        for left in tmp_path.glob(f"{DATABASE_NAME}-*"):
            left.unlink()
        path.write_bytes(damaged)
        with suppress(AelfP2PError):  # what is stored no longer fits together
            try:
                trio.run(read_everything, tmp_path, [block.hash for block in blocks])
            except StoreError as error:
                told += str(path) in str(error)
    assert told > 20


# --- versions -------------------------------------------------------------------------------------

[RAW_97] = [
    vector.block_with_transactions
    for vector in load_vectors().blocks
    if vector.block_with_transactions
]
HEADER_97 = Block.parse_untrusted(RAW_97).header

# A database as version 1 wrote it, with the first block behind a trusted root.
VERSION_1 = f"""
PRAGMA application_id = 1095068774;
PRAGMA user_version = 1;
CREATE TABLE chain (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    chain_id INTEGER NOT NULL,
    origin_hash BLOB NOT NULL,
    origin_height INTEGER NOT NULL,
    root_hash BLOB NOT NULL,
    root_height INTEGER NOT NULL,
    lib_height INTEGER NOT NULL
);
CREATE TABLE block (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    height INTEGER NOT NULL,
    previous_hash BLOB NOT NULL,
    header BLOB NOT NULL,
    transactions BLOB NOT NULL
);
CREATE INDEX block_by_height ON block (height);
CREATE TABLE best_chain (height INTEGER PRIMARY KEY, block_id INTEGER NOT NULL);
INSERT INTO chain VALUES (
    1, 9992731, x'{HEADER_97.previous_hash.hex()}', 96, x'{HEADER_97.previous_hash.hex()}', 96, 96
);
INSERT INTO block VALUES (
    5, x'{HEADER_97.hash.hex()}', 97, x'{HEADER_97.previous_hash.hex()}',
    x'{HEADER_97.raw.hex()}', x'{RAW_97[3 + len(HEADER_97.raw) :].hex()}'
);
INSERT INTO best_chain VALUES (97, 5);
"""


async def test_a_database_of_version_1_opens(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as database:
        database.executescript(VERSION_1)
    async with open_sqlite_store(tmp_path, chain_id="AELF") as store:
        assert (store.status.best_height, store.status.lib_height) == (97, 96)
        assert await store.get_raw_block(HEADER_97.hash) == RAW_97
        [following] = unsigned_chain(Block.parse_untrusted(RAW_97), 1)
        assert (await store.put_block(following)).best_height == 98
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


STEPS = (
    ("CREATE TABLE a (x)", "INSERT INTO a VALUES (1)"),
    ("ALTER TABLE a ADD COLUMN y DEFAULT 2", "UPDATE a SET x = 10"),
    ("INSERT INTO a VALUES (11, 3)",),
)


@pytest.mark.parametrize("begun", range(len(STEPS) + 1))
def test_a_database_of_any_age_is_brought_to_the_last_version(begun: int) -> None:
    path = Path("somewhere")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        migrate(database, path, STEPS[:begun])
        for _ in range(2):
            migrate(database, path, STEPS)
            assert database.execute("SELECT x, y FROM a ORDER BY x").fetchall() == [
                (10, 2),
                (11, 3),
            ]
            assert database.execute("PRAGMA user_version").fetchone() == (3,)
            assert database.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_a_step_that_fails_leaves_the_version_before_it() -> None:
    path = Path("somewhere")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        with pytest.raises(sqlite3.OperationalError):
            migrate(database, path, (*STEPS[:1], ("DELETE FROM a", "DELETE FROM nothing")))
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        assert database.execute("SELECT x FROM a").fetchall() == [(1,)]
        migrate(database, path, STEPS)
        assert database.execute("PRAGMA user_version").fetchone() == (3,)


# --- a disk that is full, a database that is busy -------------------------------------------------


async def test_a_full_disk_is_told_and_leaves_the_chain_whole(tmp_path: Path) -> None:
    blocks = unsigned_chain(None, 200)
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
        database = store._chain._database
        await store.put_block(blocks[0])
        [pages] = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StoreError, match="full"):
            await put(store, *blocks[1:])
        before = store.status
        assert 1 <= before.best_height < 200
        assert await store.hash_at(before.best_height) == before.best_hash
        assert not await store.has_block(blocks[before.best_height].hash)
        database.execute("PRAGMA max_page_count = 100000")
        await put(store, *blocks[before.best_height :])
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
        assert store.status.best_hash == blocks[-1].hash


async def test_cancelled_while_a_thread_writes_the_status_is_what_is_stored(tmp_path: Path) -> None:
    [block] = unsigned_chain(None, 1)
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
        with closing(sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # the thread has to wait for it
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.put_block, block)
                while not store._chain_limiter.borrowed_tokens:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
                other.execute("ROLLBACK")
        assert store.status.best_hash == block.hash
        assert await store.hash_at(1) == block.hash


async def test_cancelled_before_its_turn_nothing_is_stored(tmp_path: Path) -> None:
    [block] = unsigned_chain(None, 1)
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
        await store._chain_limiter.acquire_on_behalf_of("another call")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.put_block, block)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        store._chain_limiter.release_on_behalf_of("another call")
        assert not await store.has_block(block.hash)
        assert store.status.best_height == 0


async def test_a_reply_is_of_one_chain_while_the_chain_reorganises(tmp_path: Path) -> None:
    one, other = unsigned_chain(None, 1), unsigned_chain(None, 1)
    replies: list[list[bytes]] = []

    async def read(store: SqliteChainStore, scope: trio.CancelScope) -> None:
        while not scope.cancel_called:
            replies.append(await store.raw_blocks_after(GENESIS, 50, max_bytes=MUCH))

    async with (
        open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(read, store, nursery.cancel_scope)
        for turn in range(60):  # each turn the other fork overtakes
            growing = (one, other)[turn % 2]
            growing += unsigned_chain(growing[-1], 2)
            await put(store, *growing)
        nursery.cancel_scope.cancel()
    assert len(replies) > 10
    for reply in replies:
        hashes = [block.hash for block in map(Block.parse_untrusted, reply)]
        assert any(
            hashes == [block.hash for block in chain[: len(hashes)]] for chain in (one, other)
        )


# --- pruning --------------------------------------------------------------------------------------


async def test_only_so_many_irreversible_blocks_are_kept(tmp_path: Path) -> None:
    chain = signed_chain(None, 40)
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID, keep_blocks=5) as store:
        kernel = MinimalKernel(store, chain_id=CHAIN_ID, confirmations=8)
        for block in chain:
            assert await kernel.accept_block(block)
        assert store.status.lib_height == 32
        assert store.status.root == ChainRoot(chain[26].hash, 27)
        assert not await store.has_block(chain[25].hash)
        assert await store.raw_blocks_after(GENESIS, 50, max_bytes=MUCH) == []
        assert await store.raw_blocks_after(chain[26].hash, 50, max_bytes=MUCH) == [
            block.encode() for block in chain[27:]
        ]
        assert await kernel.accept_block(chain[39]) is False
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as database:
        assert database.execute("SELECT count(*) FROM block").fetchone() == (13,)
        assert database.execute("SELECT count(*) FROM best_chain").fetchone() == (13,)
    # with the root that it began with, or none, it opens again
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID, root=ChainRoot()) as store:
        assert store.status.root.height == 27


async def test_keeping_fewer_blocks_than_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_chain, "FORGOTTEN_AT_ONCE", 7)
    chain = unsigned_chain(None, 40)
    await fill(tmp_path, *chain)
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
        await store.set_lib(chain[35].hash)
    for keep_blocks, root_height in ((100, 0), (36, 0), (35, 1), (3, 33), (30, 33), (1, 35)):
        async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID, keep_blocks=keep_blocks) as store:
            assert store.status.root.height == root_height
            assert store.status.best_hash == chain[-1].hash
            assert (
                len(await store.raw_blocks_after(store.status.root.block_hash, 50, max_bytes=MUCH))
                == 40 - root_height
            )
