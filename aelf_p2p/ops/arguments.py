"""Options of the command line: how they are parsed, and what several commands share."""

import argparse
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar

from aelf_p2p.core.chain_id import MAX_CHAIN_ID, resolve_chain_id
from aelf_p2p.core.endpoint import DEFAULT_PORT, MAX_PORT, Endpoint, split_host_port_untrusted
from aelf_p2p.core.errors import MalformedError, MisuseError
from aelf_p2p.core.identity import scheme_of_untrusted
from aelf_p2p.core.sntp import NTP_PORT
from aelf_p2p.core.version import own_version
from aelf_p2p.ops.exit_status import DONE, WRONGLY_CALLED
from aelf_p2p.ops.output import say, tell

T = TypeVar("T")

_DIGITS = re.compile(r"[0-9]+")
_WHOLE_NUMBER = re.compile(rf"-?{_DIGITS.pattern}")
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")
_MAX_SHOWN = 40

# argparse has no public names for these.
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""What a command adds its parser to."""
Options: TypeAlias = argparse._ActionsContainer
"""What options are added to: a parser, or a group of its options."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without the usage before it."""

    def __init__(self, **settings: Any) -> None:
        formatter = partial(argparse.HelpFormatter, max_help_position=32)
        super().__init__(**{"formatter_class": formatter, "allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        """Print the message, and exit with status 2."""
        say(f"{self.prog}: {message} (see {self.prog} --help)")
        raise SystemExit(WRONGLY_CALLED)

    def print_help(self, file: Any = None) -> None:
        """Print the help to stdout, however it takes that."""
        tell(self.format_help().rstrip("\n"))


class TellVersion(argparse.Action):
    """An option that says the program's version, and ends it."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, *parsed: object) -> None:
        """The option was given."""
        tell(version("aelf-p2p"))
        raise SystemExit(DONE)


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Numbers from ``least`` to ``most``."""

    def parse(text: str) -> int:
        if not _WHOLE_NUMBER.fullmatch(text):
            raise argparse.ArgumentTypeError(f"{_shown(text)!r} is not a whole number")
        if len(text) > _MAX_SHOWN or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{_shown(text)} is not between {least} and {most}")
        return int(text)

    return parse


seed = whole_number(0, 2**63 - 1)
"""Of whatever is to be random, and the same another time."""


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _told(parse: Callable[[str], T]) -> Callable[[str], T]:
    """What is wrong with a value, in our words instead of argparse's."""

    def told(text: str) -> T:
        try:
            return parse(text)
        except (MalformedError, MisuseError) as exc:
            raise argparse.ArgumentTypeError(str(exc)) from exc

    return told


def seconds(text: str) -> float:
    """A time above zero."""
    if not _SECONDS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{_shown(text)!r} is not a number of seconds")
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{_shown(text)} is not above 0 and finite")
    return number


@_told
def chain_id(text: str) -> int:
    """A chain's number, or its name. What is all digits is a number."""
    if not _DIGITS.fullmatch(text):
        return resolve_chain_id(text)
    if len(text) > _MAX_SHOWN:
        raise MisuseError(f"chain id {_shown(text)} is not between 0 and {MAX_CHAIN_ID}")
    return resolve_chain_id(int(text))


def named_path(text: str) -> Path:
    """The path of a file or a directory."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path names nothing")
    return Path(text)


def new_file(text: str) -> Path:
    """Where a file is to be written that is not there yet."""
    path = named_path(text)
    try:
        is_there = path.exists()
    except OSError as error:  # such as a name that is too long
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from error
    if is_there:
        raise argparse.ArgumentTypeError(f"{text}: exists already and is left as it is")
    return path


@_told
def node_version(text: str) -> str:
    """A .NET version that a node of ours may have."""
    return own_version(text)


@_told
def endpoint(text: str) -> Endpoint:
    """``host`` or ``host:port``."""
    return Endpoint.parse_untrusted(text)


@_told
def ntp_server(text: str) -> Endpoint:
    """``host`` or ``host:port`` of a time server."""
    return Endpoint.parse_untrusted(text, NTP_PORT)


@_told
def listen_address(text: str) -> tuple[str, int]:
    """``host`` or ``host:port``, where port 0 is any free one; listening tells about the host."""
    host, port = split_host_port_untrusted(text, DEFAULT_PORT)
    if not host:
        raise MisuseError(f"{text!r} names no host")
    if port > MAX_PORT:
        raise MisuseError(f"port {port} is not between 0 and {MAX_PORT}")
    return host, port


@_told
def public_key(text: str) -> bytes:
    """A public key in hex."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        raise MalformedError(f"{text[:16]!r} is not hex") from None
    scheme_of_untrusted(key)
    return key


def add_chain_id(parser: Options) -> None:
    """Add ``--chain-id``."""
    parser.add_argument(
        "--chain-id",
        type=chain_id,
        default=resolve_chain_id("AELF"),
        metavar="NAME|NUMBER",
        help="the chain: a name of four characters, or a number (AELF)",
    )
