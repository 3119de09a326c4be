"""What a block must hold, wherever in the chain it stands: checked in steps, since megabytes of
small transactions take a second and more."""

from collections.abc import Callable, Sequence

import trio

from aelf_p2p.chain.transaction_pool import check_signature
from aelf_p2p.core.block import Block
from aelf_p2p.core.errors import InvalidItemError, InvalidReason
from aelf_p2p.core.identity import verify
from aelf_p2p.core.merkle import merkle_root_in_steps
from aelf_p2p.core.steps import in_turns
from aelf_p2p.core.transaction import Transaction

SIGNATURES_A_STEP = 64
"""Checked at once: some four milliseconds."""


async def check_content(
    block: Block, chain_id: int, *, is_verified: Callable[[Transaction], bool]
) -> None:
    """Chain id, the header's signature, the merkle root, the transactions' signatures.

    The last because a block's hash does not cover them: without it anyone who passes a block on
    could change them, and C# nodes, which check them too, would ban whoever serves such a block.
    Those of transactions that ``is_verified`` knows, bytes and all, are not checked again. The
    first block may be unsigned, and hold unsigned transactions: C# nodes make it each for itself.

    Raises InvalidItemError.
    """
    header = block.header
    if header.chain_id != chain_id:
        raise InvalidItemError(InvalidReason.WRONG_CHAIN, name_of(block))
    is_first = block.height == 1
    signed = bool(header.signer_pubkey) or not is_first
    if signed and not verify(header.signer_pubkey, header.signed_digest, header.signature):
        raise InvalidItemError(InvalidReason.BAD_SIGNATURE, name_of(block))
    ids = block.transaction_ids
    # A row of odd length repeats its last node, so a repeated transaction can hide in the root.
    if len(set(ids)) != len(ids) or await _merkle_root(ids) != header.transactions_root:
        raise InvalidItemError(InvalidReason.BAD_MERKLE_ROOT, name_of(block))
    for index, transaction in enumerate(block.transactions):
        if index % SIGNATURES_A_STEP == 0:
            await trio.lowlevel.checkpoint()
        unsigned = is_first and not transaction.signature
        if not unsigned and not is_verified(transaction):
            try:
                check_signature(transaction)
            except InvalidItemError as exc:
                what = f"{name_of(block)}, transaction {transaction.id.hex()}"
                raise InvalidItemError(exc.reason, what) from exc


async def _merkle_root(ids: Sequence[bytes]) -> bytes:
    return await in_turns(merkle_root_in_steps(ids), trio.lowlevel.checkpoint)


def name_of(block: Block) -> str:
    """What messages call it."""
    return f"block {block.height} {block.hash.hex()}"
