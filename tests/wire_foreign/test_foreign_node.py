"""The foreign node itself: one dials another, and both do as a C# node would."""

from collections.abc import Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]
import network_types_pb2 as types
import peer_service_pb2 as service
import pytest

from tests.wire_foreign.foreign_chain import (
    block_hash,
    make_chain,
    make_transaction,
    transaction_id,
)
from tests.wire_foreign.foreign_dial import ForeignDial, StreamEncoding
from tests.wire_foreign.foreign_handshake import BrokenHandshakeError, judge
from tests.wire_foreign.foreign_key import ForeignKey, sha256
from tests.wire_foreign.foreign_node import ForeignNode
from tests.wire_foreign.foreign_stream import ForeignStream
from tests.wire_foreign.journal import WAIT_S
from tests.wire_foreign.relay import Relay

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

BLOCKS = make_chain(ForeignKey(), 3)
NODES = [types.NodeInfo(endpoint=f"10.0.0.{number}:6800") for number in range(12)]


@pytest.fixture
def acceptor() -> Iterator[ForeignNode]:
    with ForeignNode(blocks=BLOCKS, nodes=NODES) as node:
        yield node


@pytest.fixture
def dialer() -> Iterator[ForeignNode]:
    with ForeignNode(blocks=BLOCKS) as node:
        yield node


@pytest.fixture
def dial(acceptor: ForeignNode, dialer: ForeignNode) -> Iterator[ForeignDial]:
    with dialer.dial(acceptor.port) as dial:
        yield dial


def accepted(acceptor: ForeignNode) -> ForeignStream:
    return acceptor.server.streams.wait_for(lambda stream: True)[0]


@pytest.mark.parametrize("encoding", StreamEncoding)
def test_a_connection_carries_requests_and_broadcasts_both_ways(
    acceptor: ForeignNode, dialer: ForeignNode, dial: ForeignDial, encoding: StreamEncoding
) -> None:
    stream = dial.connect(encoding)
    back = accepted(acceptor)
    assert back.confirmed.is_set()
    request = types.BlockRequest()
    request.hash.value = block_hash(BLOCKS[1])
    transactions = [make_transaction(dialer.key, number) for number in range(20)]
    payloads = [transaction.SerializeToString() for transaction in transactions]
    for side in (stream, back):
        assert side.ask(service.PING) == side.ask(service.HEALTH_CHECK) == b""
        reply = side.ask(service.REQUEST_BLOCK, request.SerializeToString())
        assert types.BlockReply.FromString(reply).block == BLOCKS[1]
        assert side.broadcast(service.TRANSACTION_BROADCAST, payloads) == 20
    received = [each for each in back.requests.items if each.message in payloads]
    assert [each.message for each in received] == payloads
    assert {each.meta["session-id-bin"] for each in received} == {back.session_in.hex()}  # type: ignore[union-attr]
    assert len({transaction_id(transaction) for transaction in transactions}) == 20
    back.disconnect()
    assert stream.disconnected.wait(WAIT_S)
    assert back.ended.result(WAIT_S) is stream.ended.result(WAIT_S) is grpc.StatusCode.OK


def test_requests_without_a_session_get_no_answer(acceptor: ForeignNode, dial: ForeignDial) -> None:
    stream = dial.connect()
    wrong = {**stream.meta(), "session-id-bin": "0000000000"}
    unanswered = stream.send(service.GET_NODES, meta=wrong)
    assert stream.ask(service.PING, meta={"public-key": stream.meta()["public-key"]}) == b""
    assert not unanswered.done()


def test_unary_calls_need_the_session(acceptor: ForeignNode, dial: ForeignDial) -> None:
    assert dial.call("Ping", metadata={}) == b""
    stream = dial.connect()
    session = dial.metadata(stream.session_out)
    for method in ("CheckHealth", "ConfirmHandshake", "Disconnect"):
        assert dial.call(method, metadata=session) == b""
    asked = types.NodesRequest(max_count=99).SerializeToString()
    nodes = types.NodeList.FromString(dial.call("GetNodes", asked, metadata=session)).nodes
    assert list(nodes) == NODES[:10]
    asked = types.BlocksRequest(
        previous_block_hash=BLOCKS[1].header.previous_block_hash, count=50
    ).SerializeToString()
    blocks = types.BlockList.FromString(dial.call("RequestBlocks", asked, metadata=session)).blocks
    assert list(blocks) == BLOCKS[1:]
    payloads = [make_transaction(acceptor.key, number).SerializeToString() for number in (1, 2)]
    assert dial.send_all("TransactionBroadcastStream", payloads, metadata=session) == b""
    assert acceptor.broadcasts.items == [
        (service.TRANSACTION_BROADCAST, payload) for payload in payloads
    ]
    for metadata in (dial.metadata(), dial.metadata(b"wrong"), {**session, "public-key": "04"}):
        for method in ("CheckHealth", "RequestBlocks", "Disconnect"):
            with pytest.raises(grpc.RpcError) as caught:
                dial.call(method, metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.CANCELLED


def test_calls_are_written_down(acceptor: ForeignNode, dial: ForeignDial) -> None:
    dial.connect()
    handshake, stream = acceptor.server.calls.items
    assert (handshake.method, stream.method) == ("DoHandshake", "RequestByStream")
    assert handshake.metadata["public-key"] == stream.metadata["public-key"]
    assert handshake.time_left_s is not None
    assert 5 < handshake.time_left_s <= 6
    assert stream.time_left_s is None


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, types.HANDSHAKE_OK),
        ({"chain_id": 1}, types.CHAIN_MISMATCH),
        ({"version": 2}, types.PROTOCOL_MISMATCH),
        ({"age_ns": 1_600_000_000}, types.SIGNATURE_TIMEOUT),
        ({"age_ns": -60_000_000_000}, types.HANDSHAKE_OK),
        ({"signature": bytes(64) + b"\x04"}, types.WRONG_SIGNATURE),
        ({"chain_id": 1, "version": 2, "signature": b""}, types.CHAIN_MISMATCH),
    ],
)
def test_handshakes_are_judged(
    acceptor: ForeignNode, dial: ForeignDial, changes: dict[str, Any], verdict: types.HandshakeError
) -> None:
    reply = dial.do_handshake(**changes)
    assert reply.error == verdict
    assert reply.HasField("handshake") is (verdict == types.HANDSHAKE_OK)
    assert dial.open_stream().shake_hands(**changes).error == verdict


@pytest.mark.parametrize("field", ["time", "listening_port"])
def test_a_handshake_with_missing_parts_is_an_error_of_the_handler(
    acceptor: ForeignNode, dial: ForeignDial, field: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        dial.do_handshake(drop=[field])
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    stream = dial.open_stream()
    with pytest.raises(EOFError):
        stream.shake_hands(drop=[field])
    assert stream.ended.result(WAIT_S) is grpc.StatusCode.UNKNOWN


def test_a_signature_covers_the_fields_that_a_node_does_not_know(dialer: ForeignNode) -> None:
    handshake = dialer.new_handshake()
    unknown_field_1000 = b"\xc0\x3e\x01"
    data = handshake.handshake_data.SerializeToString() + unknown_field_1000
    handshake.handshake_data.ParseFromString(data)
    assert judge(handshake, ForeignKey()) == types.WRONG_SIGNATURE
    handshake.signature = dialer.key.sign(data)
    assert judge(handshake, ForeignKey()) == types.HANDSHAKE_OK
    assert judge(handshake, dialer.key) == types.CONNECTION_REFUSED
    with pytest.raises(BrokenHandshakeError):
        judge(types.Handshake(), dialer.key)


def test_a_stop_ends_the_streams(acceptor: ForeignNode, dial: ForeignDial) -> None:
    stream = dial.connect()
    acceptor.server.close()
    assert stream.ended.result(WAIT_S) in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
    )


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_relay_ends_the_streams_of_both(
    acceptor: ForeignNode, dialer: ForeignNode, reset: bool
) -> None:
    with Relay(acceptor.port) as relay, dialer.dial(relay.port) as dial:
        stream = dial.connect()
        assert relay.bytes_to_dialer > 1000
        relay.cut(reset=reset)
        assert stream.ended.result(WAIT_S) is grpc.StatusCode.UNAVAILABLE
        assert accepted(acceptor).ended.result(WAIT_S) is grpc.StatusCode.OK


def test_a_key_signs_recoverably() -> None:
    key = ForeignKey((1).to_bytes(32, "big"))
    # The generator of secp256k1 (SEC 2, §2.4.1) is the public key of 1.
    assert key.hex == (
        "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
        "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
    )
    assert key.address == sha256(sha256(key.public))
    assert len(key.sign(b"")) == 65
