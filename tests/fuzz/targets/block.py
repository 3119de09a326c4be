"""A block with its transactions, and lists of blocks, beside protobuf's reading of them."""

from collections.abc import Iterator
from contextlib import suppress
from random import Random

from aelf_p2p import wire
from aelf_p2p.chain.block_maker import make_block
from aelf_p2p.core.block import Block, parse_block_list_untrusted
from aelf_p2p.core.errors import HandlerError, MalformedError
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.payloads import (
    encode_block_list,
    encode_block_reply,
    parse_block_reply_in_steps_untrusted,
)
from aelf_p2p.core.steps import finish
from aelf_p2p.core.transaction import Transaction
from tests.fuzz.mutation import mutate_message

mutate = mutate_message
MAX_BYTES = 16_384


def seeds() -> Iterator[bytes]:
    transaction = Transaction.build(
        from_address=bytes(32), to_address=b"\1" * 32, method_name="Transfer", params=b"some"
    )
    long = Transaction.build(
        from_address=bytes(32), to_address=b"\1" * 32, method_name="M", params=bytes(300)
    )
    for transactions in ([], [transaction], [transaction, long, transaction], [transaction] * 60):
        yield make_block(
            Identity.generate(Random(1)),
            chain_id=1,
            previous_hash=bytes(32),
            height=2,
            time_ns=1_700_000_000 * 10**9,
            transactions=transactions,
        ).encode()
    yield b"\x0a\x00"


def target(data: bytes) -> bool:
    with suppress(MalformedError, HandlerError):  # of bytes that are a reply, or a list, themselves
        finish(parse_block_reply_in_steps_untrusted(data))
    with suppress(MalformedError):
        list(parse_block_list_untrusted(data))
    try:
        block = Block.parse_untrusted(data)
    except MalformedError:
        _check_refused_within(data)
        return False
    message = wire.BlockWithTransactions.FromString(data)
    assert len(message.transactions) == len(block.transactions)
    for each, transaction in zip(message.transactions, block.transactions, strict=True):
        assert each.SerializeToString() == transaction.raw
    assert message.header.height == block.height
    encoded = block.encode()
    assert len(encoded) == block.size
    again = Block.parse_untrusted(encoded)
    assert again == block
    assert again.transaction_ids == block.transaction_ids
    found = [each for each in parse_block_list_untrusted(encode_block_list([data] * 2)) if each]
    assert found == [block, block]
    assert finish(parse_block_reply_in_steps_untrusted(encode_block_reply(data))) == block
    return True


def _check_refused_within(data: bytes) -> None:
    """What is no block is none inside of a list either."""
    try:
        list(parse_block_list_untrusted(encode_block_list([data])))
    except MalformedError:
        return
    raise AssertionError("a block is accepted in a list only")
