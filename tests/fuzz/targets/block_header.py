"""A block header: what is accepted holds what protobuf reads, and is built the same again."""

from collections.abc import Iterator
from hashlib import sha256

from aelf_p2p import wire
from aelf_p2p.core.block import BlockHeader
from aelf_p2p.core.errors import MalformedError
from aelf_p2p.testing.vectors import load_vectors
from tests.fuzz.mutation import mutate_message

mutate = mutate_message


def seeds() -> Iterator[bytes]:
    for vector in sorted(
        load_vectors().blocks, key=lambda each: len(each.header_without_signature)
    ):
        if len(vector.header_without_signature) < 2500:
            yield vector.header or vector.header_without_signature
    small = BlockHeader.build(
        chain_id=1,
        previous_hash=bytes(32),
        transactions_root=bytes(32),
        world_state_root=bytes(32),
        status_root=bytes(32),
        height=1,
        time_ns=1_500_000_000,
        extra_data=[("b", b"1"), ("a", b"")],
        version=-1,
    ).raw
    yield small
    yield small + b"\xc0\x3e\x07"  # an unknown field
    yield small[:-1]


def target(data: bytes) -> bool:
    try:
        header = BlockHeader.parse_untrusted(data)
    except MalformedError:
        return False
    message = wire.BlockHeader.FromString(data)
    assert dict(header.extra_data) == dict(message.extra_data)
    assert header.time_ns == message.time.seconds * 10**9 + message.time.nanos
    assert header.height == message.height >= 1
    assert header.raw == data
    repr(header)
    signed = header.with_signature(b"\7" * 65)
    assert signed.hash == header.hash
    unsigned = _built(header, b"")
    whole = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() == whole:
        assert _built(header, header.signature).raw == data
        assert sha256(unsigned.raw).digest() == header.hash
    return True


def _built(header: BlockHeader, signature: bytes) -> BlockHeader:
    return BlockHeader.build(
        chain_id=header.chain_id,
        previous_hash=header.previous_hash,
        transactions_root=header.transactions_root,
        world_state_root=header.world_state_root,
        status_root=header.status_root,
        height=header.height,
        time_ns=header.time_ns,
        signer_pubkey=header.signer_pubkey,
        extra_data=header.extra_data,
        bloom=header.bloom,
        version=header.version,
        signature=signature,
    )
