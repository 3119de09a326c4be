"""The tables of the chain's SQLite store, and how a database of ours is opened and brought to its
last version."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aelf_p2p.core.errors import StoreError
from aelf_p2p.core.options import MIB

APPLICATION_ID: Final = 0x41456C66
"""Marks our files for everyone who looks: "AElf" in ASCII."""

BUSY_TIMEOUT_S: Final = 5.0
"""So long may another program, such as an operator's sqlite3, keep the store from writing."""

# Step n leads from version n to version n + 1; a step that was ever released stays as it is.
MIGRATIONS: Final[Sequence[Sequence[str]]] = (
    (
        """
        CREATE TABLE chain (                -- one row
            only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
            chain_id INTEGER NOT NULL,
            origin_hash BLOB NOT NULL,      -- the root that the chain began with
            origin_height INTEGER NOT NULL,
            root_hash BLOB NOT NULL,        -- the root now; pruning moves it up
            root_height INTEGER NOT NULL,
            lib_height INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE block (
            id INTEGER PRIMARY KEY,
            hash BLOB NOT NULL UNIQUE,
            height INTEGER NOT NULL,
            previous_hash BLOB NOT NULL,
            header BLOB NOT NULL,           -- as received
            transactions BLOB NOT NULL      -- as received, laid out as in BlockWithTransactions
        )
        """,
        "CREATE INDEX block_by_height ON block (height)",
        """
        CREATE TABLE best_chain (           -- from above the root to the tip
            height INTEGER PRIMARY KEY,
            block_id INTEGER NOT NULL
        )
        """,
    ),
)


def open_database(
    path: Path,
    steps: Sequence[Sequence[str]] = MIGRATIONS,
    *,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
) -> sqlite3.Connection:
    """Open a database, brought to the last version, for use in one thread at a time.

    Raises StoreError for one of another program, or of a newer version of this one, and
    sqlite3.Error.
    """
    database = sqlite3.connect(
        path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
    )
    try:
        migrate(database, path, steps)
        [mode] = database.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(f"{path}: no write-ahead log can be kept there, as on a network disk")
        # A commit survives the end of the process at once, and that of the machine with the next
        # checkpoint; what was committed before is whole either way.
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(f"PRAGMA journal_size_limit = {64 * MIB}")
        database.execute("PRAGMA secure_delete = OFF")  # else pruning writes as much as it frees
    except BaseException:
        database.close()
        raise
    return database


def migrate(
    database: sqlite3.Connection, path: Path, steps: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Bring a new or older database to the last version, each step in a transaction of its own.

    Raises as ``open_database``.
    """
    [application] = database.execute("PRAGMA application_id").fetchone()
    [version] = database.execute("PRAGMA user_version").fetchone()
    [tables] = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise StoreError(f"{path}: the database is another program's")
    if version > len(steps):
        raise StoreError(
            f"{path}: the database has version {version}, and this program knows none above "
            f"{len(steps)}: use a newer one"
        )
    for number in range(version, len(steps)):
        with transaction(database):
            for statement in steps[number]:
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {number + 1}")


@contextmanager
def transaction(database: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """What the block writes is written whole or, when it raises, not at all.

    A ``DEFERRED`` one that only reads sees one state of the database.
    """
    database.execute(f"BEGIN {kind}")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # a full disk may have ended it already
            database.execute("ROLLBACK")
        raise
