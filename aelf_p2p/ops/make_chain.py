"""``aelf-p2p make-chain``: a chain of signed blocks in a file, for ``run --blocks``."""

import argparse
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from aelf_p2p.chain.block_maker import make_chain
from aelf_p2p.chain.chain_file import write_chain_file
from aelf_p2p.chain.transaction_pool import check_signature
from aelf_p2p.core.block import Block
from aelf_p2p.core.errors import InvalidItemError, MalformedError, MisuseError
from aelf_p2p.core.options import MIB
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.ops.arguments import Commands, add_chain_id, named_path, new_file, whole_number
from aelf_p2p.ops.exit_status import DONE
from aelf_p2p.ops.output import say, tell
from aelf_p2p.ops.passwords import add_key, identity_of
from aelf_p2p.ops.real_transactions import real_transactions

PROGRESS_PERIOD_S = 2.0
MAX_COUNT = 100_000_000
MAX_LINE_BYTES = 16 * MIB
"""More than the largest transaction has in hex."""


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "make-chain",
        help="make a chain of blocks in a file",
        description=(
            "Make a chain of signed blocks that hold transactions, spread evenly, and write it to "
            "a new file: each block as a BlockWithTransactions behind its length as a varint. "
            "The last block has the time of now, and each one before is half a second older."
        ),
    )
    parser.add_argument(
        "--count", type=whole_number(1, MAX_COUNT), required=True, metavar="N", help="of blocks"
    )
    add_chain_id(parser)
    parser.add_argument(
        "--transactions",
        type=named_path,
        metavar="FILE",
        help="signed transactions, one in hex a line (64 real ones that come with this program)",
    )
    add_key(parser)
    parser.add_argument(
        "--out", type=new_file, required=True, metavar="FILE", help="the chain file"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make the chain and write it; returns the exit status."""
    if options.transactions is None:
        transactions = real_transactions()
    else:
        transactions = read_transactions(options.transactions)
    blocks = make_chain(
        identity_of(options),
        options.count,
        chain_id=options.chain_id,
        transactions=transactions,
        last_time_ns=time.time_ns(),
    )
    tip = write_chain_file(options.out, _with_progress(blocks, options.count))
    tell(f"{options.out}: {tip.height} blocks, {len(transactions)} transactions")
    tell(f"tip {tip.hash.hex()}")
    return DONE


def _with_progress(blocks: Iterable[Block], count: int) -> Iterator[Block]:
    """The same blocks, with a line on stderr now and then."""
    next_report_at = time.monotonic() + PROGRESS_PERIOD_S
    for block in blocks:
        yield block
        if time.monotonic() >= next_report_at:
            next_report_at += PROGRESS_PERIOD_S
            say(f"{block.height} of {count} blocks")


def read_transactions(path: Path) -> list[Transaction]:
    """Transactions in hex, one a line; blank lines and those that begin with # are passed over.

    Raises MisuseError for a file that cannot be read or holds none, and for a line that is no
    transaction, or one whose signature is wrong, or that was there before.
    """
    transactions: dict[bytes, Transaction] = {}
    for number, line in _numbered_lines(path):
        if not line.strip() or line.startswith(b"#"):
            continue
        try:
            transaction = Transaction.parse_untrusted(bytes.fromhex(line.decode("ascii")))
            check_signature(transaction)
        except (ValueError, MalformedError, InvalidItemError) as error:
            raise MisuseError(f"{path}, line {number}: {error}") from error
        if transaction.id in transactions:
            raise MisuseError(f"{path}, line {number}: the transaction was there before")
        transactions[transaction.id] = transaction
    if not transactions:
        raise MisuseError(f"{path}: it holds no transaction")
    return list(transactions.values())


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise MisuseError(f"{path}, line {number}: it is over {MAX_LINE_BYTES} bytes")
                yield number, line
    except OSError as error:
        raise MisuseError(f"{path}: {error.strerror}") from error
