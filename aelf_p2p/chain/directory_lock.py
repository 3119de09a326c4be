"""One process a data directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aelf_p2p.core.errors import StoreError

CHAIN_LOCK = "lock"
NETWORK_LOCK = "network.lock"
"""Its own, so that a process can hold the chain and the network's state, or one of them alone."""


@contextmanager
def lock_directory(directory: Path, name: str = CHAIN_LOCK) -> Iterator[None]:
    """Make a data directory, if need be, and hold it for this process as long as the block runs:
    for its chain, or for what another ``name`` stands for.

    The system lets go of the lock when the process ends, however it does. Raises StoreError when
    another open store holds the directory, or when it cannot be made or written to.
    """
    path = directory / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise StoreError(f"{directory}: it is not a directory") from error
    except OSError as error:
        raise StoreError(f"{error.filename or path}: {error.strerror}") from error
    except ValueError as error:  # no path at all, such as one with a NUL
        raise StoreError(f"{str(directory)!r}: {error}") from error
    try:
        _lock(descriptor, path)
        yield
        # A child that was forked meanwhile would hold on to it.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
        raise StoreError(
            f"{path.parent} is in use by process {holder or 'unknown'}: "
            "each node needs a data directory of its own"
        ) from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    with suppress(OSError):  # only for the message above; the disk may be full
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())
