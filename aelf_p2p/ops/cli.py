"""The command ``aelf-p2p``."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from aelf_p2p.core.errors import AelfP2PError
from aelf_p2p.ops import simulate

FAILED = 1
INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells expect it (128 + SIGINT)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 0 done, 1 it went wrong, 2 it was called wrongly."""
    parser = argparse.ArgumentParser(
        prog="aelf-p2p", description="The network layer of the AElf blockchain."
    )
    parser.add_argument("--version", action="version", version=version("aelf-p2p"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    simulate.add_parser(commands)
    options = parser.parse_args(arguments)
    status = FAILED
    try:
        status = options.run(options)
    except* KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = INTERRUPTED
    except* AelfP2PError as group:
        for error in _each(group):
            print(f"aelf-p2p {options.command}: {error}", file=sys.stderr)
    return status


def _each(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _each(inner)
    else:
        yield error
