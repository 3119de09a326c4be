"""Where a network of processes keeps its nodes' keys, data and logs."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aelf_p2p.core.errors import MisuseError
from aelf_p2p.ops.arguments import Options, named_path
from aelf_p2p.ops.output import OutputError, say


def add_data(parser: Options) -> None:
    """Add ``--data``."""
    parser.add_argument(
        "--data",
        type=named_path,
        metavar="DIR",
        help="a new directory for the nodes' keys, data and logs; without it they are in a "
        "temporary one, which is left behind only when something goes wrong",
    )


@contextmanager
def open_directory(path: Path | None, faults: list[str]) -> Iterator[Path]:
    """A new directory; a temporary one goes at the end, unless something went wrong in it.

    ``faults`` is looked at when the block ends. Raises MisuseError when it cannot be made.
    """
    directory = _make_directory(path)
    is_left = True
    try:
        yield directory
        is_left = bool(faults)
    except (KeyboardInterrupt, OutputError):
        is_left = False
        raise
    finally:
        if is_left:
            say(f"the nodes' data and logs are in {directory}")
        elif path is None:
            shutil.rmtree(directory, ignore_errors=True)


def _make_directory(path: Path | None) -> Path:
    try:
        if path is None:
            return Path(tempfile.mkdtemp(prefix="aelf-p2p-devnet-"))
        path.mkdir(parents=True)
    except FileExistsError as error:
        raise MisuseError(f"{path}: exists already; the nodes need a new directory") from error
    except OSError as error:
        raise MisuseError(f"{path or 'a temporary directory'}: {error.strerror}") from error
    return path
