"""``aelf-p2p keygen``: a new key pair in a key file."""

import argparse

from aelf_p2p.core.address import address_of, address_text
from aelf_p2p.core.identity import Identity, Scheme
from aelf_p2p.core.keyfile import seal_key, write_key_file
from aelf_p2p.ops.arguments import Commands, new_file
from aelf_p2p.ops.exit_status import DONE
from aelf_p2p.ops.output import say, tell
from aelf_p2p.ops.passwords import add_password_file, password_of


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "keygen",
        help="make a key pair",
        description=(
            "Make a key pair and write it to a new file, encrypted with a password. Prints the "
            "public key, by which peers know a node."
        ),
    )
    parser.add_argument("--out", type=new_file, required=True, metavar="FILE", help="the key file")
    parser.add_argument(
        "--scheme",
        choices=[scheme.value for scheme in Scheme],
        default=Scheme.SECP256K1.value,
        help="AElf networks use secp256k1, which is the default",
    )
    protection = parser.add_mutually_exclusive_group()
    add_password_file(protection)
    protection.add_argument(
        "--no-password",
        action="store_true",
        help="leave the file unencrypted: whoever reads it has the key",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make the key and write it; returns the exit status."""
    password = None
    if not options.no_password:
        password = password_of(options, f"Password for {options.out}: ", repeat=True)
    identity = Identity.generate(scheme=Scheme(options.scheme))
    write_key_file(options.out, seal_key(identity, password))
    if password is None:
        say(f"{options.out} is not encrypted: whoever reads it has the key")
    tell(f"public key  {identity.public_key.hex()}")
    if identity.scheme is Scheme.SECP256K1:
        tell(f"address     {address_text(address_of(identity.public_key))}")
    return DONE
