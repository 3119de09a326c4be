"""Passwords of key files: from a file, the environment, or whoever sits at the terminal."""

import argparse
import getpass
import os
import sys
from functools import partial
from pathlib import Path

from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.keyfile import read_key_file
from aelf_p2p.ops.arguments import Options, named_path

ENVIRONMENT_VARIABLE = "AELF_P2P_PASSWORD"
MAX_PASSWORD_BYTES = 4096


def add_password_file(parser: Options) -> None:
    """Add ``--password-file``."""
    parser.add_argument(
        "--password-file",
        type=named_path,
        metavar="FILE",
        help=(
            "its first line is the key file's password; without it the environment variable "
            f"{ENVIRONMENT_VARIABLE} is, or you are asked"
        ),
    )


def add_key(parser: Options) -> None:
    """Add the options that :func:`identity_of` reads."""
    key = parser.add_mutually_exclusive_group(required=True)
    key.add_argument(
        "--key", type=named_path, metavar="FILE", help="a key file, as of 'aelf-p2p keygen'"
    )
    key.add_argument(
        "--ephemeral-key", action="store_true", help="a new key, which is forgotten at the end"
    )
    add_password_file(parser)


def identity_of(options: argparse.Namespace) -> Identity:
    """The key pair that the options name; takes a second when its file is encrypted.

    Raises KeyFileError, MisuseError.
    """
    if options.ephemeral_key:
        return Identity.generate()
    return read_key_file(options.key, partial(password_of, options, f"Password of {options.key}: "))


def password_of(options: argparse.Namespace, prompt: str, *, repeat: bool = False) -> bytes:
    """The password that the options, the environment or a prompt give. Raises MisuseError.

    ``repeat`` asks twice at a prompt, for a password that is new.
    """
    if options.password_file is not None:
        return _first_line(options.password_file)
    if password := os.environ.get(ENVIRONMENT_VARIABLE):
        return password.encode("utf-8", "surrogateescape")
    if sys.stdin is None or not sys.stdin.isatty():
        raise MisuseError(
            f"a password is needed: give it by --password-file or {ENVIRONMENT_VARIABLE}, "
            "or call this from a terminal"
        )
    try:
        password = getpass.getpass(prompt)
        repeated = getpass.getpass("Once more: ") if repeat and password else password
    except EOFError:
        password = repeated = ""
    except UnicodeDecodeError as error:
        raise MisuseError(f"the password is not text in {error.encoding}") from error
    if not password:
        raise MisuseError("no password was given")
    if repeated != password:
        raise MisuseError("the two passwords differ")
    return password.encode("utf-8", "surrogateescape")


def _first_line(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            line = file.readline(MAX_PASSWORD_BYTES + 1).rstrip(b"\r\n")
    except OSError as error:
        raise MisuseError(f"{path}: {error.strerror}") from error
    if not line:
        raise MisuseError(f"{path}: its first line is empty, and no password")
    if len(line) > MAX_PASSWORD_BYTES:
        raise MisuseError(f"{path}: its first line is longer than {MAX_PASSWORD_BYTES} bytes")
    return line
