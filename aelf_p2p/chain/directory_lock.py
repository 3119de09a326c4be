"""One process a data directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
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
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"{error.filename or path}: {error.strerror}") from error
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read(20).decode("ascii", "replace").strip()
            raise StoreError(
                f"{directory} is in use by process {holder or 'unknown'}: "
                "each node needs a data directory of its own"
            ) from None
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        file.truncate()
        file.write(b"%d\n" % os.getpid())
        file.flush()
        yield
