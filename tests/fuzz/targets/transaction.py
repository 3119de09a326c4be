"""A transaction three ways: the usual one, several at once, and the walk over the wire format.

What is accepted, protobuf reads and writes the same, and its id is the SHA-256 without field 10000.
What protobuf writes just so, and is complete, is accepted.
"""

from collections.abc import Iterator
from hashlib import sha256

from google.protobuf.message import DecodeError

from aelf_p2p import wire
from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.steps import finish
from aelf_p2p.core.transaction import Transaction, encode_transactions
from aelf_p2p.testing.vectors import load_vectors
from tests.fuzz.mutation import mutate_message

mutate = mutate_message
GOOD = Transaction.build(from_address=bytes(32), to_address=b"\1" * 32, method_name="M")


def seeds() -> Iterator[bytes]:
    vectors = load_vectors()
    yield from (each.raw for each in vectors.transactions[:4])
    yield from (each.raw for each in vectors.unsigned_transactions[:2])
    yield GOOD.raw
    yield GOOD.raw + b"\x80\xf1\x04\x07"  # an unknown field, 10,000 as a varint
    yield GOOD.raw + b"\xc0\x3e\x07"  # another, 1000
    yield GOOD.raw[:36]


def target(data: bytes) -> bool:
    careful = _or_none(data)
    try:
        usual = Transaction.parse_untrusted(data)
    except MalformedError:
        assert careful is None, "the usual way refuses what the careful way accepts"
        usual = None
    for several in ([data, data], [GOOD.raw, data, GOOD.raw]):
        _check_several(several, usual)
    if usual is None:
        assert not _is_right(data), "refused, though protobuf writes it just so"
        return False
    assert careful is not None, "accepted only when not looked at carefully"
    assert (usual.raw, usual.id) == (careful.raw, careful.id) == (data, usual.id)
    _check_against_protobuf(usual)
    return True


def _or_none(data: bytes) -> Transaction | None:
    try:
        return finish(Transaction._parse_any_in_steps_untrusted(data))
    except MalformedError:
        return None


def _check_several(raws: list[bytes], usual: Transaction | None) -> None:
    try:
        transactions = Transaction.parse_many_untrusted(raws)
    except MalformedError:
        assert usual is None, "refused beside others"
        return
    assert usual is not None, "accepted beside others"
    assert [each.raw for each in transactions] == raws
    assert transactions[1].id == (usual.id if raws[1] == usual.raw else GOOD.id)
    encoded = encode_transactions(raws)
    assert transactions == Transaction.parse_many_untrusted(raws, encoded)


def _check_against_protobuf(usual: Transaction) -> None:
    message = wire.Transaction.FromString(usual.raw)
    assert message.SerializeToString() == usual.raw
    assert getattr(message, "from").value == usual.from_address
    assert len(usual.from_address) == len(usual.to_address) == 32
    assert (message.method_name, message.params) == (usual.method_name, usual.params)
    repr(usual)
    signed = usual.with_signature(b"\7" * 65)
    assert (signed.id, signed.signature) == (usual.id, b"\7" * 65)
    message.ClearField("signature")
    assert sha256(message.SerializeToString()).digest() == usual.id


def _is_right(data: bytes) -> bool:
    """By protobuf alone: whole, without a field that it does not know, and written just so."""
    try:
        message = wire.Transaction.FromString(data)
    except DecodeError:
        return False
    message.DiscardUnknownFields()
    addresses = (getattr(message, "from").value, message.to.value)
    return (
        message.SerializeToString() == data
        and all(len(each) == 32 for each in addresses)
        and message.method_name != ""
        and message.ref_block_number >= 0
    )
