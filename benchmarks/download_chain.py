"""The chains that are downloaded: blocks full of transactions as networks have them."""

import random
import re
from collections.abc import Iterable, Iterator
from itertools import islice

from aelf_p2p import Block, Identity, Transaction
from aelf_p2p.chain.block_maker import make_chain
from aelf_p2p.core.chain_id import resolve_chain_id
from aelf_p2p.testing.vectors import load_vectors

TIP_TIME_NS = 1_700_000_000_000_000_000

# An Address or a Hash inside parameters: field 1 of 32 bytes.
_DIGEST = re.compile(rb"\x0a\x20.{32}", re.DOTALL)
_FRAMING_BYTES = 5  # around a transaction in a block, at most


def make_blocks(blocks: int, transactions_each: int, seed: int = 1) -> list[Block]:
    """A chain from its first block on; the same in every process that gives the same seed."""
    rng = random.Random(seed)
    return _chain(rng, blocks, islice(_transactions(rng), blocks * transactions_each))


def make_large_chain(
    blocks: int, total_bytes: int, params_bytes: int, seed: int = 1
) -> list[Block]:
    """The same, of about so many bytes together, and transactions with parameters that long."""
    rng = random.Random(seed)
    template = next(_transactions(rng))
    each = len(_with_params(template, bytes(params_bytes), rng).raw) + _FRAMING_BYTES
    count = total_bytes // each // blocks * blocks
    return _chain(
        rng,
        blocks,
        (_with_params(template, rng.randbytes(params_bytes), rng) for _ in range(count)),
    )


def _chain(rng: random.Random, blocks: int, transactions: Iterable[Transaction]) -> list[Block]:
    return list(
        make_chain(
            Identity.generate(rng),
            blocks,
            chain_id=resolve_chain_id("AELF"),
            transactions=list(transactions),
            last_time_ns=TIP_TIME_NS,
        )
    )


def _transactions(rng: random.Random) -> Iterator[Transaction]:
    """Real transactions over and over, each time with other digests in place of what digests they
    have. So they compress as a network's do: contracts, methods and texts repeat, senders,
    receivers and signatures do not. Nobody checks the signatures of what was only downloaded.
    """
    vectors = load_vectors().transactions
    while True:
        for vector in vectors:
            real = Transaction.parse_untrusted(vector.raw)
            params = _DIGEST.sub(lambda _: b"\x0a\x20" + rng.randbytes(32), real.params)
            yield _with_params(real, params, rng)


def _with_params(real: Transaction, params: bytes, rng: random.Random) -> Transaction:
    return Transaction.build(
        from_address=rng.randbytes(32),
        to_address=real.to_address,
        ref_block_number=real.ref_block_number,
        ref_block_prefix=rng.randbytes(4),
        method_name=real.method_name,
        params=params,
        signature=rng.randbytes(65),
    )
