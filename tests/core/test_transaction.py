"""Transactions: real ones keep their ids, incomplete ones are refused, new ones are canonical."""

import hashlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aelf_p2p import wire
from aelf_p2p.core.encoders import (
    encode_bytes_field,
    encode_hash_field,
    encode_string_field,
    encode_varint_field,
)
from aelf_p2p.core.errors import MalformedError, MisuseError
from aelf_p2p.core.steps import finish
from aelf_p2p.core.transaction import Transaction, encode_transactions
from aelf_p2p.testing.vectors import (
    TransactionVector,
    UnsignedTransactionVector,
    load_vectors,
)

VECTORS = load_vectors()
REAL: tuple[UnsignedTransactionVector, ...] = (
    *VECTORS.transactions,
    *VECTORS.unsigned_transactions,
)

FROM = bytes(range(32))
TO = bytes(range(100, 132))
PARTS = {
    "from": encode_hash_field(1, FROM),
    "to": encode_hash_field(2, TO),
    "ref_block_number": encode_varint_field(3, 96),
    "method_name": encode_string_field(5, "Transfer"),
}
MINUS_ONE = b"".join((PARTS["from"], PARTS["to"], encode_varint_field(3, -1), PARTS["method_name"]))
SMALLEST: dict[str, Any] = {"from_address": FROM, "to_address": TO, "method_name": "Transfer"}


def decode_base58check(text: str) -> bytes:
    """Return an address's 32 bytes; the checksum is another module's matter."""
    number = 0
    for character in text:
        digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
        number = number * 58 + digits.index(character)
    return number.to_bytes(36, "big")[:32]


def signature_of(vector: UnsignedTransactionVector) -> bytes:
    return vector.signature if isinstance(vector, TransactionVector) else b""


def test_there_are_real_transactions() -> None:
    assert len(VECTORS.transactions) == 64
    assert len(VECTORS.unsigned_transactions) == 6


@pytest.mark.parametrize("vector", REAL, ids=lambda vector: vector.id.hex()[:8])
def test_a_real_transaction_has_its_known_id_and_fields(vector: UnsignedTransactionVector) -> None:
    transaction = Transaction.parse_untrusted(vector.raw)
    assert transaction.raw == vector.raw
    assert transaction.id == vector.id
    assert transaction.from_address == decode_base58check(vector.from_address)
    assert transaction.to_address == decode_base58check(vector.to_address)
    assert transaction.ref_block_number == vector.ref_block_number
    assert transaction.ref_block_prefix == vector.ref_block_prefix
    assert transaction.method_name == vector.method_name
    assert transaction.params == vector.params
    assert transaction.signature == signature_of(vector)


@pytest.mark.parametrize("vector", REAL, ids=lambda vector: vector.id.hex()[:8])
def test_a_real_transaction_is_built_again_from_its_fields(
    vector: UnsignedTransactionVector,
) -> None:
    unsigned = Transaction.build(
        from_address=decode_base58check(vector.from_address),
        to_address=decode_base58check(vector.to_address),
        method_name=vector.method_name,
        params=vector.params,
        ref_block_number=vector.ref_block_number,
        ref_block_prefix=vector.ref_block_prefix,
    )
    assert unsigned.id == vector.id
    assert unsigned.signature == b""
    signed = unsigned.with_signature(signature_of(vector))
    assert signed.raw == vector.raw
    assert signed.id == vector.id


def test_the_data_has_a_transaction_without_a_reference_block() -> None:
    assert any(
        (vector.ref_block_number, vector.ref_block_prefix) == (0, b"") for vector in REAL
    )  # so that the defaults were read from real bytes above


@pytest.mark.parametrize("missing", ["from", "to", "method_name"])
def test_an_incomplete_transaction_is_malformed(missing: str) -> None:
    raw = b"".join(part for name, part in PARTS.items() if name != missing)
    with pytest.raises(MalformedError, match=r"Transaction has no field [125]"):
        Transaction.parse_untrusted(raw)


def test_a_transaction_needs_nothing_more() -> None:
    raw = b"".join(part for name, part in PARTS.items() if name != "ref_block_number")
    transaction = Transaction.parse_untrusted(raw)
    assert transaction == Transaction.build(**SMALLEST)
    assert transaction.ref_block_number == 0
    assert (transaction.ref_block_prefix, transaction.params, transaction.signature) == (b"",) * 3


def test_a_negative_ref_block_number_is_malformed() -> None:
    raw = b"".join(PARTS.values()).replace(PARTS["ref_block_number"], encode_varint_field(3, -1), 1)
    with pytest.raises(MalformedError, match="negative"):
        Transaction.parse_untrusted(raw)


def test_params_are_not_looked_into() -> None:
    params = b"\x18\x00\x0a\xff"  # no message of any kind
    transaction = Transaction.parse_untrusted(
        b"".join(PARTS.values()) + encode_bytes_field(6, params)
    )
    assert transaction.params == params


def test_unknown_fields_are_hashed_and_kept() -> None:
    raw = b"".join(PARTS.values())
    unknown = b"\xba\x06\x01u"
    plain, extended = Transaction.parse_untrusted(raw), Transaction.parse_untrusted(raw + unknown)
    assert extended.id != plain.id
    signed = extended.with_signature(b"s" * 65)
    assert signed.id == extended.id
    assert signed.raw == raw + encode_bytes_field(10000, b"s" * 65) + unknown
    assert signed.with_signature(b"").raw == raw + unknown


def test_python_protobuf_serialises_an_unusual_transaction_differently() -> None:
    # A default value written out: protobuf drops it and so gives an id that nobody else would.
    raw = PARTS["from"] + PARTS["to"] + b"\x18\x00" + PARTS["method_name"]
    assert wire.Transaction.FromString(raw).SerializeToString() != raw
    with pytest.raises(MalformedError, match="default value"):
        Transaction.parse_untrusted(raw)


@given(
    st.builds(
        dict,
        from_address=st.binary(min_size=32, max_size=32),
        to_address=st.binary(min_size=32, max_size=32),
        method_name=st.text(min_size=1),
        params=st.binary(),
        ref_block_number=st.integers(0, (1 << 63) - 1),
        ref_block_prefix=st.binary(max_size=4),
        signature=st.binary(max_size=65),
    )
)
def test_a_built_transaction_is_what_protobuf_would_write(fields: dict[str, Any]) -> None:
    transaction = Transaction.build(**fields)
    assert {name: getattr(transaction, name) for name in fields} == fields
    message = wire.Transaction(
        to=wire.Address(value=fields["to_address"]),
        **{
            name: value
            for name, value in fields.items()
            if name not in ("from_address", "to_address")
        },
    )
    getattr(message, "from").value = fields["from_address"]
    assert transaction.raw == message.SerializeToString()
    assert transaction.with_signature(b"").id == transaction.id


@pytest.mark.parametrize(
    "wrong",
    [
        {"from_address": b""},
        {"from_address": FROM[1:]},
        {"to_address": TO + b"x"},
        {"method_name": ""},
        {"method_name": "\ud800"},
        {"ref_block_number": -1},
        {"ref_block_number": 1 << 63},
        {"ref_block_number": 1 << 64},
    ],
    ids=repr,
)
def test_building_what_would_be_refused_is_misuse(wrong: dict[str, Any]) -> None:
    with pytest.raises(MisuseError):
        Transaction.build(**{**SMALLEST, **wrong})


def test_transactions_hash_by_id_and_are_equal_by_bytes() -> None:
    one = Transaction.build(**SMALLEST)
    same = Transaction.parse_untrusted(one.raw)
    signed = one.with_signature(b"s")
    assert one == same
    assert hash(one) == hash(same) == hash(signed) == hash(one.id)
    assert one != signed
    assert one != one.raw
    assert len({one, same, signed}) == 2


def test_a_transaction_has_slots_and_a_short_repr() -> None:
    transaction = Transaction.build(**SMALLEST, params=b"p" * 1000)
    assert not hasattr(transaction, "__dict__")
    assert "Transfer" in repr(transaction)
    assert len(repr(transaction)) < 300


# --- the two ways of parsing ----------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        *PARTS.values(),
        encode_bytes_field(4, b"\x01\x02\x03\x04"),
        encode_bytes_field(6, b"params"),
        encode_bytes_field(10000, b"s" * 65),
        encode_bytes_field(1, b""),
        b"\x0a\x00",  # an address without a value
        b"\x12\x24\x0a\x20" + TO + b"\x10\x00",  # one with a field that C# does not know
        b"\x18\x00",  # a default written out
        b"\x18\xe0\x80\x00",  # a number longer than it need be
        b"\x2a\x02\xff\xfe",  # no UTF-8
        b"\xba\x06\x01u",  # an unknown field
    ]
)
MANGLED = st.tuples(st.lists(FRAGMENTS, max_size=8).map(b"".join), st.binary(max_size=2)).map(
    b"".join
)


NEARLY_REAL = st.tuples(
    st.sampled_from(REAL), st.integers(0, 2**16), st.integers(0, 255), st.booleans()
).map(lambda made: mangle(*made))


@given(MANGLED | NEARLY_REAL)
def test_the_quick_way_takes_nothing_that_the_careful_one_does_not(raw: bytes) -> None:
    quick = Transaction._parse_usual(raw)
    assert quick is None or len(quick.from_address) == len(quick.to_address) == 32
    if quick is not None:
        careful = finish(Transaction._parse_any_in_steps_untrusted(raw))
        assert (quick.raw, quick.id) == (careful.raw, careful.id)


def mangle(vector: UnsignedTransactionVector, at: int, byte: int, cuts: bool) -> bytes:
    raw = bytearray(vector.raw)
    raw[at % len(raw)] = byte
    return bytes(raw[: at % len(raw)] if cuts else raw)


@pytest.mark.parametrize("vector", REAL, ids=lambda vector: vector.id.hex()[:8])
def test_real_transactions_go_the_quick_way(vector: UnsignedTransactionVector) -> None:
    assert Transaction._parse_usual(vector.raw) is not None


SOUND = st.sampled_from(REAL).map(lambda vector: vector.raw)
ODD = st.just(VECTORS.transactions[0].raw + b"\xba\x06\x01u")  # well-formed, with an unknown field


SIGNED = st.sampled_from([0, 1, 127, 128, 200, 16_384]).map(
    lambda size: Transaction.build(**SMALLEST, signature=b"s" * size).raw
)
FIRST = VECTORS.transactions[0].raw


@given(
    st.lists(SOUND | SOUND | SOUND | SIGNED | ODD | MANGLED | NEARLY_REAL, max_size=6),
    st.booleans(),
)
@example([FIRST, b"".join((PARTS["from"], PARTS["method_name"])), FIRST], True)
@example([FIRST, b"".join((PARTS["to"], PARTS["method_name"])), FIRST], True)
@example([FIRST, b"".join((PARTS["from"], PARTS["to"])), FIRST], False)
@example([FIRST, b"\x0a\x21\x0a\x1f" + bytes(31) + FIRST[36:], FIRST], False)
@example([FIRST, MINUS_ONE, FIRST], False)
def test_many_are_parsed_as_each_by_itself(raws: list[bytes], encoded: bool) -> None:
    laid_out = encode_transactions(raws) if encoded else b""
    try:
        each = [Transaction.parse_untrusted(raw) for raw in raws]
    except MalformedError:
        with pytest.raises(MalformedError):
            Transaction.parse_many_untrusted(raws, laid_out)
        parsed = [parse_or_none(raw) for raw in raws]
        assert Transaction.parse_each_untrusted(raws) == parsed
        assert None in parsed
    else:
        many = Transaction.parse_many_untrusted(raws, laid_out)
        assert [(one.raw, one.id) for one in many] == [(one.raw, one.id) for one in each]
        assert Transaction.parse_each_untrusted(raws) == each


def parse_or_none(raw: bytes) -> Transaction | None:
    try:
        return Transaction.parse_untrusted(raw)
    except MalformedError:
        return None


@pytest.mark.parametrize("size", [0, 1, 127, 128, 200, 16_384])
def test_the_id_of_each_of_many_leaves_out_its_signature(size: int) -> None:
    unsigned = Transaction.build(**SMALLEST)
    raws = [unsigned.with_signature(b"s" * size).raw if size else unsigned.raw] * 2
    many = Transaction._parse_many_usual(raws)
    assert many is not None
    assert [one.id for one in many] == [hashlib.sha256(unsigned.raw).digest()] * 2


def test_real_transactions_are_parsed_together() -> None:
    raws = [vector.raw for vector in REAL]
    many = Transaction._parse_many_usual(raws, encode_transactions(raws))
    assert many is not None
    assert [one.id for one in many] == [vector.id for vector in REAL]
