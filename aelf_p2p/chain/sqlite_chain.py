"""A chain in SQLite's tables, synchronous: what :class:`SqliteChainStore` does in its threads."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from aelf_p2p.chain.placing import check_lib, check_place
from aelf_p2p.chain.sqlite_schema import open_database, transaction
from aelf_p2p.core.block import Block, BlockHeader, encode_block, encoded_block_size
from aelf_p2p.core.chain_id import describe_chain_id
from aelf_p2p.core.chain_status import ChainRoot, ChainStatus
from aelf_p2p.core.errors import MalformedError, StoreError

V = TypeVar("V", bytes, int)

_BEST_HEIGHT_OF = (
    "SELECT block.height FROM block JOIN best_chain "
    "ON best_chain.height = block.height AND block_id = id WHERE hash = ?1 "
    "UNION ALL SELECT root_height FROM chain WHERE root_hash = ?1"
)
FORGOTTEN_AT_ONCE = 1000
"""Blocks that pruning takes out in one transaction."""


class SqliteChain:
    """One connection to a chain's database, for one thread at a time.

    Every method is one transaction. Whatever SQLite raises, and what is stored but damaged, become
    a StoreError that names the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._translated():
            self._database = open_database(path)

    def close(self) -> None:
        """Close the connection; the last one folds SQLite's log into the file."""
        with self._translated():
            self._database.close()

    def open_chain(self, chain_id: int, root: ChainRoot | None) -> ChainStatus:
        """Begin the chain if the database is new, else see that it is the one that is meant.

        Raises StoreError for another chain, or one that began with another root than ``root``.
        """
        origin = root or ChainRoot()
        with self._translated(), transaction(self._database):
            self._database.execute(
                "INSERT INTO chain SELECT 1, ?, ?, ?, ?, ?, ? "
                "WHERE NOT EXISTS (SELECT * FROM chain) AND NOT EXISTS (SELECT * FROM block)",
                (chain_id, *2 * (origin.block_hash, origin.height), origin.height),
            )
            held_id, held_hash, held_height = self._begun(
                "SELECT chain_id, origin_hash, origin_height FROM chain", (int, bytes, int)
            )
            if held_id != chain_id:
                held, meant = describe_chain_id(held_id), describe_chain_id(chain_id)
                raise self._error(f"it holds the chain {held}, not {meant}")
            if root is not None and root != ChainRoot(held_hash, held_height):
                raise self._error(
                    f"its chain begins behind block {held_height} {held_hash.hex()}, "
                    f"not behind block {root.height} {root.block_hash.hex()}"
                )
            return self.status()

    # --- reading ---

    def status(self) -> ChainStatus:
        """The tips. Raises StoreError when they point nowhere."""
        with self._translated():
            root_hash, root_height, lib_height = self._begun(
                "SELECT root_hash, root_height, lib_height FROM chain", (bytes, int, int)
            )
            status = ChainStatus.at_root(ChainRoot(root_hash, root_height))
            for height, hash_ in self._rows(
                "SELECT best_chain.height, hash FROM best_chain JOIN block ON id = block_id "
                "ORDER BY best_chain.height DESC LIMIT 1",
                (int, bytes),
            ):
                status = replace(
                    status,
                    best_hash=hash_,
                    best_height=height,
                    longest_hash=hash_,
                    longest_height=height,
                )
            lib_hash = self.hash_at(lib_height)
            if lib_hash is None:
                raise self._damaged("the last irreversible block is missing")
            return replace(status, lib_hash=lib_hash, lib_height=lib_height)

    def height_of(self, block_hash: bytes) -> int | None:
        """The height of a stored block or the root, or None."""
        with self._translated():
            return self._value(
                "SELECT height FROM block WHERE hash = ?1 "
                "UNION ALL SELECT root_height FROM chain WHERE root_hash = ?1",
                int,
                block_hash,
            )

    def best_height_of(self, block_hash: bytes) -> int | None:
        """The height of a block of the best chain or the root, or None."""
        with self._translated():
            return self._value(_BEST_HEIGHT_OF, int, block_hash)

    def hash_at(self, height: int) -> bytes | None:
        """The hash of the best chain's block at a height, that of the root included, or None."""
        with self._translated():
            return self._value(
                "SELECT hash FROM best_chain JOIN block ON id = block_id "
                "WHERE best_chain.height = ?1 "
                "UNION ALL SELECT root_hash FROM chain WHERE root_height = ?1",
                bytes,
                height,
            )

    def header(self, block_hash: bytes) -> BlockHeader | None:
        """The header of a stored block, or None."""
        with self._translated():
            raw = self._value("SELECT header FROM block WHERE hash = ?", bytes, block_hash)
            return None if raw is None else self._header(raw, block_hash)

    def block(self, block_hash: bytes) -> Block | None:
        """A stored block, or None."""
        raw_block = self.raw_block(block_hash)
        with self._translated():
            return None if raw_block is None else Block.parse_untrusted(raw_block)

    def raw_block(self, block_hash: bytes) -> bytes | None:
        """A stored block as its bytes, or None."""
        with self._translated():
            row = self._row(
                "SELECT header, transactions FROM block WHERE hash = ?", (bytes, bytes), block_hash
            )
            if row is None:
                return None
            self._header(row[0], block_hash)
            return encode_block(*row)

    def raw_blocks_after(self, previous_hash: bytes, count: int, max_bytes: int) -> list[bytes]:
        """At most ``count`` blocks of the best chain that follow a block, and ``max_bytes``."""
        raw_blocks: list[bytes] = []
        # The chain must not change between finding the block and reading what follows it.
        with self._translated(), transaction(self._database, "DEFERRED"):
            following = self._rows(
                "SELECT block_id, hash, length(header), length(transactions) "
                "FROM best_chain JOIN block ON id = block_id "
                f"WHERE best_chain.height > ({_BEST_HEIGHT_OF}) "
                "ORDER BY best_chain.height LIMIT ?2",
                (int, bytes, int, int),
                previous_hash,
                count,
            )
            for block_id, block_hash, *sizes in list(following):
                max_bytes -= encoded_block_size(*sizes)
                if max_bytes < 0 and raw_blocks:
                    break
                row = self._row(
                    "SELECT header, transactions FROM block WHERE id = ?", (bytes, bytes), block_id
                )
                if row is None or self._header(row[0], block_hash).previous_hash != previous_hash:
                    raise self._damaged(f"block {block_hash.hex()} does not follow the one before")
                raw_blocks.append(encode_block(*row))
                previous_hash = block_hash
        return raw_blocks

    # --- writing ---

    def put_block(self, block: Block) -> ChainStatus:
        """Store a block whose parent is stored, and move the tips."""
        with self._translated(), transaction(self._database):
            status = self.status()
            if self._place_of(block.hash) is not None:
                return status
            check_place(block, self.height_of(block.previous_hash), status)
            stored = self._database.execute(
                "INSERT INTO block (hash, height, previous_hash, header, transactions) "
                "VALUES (?, ?, ?, ?, ?)",
                (
                    block.hash,
                    block.height,
                    block.previous_hash,
                    block.header.raw,
                    block.encode_transactions(),
                ),
            )
            if block.height > status.best_height:
                assert stored.lastrowid is not None
                self._move_tip(block, stored.lastrowid)
            return self.status()

    def set_lib(self, block_hash: bytes, keep_blocks: int | None = None) -> ChainStatus:
        """Make a block of the best chain irreversible; forget what does not lead to it or follow
        it, and of the older blocks those that are not kept."""
        with self._translated(), transaction(self._database):
            status = self.status()
            lib_height = check_lib(block_hash, self.best_height_of(block_hash), status)
            self._database.execute("UPDATE chain SET lib_height = ?", (lib_height,))
            self._database.execute(
                "DELETE FROM block WHERE height > ?1 AND height <= ?2 AND id NOT IN "
                "(SELECT block_id FROM best_chain WHERE height > ?1 AND height <= ?2)",
                (status.lib_height, lib_height),
            )
            self._forget_what_follows(lib_height)
            self._forget_old(keep_blocks)
            return self.status()

    def prune(self, keep_blocks: int | None) -> ChainStatus:
        """Forget the oldest blocks that are not kept, at most ``FORGOTTEN_AT_ONCE``."""
        with self._translated(), transaction(self._database):
            self._forget_old(keep_blocks)
            return self.status()

    def _forget_what_follows(self, height: int) -> None:
        """Blocks whose parents were forgotten go too, height by height."""
        forgotten = 1
        while forgotten:
            height += 1
            forgotten = self._database.execute(
                "DELETE FROM block WHERE height = ?1 "
                "AND previous_hash NOT IN (SELECT hash FROM block WHERE height = ?1 - 1)",
                (height,),
            ).rowcount

    def _forget_old(self, keep_blocks: int | None) -> None:
        if keep_blocks is None:
            return
        status = self.status()
        most = status.root.height + FORGOTTEN_AT_ONCE
        height = min(status.lib_height - keep_blocks, most)
        if height <= status.root.height:
            return
        self._database.execute(
            "UPDATE chain SET root_hash = ?, root_height = ?", (self.hash_at(height), height)
        )
        self._database.execute("DELETE FROM block WHERE height <= ?", (height,))
        self._database.execute("DELETE FROM best_chain WHERE height <= ?", (height,))

    def _place_of(self, block_hash: bytes) -> tuple[int, bytes] | None:
        """A stored block's row and its previous hash."""
        return self._row(
            "SELECT id, previous_hash FROM block WHERE hash = ?", (int, bytes), block_hash
        )

    def _move_tip(self, tip: Block, tip_id: int) -> None:
        branch = [tip_id]  # the blocks that are not on the best chain yet, highest first
        fork_height, previous_hash = tip.height - 1, tip.previous_hash
        while self.hash_at(fork_height) != previous_hash:
            place = self._place_of(previous_hash)
            if place is None:
                raise self._damaged(f"block {previous_hash.hex()} is missing")
            branch.append(place[0])
            fork_height, previous_hash = fork_height - 1, place[1]
        self._database.execute("DELETE FROM best_chain WHERE height > ?", (fork_height,))
        self._database.executemany(
            "INSERT INTO best_chain VALUES (?, ?)",
            enumerate(reversed(branch), start=fork_height + 1),
        )

    def _rows(
        self, sql: str, kinds: tuple[type, ...], *values: bytes | int
    ) -> Iterator[tuple[Any, ...]]:
        """Rows whose columns are of the kinds that were written: a damaged file may hold others."""
        for row in self._database.execute(sql, values):
            if tuple(map(type, row)) != kinds:
                raise self._damaged("a value is not of its kind")
            yield row

    def _row(
        self, sql: str, kinds: tuple[type, ...], *values: bytes | int
    ) -> tuple[Any, ...] | None:
        """The first row, or None."""
        return next(self._rows(sql, kinds, *values), None)

    def _value(self, sql: str, kind: type[V], *values: bytes | int) -> V | None:
        """The one column of the first row, or None."""
        for (value,) in self._rows(sql, (kind,), *values):
            found: V = value
            return found
        return None

    def _begun(self, sql: str, kinds: tuple[type, ...]) -> tuple[Any, ...]:
        """The row that every chain has."""
        row = self._row(sql, kinds)
        if row is None:
            raise self._damaged("what it begins with is missing")
        return row

    def _header(self, raw: bytes, block_hash: bytes) -> BlockHeader:
        """A stored header, if it still is the one that was stored."""
        header = BlockHeader.parse_untrusted(raw)
        if header.hash != block_hash:
            raise self._damaged(f"block {block_hash.hex()} has another hash")
        return header

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, MalformedError, UnicodeDecodeError) as error:
            raise self._error(str(error)) from error

    def _damaged(self, what: str) -> StoreError:
        return self._error(f"it is damaged: {what}")

    def _error(self, what: str) -> StoreError:
        return StoreError(f"{self._path}: {what}")
