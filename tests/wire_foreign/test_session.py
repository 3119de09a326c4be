"""A session of our node and a foreign one, whichever dialed: requests, broadcasts, goodbyes."""

from collections.abc import AsyncIterator

import grpc  # type: ignore[import-untyped]
import network_types_pb2 as types
import peer_service_pb2 as service
import pytest
import trio

from aelf_p2p import (
    BlockAccepted,
    CloseReason,
    PeerDisconnected,
    Transaction,
    TransactionsReceived,
)
from aelf_p2p.core.broadcast import BroadcastKind
from tests.wire_foreign.foreign_chain import (
    block_hash,
    make_block,
    make_chain,
    make_transaction,
    transaction_id,
)
from tests.wire_foreign.foreign_key import ForeignKey
from tests.wire_foreign.journal import WAIT_S
from tests.wire_foreign.support import (
    Connection,
    foreign_dials,
    in_thread,
    open_foreign,
    open_ours,
    ours_dials,
    wait_acknowledged,
    wait_event,
)

COUNT = 100
BLOCKS = make_chain(ForeignKey(), 4)
NODES = [types.NodeInfo(endpoint="10.0.0.7:6800", pubkey=ForeignKey().public)]


@pytest.fixture(params=["foreign dials", "ours dials"])
async def connection(request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    """Our node has the first three of BLOCKS, the foreign one has all four."""
    async with (
        open_foreign(blocks=BLOCKS[:3], nodes=NODES) as foreign,
        open_ours(BLOCKS[:3]) as node,
    ):
        if request.param == "ours dials":
            async with ours_dials(node, foreign) as connection:
                yield connection
        else:
            async with foreign_dials(node, foreign) as (connection, _):
                yield connection


async def test_the_foreign_node_asks(connection: Connection) -> None:
    stream = connection.stream
    for message_type in (service.PING, service.HEALTH_CHECK, 99):
        assert await in_thread(stream.ask, message_type) == b""
    block = types.BlockRequest()
    block.hash.value = block_hash(BLOCKS[1])
    reply = await in_thread(stream.ask, service.REQUEST_BLOCK, block.SerializeToString())
    assert types.BlockReply.FromString(reply) == types.BlockReply(block=BLOCKS[1])
    blocks = types.BlocksRequest(count=50)
    blocks.previous_block_hash.value = block_hash(BLOCKS[0])
    reply = await in_thread(stream.ask, service.REQUEST_BLOCKS, blocks.SerializeToString())
    assert list(types.BlockList.FromString(reply).blocks) == BLOCKS[1:3]
    nodes = types.NodesRequest(max_count=10).SerializeToString()
    assert await in_thread(stream.ask, service.GET_NODES, nodes) == b""  # it knows the asker only
    assert stream.unmatched.items == []


async def test_ours_asks(connection: Connection) -> None:
    peer = connection.peer
    await peer.check_health(timeout_s=WAIT_S)
    block = await peer.request_block(block_hash(BLOCKS[1]))
    assert block is not None
    assert block.encode() == BLOCKS[1].SerializeToString()
    assert await peer.request_block(bytes(32)) is None
    blocks = await peer.request_blocks(block_hash(BLOCKS[0]), 50)
    assert [each.encode() for each in blocks] == [each.SerializeToString() for each in BLOCKS[1:3]]
    [node] = await peer.request_nodes(10)
    assert str(node.endpoint) == NODES[0].endpoint
    assert node.public_key == NODES[0].pubkey
    session = connection.stream.session_in
    asked = connection.stream.requests.items[-5:]
    assert session is not None
    assert {request.meta["session-id-bin"] for request in asked} == {session.hex()}
    assert {request.meta["public-key"] for request in asked} == {connection.node.public_key.hex()}


async def test_a_request_of_a_wrong_session_gets_no_answer(connection: Connection) -> None:
    stream = connection.stream
    unanswered = stream.send(
        service.GET_NODES, meta={**stream.meta(), "session-id-bin": "0011223344"}
    )
    assert await in_thread(stream.ask, service.HEALTH_CHECK) == b""
    assert not unanswered.done()
    assert connection.peer.statistics().ignored == {"wrong session": 1}


async def test_broadcasts_of_ours_are_acknowledged(connection: Connection) -> None:
    key = ForeignKey()
    sent = [make_transaction(key, number) for number in range(COUNT)]
    for transaction in sent:
        ours = Transaction.parse_untrusted(transaction.SerializeToString())
        assert connection.node.network.broadcast_transaction(ours).queued == 1
    requests = await in_thread(
        connection.stream.requests.wait_for,
        lambda request: request.message_type == service.TRANSACTION_BROADCAST,
        COUNT,
    )
    assert [request.message for request in requests] == [each.SerializeToString() for each in sent]
    assert len({request.request_id for request in requests}) == COUNT
    await wait_acknowledged(connection.peer)
    statistics = connection.peer.statistics()
    assert statistics.sent[BroadcastKind.TRANSACTION] == COUNT
    assert statistics.acknowledged[BroadcastKind.TRANSACTION] == COUNT
    assert statistics.unacknowledged == 0
    assert statistics.dropped == {}


async def test_broadcasts_of_the_foreign_node_are_acknowledged(connection: Connection) -> None:
    key = ForeignKey()
    sent = [make_transaction(key, number) for number in range(COUNT)]
    payloads = [transaction.SerializeToString() for transaction in sent]
    count = await in_thread(connection.stream.broadcast, service.TRANSACTION_BROADCAST, payloads)
    assert count == COUNT
    received: list[bytes] = []
    while len(received) < COUNT:
        event = await wait_event(connection.events, TransactionsReceived)
        assert event.peer == connection.peer.info
        received += [transaction.id for transaction in event.transactions]
    assert received == [transaction_id(transaction) for transaction in sent]


async def test_a_block_that_is_announced_is_fetched_and_accepted(connection: Connection) -> None:
    connection.foreign.chain.blocks.append(BLOCKS[3])
    announcement = types.BlockAnnouncement(block_height=4)
    announcement.block_hash.value = block_hash(BLOCKS[3])
    payload = announcement.SerializeToString()
    await in_thread(connection.stream.broadcast, service.ANNOUNCEMENT_BROADCAST, [payload])
    accepted = await wait_event(connection.events, BlockAccepted)
    assert accepted.block.hash == block_hash(BLOCKS[3])
    assert connection.node.store.status.best_height == 4


async def test_a_block_that_its_producer_pushes_is_accepted(connection: Connection) -> None:
    block = make_block(connection.foreign.key, previous_hash=block_hash(BLOCKS[2]), height=4)
    payload = block.SerializeToString()
    await in_thread(connection.stream.broadcast, service.BLOCK_BROADCAST, [payload])
    accepted = await wait_event(connection.events, BlockAccepted)
    assert accepted.block.encode() == payload


async def test_ours_says_goodbye(connection: Connection) -> None:
    began = trio.current_time()
    assert await connection.node.disconnect(connection.foreign.key.public)
    assert await in_thread(connection.stream.disconnected.wait, WAIT_S)
    assert await in_thread(connection.stream.ended.result, WAIT_S) is grpc.StatusCode.OK
    assert trio.current_time() - began < 4
    [goodbye] = connection.stream.requests.wait_for(
        lambda request: request.message_type == service.DISCONNECT
    )
    reason = types.DisconnectReason.FromString(goodbye.message)
    assert reason.why == types.DisconnectReason.SHUTDOWN
    gone = await wait_event(connection.events, PeerDisconnected)
    assert gone.reason is CloseReason.REMOVED


async def test_the_foreign_node_says_goodbye(connection: Connection) -> None:
    connection.stream.disconnect()
    gone = await wait_event(connection.events, PeerDisconnected)
    assert gone.reason is CloseReason.DISCONNECTED_BY_PEER
    assert await in_thread(connection.stream.ended.result, WAIT_S) is grpc.StatusCode.OK
    assert connection.node.peers() == []
    # It did not say goodbye in answer.
    assert not connection.stream.disconnected.is_set()
