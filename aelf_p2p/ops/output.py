"""What commands say: what they were asked for on stdout, everything else on stderr."""

import os
import sys
from contextlib import suppress

from aelf_p2p.core.errors import AelfP2PError


class OutputError(AelfP2PError):
    """Stdout takes nothing more; the message says why."""


def tell(text: str) -> None:
    """Lines of what the command was asked for. Raises OutputError.

    Characters that stdout cannot show, such as those of odd file names, are escaped.
    """
    if sys.stdout is None:
        raise OutputError("stdout: it is closed")
    encoding = sys.stdout.encoding or "ascii"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        raise OutputError(f"stdout: {error.strerror}") from error


def say(line: str) -> None:
    """A line beside that: an error, a warning, how far it is. Never raises, heard or not."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


def drop_unwritten() -> None:
    """At the end of the process: Python would try to write what stdout and stderr did not take once
    more, complain, and exit with a status of its own."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):
                with suppress(OSError, ValueError):  # a stand-in has no descriptor
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
