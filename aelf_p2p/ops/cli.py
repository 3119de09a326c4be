"""The command ``aelf-p2p``."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

from aelf_p2p.core.errors import (
    AelfP2PError,
    KeyFileError,
    MalformedError,
    MisuseError,
    StoreError,
)
from aelf_p2p.core.single_error import each_error
from aelf_p2p.ops import keygen, make_chain, run, simulate
from aelf_p2p.ops.arguments import Parser
from aelf_p2p.ops.devnet import command as devnet
from aelf_p2p.ops.exit_status import FAILED, WRONGLY_CALLED, of_signal

COMMANDS = (run, keygen, make_chain, devnet, simulate)

_CALLERS_OWN = (MisuseError, MalformedError, KeyFileError, StoreError)
"""Errors of arguments and files that a command was given."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    parser = Parser(prog="aelf-p2p", description="The network layer of the AElf blockchain.")
    parser.add_argument("--version", action="version", version=version("aelf-p2p"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    options = parser.parse_args(arguments)
    status = FAILED
    try:
        status = options.run(options)
    except* KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = of_signal(signal.SIGINT)
    except* AelfP2PError as group:
        errors = list(each_error(group))
        for error in errors:
            print(f"aelf-p2p {options.command}: {error}", file=sys.stderr)
        if all(isinstance(error, _CALLERS_OWN) for error in errors):
            status = WRONGLY_CALLED
    except* OSError as group:  # files of ours are dealt with where they are used: this is stdout
        for error in each_error(group):
            print(f"aelf-p2p {options.command}: {error}", file=sys.stderr)
        _give_up_stdout()
    return status


def _give_up_stdout() -> None:
    """Python would try to write to it once more at the end, and complain."""
    with suppress(OSError, ValueError):  # a stand-in has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
