"""A foreign node dials ours: handshakes, sessions and unary calls, as a C# dialer makes them."""

import time
from collections.abc import AsyncIterator
from functools import partial

import grpc  # type: ignore[import-untyped]
import network_types_pb2 as types
import peer_service_pb2 as service
import pytest

from aelf_p2p import (
    CloseReason,
    Endpoint,
    Node,
    PeerConnected,
    PeerDisconnected,
    TransactionsReceived,
)
from aelf_p2p.node import DEFAULT_NODE_VERSION
from tests.wire_foreign.foreign_chain import (
    CHAIN_ID,
    block_hash,
    make_block,
    make_chain,
    make_transaction,
)
from tests.wire_foreign.foreign_dial import ForeignDial, StreamEncoding
from tests.wire_foreign.foreign_handshake import judge
from tests.wire_foreign.foreign_key import ForeignKey
from tests.wire_foreign.foreign_node import ForeignNode
from tests.wire_foreign.journal import WAIT_S
from tests.wire_foreign.relay import Relay
from tests.wire_foreign.support import (
    foreign_dials,
    in_thread,
    open_foreign,
    open_ours,
    threaded,
    wait_event,
)

BLOCKS = make_chain(ForeignKey(), 3)
WITH_SESSION = [
    "CheckHealth",
    "RequestBlock",
    "RequestBlocks",
    "GetNodes",
    "ConfirmHandshake",
    "Disconnect",
]
CLIENT_STREAMS = [
    "BlockBroadcastStream",
    "TransactionBroadcastStream",
    "AnnouncementBroadcastStream",
    "LibAnnouncementBroadcastStream",
]


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with open_ours(BLOCKS) as node:
        yield node


@pytest.fixture
async def foreign() -> AsyncIterator[ForeignNode]:
    async with open_foreign() as node:
        yield node


def block_request(block: types.BlockWithTransactions) -> bytes:
    request = types.BlockRequest()
    request.hash.value = block_hash(block)
    return request.SerializeToString()


def blocks_request(previous_hash: bytes, count: int) -> bytes:
    request = types.BlocksRequest(count=count)
    request.previous_block_hash.value = previous_hash
    return request.SerializeToString()


async def status_of(dial: ForeignDial, method: str, metadata: dict[str, str | bytes]) -> str:
    """The name of the status that a call without a request's fields ends with."""
    try:
        if method in CLIENT_STREAMS:
            await in_thread(dial.send_all, method, [], metadata=metadata)
        else:
            await in_thread(dial.call, method, metadata=metadata)
    except grpc.RpcError as exc:
        return str(exc.code().name)
    return "OK"


@pytest.mark.parametrize("encoding", StreamEncoding)
async def test_the_handshake_step_by_step(
    node: Node, foreign: ForeignNode, encoding: StreamEncoding
) -> None:
    with node.subscribe() as events:
        async with threaded(partial(foreign.dial, node.endpoint.port)) as dial:
            assert dial.probed.startswith("-----BEGIN CERTIFICATE-----")
            reply = await in_thread(dial.do_handshake)
            assert reply.error == types.HANDSHAKE_OK
            assert judge(reply.handshake, foreign.key) == types.HANDSHAKE_OK
            data = reply.handshake.handshake_data
            assert data.pubkey == node.public_key
            assert (data.chain_id, data.version) == (CHAIN_ID, 1)
            assert data.listening_port == node.endpoint.port
            assert data.node_version == DEFAULT_NODE_VERSION
            assert (data.best_chain_hash.value, data.best_chain_height) == (
                block_hash(BLOCKS[2]),
                3,
            )
            assert data.last_irreversible_block_hash.value == bytes(32)
            assert data.last_irreversible_block_height == 0
            assert abs(time.time_ns() - data.time.ToNanoseconds()) < 1_500_000_000
            assert node.peer(foreign.key.public) is None

            stream = dial.open_stream(encoding)
            on_stream = await in_thread(stream.shake_hands)
            assert on_stream.error == types.HANDSHAKE_OK
            assert judge(on_stream.handshake, foreign.key) == types.HANDSHAKE_OK
            assert on_stream.handshake.session_id not in (b"", reply.handshake.session_id)
            assert node.peer(foreign.key.public) is not None
            assert node.peers() == []

            await in_thread(stream.confirm)
            connected = await wait_event(events, PeerConnected)
            assert connected.peer.public_key == foreign.key.public
            assert connected.peer.inbound
            assert connected.peer.endpoint == Endpoint("127.0.0.1", foreign.port)
            assert connected.peer.node_version == "1.12.3.0"
            assert [peer.info for peer in node.peers()] == [connected.peer]


async def test_the_confirmation_may_come_as_a_unary_call(node: Node, foreign: ForeignNode) -> None:
    with node.subscribe() as events:
        async with threaded(partial(foreign.dial, node.endpoint.port)) as dial:
            await in_thread(dial.do_handshake)
            stream = dial.open_stream()
            await in_thread(stream.shake_hands)
            metadata = dial.metadata(stream.session_out)
            assert await in_thread(dial.call, "ConfirmHandshake", metadata=metadata) == b""
            await wait_event(events, PeerConnected)


async def test_unary_calls_work_beside_the_stream(node: Node, foreign: ForeignNode) -> None:
    async with foreign_dials(node, foreign) as (connection, dial):
        session = dial.metadata(connection.stream.session_out)
        assert await in_thread(dial.call, "Ping", metadata=session) == b""
        assert await in_thread(dial.call, "CheckHealth", metadata=session) == b""
        assert await in_thread(dial.call, "ConfirmHandshake", metadata=session) == b""

        request = block_request(BLOCKS[1])
        block = await in_thread(dial.call, "RequestBlock", request, metadata=session)
        assert types.BlockReply.FromString(block) == types.BlockReply(block=BLOCKS[1])
        request = block_request(make_block(foreign.key))
        assert await in_thread(dial.call, "RequestBlock", request, metadata=session) == b""

        request = blocks_request(block_hash(BLOCKS[0]), 50)
        blocks = await in_thread(dial.call, "RequestBlocks", request, metadata=session)
        assert list(types.BlockList.FromString(blocks).blocks) == BLOCKS[1:]
        request = blocks_request(block_hash(BLOCKS[0]), 51)
        assert await in_thread(dial.call, "RequestBlocks", request, metadata=session) == b""

        request = types.NodesRequest(max_count=10).SerializeToString()
        assert await in_thread(dial.call, "GetNodes", request, metadata=session) == b""

        assert await in_thread(dial.call, "Disconnect", metadata=session) == b""
        gone = await wait_event(connection.events, PeerDisconnected)
        assert gone.reason is CloseReason.DISCONNECTED_BY_PEER


async def test_the_nodes_that_it_is_told_are_the_other_peers(
    node: Node, foreign: ForeignNode
) -> None:
    async with (
        open_foreign() as other,
        foreign_dials(node, foreign) as (connection, dial),
        threaded(partial(other.dial, node.endpoint.port)) as other_dial,
    ):
        await in_thread(other_dial.connect)
        session = dial.metadata(connection.stream.session_out)
        request = types.NodesRequest(max_count=10).SerializeToString()
        reply = await in_thread(dial.call, "GetNodes", request, metadata=session)
        told = types.NodeInfo(endpoint=f"127.0.0.1:{other.port}", pubkey=other.key.public)
        assert list(types.NodeList.FromString(reply).nodes) == [told]


@pytest.mark.parametrize("method", CLIENT_STREAMS)
async def test_client_streams_carry_broadcasts(
    node: Node, foreign: ForeignNode, method: str
) -> None:
    next_block = make_block(foreign.key, previous_hash=block_hash(BLOCKS[2]), height=4)
    announcement = types.BlockAnnouncement(block_height=4)
    announcement.block_hash.value = block_hash(next_block)
    lib = types.LibAnnouncement(lib_height=1)
    lib.lib_hash.value = block_hash(BLOCKS[0])
    messages = {
        "BlockBroadcastStream": next_block,
        "TransactionBroadcastStream": make_transaction(foreign.key, 1),
        "AnnouncementBroadcastStream": announcement,
        "LibAnnouncementBroadcastStream": lib,
    }
    foreign.chain.blocks += [*BLOCKS, next_block]
    async with foreign_dials(node, foreign) as (connection, dial):
        session = dial.metadata(connection.stream.session_out)
        payloads = [messages[method].SerializeToString()]
        assert await in_thread(dial.send_all, method, payloads, metadata=session) == b""
        if method == "LibAnnouncementBroadcastStream":
            assert connection.peer.chain.lib_height == 1


async def test_calls_without_the_session_are_cancelled(node: Node, foreign: ForeignNode) -> None:
    async with (
        open_foreign() as other,
        foreign_dials(node, foreign) as (connection, dial),
        threaded(partial(other.dial, node.endpoint.port)) as other_dial,
    ):
        session = connection.stream.session_out
        other_stream = await in_thread(other_dial.connect)
        assert session is not None
        refused: dict[str, dict[str, str | bytes]] = {
            "no session": dial.metadata(),
            "an empty one": dial.metadata(b""),
            "a wrong one": dial.metadata(bytes(len(session))),
            "the session of another": dial.metadata(other_stream.session_out),
            "the key of another": other_dial.metadata(session),
            "no key": {"session-id-bin": session},
            "a key in capitals": {**dial.metadata(session), "public-key": foreign.key_hex.upper()},
        }
        for metadata in refused.values():
            for method in WITH_SESSION + CLIENT_STREAMS:
                assert await status_of(dial, method, metadata) == "CANCELLED", method
            assert await status_of(dial, "Ping", metadata) == "OK"
            reply = await in_thread(dial.do_handshake)
            assert reply.error == types.HANDSHAKE_OK
        assert connection.peer.close_reason is None
        assert await status_of(dial, "CheckHealth", dial.metadata(session)) == "OK"


@pytest.mark.fault(40)
async def test_unknown_methods_are_unimplemented(node: Node, foreign: ForeignNode) -> None:
    async with foreign_dials(node, foreign) as (connection, dial):
        metadata = dial.metadata(connection.stream.session_out)
        assert await status_of(dial, "Nothing", metadata) == "UNIMPLEMENTED"
        assert await status_of(dial, "CheckHealth", metadata) == "OK"


@pytest.mark.fault(34)
async def test_the_bulk_reply_alone_is_compressed(foreign: ForeignNode) -> None:
    """Seen from outside: 150 KB that compress well take a few on the wire, or all of them."""
    block = make_block(foreign.key)
    block.header.extra_data["Consensus"] = bytes(150_000)
    block.header.ClearField("signature")
    block.header.signature = foreign.key.sign(block.header.SerializeToString())
    async with (
        open_ours([block]) as node,
        threaded(partial(Relay, node.endpoint.port)) as relay,
        foreign_dials(node, foreign, port=relay.port) as (connection, dial),
    ):
        session = dial.metadata(connection.stream.session_out)
        before = relay.bytes_to_dialer
        request = blocks_request(bytes(32), 1)
        reply = await in_thread(dial.call, "RequestBlocks", request, metadata=session)
        assert list(types.BlockList.FromString(reply).blocks) == [block]
        between = relay.bytes_to_dialer
        assert between - before < 15_000
        reply = await in_thread(dial.call, "RequestBlock", block_request(block), metadata=session)
        assert types.BlockReply.FromString(reply).block == block
        assert relay.bytes_to_dialer - between > 150_000


@pytest.mark.fault(34)
@pytest.mark.parametrize("encoding", StreamEncoding)
async def test_compressed_messages_are_understood(
    node: Node, foreign: ForeignNode, encoding: StreamEncoding
) -> None:
    transaction = make_transaction(foreign.key, padding=bytes(100_000))
    async with (
        threaded(partial(Relay, node.endpoint.port)) as relay,
        foreign_dials(node, foreign, port=relay.port, encoding=encoding) as (connection, _),
    ):
        before = relay.bytes_from_dialer
        payloads = [transaction.SerializeToString()]
        stream = connection.stream
        assert await in_thread(stream.broadcast, service.TRANSACTION_BROADCAST, payloads) == 1
        is_compressed = relay.bytes_from_dialer - before < 10_000
        assert is_compressed is (encoding is StreamEncoding.GZIP_USED)
        received = await wait_event(connection.events, TransactionsReceived)
        assert received.transactions[0].raw == payloads[0]


async def test_a_stream_that_is_rebuilt_needs_no_new_confirmation(
    node: Node, foreign: ForeignNode
) -> None:
    """Protocol §3.1, step 4: the channel lives, and no DoHandshake comes again."""
    async with foreign_dials(node, foreign) as (connection, dial):
        connection.stream.end()
        lost = await wait_event(connection.events, PeerDisconnected)
        assert lost.reason is CloseReason.LOST
        ended = await in_thread(connection.stream.ended.result, WAIT_S)
        assert ended is grpc.StatusCode.CANCELLED
        stream = dial.open_stream()
        await in_thread(stream.shake_hands)
        again = await wait_event(connection.events, PeerConnected)
        assert again.peer.public_key == foreign.key.public
