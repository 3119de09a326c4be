"""A foreign node's handshake, and how it judges those of others (protocol §3)."""

import time
from collections.abc import Iterable
from typing import Any

import network_types_pb2 as types
from aelf import core_pb2

from tests.wire_foreign.foreign_chain import CHAIN_ID
from tests.wire_foreign.foreign_key import ForeignKey, is_signed_by

MAX_AGE_NS = 1_500_000_000


class BrokenHandshakeError(Exception):
    """A part is missing, or text is not what it should be: C# throws."""


def make_handshake(
    key: ForeignKey,
    *,
    listening_port: int,
    session_id: bytes,
    tip: tuple[bytes, int],
    node_version: str = "1.12.3.0",
    signature: bytes | None = None,
    age_ns: int = 0,
    drop: Iterable[str] = (),
    **changes: Any,
) -> types.Handshake:
    """A handshake of ``age_ns`` ago, signed unless a signature is given, with changes."""
    best_hash, best_height = tip
    data = types.HandshakeData(
        chain_id=CHAIN_ID,
        version=1,
        listening_port=listening_port,
        pubkey=key.public,
        best_chain_hash=core_pb2.Hash(value=best_hash),
        best_chain_height=best_height,
        last_irreversible_block_hash=core_pb2.Hash(value=bytes(32)),
        node_version=node_version,
    )
    data.time.FromNanoseconds(time.time_ns() - age_ns)
    for name, value in changes.items():
        setattr(data, name, value)
    for name in drop:
        data.ClearField(name)
    if signature is None:
        signature = key.sign(data.SerializeToString())
    return types.Handshake(handshake_data=data, signature=signature, session_id=session_id)


def judge(handshake: types.Handshake, own_key: ForeignKey) -> types.HandshakeError:
    """What a C# node answers, its checks in their order. Raises BrokenHandshakeError."""
    data = handshake.handshake_data
    if not (handshake.HasField("handshake_data") and data.HasField("time")):
        raise BrokenHandshakeError("a part is missing")
    if not 0 < data.listening_port < 65536:
        raise BrokenHandshakeError(f"listening port {data.listening_port}")
    if data.chain_id != CHAIN_ID:
        return types.CHAIN_MISMATCH
    if data.version != 1:
        return types.PROTOCOL_MISMATCH
    if time.time_ns() - data.time.ToNanoseconds() > MAX_AGE_NS:
        return types.SIGNATURE_TIMEOUT
    # Fields that it does not know are kept and signed too, behind those that it knows.
    if not is_signed_by(data.pubkey, data.SerializeToString(), handshake.signature):
        return types.WRONG_SIGNATURE
    if data.pubkey == own_key.public:
        return types.CONNECTION_REFUSED
    return types.HANDSHAKE_OK
