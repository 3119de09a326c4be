"""The command ``aelf-p2p``."""

import signal
from collections.abc import Sequence

from aelf_p2p.core.errors import (
    AelfP2PError,
    KeyFileError,
    MalformedError,
    MisuseError,
    StoreError,
)
from aelf_p2p.core.single_error import each_error
from aelf_p2p.ops import keygen, make_chain, run, simulate
from aelf_p2p.ops.arguments import Parser, TellVersion
from aelf_p2p.ops.devnet import command as devnet
from aelf_p2p.ops.exit_status import FAILED, WRONGLY_CALLED, of_signal
from aelf_p2p.ops.output import drop_unwritten, say
from aelf_p2p.ops.perturb import command as perturb
from aelf_p2p.ops.signals import ignore_signals, interrupted_by_signals

COMMANDS = (run, keygen, make_chain, devnet, perturb, simulate)

_CALLERS_OWN = (MisuseError, MalformedError, KeyFileError, StoreError)
"""Errors of arguments and files that a command was given."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status. For a process of its own, whose signals it handles.

    Raises SystemExit after ``--help`` and ``--version``, and for wrong arguments.
    """
    interruption = interrupted_by_signals()
    name = "aelf-p2p"
    status = FAILED
    try:
        options = _parser().parse_args(arguments)
        name = f"aelf-p2p {options.command}"
        status = options.run(options)
    except* KeyboardInterrupt:
        say("interrupted")
        status = of_signal(interruption.by or signal.SIGINT)
    except* AelfP2PError as group:
        errors = list(each_error(group))
        for error in errors:
            say(f"{name}: {error}")
        if all(isinstance(error, _CALLERS_OWN) for error in errors):
            status = WRONGLY_CALLED
    finally:
        ignore_signals()
        drop_unwritten()
    return status


def _parser() -> Parser:
    parser = Parser(prog="aelf-p2p", description="The network layer of the AElf blockchain.")
    parser.add_argument("--version", action=TellVersion)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser
