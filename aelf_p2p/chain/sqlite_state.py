"""What a node remembers of its network, in a file beside its chain.

It lives here, with the chain's store, for what the two share: the directory, its locks, and the way
in which a database of ours is opened, marked and brought to its last version. The file is another
one, so that a chain can be copied or given away without it.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Final

import trio

from aelf_p2p.chain.directory_lock import NETWORK_LOCK, lock_directory
from aelf_p2p.chain.sqlite_schema import open_database, transaction
from aelf_p2p.core.bans import Ban, BanReason
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import MalformedError, StoreError
from aelf_p2p.core.network_state import KnownNode, NetworkState, Reconnection

STATE_NAME = "network.sqlite3"
STATE_BUSY_TIMEOUT_S: Final = 1.0
"""So long may another program keep it from saving: the node's end waits for that."""

# Step n leads from version n to version n + 1; a step that was ever released stays as it is.
STATE_MIGRATIONS: Final[Sequence[Sequence[str]]] = (
    (
        """
        CREATE TABLE ban (
            subject TEXT PRIMARY KEY,       -- a host, or a public key in hex
            reason TEXT NOT NULL,           -- a name of BanReason
            until REAL NOT NULL             -- unix seconds, as all times here
        )
        """,
        """
        CREATE TABLE node (
            endpoint TEXT PRIMARY KEY,
            public_key BLOB,
            seen_at REAL NOT NULL,
            available INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE reconnection (
            endpoint TEXT PRIMARY KEY,
            public_key BLOB,
            lost_at REAL NOT NULL,
            retries INTEGER NOT NULL
        )
        """,
    ),
)


class SqliteStateStore:
    """A ``StateStore`` in SQLite, as ``open_sqlite_state`` gives it. All work is done in a thread.

    A save that is cancelled while its thread works ends when the work is done.
    """

    def __init__(self, tables: "_Tables", turns: trio.CapacityLimiter) -> None:
        """Internal: use ``open_sqlite_state``."""
        self._tables = tables
        self._turns = turns

    async def load(self) -> NetworkState:
        """What was saved last; an empty state when nothing was."""
        return await trio.to_thread.run_sync(self._tables.load, limiter=self._turns)

    async def save(self, state: NetworkState) -> None:
        """Keep a state in place of the one before, in one transaction."""
        await trio.to_thread.run_sync(self._tables.save, state, limiter=self._turns)


@asynccontextmanager
async def open_sqlite_state(directory: str | PathLike[str]) -> AsyncIterator[SqliteStateStore]:
    """The network state that a data directory holds, as long as the block runs.

    The directory may be that of a chain; no other process may hold its network state meanwhile.

    Raises StoreError when another one does, when the directory cannot be used, and when the file is
    damaged, another program's, or of a newer version of this one.
    """
    path = Path(directory) / STATE_NAME
    with lock_directory(path.parent, NETWORK_LOCK):
        turns = trio.CapacityLimiter(1)
        tables = await trio.to_thread.run_sync(_Tables, path, limiter=turns)
        try:
            yield SqliteStateStore(tables, turns)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(tables.close, limiter=turns)


class _Tables:
    """The connection, for one thread at a time. Whatever SQLite raises, and what is stored but
    damaged, become a StoreError that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._translated():
            self._database = open_database(
                path, STATE_MIGRATIONS, busy_timeout_s=STATE_BUSY_TIMEOUT_S
            )

    def close(self) -> None:
        with self._translated():
            self._database.close()

    def load(self) -> NetworkState:
        with self._translated():
            return NetworkState(
                bans=tuple(
                    Ban(subject, BanReason[reason], until)
                    for subject, reason, until in self._rows("ban", str, str, float)
                ),
                nodes=tuple(
                    KnownNode(
                        endpoint=Endpoint.parse_untrusted(endpoint),
                        public_key=key,
                        seen_at=seen_at,
                        available=bool(available),
                    )
                    for endpoint, key, seen_at, available in self._rows(
                        "node", str, bytes | None, float, int
                    )
                ),
                reconnections=tuple(
                    Reconnection(
                        endpoint=Endpoint.parse_untrusted(endpoint),
                        public_key=key,
                        lost_at=lost_at,
                        retries=retries,
                    )
                    for endpoint, key, lost_at, retries in self._rows(
                        "reconnection", str, bytes | None, float, int
                    )
                ),
            )

    def save(self, state: NetworkState) -> None:
        rows: dict[str, list[tuple[Any, ...]]] = {
            "ban": [(ban.subject, ban.reason.name, ban.until) for ban in state.bans],
            "node": [
                (str(node.endpoint), node.public_key, node.seen_at, node.available)
                for node in state.nodes
            ],
            "reconnection": [
                (str(entry.endpoint), entry.public_key, entry.lost_at, entry.retries)
                for entry in state.reconnections
            ],
        }
        with self._translated(), transaction(self._database):
            for table, values in rows.items():
                self._database.execute(f"DELETE FROM {table}")
                if values:
                    marks = ", ".join("?" * len(values[0]))
                    self._database.executemany(f"INSERT INTO {table} VALUES ({marks})", values)

    def _rows(self, table: str, *kinds: Any) -> Iterator[tuple[Any, ...]]:
        """Rows whose columns are of the kinds that were written: a damaged file may hold others."""
        for row in self._database.execute(f"SELECT * FROM {table} ORDER BY rowid"):
            if len(row) != len(kinds) or not all(map(isinstance, row, kinds)):
                raise StoreError(f"{self._path}: it is damaged: a value is not of its kind")
            yield row

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, MalformedError, UnicodeDecodeError) as error:
            raise StoreError(f"{self._path}: {error}") from error
        except KeyError as error:
            raise StoreError(f"{self._path}: {error} is no reason for a ban") from error
