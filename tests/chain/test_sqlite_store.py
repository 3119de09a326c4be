"""The store in a directory: what it outlives, what it refuses, and what it says then."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest
import trio

from aelf_p2p.chain import sqlite_chain
from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.chain.sqlite_chain import SqliteChain
from aelf_p2p.chain.sqlite_schema import APPLICATION_ID, MIGRATIONS, migrate
from aelf_p2p.chain.sqlite_store import DATABASE_NAME, SqliteChainStore, open_sqlite_store
from aelf_p2p.core.block import Block
from aelf_p2p.core.chain_status import ChainRoot, ChainStatus
from aelf_p2p.core.errors import AelfP2PError, MisuseError, StoreError
from aelf_p2p.testing.vectors import load_vectors
from tests.chain.made import (
    CHAIN_ID,
    GENESIS,
    open_forgetful_store,
    signed_chain,
    unsigned_chain,
)

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


WORKS_UNTIL_KILLED = """
import random, sys, trio
sys.path[:0] = sys.argv[3:]
from tests.chain.made import open_forgetful_store, unsigned_block

async def main():
    rng = random.Random(int(sys.argv[2]))
    async with open_forgetful_store(sys.argv[1], 20) as store:
        tips = [await store.get_block(store.status.best_hash)]
        while True:
            parent = rng.choice(tips[-6:])
            block = unsigned_block(parent)
            block = type(block)(block.header.with_signature(rng.randbytes(3000)), ())
            if block.height > store.status.lib_height:
                try:
                    status = await store.put_block(block)
                except Exception as error:
                    if "not stored" not in str(error):  # its fork was forgotten
                        raise
                else:
                    tips.append(block)
            if status.best_height - status.lib_height > 8:
                status = await store.set_lib(await store.hash_at(status.best_height - 3))
            print(status.best_height, status.lib_height, flush=True)

trio.run(main)
"""


def test_a_killed_process_loses_nothing_that_it_stored(tmp_path: Path) -> None:
    """Forks, reorganisations, the last irreversible block and pruning are under way meanwhile."""
    rng = random.Random(9)
    best_height = lib_height = 0
    for turn in range(5):
        program = [sys.executable, "-c", WORKS_UNTIL_KILLED, str(tmp_path), str(turn), os.getcwd()]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(rng.randrange(30, 300))]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.read().splitlines(keepends=True)
            # the last one may be cut
            told = [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]
        before = best_height, lib_height
        best_height, lib_height = told[-1]
        assert (best_height, lib_height) > before
        trio.run(is_whole, tmp_path, best_height, lib_height)
    assert lib_height > 60  # so much was pruned


async def is_whole(directory: Path, best_height: int, lib_height: int) -> None:
    """What was told last is there, and perhaps what was under way; all that is stored fits."""
    async with open_sqlite_store(directory, chain_id="AELF") as store:
        status = store.status
        assert best_height <= status.best_height <= best_height + 1
        assert status.lib_height in (lib_height, status.best_height - 3)
        assert status.root.height == max(status.lib_height - 20, 0)
        raw_blocks = await store.raw_blocks_after(status.root.block_hash, 10**6, max_bytes=MUCH)
        best = [status.root.block_hash, *(Block.parse_untrusted(raw).hash for raw in raw_blocks)]
        assert len(best) == 1 + status.best_height - status.root.height
        assert (best[-1], best[status.lib_height - status.root.height]) == (
            status.best_hash,
            status.lib_hash,
        )
    with closing(sqlite3.connect(directory / DATABASE_NAME)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        stored = dict(database.execute("SELECT hash, height FROM block").fetchall())
        parents = dict(database.execute("SELECT hash, previous_hash FROM block").fetchall())
    irreversible = [block for block, height in stored.items() if height <= status.lib_height]
    assert set(irreversible) == set(best[1 : len(irreversible) + 1])
    for block, height in stored.items():
        parent = parents[block]
        assert height == (status.root.height if parent == best[0] else stored[parent]) + 1


class FailingDatabase:
    """A connection on which the n-th statement fails; it counts them."""

    def __init__(self, database: sqlite3.Connection, failing: int) -> None:
        self._database = database
        self._failing = failing
        self.count = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)

    def execute(self, sql: str, values: tuple[bytes | int, ...] = ()) -> sqlite3.Cursor:
        if sql != "ROLLBACK":
            self.count += 1
            if self.count == self._failing:
                raise sqlite3.OperationalError("disk I/O error")
        return self._database.execute(sql, values)

    def executemany(self, sql: str, rows: Iterable[tuple[int, int]]) -> None:
        for row in rows:
            self.execute(sql, row)


async def test_an_error_at_any_statement_leaves_the_chain_as_it_was(tmp_path: Path) -> None:
    trunk = unsigned_chain(None, 12)
    fork = unsigned_chain(trunk[9], 3)
    async with open_forgetful_store(tmp_path, 2) as store:
        await put(store, *trunk, *fork[:2])
        chain = store._following.chain
        database = chain._database
        works: list[Callable[[], Awaitable[ChainStatus]]] = [
            lambda: store.put_block(fork[2]),  # a reorganisation
            lambda: store.set_lib(fork[0].hash),  # with a fork to forget, and blocks to prune
        ]
        for work in works:
            before = store.status, list(database.iterdump())
            for failing in count(1):
                failing_database = FailingDatabase(database, failing)
                chain._database = failing_database  # type: ignore[assignment]
                try:
                    status = await work()
                except StoreError as error:
                    assert "disk I/O error" in str(error)  # noqa: PT017 - until none fails
                else:
                    break
                assert (store.status, list(database.iterdump())) == before
            assert failing > 8
            assert status == store.status
            assert list(database.iterdump()) != before[1]
        assert (store.status.best_hash, store.status.lib_height) == (fork[2].hash, 11)
        assert store.status.root.height == 9


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


LOCKS_AND_FORKS = """
import os, sys
from pathlib import Path
from aelf_p2p.chain.directory_lock import lock_directory

reading, writing = os.pipe()
with lock_directory(Path(sys.argv[1])):
    if os.fork() == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent has ended
        os._exit(0)
with lock_directory(Path(sys.argv[1])):
    print("locked again")
"""


def test_a_forked_child_does_not_hold_the_lock(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LOCKS_AND_FORKS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout == "locked again\n"


def test_a_lock_file_of_another_kind(tmp_path: Path) -> None:
    """The process's number in it is for people: without room for it the lock holds as well."""
    (tmp_path / "null").mkdir()
    (tmp_path / "null" / "lock").symlink_to("/dev/null")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "lock")
    (tmp_path / "directory" / "lock").mkdir(parents=True)
    for kind in "null", "pipe":
        trio.run(fill, tmp_path / kind)
    assert trio.run(refusal, tmp_path / "directory").endswith("lock: Is a directory")
    assert "null byte" in trio.run(refusal, tmp_path / "a\0b")


# --- the end --------------------------------------------------------------------------------------


async def test_whoever_still_uses_a_store_that_closes_gets_an_error(tmp_path: Path) -> None:
    """And nobody pulls the connection from under a thread that works on it."""
    ended: list[str] = []

    async def use(store: SqliteChainStore) -> None:
        with pytest.raises(StoreError) as caught:
            await use_for_ever(store)
        ended.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        for _ in range(40):
            async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
                nursery.start_soon(use, store)
                while not store._serving._turns.borrowed_tokens:
                    await trio.lowlevel.checkpoint()
    assert ended == [f"{tmp_path / DATABASE_NAME}: Cannot operate on a closed database."] * 40


async def use_for_ever(store: SqliteChainStore) -> None:
    while True:
        await store.has_block(GENESIS)
        await store.raw_blocks_after(GENESIS, 9, max_bytes=MUCH)


async def test_a_cancelled_opening_or_closing_leaves_no_descriptor(tmp_path: Path) -> None:
    await fill(tmp_path)
    before = os.listdir("/proc/self/fd")
    for steps in range(12):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_after, steps, scope)
                async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID):
                    await trio.sleep_forever()
    assert os.listdir("/proc/self/fd") == before
    await fill(tmp_path)  # the lock is free


async def cancel_after(steps: int, scope: trio.CancelScope) -> None:
    for _ in range(steps):
        await trio.to_thread.run_sync(lambda: None)  # as long as a step of opening takes
    scope.cancel()


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
    assert await refusal(tmp_path / "file") == f"{tmp_path / 'file'}: it is not a directory"
    assert "Not a directory" in await refusal(tmp_path / "file" / "below")


def test_where_no_log_can_be_kept() -> None:
    with pytest.raises(StoreError, match="no write-ahead log"):
        SqliteChain(Path(":memory:"))


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


@pytest.mark.parametrize("keep_blocks", [511, 0, -1])
async def test_keeping_too_few_blocks_is_misuse(keep_blocks: int, tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="keep_blocks must be 512 or more"):
        async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID, keep_blocks=keep_blocks):
            pass


# --- damage ---------------------------------------------------------------------------------------


async def read_everything(directory: Path, known: list[bytes]) -> None:
    async with open_sqlite_store(directory, chain_id=CHAIN_ID) as store:
        previous = GENESIS
        for raw_block in await store.raw_blocks_after(GENESIS, 50, max_bytes=MUCH):
            header = Block.parse_untrusted(raw_block).header
            assert header.previous_hash == previous
            previous = header.hash
        for block_hash in known:
            block = await store.get_block(block_hash)
            assert block is None or block.hash == block_hash
            header_alone = await store.get_header(block_hash)
            assert header_alone is None or header_alone.hash == block_hash
        tip = await store.get_block(store.status.best_hash)
        await put(store, *unsigned_chain(tip, 1))
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


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("DELETE FROM chain", "what it begins with is missing"),
        ("DELETE FROM best_chain WHERE height = 5", "the last irreversible block is missing"),
        ("UPDATE chain SET lib_height = 99", "the last irreversible block is missing"),
        ("UPDATE chain SET root_hash = 'text'", "a value is not of its kind"),
        ("DELETE FROM best_chain WHERE height = 7", "does not follow the one before"),
        ("DELETE FROM block WHERE height = 7", "does not follow the one before"),
        ("UPDATE block SET header = x'08' WHERE height = 7", "BlockHeader is cut short"),
        (
            "UPDATE block SET header = (SELECT header FROM block WHERE height = 8) "
            "WHERE height = 7",
            "has another hash",
        ),
    ],
)
async def test_what_is_missing_or_wrong_is_noticed(
    statement: str, why: str, tmp_path: Path
) -> None:
    chain = unsigned_chain(None, 9)
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
        await put(store, *chain)
        await store.set_lib(chain[4].hash)
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as database:
        database.execute(statement)
        database.commit()
    with pytest.raises(StoreError) as caught:
        async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
            await store.raw_blocks_after(GENESIS, 50, max_bytes=MUCH)
    assert why in str(caught.value)
    assert str(tmp_path / DATABASE_NAME) in str(caught.value)


async def test_a_single_block_that_is_another_is_noticed(tmp_path: Path) -> None:
    chain = unsigned_chain(None, 3)
    await fill(tmp_path, *chain)
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as database:
        database.execute(
            "UPDATE block SET header = (SELECT header FROM block WHERE height = 2) WHERE height = 3"
        )
        database.commit()
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
        for get in store.get_block, store.get_header, store.get_raw_block:
            with pytest.raises(StoreError, match="has another hash"):
                await get(chain[2].hash)
            assert await get(chain[1].hash) is not None


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
        database = store._following.chain._database
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
                while not store._following._turns.borrowed_tokens:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
                other.execute("ROLLBACK")
        assert store.status.best_hash == block.hash
        assert await store.hash_at(1) == block.hash


async def test_cancelled_before_its_turn_nothing_is_stored(tmp_path: Path) -> None:
    [block] = unsigned_chain(None, 1)
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
        await store._following._turns.acquire_on_behalf_of("another call")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.put_block, block)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        store._following._turns.release_on_behalf_of("another call")
        assert not await store.has_block(block.hash)
        assert store.status.best_height == 0


async def test_serving_peers_does_not_keep_the_node_from_following(tmp_path: Path) -> None:
    trunk = unsigned_chain(None, 3)
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
        await put(store, *trunk[:2])
        async with trio.open_nursery() as nursery:
            await store._serving._turns.acquire_on_behalf_of("a long reply")
            nursery.start_soon(store.get_raw_block, trunk[0].hash)
            await store.put_block(trunk[2])
            await store.set_lib(trunk[0].hash)
            assert await store.get_block(trunk[2].hash) == trunk[2]
            assert await store.hash_at(3) == trunk[2].hash
            store._serving._turns.release_on_behalf_of("a long reply")


async def test_a_reply_is_of_one_chain_while_the_chain_reorganises(tmp_path: Path) -> None:
    one, other = unsigned_chain(None, 1), unsigned_chain(None, 1)
    rng = random.Random(3)
    replies: list[tuple[bytes, list[bytes]]] = []

    async def read(store: SqliteChainStore, scope: trio.CancelScope) -> None:
        while not scope.cancel_called:
            previous = rng.choice([*one[-6:], *other[-6:]]).hash
            replies.append((previous, await store.raw_blocks_after(previous, 50, max_bytes=MUCH)))

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
    answered = [(previous, reply) for previous, reply in replies if reply]
    assert len(answered) > 10
    for previous, reply in answered:
        blocks = [Block.parse_untrusted(raw_block) for raw_block in reply]
        assert [block.previous_hash for block in blocks] == [
            previous,
            *(block.hash for block in blocks[:-1]),
        ]


# --- pruning --------------------------------------------------------------------------------------


async def test_only_so_many_irreversible_blocks_are_kept(tmp_path: Path) -> None:
    chain = signed_chain(None, 40)
    async with open_forgetful_store(tmp_path, 5) as store:
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
        async with open_forgetful_store(tmp_path, keep_blocks) as store:
            assert store.status.root.height == root_height
            assert store.status.best_hash == chain[-1].hash
            assert (
                len(await store.raw_blocks_after(store.status.root.block_hash, 50, max_bytes=MUCH))
                == 40 - root_height
            )
