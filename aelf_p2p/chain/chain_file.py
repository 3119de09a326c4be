"""A chain in a file: its blocks in order, each a BlockWithTransactions behind its length.

The length is a protobuf varint: other languages' protobuf libraries read such files as delimited
messages.
"""

import errno
import logging
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import trio

from aelf_p2p.contracts import ChainStore, Kernel
from aelf_p2p.core.block import Block
from aelf_p2p.core.chain_id import describe_chain_id
from aelf_p2p.core.encoders import encode_varint
from aelf_p2p.core.errors import (
    InvalidItemError,
    InvalidReason,
    MalformedError,
    MisuseError,
    UnknownParentError,
)
from aelf_p2p.core.message_sizes import MAX_MESSAGE_BYTES

log = logging.getLogger(__name__)

PROGRESS_PERIOD_S = 5.0
_MAX_PREFIX_BYTES = 4  # 28 bits, more than MAX_MESSAGE_BYTES needs


@dataclass(frozen=True)
class ImportReport:
    """How many blocks a file held, and how many of them were new to the store."""

    blocks: int
    new: int


def write_chain_file(path: str | os.PathLike[str], blocks: Iterable[Block]) -> Block:
    """Write a new file, whole or not at all; returns the last block.

    It is written under another name in the same directory, and gets its own when it is complete.
    Raises MisuseError when there is such a file already, it cannot be written, or there is no
    block.
    """
    target = Path(path)
    fresh = target.parent / f".chain-{secrets.token_hex(8)}.new"
    try:
        if os.path.lexists(target):
            raise FileExistsError
        with fresh.open("xb") as file, _removed_afterwards(fresh):
            block = _write_blocks(file, blocks)
            if block is None:
                raise MisuseError(f"{target}: a chain file holds at least one block")
            file.flush()
            os.fsync(file.fileno())
            _name_unless_taken(fresh, target)
    except FileExistsError as error:
        raise MisuseError(f"{target}: exists already and is left as it is") from error
    except OSError as error:
        raise MisuseError(f"{target}: {error.strerror}") from error
    return block


@contextmanager
def _removed_afterwards(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def _write_blocks(file: BinaryIO, blocks: Iterable[Block]) -> Block | None:
    block: Block | None = None
    for block in blocks:
        raw_block = block.encode()
        file.write(encode_varint(len(raw_block)))
        file.write(raw_block)
    return block


def _name_unless_taken(fresh: Path, target: Path) -> None:
    """Raises FileExistsError: a rename would replace a file that came meanwhile."""
    try:
        os.link(fresh, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if os.path.lexists(target):  # where no file has two names
            raise FileExistsError from error
        fresh.rename(target)


def read_chain_file(path: str | os.PathLike[str]) -> Iterator[Block]:
    """The blocks of a file, one by one.

    Raises MisuseError for a file that cannot be read or holds no block, MalformedError when it
    comes to a block that is not right.
    """
    count = 0
    try:
        with Path(path).open("rb") as file:
            while (size := _read_size_untrusted(file)) is not None:
                raw_block = file.read(size)
                if len(raw_block) < size:
                    raise MalformedError("it is cut short")
                yield Block.parse_untrusted(raw_block)
                count += 1
    except OSError as error:
        raise MisuseError(f"{path}: {error.strerror}") from error
    except MalformedError as error:
        raise MalformedError(f"{path}: block {count + 1} of the file: {error}") from error
    if not count:
        raise MisuseError(f"{path}: it holds no block")


async def import_chain_file(
    path: str | os.PathLike[str], kernel: Kernel, store: ChainStore, *, chain_id: int
) -> ImportReport:
    """Let a kernel accept the blocks of a file, before its node runs; those it has already are
    passed over, so that an import which was interrupted goes on.

    Raises MisuseError, MalformedError as :func:`read_chain_file`, and MisuseError when the blocks
    are wrong, of another chain, or not on the best chain in the end.
    """
    count = new = 0
    last: Block | None = None
    root = store.status.root
    next_report_at = trio.current_time() + PROGRESS_PERIOD_S
    blocks = read_chain_file(path)
    # What is read may be a pipe that gives nothing, while a node that is told to end does so.
    read = partial(trio.to_thread.run_sync, next, blocks, None, abandon_on_cancel=True)
    while (block := await read()) is not None:
        count += 1
        if block.header.chain_id != chain_id:
            theirs, ours = describe_chain_id(block.header.chain_id), describe_chain_id(chain_id)
            raise MisuseError(f"{path}: it holds the chain {theirs}, not {ours}")
        if block.height <= root.height:  # the store keeps none of these
            if block.height == root.height and block.hash != root.block_hash:
                raise _another_chain(path, store)
            continue
        try:
            new += await kernel.accept_block(block)
        except InvalidItemError as error:
            if error.reason is InvalidReason.BELOW_LIB:
                raise _another_chain(path, store) from error
            raise MisuseError(f"{path}: {error}") from error
        except UnknownParentError as error:
            raise MisuseError(f"{path}: {error}") from error
        last = block
        if trio.current_time() >= next_report_at:
            next_report_at += PROGRESS_PERIOD_S
            log.info("%s: imported %d blocks, up to height %d", path, count, last.height)
    if last is not None and await store.hash_at(last.height) != last.hash:
        raise _another_chain(path, store)
    return ImportReport(count, new)


def _another_chain(path: str | os.PathLike[str], store: ChainStore) -> MisuseError:
    return MisuseError(
        f"{path}: its blocks are not of the chain that is there, up to height "
        f"{store.status.best_height}"
    )


def _read_size_untrusted(file: BinaryIO) -> int | None:
    """The size of the next block; None at the end of the file. Raises MalformedError."""
    size = 0
    for index in range(_MAX_PREFIX_BYTES):
        byte = file.read(1)
        if not byte:
            if index:
                raise MalformedError("it is cut short")
            return None
        size |= (byte[0] & 0x7F) << 7 * index
        if byte[0] < 0x80:
            break
    else:
        size = MAX_MESSAGE_BYTES + 1
    if size > MAX_MESSAGE_BYTES:
        raise MalformedError(f"it is larger than {MAX_MESSAGE_BYTES} bytes")
    return size
