"""What a node remembers of its network, in memory and in a directory."""

import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from aelf_p2p.chain.memory_state import MemoryStateStore
from aelf_p2p.chain.sqlite_state import STATE_MIGRATIONS, STATE_NAME, open_sqlite_state
from aelf_p2p.chain.sqlite_store import open_sqlite_store
from aelf_p2p.contracts import StateStore
from aelf_p2p.core.bans import Ban, BanReason
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import StoreError
from aelf_p2p.core.network_state import KnownNode, NetworkState, Reconnection

KEY = bytes(range(65))
FULL = NetworkState(
    bans=(
        Ban("192.0.2.1", BanReason.ABNORMAL_PEER, 1_700_000_000.25),
        Ban(KEY.hex(), BanReason.OPERATOR, 2.0**31 - 1),
    ),
    nodes=(
        KnownNode(endpoint=Endpoint("b.example", 1), public_key=None, seen_at=3.5, available=True),
        KnownNode(endpoint=Endpoint("::1", 6800), public_key=KEY, seen_at=1.0, available=False),
        KnownNode(endpoint=Endpoint("a", 65535), public_key=KEY[:32], seen_at=2.0, available=True),
    ),
    reconnections=(
        Reconnection(endpoint=Endpoint("10.0.0.1", 6800), public_key=KEY, lost_at=7.5, retries=9),
        Reconnection(endpoint=Endpoint("boot", 6800), public_key=None, lost_at=8.0, retries=0),
    ),
)


@asynccontextmanager
async def open_memory(directory: Path) -> AsyncIterator[MemoryStateStore]:
    yield STORES.setdefault(directory, MemoryStateStore())


STORES: dict[Path, MemoryStateStore] = {}
OPENERS: list[Callable[[Path], AbstractAsyncContextManager[StateStore]]] = [
    open_memory,
    open_sqlite_state,
]


@pytest.mark.parametrize("open_state", OPENERS, ids=["memory", "sqlite"])
async def test_what_was_saved_last_is_loaded(
    open_state: Callable[[Path], AbstractAsyncContextManager[StateStore]], tmp_path: Path
) -> None:
    async with open_state(tmp_path) as state:
        assert await state.load() == NetworkState()
        await state.save(FULL)
        assert await state.load() == FULL
    async with open_state(tmp_path) as state:
        assert await state.load() == FULL
        fewer = NetworkState(bans=FULL.bans[:1], nodes=FULL.nodes[2:])
        await state.save(fewer)
    async with open_state(tmp_path) as state:
        assert await state.load() == fewer
        await state.save(NetworkState())
    async with open_state(tmp_path) as state:
        assert await state.load() == NetworkState()


hosts = st.ip_addresses().map(str).filter(lambda host: "%" not in host)
endpoints = st.builds(Endpoint, hosts, st.integers(1, 65535))
keys = st.none() | st.binary(max_size=65)
times = st.floats(allow_nan=False)


@settings(max_examples=25, deadline=None)
@given(
    bans=st.lists(
        st.builds(Ban, st.text("abc.:0", min_size=1), st.sampled_from(BanReason), times),
        unique_by=lambda ban: ban.subject,
    ),
    nodes=st.lists(
        st.builds(
            KnownNode, endpoint=endpoints, public_key=keys, seen_at=times, available=st.booleans()
        ),
        unique_by=lambda node: node.endpoint,
    ),
    reconnections=st.lists(
        st.builds(
            Reconnection,
            endpoint=endpoints,
            public_key=keys,
            lost_at=times,
            retries=st.integers(0, 2**31),
        ),
        unique_by=lambda entry: entry.endpoint,
    ),
)
def test_any_state_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    bans: list[Ban],
    nodes: list[KnownNode],
    reconnections: list[Reconnection],
) -> None:
    directory = tmp_path_factory.mktemp("state")
    state = NetworkState(tuple(bans), tuple(nodes), tuple(reconnections))

    async def there_and_back() -> NetworkState:
        async with open_sqlite_state(directory) as store:
            await store.save(state)
        async with open_sqlite_state(directory) as store:
            return await store.load()

    assert trio.run(there_and_back) == state


async def test_it_lives_beside_a_chain(tmp_path: Path) -> None:
    async with (
        open_sqlite_state(tmp_path) as state,
        open_sqlite_store(tmp_path, chain_id="AELF") as store,
    ):
        await state.save(FULL)
        assert store.status.best_height == 0
    async with open_sqlite_store(tmp_path, chain_id="AELF"), open_sqlite_state(tmp_path) as state:
        assert await state.load() == FULL


async def refusal(directory: Path) -> str:
    """What a directory says whose state does not open, or cannot be loaded."""
    with pytest.raises(StoreError) as caught:
        async with open_sqlite_state(directory) as store:
            await store.load()
    return str(caught.value)


async def test_a_directory_belongs_to_one_process(tmp_path: Path) -> None:
    async with open_sqlite_state(tmp_path):
        assert f"{tmp_path} is in use by process" in await refusal(tmp_path)
    async with open_sqlite_state(tmp_path):
        pass


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / STATE_NAME).write_text("bans, of a kind\n" * 100)
    assert await refusal(tmp_path) == f"{tmp_path / STATE_NAME}: file is not a database"


async def test_the_database_of_another_program(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / STATE_NAME)) as database:
        database.execute("CREATE TABLE other (a)")
    assert "another program's" in await refusal(tmp_path)


async def test_the_database_of_a_newer_version(tmp_path: Path) -> None:
    async with open_sqlite_state(tmp_path):
        pass
    newer = len(STATE_MIGRATIONS) + 1
    with closing(sqlite3.connect(tmp_path / STATE_NAME)) as database:
        database.execute(f"PRAGMA user_version = {newer}")
    assert f"the database has version {newer}" in await refusal(tmp_path)


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE ban SET reason = 'WHIM'", "'WHIM' is no reason for a ban"),
        ("UPDATE ban SET until = 'later'", "a value is not of its kind"),
        ("UPDATE node SET endpoint = 'a:b:c'", "is not a host"),
        ("UPDATE node SET public_key = 'text'", "a value is not of its kind"),
        ("UPDATE reconnection SET endpoint = x'00'", "a value is not of its kind"),
        ("UPDATE reconnection SET retries = 'many'", "a value is not of its kind"),
        ("DROP TABLE node", "no such table"),
        ("ALTER TABLE ban ADD COLUMN more", "a value is not of its kind"),
    ],
)
async def test_damage_is_told_as_such(statement: str, why: str, tmp_path: Path) -> None:
    async with open_sqlite_state(tmp_path) as store:
        await store.save(
            NetworkState(FULL.bans[:1], nodes=FULL.nodes[:1], reconnections=FULL.reconnections[:1])
        )
    with closing(sqlite3.connect(tmp_path / STATE_NAME)) as database:
        database.execute(statement)
        database.commit()
    told = await refusal(tmp_path)
    assert why in told
    assert str(tmp_path / STATE_NAME) in told


def test_random_damage_is_noticed_or_harmless(tmp_path: Path) -> None:
    async def fill() -> None:
        async with open_sqlite_state(tmp_path) as store:
            await store.save(FULL)

    async def read() -> None:
        async with open_sqlite_state(tmp_path) as store:
            await store.load()

    trio.run(fill)
    path = tmp_path / STATE_NAME
    whole = path.read_bytes()
    told = 0
    for seed in range(60):
        rng = random.Random(seed)
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 5, 50])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        for left in tmp_path.glob(f"{STATE_NAME}-*"):
            left.unlink()
        path.write_bytes(damaged)
        try:
            trio.run(read)
        except StoreError as error:
            told += str(path) in str(error)
    assert told > 5


async def test_a_save_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    twice = Ban("192.0.2.1", BanReason.OPERATOR, 1.0)
    async with open_sqlite_state(tmp_path) as store:
        await store.save(FULL)
        with pytest.raises(StoreError):
            await store.save(NetworkState(bans=(twice, twice)))
        assert await store.load() == FULL


async def test_a_save_does_not_wait_long_for_another_program(tmp_path: Path) -> None:
    async with open_sqlite_state(tmp_path) as store:
        await store.save(FULL)
        with closing(sqlite3.connect(tmp_path / STATE_NAME, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with trio.fail_after(20), pytest.raises(StoreError, match="locked"):
                await store.save(NetworkState())
        assert await store.load() == FULL


async def test_a_cancelled_save_is_whole(tmp_path: Path) -> None:
    async with open_sqlite_state(tmp_path) as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.save(FULL)
        assert scope.cancelled_caught
        assert await store.load() == NetworkState()  # it had not begun
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.save, FULL)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert await store.load() in (FULL, NetworkState())
