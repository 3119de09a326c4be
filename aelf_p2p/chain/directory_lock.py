"""One process a data directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aelf_p2p.core.errors import StoreError

LOCK_NAME = "lock"


@contextmanager
def lock_directory(directory: Path) -> Iterator[None]:
    """Make a data directory, if need be, and hold it for this process as long as the block runs.

    The system lets go of the lock when the process ends, however it does. Raises StoreError when
    another open store holds the directory, or when it cannot be made or written to.
    """
    path = directory / LOCK_NAME
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
        _lock(descriptor, directory)
        yield
        # A child that was forked meanwhile would hold on to it.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
        raise StoreError(
            f"{directory} is in use by process {holder or 'unknown'}: "
            "each node needs a data directory of its own"
        ) from None
    except OSError as error:
        raise StoreError(f"{directory / LOCK_NAME}: {error.strerror}") from error
    with suppress(OSError):  # only for the message above; the disk may be full
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())
