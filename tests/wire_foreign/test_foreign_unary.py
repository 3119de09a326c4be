"""The foreign node of the old kind itself: it and another one of either kind, over TLS."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc  # type: ignore[import-untyped]
import network_types_pb2 as types
import peer_service_pb2 as service
import pytest

from tests.wire_foreign.foreign_broadcasts import CLIENT_STREAMS
from tests.wire_foreign.foreign_chain import block_hash, make_block, make_chain, make_transaction
from tests.wire_foreign.foreign_connect import RefusedError
from tests.wire_foreign.foreign_key import ForeignKey
from tests.wire_foreign.foreign_node import NEW_VERSION, OLD_VERSION, ForeignNode
from tests.wire_foreign.foreign_pool import ForeignPeer, ForeignPool
from tests.wire_foreign.foreign_stream import ForeignStream
from tests.wire_foreign.foreign_unary import ForeignUnaryPeer
from tests.wire_foreign.foreign_version import uses_stream
from tests.wire_foreign.journal import WAIT_S

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

BLOCKS = make_chain(ForeignKey(), 3)
NODES = [types.NodeInfo(endpoint="10.0.0.7:6800", pubkey=ForeignKey().public)]
VERSIONS = [(OLD_VERSION, OLD_VERSION), (OLD_VERSION, NEW_VERSION), (NEW_VERSION, OLD_VERSION)]
SECOND_NS = 1_000_000_000


@pytest.fixture(params=VERSIONS, ids=" dials ".join)
def nodes(request: pytest.FixtureRequest) -> Iterator[tuple[ForeignNode, ForeignNode]]:
    """A dialer and an acceptor."""
    dialer, acceptor = request.param
    with (
        ForeignNode(blocks=BLOCKS, nodes=NODES, node_version=dialer) as one,
        ForeignNode(blocks=BLOCKS, nodes=NODES, node_version=acceptor) as other,
    ):
        yield one, other


@pytest.fixture
def acceptor() -> Iterator[ForeignNode]:
    with ForeignNode(node_version=OLD_VERSION) as node:
        yield node


@pytest.fixture
def dialer() -> Iterator[ForeignNode]:
    with ForeignNode(node_version=OLD_VERSION) as node:
        yield node


def unary(peer: ForeignPeer | None) -> ForeignUnaryPeer:
    assert isinstance(peer, ForeignUnaryPeer)
    return peer


def methods_of(node: ForeignNode) -> list[str]:
    return [call.method for call in node.server.calls.items]


def payload_of(method: str) -> bytes:
    key = ForeignKey()
    messages: dict[str, Any] = {
        "BlockBroadcastStream": make_block(key),
        "TransactionBroadcastStream": make_transaction(key),
        "AnnouncementBroadcastStream": types.BlockAnnouncement(block_height=1),
        "LibAnnouncementBroadcastStream": types.LibAnnouncement(lib_height=1),
    }
    payload: bytes = messages[method].SerializeToString()
    return payload


def test_a_connection_carries_requests_and_broadcasts_both_ways(
    nodes: tuple[ForeignNode, ForeignNode],
) -> None:
    dialer, acceptor = nodes
    peer = unary(dialer.connect(acceptor.port))
    back = unary(acceptor.pool.get(dialer.key_hex))
    assert dialer.pool.peers() == [peer]
    assert (peer.inbound, back.inbound) == (False, True)
    assert methods_of(acceptor) == ["DoHandshake", "ConfirmHandshake"]
    assert methods_of(dialer) == ["Ping"]
    assert back.confirmed.is_set()
    assert (peer.session_in, peer.session_out) == (back.session_out, back.session_in)
    request = types.BlockRequest()
    request.hash.value = block_hash(BLOCKS[1])
    asked = types.BlocksRequest(count=50)
    asked.previous_block_hash.value = block_hash(BLOCKS[0])
    for side, other in ((peer, acceptor), (back, dialer)):
        assert side.call("CheckHealth") == b""
        reply = side.call("RequestBlock", request.SerializeToString())
        assert types.BlockReply.FromString(reply).block == BLOCKS[1]
        reply = side.call("RequestBlocks", asked.SerializeToString())
        assert list(types.BlockList.FromString(reply).blocks) == BLOCKS[1:]
        reply = side.call("GetNodes", types.NodesRequest(max_count=10).SerializeToString())
        assert list(types.NodeList.FromString(reply).nodes) == NODES
        for method, kind in CLIENT_STREAMS.items():
            payload = payload_of(method)
            assert side.broadcast(method, payload)
            assert side.broadcast(method, payload)
            other.broadcasts.wait_for((kind, payload).__eq__, 2)
            [stream] = [each for each in other.server.broadcasts.items if each.method == method]
            assert stream.metadata["session-id-bin"] == side.session_out
            assert side.broadcasts(method).end() is grpc.StatusCode.OK
    acceptor.disconnect(back)
    assert peer.disconnected.is_set()
    assert (dialer.pool.peers(), acceptor.pool.peers()) == ([], [])


def test_two_of_the_new_kind_speak_by_stream() -> None:
    with ForeignNode() as dialer, ForeignNode() as acceptor:
        peer = dialer.connect(acceptor.port)
        [back] = acceptor.pool.peers()
        assert back.confirmed.is_set()
        assert methods_of(acceptor) == ["DoHandshake", "RequestByStream"]
        assert methods_of(dialer) == []
        dialer.disconnect(peer)
        assert back.disconnected.wait(WAIT_S)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "UNKNOWN", "CANCELLED"])
def test_a_unary_call_is_made_once_more(
    dialer: ForeignNode, acceptor: ForeignNode, code: str
) -> None:
    peer = unary(dialer.connect(acceptor.port))
    status = grpc.StatusCode[code]
    acceptor.server.faults["CheckHealth"] = [status]
    assert peer.call("CheckHealth") == b""
    acceptor.server.faults["CheckHealth"] = [status, status]
    with pytest.raises(grpc.RpcError) as caught:
        peer.call("CheckHealth")
    assert caught.value.code() is status
    assert methods_of(acceptor).count("CheckHealth") == 4
    dialer.server.faults["Ping"] = [status]
    acceptor.disconnect(unary(acceptor.pool.get(dialer.key_hex)))
    unary(dialer.connect(acceptor.port))  # dialed back with a second Ping


@pytest.mark.parametrize("code", ["OK", "UNKNOWN", "INTERNAL"])
def test_a_stream_that_was_ended_loses_an_item_and_is_reopened(
    dialer: ForeignNode, acceptor: ForeignNode, code: str
) -> None:
    peer = unary(dialer.connect(acceptor.port))
    method = "TransactionBroadcastStream"
    payloads = [make_transaction(dialer.key, number).SerializeToString() for number in range(3)]
    assert peer.broadcast(method, payloads[0])
    [first] = acceptor.server.broadcasts.wait_for(lambda _: True)
    first.end(grpc.StatusCode[code])
    assert peer.broadcasts(method).wait_ended() is grpc.StatusCode[code]
    assert not peer.broadcast(method, payloads[1])
    assert peer.broadcast(method, payloads[2])
    second = acceptor.server.broadcasts.wait_for(lambda _: True, 2)[1]
    assert second.payloads.wait_for(lambda _: True) == [payloads[2]]


def test_a_malformed_item_ends_its_stream(dialer: ForeignNode, acceptor: ForeignNode) -> None:
    peer = unary(dialer.connect(acceptor.port))
    for method in CLIENT_STREAMS:
        assert peer.broadcast(method, b"\xff")
        assert peer.broadcasts(method).wait_ended() is grpc.StatusCode.UNKNOWN
    assert acceptor.broadcasts.items == []


def test_calls_need_the_session(dialer: ForeignNode, acceptor: ForeignNode) -> None:
    peer = unary(dialer.connect(acceptor.port))
    dial, session = peer.dial, peer.session_out
    for metadata in (dial.metadata(), dial.metadata(b""), {"session-id-bin": session}):
        for method in ("CheckHealth", "ConfirmHandshake", "GetNodes", "Disconnect"):
            with pytest.raises(grpc.RpcError) as caught:
                dial.call(method, metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.CANCELLED
        with pytest.raises(grpc.RpcError) as caught:
            dial.send_all("BlockBroadcastStream", [], metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.CANCELLED
    assert peer.call("CheckHealth") == b""


def test_refusals(dialer: ForeignNode, acceptor: ForeignNode) -> None:
    def refusal(**changes: Any) -> types.HandshakeError:
        with pytest.raises(RefusedError) as caught:
            dialer.connect(acceptor.port, **changes)
        return caught.value.code

    assert refusal(chain_id=1) == types.CHAIN_MISMATCH
    with ForeignNode() as gone:
        port = gone.port
    assert refusal(listening_port=port) == types.INVALID_CONNECTION
    dialer.server.faults["Ping"] = [grpc.StatusCode.UNKNOWN] * 2
    assert refusal() == types.INVALID_CONNECTION
    acceptor.refuse_handshake = types.CONNECTION_REFUSED
    assert refusal() == types.CONNECTION_REFUSED
    acceptor.refuse_handshake = types.HANDSHAKE_OK
    with acceptor.pool.handshaking(dialer.key_hex):
        assert refusal() == types.CONNECTION_REFUSED
    peer = dialer.connect(acceptor.port)
    assert refusal() == types.REPEATED_CONNECTION
    dialer.disconnect(peer)
    dialer.connect(acceptor.port)


@pytest.mark.parametrize("field", ["listening_port", "time"])
def test_a_handshake_with_missing_parts_is_an_error_of_the_handler(
    dialer: ForeignNode, acceptor: ForeignNode, field: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        dialer.connect(acceptor.port, drop=[field])
    assert caught.value.code() is grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize("version", ["", "x", "1", "1.2.3.4.5"])
def test_only_a_new_node_minds_a_version_that_is_none(acceptor: ForeignNode, version: str) -> None:
    with ForeignNode(node_version=version) as dialer, ForeignNode() as new:
        unary(dialer.connect(acceptor.port))
        with pytest.raises(grpc.RpcError) as caught:
            dialer.connect(new.port)
        assert caught.value.code() is grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.4.0.0", True), ("1.4.0", False), ("1.4", False), ("1.3.9.9", False), ("2.0", True)],
)
def test_versions_compare_as_dotnet_compares_them(version: str, expected: bool) -> None:
    assert uses_stream(version) is expected


@pytest.fixture
def crossing(
    dialer: ForeignNode, acceptor: ForeignNode
) -> Iterator[tuple[Future[ForeignPeer], Future[ForeignPeer]]]:
    """Both have dialed and accepted each other, the dialer a second earlier; neither dial is
    answered before ``may_answer`` of the one that accepted it is set."""
    with ThreadPoolExecutor(2) as dials:
        for node in (dialer, acceptor):
            node.may_answer.clear()
        dialed = (
            dials.submit(dialer.connect, acceptor.port, age_ns=SECOND_NS),
            dials.submit(acceptor.connect, dialer.port),
        )
        for node in (dialer, acceptor):
            node.pool.accepted.wait_for(lambda _: True)
        yield dialed


def test_of_two_dials_at_once_that_began_first_stays(
    dialer: ForeignNode,
    acceptor: ForeignNode,
    crossing: tuple[Future[ForeignPeer], Future[ForeignPeer]],
) -> None:
    earlier, later = crossing
    acceptor.may_answer.set()
    peer = unary(earlier.result(WAIT_S))
    dialer.may_answer.set()
    back = unary(later.result(WAIT_S))
    assert (peer.inbound, back.inbound) == (False, True)
    assert [dialer.pool.peers(), acceptor.pool.peers()] == [[peer], [back]]
    for side in (peer, back):
        assert side.call("CheckHealth") == b""
        assert side.confirmed.is_set()


def test_it_does_not_when_the_later_one_is_answered_first(
    dialer: ForeignNode,
    acceptor: ForeignNode,
    crossing: tuple[Future[ForeignPeer], Future[ForeignPeer]],
) -> None:
    """Protocol §3.3: the later dialer confirms on a session that the earlier one has not yet, and
    a confirmation that fails empties the pool. So two C# nodes lose both."""
    earlier, later = crossing
    dialer.may_answer.set()
    assert isinstance(later.exception(WAIT_S), grpc.RpcError)
    acceptor.may_answer.set()
    assert isinstance(earlier.exception(WAIT_S), grpc.RpcError)
    assert [dialer.pool.peers(), acceptor.pool.peers()] == [[], []]


@pytest.mark.parametrize("inbound", [False, True])
@pytest.mark.parametrize("later_ns", [-1, 0, 1])
def test_a_dial_replaces_an_inbound_stream_whose_handshake_is_later(
    dialer: ForeignNode, inbound: bool, later_ns: int
) -> None:
    """With streams as well: that one's time and the DoHandshake's are compared (protocol §3.3)."""
    pool, sent_ns = ForeignPool(), 1_000_000_000
    held = ForeignStream(dialer, "04", dialed=not inbound)
    held.handshake_ns = sent_ns + later_ns
    dialed = ForeignStream(dialer, "04", dialed=True)
    pool.put(held)
    kept = dialed if inbound and later_ns > 0 else held
    assert pool.settle(dialed, sent_ns) is kept
    assert pool.peers() == [kept]
    dialed.send(service.PING)
    has_ended = next(dialed.outgoing(), None) is None
    assert has_ended is (kept is held)
