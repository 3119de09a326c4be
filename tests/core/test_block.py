"""Headers and blocks: real ones keep their hashes, incomplete ones are refused."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p import wire
from aelf_p2p.core.block import (
    STEP_BYTES,
    TRANSACTIONS_A_STEP,
    Block,
    BlockHeader,
    parse_block_list_untrusted,
)
from aelf_p2p.core.encoders import encode_bytes_field, encode_message_field
from aelf_p2p.core.errors import MalformedError, MisuseError
from aelf_p2p.core.fields import repeated_untrusted
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.testing.vectors import BlockVector, load_vectors
from tests.core.pauses import count_pauses

VECTORS = load_vectors()
HEADERS = pytest.mark.parametrize(
    "vector", VECTORS.blocks, ids=lambda v: f"{v.chain_id}:{v.height}"
)
[BLOCK_97] = [vector for vector in VECTORS.blocks if vector.block_with_transactions]
RAW_97 = BLOCK_97.block_with_transactions or b""

SMALLEST: dict[str, Any] = {
    "chain_id": 9992731,
    "previous_hash": bytes(range(32)),
    "transactions_root": bytes(range(1, 33)),
    "world_state_root": bytes(range(2, 34)),
    "status_root": bytes(range(3, 35)),
    "height": 1,
    "time_ns": 1_732_172_217_321_312_000,
}
SECOND = {**SMALLEST, "height": 2, "signer_pubkey": b"\x04" + bytes(64)}


def received(vector: BlockVector) -> bytes:
    return vector.header or vector.header_without_signature


def without_field(raw: bytes, number: int) -> bytes:
    """Clear a field with google.protobuf; only for headers without extra_data."""
    message = wire.BlockHeader.FromString(raw)
    message.ClearField(wire.BlockHeader.DESCRIPTOR.fields_by_number[number].name)
    cleared: bytes = message.SerializeToString()
    return cleared


# --- headers --------------------------------------------------------------------------------------


def test_there_are_real_headers_signed_and_not() -> None:
    assert len(VECTORS.blocks) == 10
    assert {vector.header is None for vector in VECTORS.blocks} == {True, False}


@HEADERS
def test_a_real_header_has_its_known_hash_and_fields(vector: BlockVector) -> None:
    header = BlockHeader.parse_untrusted(received(vector))
    assert header.raw == received(vector)
    assert header.hash == header.signed_digest == vector.block_hash
    assert header.version == 0
    assert header.chain_id == vector.chain_id
    assert header.previous_hash == vector.previous_block_hash
    assert header.transactions_root == vector.merkle_tree_root_of_transactions
    assert header.world_state_root == vector.merkle_tree_root_of_world_state
    assert header.status_root == vector.merkle_tree_root_of_transaction_status
    assert header.bloom == vector.bloom
    assert header.height == vector.height
    assert header.extra_data == vector.extra_data_in_wire_order
    assert header.time_ns == vector.time_seconds * 10**9 + vector.time_nanos
    assert header.signer_pubkey == vector.signer_pubkey
    assert header.signature == (vector.signature or b"")


@HEADERS
def test_a_real_header_is_built_again_from_its_fields(vector: BlockVector) -> None:
    unsigned = BlockHeader.build(
        chain_id=vector.chain_id,
        previous_hash=vector.previous_block_hash,
        transactions_root=vector.merkle_tree_root_of_transactions,
        world_state_root=vector.merkle_tree_root_of_world_state,
        status_root=vector.merkle_tree_root_of_transaction_status,
        bloom=vector.bloom,
        height=vector.height,
        extra_data=vector.extra_data_in_wire_order,
        time_ns=vector.time_seconds * 10**9 + vector.time_nanos,
        signer_pubkey=vector.signer_pubkey,
    )
    assert unsigned.raw == vector.header_without_signature
    assert unsigned.with_signature(vector.signature or b"").raw == received(vector)
    assert BlockHeader.parse_untrusted(received(vector)).with_signature(b"") == unsigned


@HEADERS
def test_python_protobuf_does_not_give_the_hash_of_a_real_header(vector: BlockVector) -> None:
    # The reason to hash what was received: see the docstring of aelf_p2p.core.canonical.
    message = wire.BlockHeader.FromString(vector.header_without_signature)
    for deterministic in (False, True):
        again = message.SerializeToString(deterministic=deterministic)
        assert sha256(again).digest() != vector.block_hash
        with pytest.raises(MalformedError, match="field 8: map entry, field 2: a default value"):
            BlockHeader.parse_untrusted(again)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (3, "field 3"),
        (4, "field 4"),
        (5, "field 5"),
        (7, "height"),
        (9, "field 9"),
        (10, "field 10"),
        (9999, "signer"),
    ],
)
def test_an_incomplete_header_is_malformed(number: int, name: str) -> None:
    raw = BlockHeader.build(**SECOND).raw
    assert without_field(raw, 6) == raw  # protobuf lays the rest out as it was
    with pytest.raises(MalformedError, match=name):
        BlockHeader.parse_untrusted(without_field(raw, number))


@pytest.mark.parametrize(("field", "value"), [("height", -1), ("chain_id", -1)])
def test_a_header_with_a_negative_number_is_malformed(field: str, value: int) -> None:
    message = wire.BlockHeader.FromString(BlockHeader.build(**SECOND).raw)
    setattr(message, field, value)
    with pytest.raises(MalformedError, match=field.replace("_", " ")):
        BlockHeader.parse_untrusted(message.SerializeToString())


def test_the_first_block_needs_no_signer_and_chain_0_is_a_chain() -> None:
    header = BlockHeader.build(**{**SMALLEST, "chain_id": 0})
    assert (header.chain_id, header.height, header.signer_pubkey) == (0, 1, b"")
    assert (header.bloom, header.extra_data, header.signature) == (b"", (), b"")


def test_a_header_of_the_year_1970_has_an_empty_time() -> None:
    header = BlockHeader.build(**{**SMALLEST, "time_ns": 0})
    assert header.time_ns == 0
    assert wire.BlockHeader.FromString(header.raw).HasField("time")


def test_the_order_of_extra_data_counts() -> None:
    pairs = [("b", b"1"), ("a", b""), ("", b"3")]
    header = BlockHeader.build(**SMALLEST, extra_data=pairs)
    assert header.extra_data == tuple(pairs)
    other = BlockHeader.build(**SMALLEST, extra_data=reversed(pairs))
    assert other.hash != header.hash
    assert dict(other.extra_data) == dict(header.extra_data)


def test_unknown_fields_of_a_header_are_hashed_and_kept() -> None:
    plain = BlockHeader.build(**SECOND)
    unknown = b"\xca\xb5\x03\x01u"  # number 7001, below the signature's
    extended = BlockHeader.parse_untrusted(plain.raw + unknown)
    assert extended.hash != plain.hash
    signed = extended.with_signature(b"s")
    assert signed.raw == plain.raw + encode_bytes_field(10000, b"s") + unknown
    assert signed.hash == extended.hash


@given(
    st.builds(
        dict,
        chain_id=st.integers(0, (1 << 31) - 1),
        previous_hash=st.binary(min_size=32, max_size=32),
        transactions_root=st.binary(min_size=32, max_size=32),
        world_state_root=st.binary(min_size=32, max_size=32),
        status_root=st.binary(min_size=32, max_size=32),
        height=st.integers(1, (1 << 63) - 1),
        time_ns=st.integers(-62_135_596_800 * 10**9, 253_402_300_800 * 10**9 - 1),
        signer_pubkey=st.binary(min_size=1, max_size=65),
        # One entry that is not empty: the only map that protobuf writes as C# does.
        extra_data=st.lists(st.tuples(st.text(min_size=1), st.binary(min_size=1)), max_size=1),
        bloom=st.binary(max_size=256),
        version=st.integers(-(1 << 31), (1 << 31) - 1),
        signature=st.binary(max_size=65),
    )
)
def test_a_built_header_is_what_protobuf_would_write(fields: dict[str, Any]) -> None:
    header = BlockHeader.build(**fields)
    fields["extra_data"] = tuple(fields["extra_data"])
    assert {name: getattr(header, name) for name in fields} == fields
    message = wire.BlockHeader.FromString(header.raw)
    assert message.SerializeToString() == header.raw
    assert message.previous_block_hash.value == fields["previous_hash"]
    assert message.merkle_tree_root_of_transactions.value == fields["transactions_root"]
    assert message.merkle_tree_root_of_world_state.value == fields["world_state_root"]
    assert message.merkle_tree_root_of_transaction_status.value == fields["status_root"]
    assert message.time.ToNanoseconds() == fields["time_ns"]
    message.ClearField("signature")
    assert sha256(message.SerializeToString()).digest() == header.hash


@pytest.mark.parametrize(
    "wrong",
    [
        {"previous_hash": b""},
        {"transactions_root": bytes(31)},
        {"height": 0},
        {"height": 1 << 63},
        {"signer_pubkey": b""},
        {"chain_id": -1},
        {"chain_id": 1 << 31},
        {"version": 1 << 31},
        {"time_ns": 1 << 80},
        {"time_ns": 253_402_300_800 * 10**9},
        {"extra_data": [("a", b"1"), ("a", b"2")]},
    ],
    ids=repr,
)
def test_building_a_header_that_would_be_refused_is_misuse(wrong: dict[str, Any]) -> None:
    with pytest.raises(MisuseError):
        BlockHeader.build(**{**SECOND, **wrong})


def test_headers_hash_by_hash_and_are_equal_by_bytes() -> None:
    one = BlockHeader.build(**SECOND)
    same = BlockHeader.parse_untrusted(one.raw)
    signed = one.with_signature(b"s")
    assert one == same
    assert hash(one) == hash(same) == hash(signed) == hash(one.hash)
    assert one != signed
    assert one != one.raw
    assert not hasattr(one, "__dict__")


# --- blocks ---------------------------------------------------------------------------------------


def test_the_real_block_comes_whole_and_goes_out_as_it_came() -> None:
    block = Block.parse_untrusted(RAW_97)
    assert block.hash == BLOCK_97.block_hash
    assert block.transaction_ids == BLOCK_97.transaction_ids
    assert len(block.transactions) == 2
    assert block.height == 97
    assert block.previous_hash == BLOCK_97.previous_block_hash
    assert block.time_ns == BLOCK_97.time_seconds * 10**9 + BLOCK_97.time_nanos
    assert block.encode() == RAW_97
    assert block.size == len(RAW_97)


def test_a_blocks_unknown_fields_are_dropped_and_its_parts_never_encoded_again() -> None:
    block = Block.parse_untrusted(RAW_97)
    unknown = b"\x18\x05" + encode_message_field(7001, b"firehose") + b"\x08\x01\x10\x02"
    reversed_parts = b"".join(
        encode_message_field(number, bytes(body))
        for number, body in reversed(list(repeated_untrusted(RAW_97, 1, 2)))
    )
    other = Block.parse_untrusted(memoryview(unknown + reversed_parts))
    assert other.header == block.header
    assert other.transactions == block.transactions[::-1]
    assert other.encode() != RAW_97
    assert Block.parse_untrusted(other.encode()) == other
    assert type(other.header.raw) is type(other.transactions[0].raw) is bytes


def test_a_block_of_tiny_unknown_fields_is_refused() -> None:
    few, many = b"\x18\x05" * 64, b"\x18\x05" * 65
    assert Block.parse_untrusted(RAW_97 + few) == Block.parse_untrusted(RAW_97)
    for raw in (RAW_97 + many, many + RAW_97, RAW_97 + b"\x1a\x00" * 65):
        with pytest.raises(MalformedError, match="over 64 fields"):
            Block.parse_untrusted(raw)


def test_a_block_may_be_without_transactions() -> None:
    header = BlockHeader.build(**SMALLEST)
    block = Block.parse_untrusted(encode_message_field(1, header.raw))
    assert block == Block(header, ())
    assert block.transaction_ids == ()
    assert hash(block) == hash(header)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no header"),
        (b"\x08\x01", "no header"),
        (encode_message_field(1, BlockHeader.build(**SMALLEST).raw) * 2, "two headers"),
        (RAW_97 + encode_message_field(1, BlockHeader.build(**SMALLEST).raw), "two headers"),
        (encode_message_field(1, b"\x38\x01"), "BlockHeader has no field 3"),
        (RAW_97 + b"\x12\x00", "Transaction has no field 1"),
        (RAW_97[:-1], "cut short"),
    ],
)
def test_a_malformed_block(raw: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        Block.parse_untrusted(raw)


@given(st.lists(st.sampled_from(VECTORS.transactions), max_size=4))
def test_a_block_as_protobuf_writes_it_is_laid_out_alike(vectors: list[Any]) -> None:
    header = BlockHeader.build(**SECOND)
    message = wire.BlockWithTransactions(
        header=wire.BlockHeader.FromString(header.raw),
        transactions=[wire.Transaction.FromString(vector.raw) for vector in vectors],
    )
    block = Block(header, tuple(Transaction.parse_untrusted(vector.raw) for vector in vectors))
    assert block.encode() == message.SerializeToString()
    assert block.size == message.ByteSize()
    assert block.transaction_ids == tuple(vector.id for vector in vectors)
    assert Block.parse_untrusted(block.encode()) == block


def test_a_block_list_is_walked_block_by_block() -> None:
    block = Block.parse_untrusted(RAW_97)
    first = Block(BlockHeader.build(**SMALLEST), ())
    raw = b"".join(encode_message_field(1, each.encode()) for each in (first, block))
    unknown = encode_message_field(2, b"x") + b"\x08\x01"
    assert list(parse_block_list_untrusted(raw + unknown)) == [first, block]
    assert list(parse_block_list_untrusted(b"")) == []

    walk = parse_block_list_untrusted(memoryview(raw + encode_message_field(1, b"\x0a\x00")))
    assert [next(walk), next(walk)] == [first, block]
    with pytest.raises(MalformedError, match="height"):
        next(walk)


def test_a_large_block_is_parsed_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many transactions, no step parses more than about so many bytes of them."""
    steps = [0]
    parse_many = Transaction.parse_many_untrusted

    def count(raws: Sequence[bytes], encoded: bytes) -> list[Transaction]:
        steps[-1] += sum(map(len, raws))
        return parse_many(raws, encoded)

    monkeypatch.setattr(Transaction, "parse_many_untrusted", count)
    transaction = Transaction.parse_untrusted(VECTORS.transactions[0].raw)
    total = 5 * TRANSACTIONS_A_STEP + 1
    large = Block(BlockHeader.build(**SMALLEST), (transaction,) * total)

    def note_pause() -> None:
        steps.append(0)

    block, _ = count_pauses(Block.parse_in_steps_untrusted(large.encode()), note_pause)
    assert block == large
    assert sum(steps) == total * len(transaction.raw)
    assert len(steps) > 2
    assert max(steps) < 2 * STEP_BYTES

    listed = encode_message_field(1, RAW_97) + encode_message_field(1, large.encode())
    small = Block.parse_untrusted(RAW_97)
    between = [None] * (len(steps) - 1)
    assert list(parse_block_list_untrusted(listed)) == [small, *between, large]
