import hashlib

from aelf_p2p.core.address import parse_address_untrusted
from aelf_p2p.testing.vectors import load_vectors

VECTORS = load_vectors()
SIGNATURE_TAG = bytes.fromhex("82f10441")  # field 10000, 65 bytes


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_every_group_is_whole_and_read_once() -> None:
    assert len(VECTORS.transactions) == 64
    assert len(VECTORS.unsigned_transactions) == 6
    assert len(VECTORS.blocks) == 10
    assert len(VECTORS.merkle_roots) == 5
    assert len(VECTORS.keys) == 7
    assert len(VECTORS.pubkey_addresses) == 8
    assert len(VECTORS.addresses) == 7
    assert len(VECTORS.invalid_addresses) == 6
    assert len(VECTORS.signatures) == 8
    assert len(VECTORS.chain_ids) == 3
    assert load_vectors() is VECTORS


def test_transactions() -> None:
    for signed in VECTORS.transactions:
        unsigned = signed.raw.removesuffix(SIGNATURE_TAG + signed.signature)
        assert sha256(unsigned) == signed.id
        assert unsigned != signed.raw
    for transaction in (*VECTORS.transactions, *VECTORS.unsigned_transactions):
        for address in (transaction.from_address, transaction.to_address):
            assert parse_address_untrusted(address) in transaction.raw
        for part in (
            transaction.ref_block_prefix,
            transaction.method_name.encode(),
            transaction.params,
        ):
            assert part in transaction.raw
        assert transaction.ref_block_number >= 0
    for transaction in VECTORS.unsigned_transactions:
        assert sha256(transaction.raw) == transaction.id


def test_blocks() -> None:
    heights = [block.height for block in VECTORS.blocks]
    assert heights == sorted(heights)
    assert (heights[0], heights[-1]) == (97, 136_240_697)
    for block in VECTORS.blocks:
        header = block.header_without_signature
        assert sha256(header) == block.block_hash
        for part in (
            block.previous_block_hash,
            block.merkle_tree_root_of_transactions,
            block.merkle_tree_root_of_world_state,
            block.merkle_tree_root_of_transaction_status,
            block.bloom,
            block.signer_pubkey,
        ):
            assert part in header
        names = [name for name, _ in block.extra_data_in_wire_order]
        assert names[:2] == ["CrossChain", "Consensus"]
        positions = [header.index(name.encode()) for name in names]
        assert positions == sorted(positions)
        assert all(value in header for _, value in block.extra_data_in_wire_order)
        assert block.time_seconds > 1_600_000_000
        assert 0 <= block.time_nanos < 10**9
        if block.signature is None:
            assert block.header is None
        else:
            assert block.header == header + SIGNATURE_TAG + block.signature


def test_the_whole_block() -> None:
    (block,) = [block for block in VECTORS.blocks if block.block_with_transactions is not None]
    assert block.height == 97
    assert block.block_with_transactions is not None
    assert block.header is not None
    assert block.header in block.block_with_transactions
    ids = {transaction.id: transaction.raw for transaction in VECTORS.transactions}
    raws = [ids[transaction_id] for transaction_id in block.transaction_ids]
    assert len(raws) == 2
    assert all(raw in block.block_with_transactions for raw in raws)


def test_signatures_are_over_their_messages() -> None:
    with_message = [vector for vector in VECTORS.signatures if vector.message is not None]
    assert len(with_message) == 5
    for vector in with_message:
        assert vector.message is not None
        assert sha256(vector.message) == vector.digest
