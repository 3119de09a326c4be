"""What is broadcast is encoded once, and weighs what it takes on the wire."""

import peer_service_pb2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind
from aelf_p2p.core.envelope import request_prefix
from aelf_p2p.testing.vectors import load_vectors

TRANSACTION = load_vectors().transactions[0]


@pytest.mark.parametrize(
    ("kind", "message_type"),
    [
        (BroadcastKind.BLOCK, 8),
        (BroadcastKind.TRANSACTION, 9),
        (BroadcastKind.ANNOUNCEMENT, 10),
        (BroadcastKind.LIB_ANNOUNCEMENT, 11),
    ],
)
def test_a_kind_is_its_message_type(kind: BroadcastKind, message_type: int) -> None:
    assert kind.value == message_type
    assert BroadcastKind(message_type) is kind
    assert len(BroadcastKind) == 4


def test_kinds_index_dictionaries() -> None:
    names = {kind: kind.name for kind in BroadcastKind}
    assert names[BroadcastKind(10)] == "ANNOUNCEMENT"
    assert len(names) == 4


@given(st.sampled_from(BroadcastKind), st.binary(max_size=300))
def test_its_body_behind_a_prefix_is_a_stream_message(kind: BroadcastKind, payload: bytes) -> None:
    item = BroadcastItem(kind, bytes(32), payload, "1700000000000_id")
    message = peer_service_pb2.StreamMessage.FromString(request_prefix(b"\x04", b"s") + item.body)
    assert (message.stream_type, message.message_type) == (1, kind.value)
    assert message.request_id == "1700000000000_id"
    assert message.message == payload
    message.ClearField("stream_type")
    message.ClearField("meta")
    assert item.size == len(item.body) == message.ByteSize()


def test_a_real_transaction() -> None:
    item = BroadcastItem(BroadcastKind.TRANSACTION, TRANSACTION.id, TRANSACTION.raw, "1_a")
    assert (item.kind, item.hash) == (BroadcastKind.TRANSACTION, TRANSACTION.id)
    assert (item.payload, item.request_id) == (TRANSACTION.raw, "1_a")
    assert item.message_type == 9
    assert item.body.endswith(TRANSACTION.raw)
    assert repr(item) == (
        f"<BroadcastItem TRANSACTION {TRANSACTION.id.hex()[:12]} {len(item.body)} bytes>"
    )
