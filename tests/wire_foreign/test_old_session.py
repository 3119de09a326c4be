"""A session of our node and a foreign one of which either is of the old kind, whichever dialed.

Requests, broadcasts on client streams, goodbyes: each node on its own channel to the other.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
import network_types_pb2 as types
import pytest
import trio

from aelf_p2p import (
    AnnouncementReceived,
    Block,
    BlockAccepted,
    BlockReceived,
    CloseReason,
    HandlerError,
    NetworkError,
    Node,
    Peer,
    PeerDisconnected,
    Transaction,
    TransactionsReceived,
)
from tests.wire_foreign.foreign_broadcasts import CLIENT_STREAMS
from tests.wire_foreign.foreign_chain import (
    block_hash,
    make_block,
    make_chain,
    make_transaction,
    transaction_id,
)
from tests.wire_foreign.foreign_key import ForeignKey
from tests.wire_foreign.foreign_node import NEW_VERSION, OLD_VERSION
from tests.wire_foreign.foreign_unary import ForeignUnaryPeer
from tests.wire_foreign.journal import WAIT_S
from tests.wire_foreign.old_support import (
    PAIR_IDS,
    PAIRS,
    WITH_SESSION,
    OldConnection,
    methods_of,
    old_connection,
    open_ours_old,
    status_of,
)
from tests.wire_foreign.support import in_thread, open_foreign, wait_event

COUNT = 100
BLOCKS = make_chain(ForeignKey(), 4)
NODES = [types.NodeInfo(endpoint="10.0.0.7:6800", pubkey=ForeignKey().public)]
DIALERS = [False, True]
CASES = [(pair, ours_dials) for pair in PAIRS for ours_dials in DIALERS]
CASE_IDS = [
    f"{pair} {'ours' if ours_dials else 'foreign'} dials"
    for pair in PAIR_IDS
    for ours_dials in DIALERS
]
REQUESTS: dict[str, Callable[[Peer], Any]] = {
    "RequestBlock": lambda peer: peer.request_block(block_hash(BLOCKS[1])),
    "RequestBlocks": lambda peer: peer.request_blocks(block_hash(BLOCKS[0]), 50),
    "GetNodes": lambda peer: peer.request_nodes(10),
    "CheckHealth": lambda peer: peer.check_health(timeout_s=WAIT_S),
}
TRANSACTIONS = "TransactionBroadcastStream"


@pytest.fixture(params=CASES, ids=CASE_IDS)
async def connection(request: pytest.FixtureRequest) -> AsyncIterator[OldConnection]:
    """Both have the first three of BLOCKS."""
    (ours, theirs), ours_dials = request.param
    async with (
        open_foreign(blocks=BLOCKS[:3], nodes=NODES, node_version=theirs) as foreign,
        open_ours_old(BLOCKS[:3], node_version=ours) as node,
        old_connection(node, foreign, ours_dials=ours_dials) as connection,
    ):
        yield connection


@pytest.fixture(params=[NEW_VERSION, OLD_VERSION])
async def inbound(request: pytest.FixtureRequest) -> AsyncIterator[OldConnection]:
    """An old foreign node dialed ours; both have the first three of BLOCKS."""
    async with (
        open_foreign(blocks=BLOCKS[:3], nodes=NODES, node_version=OLD_VERSION) as foreign,
        open_ours_old(BLOCKS[:3], node_version=request.param) as node,
        old_connection(node, foreign, ours_dials=False) as connection,
    ):
        yield connection


# --- requests -------------------------------------------------------------------------------------


async def test_the_foreign_node_asks(connection: OldConnection) -> None:
    async def ask(method: str, request: Any) -> bytes:
        reply: bytes = await in_thread(connection.back.call, method, request.SerializeToString())
        return reply

    block = types.BlockRequest()
    block.hash.value = block_hash(BLOCKS[1])
    reply = await ask("RequestBlock", block)
    assert types.BlockReply.FromString(reply) == types.BlockReply(block=BLOCKS[1])
    block.hash.value = block_hash(BLOCKS[3])
    assert await ask("RequestBlock", block) == b""
    blocks = types.BlocksRequest(count=50)
    blocks.previous_block_hash.value = block_hash(BLOCKS[0])
    reply = await ask("RequestBlocks", blocks)
    assert list(types.BlockList.FromString(reply).blocks) == BLOCKS[1:3]
    blocks.count = 51
    assert await ask("RequestBlocks", blocks) == b""
    assert await ask("GetNodes", types.NodesRequest(max_count=10)) == b""  # it knows the asker only
    assert await in_thread(connection.back.call, "CheckHealth") == b""
    assert await in_thread(connection.back.call, "ConfirmHandshake") == b""  # once more


async def test_ours_asks(connection: OldConnection) -> None:
    peer, foreign = connection.peer, connection.foreign
    before = len(foreign.server.calls.items)
    await peer.check_health(timeout_s=WAIT_S)
    block = await peer.request_block(block_hash(BLOCKS[1]))
    assert block is not None
    assert block.encode() == BLOCKS[1].SerializeToString()
    assert await peer.request_block(bytes(32)) is None
    blocks = await peer.request_blocks(block_hash(BLOCKS[0]), 50)
    assert [each.encode() for each in blocks] == [each.SerializeToString() for each in BLOCKS[1:3]]
    [told] = await peer.request_nodes(10)
    assert str(told.endpoint) == NODES[0].endpoint
    assert told.public_key == NODES[0].pubkey
    calls = foreign.server.calls.items[before:]
    assert [call.method for call in calls] == [
        "CheckHealth",
        "RequestBlock",
        "RequestBlock",
        "RequestBlocks",
        "GetNodes",
    ]
    assert {call.metadata["session-id-bin"] for call in calls} == {connection.back.session_in}
    assert {call.metadata["public-key"] for call in calls} == {connection.node.public_key.hex()}
    assert len({call.caller for call in foreign.server.calls.items}) == 1  # all on one connection
    assert all(call.time_left_s is not None for call in calls)


@pytest.mark.parametrize("method", REQUESTS)
@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"])
async def test_a_request_is_made_once_more_at_once(
    inbound: OldConnection, method: str, code: str
) -> None:
    foreign, status = inbound.foreign, grpc.StatusCode[code]
    before = methods_of(foreign).count(method)
    foreign.server.faults[method] = [status]
    await REQUESTS[method](inbound.peer)
    assert methods_of(foreign).count(method) == before + 2
    foreign.server.faults[method] = [status, status]
    with pytest.raises(NetworkError) as caught:
        await REQUESTS[method](inbound.peer)
    assert methods_of(foreign).count(method) == before + 4
    if code == "UNKNOWN":  # a handler's error, and the peer stays (protocol §3.4)
        assert isinstance(caught.value, HandlerError)
        assert inbound.peer.close_reason is None


async def test_calls_without_the_session_are_cancelled(connection: OldConnection) -> None:
    dial, session = connection.back.dial, connection.back.session_out
    refused: dict[str, dict[str, str | bytes]] = {
        "no session": dial.metadata(),
        "an empty one": dial.metadata(b""),
        "a wrong one": dial.metadata(bytes(len(session))),
        "its own": dial.metadata(connection.back.session_in),
        "an unknown key": {**dial.metadata(session), "public-key": ForeignKey().hex},
        "no key": {"session-id-bin": session},
        "a key in capitals": {
            **dial.metadata(session),
            "public-key": connection.foreign.key_hex.upper(),
        },
    }
    for what, metadata in refused.items():
        for method in WITH_SESSION:
            assert await status_of(dial, method, metadata) == "CANCELLED", (what, method)
        for method in CLIENT_STREAMS:
            status = await status_of(dial, method, metadata, streams=True)
            assert status == "CANCELLED", (what, method)
        assert await status_of(dial, "Ping", metadata) == "OK", what
    reply = await in_thread(dial.do_handshake)
    assert reply.error == types.REPEATED_CONNECTION  # it was looked at without a session
    assert connection.peer.close_reason is None
    assert await in_thread(connection.back.call, "CheckHealth") == b""


# --- broadcasts -----------------------------------------------------------------------------------


async def test_broadcasts_of_ours(connection: OldConnection) -> None:
    """Each kind comes on one stream of its own, which is opened at the first use."""
    foreign, network, key = connection.foreign, connection.node.network, ForeignKey()
    assert foreign.server.broadcasts.items == []
    pushed, announced = (make_block(key, height=height) for height in (4, 5))
    transactions = [make_transaction(key, number) for number in range(COUNT)]
    for transaction in transactions:
        ours = Transaction.parse_untrusted(transaction.SerializeToString())
        assert network.broadcast_transaction(ours).queued == 1
    assert network.broadcast_block(Block.parse_untrusted(pushed.SerializeToString())).queued == 1
    ours_announced = Block.parse_untrusted(announced.SerializeToString())
    assert network.announce_block(ours_announced).queued == 1
    for height in (1, 2):
        assert network.announce_lib(block_hash(BLOCKS[height - 1]), height).queued == 1
        await in_thread(foreign.broadcasts.wait_for, _is("LibAnnouncementBroadcastStream"), height)
    await in_thread(foreign.broadcasts.wait_for, _is(TRANSACTIONS), COUNT)
    await in_thread(foreign.broadcasts.wait_for, _is("BlockBroadcastStream"))
    await in_thread(foreign.broadcasts.wait_for, _is("AnnouncementBroadcastStream"))
    streams = {stream.method: stream for stream in foreign.server.broadcasts.items}
    assert len(streams) == len(foreign.server.broadcasts.items) == 4
    for stream in streams.values():
        assert stream.metadata["session-id-bin"] == connection.back.session_in
        assert stream.metadata["public-key"] == connection.node.public_key.hex()
    got = {method: stream.payloads.items for method, stream in streams.items()}
    assert got[TRANSACTIONS] == [each.SerializeToString() for each in transactions]
    assert got["BlockBroadcastStream"] == [pushed.SerializeToString()]
    announcement = types.BlockAnnouncement.FromString(got["AnnouncementBroadcastStream"][0])
    assert announcement.block_hash.value == block_hash(announced)
    assert announcement.block_height == 5
    libs = [
        types.LibAnnouncement.FromString(each) for each in got["LibAnnouncementBroadcastStream"]
    ]
    assert [(lib.lib_hash.value, lib.lib_height) for lib in libs] == [
        (block_hash(BLOCKS[0]), 1),
        (block_hash(BLOCKS[1]), 2),
    ]
    calls = [call for call in foreign.server.calls.items if call.method in CLIENT_STREAMS]
    assert {call.time_left_s for call in calls} == {None}


def _is(method: str) -> Callable[[tuple[int, bytes]], bool]:
    return lambda broadcast: broadcast[0] == CLIENT_STREAMS[method]


async def test_broadcasts_of_the_foreign_node(connection: OldConnection) -> None:
    back, foreign = connection.back, connection.foreign
    sent = [make_transaction(foreign.key, number) for number in range(COUNT)]
    for transaction in sent:
        assert await in_thread(back.broadcast, TRANSACTIONS, transaction.SerializeToString())
    received: list[bytes] = []
    while len(received) < COUNT:
        transactions = await wait_event(connection.events, TransactionsReceived)
        assert transactions.peer == connection.peer.info
        received += [transaction.id for transaction in transactions.transactions]
    assert received == [transaction_id(transaction) for transaction in sent]

    lib = types.LibAnnouncement(lib_height=1)
    lib.lib_hash.value = block_hash(BLOCKS[0])
    method = "LibAnnouncementBroadcastStream"
    assert await in_thread(back.broadcast, method, lib.SerializeToString())
    assert await in_thread(back.broadcasts(method).end) is grpc.StatusCode.OK
    assert connection.peer.chain.lib_height == 1
    assert await in_thread(back.broadcasts(TRANSACTIONS).end) is grpc.StatusCode.OK


async def test_a_block_that_is_announced_is_fetched_and_accepted(connection: OldConnection) -> None:
    connection.foreign.chain.blocks.append(BLOCKS[3])
    announcement = types.BlockAnnouncement(block_height=4)
    announcement.block_hash.value = block_hash(BLOCKS[3])
    method, payload = "AnnouncementBroadcastStream", announcement.SerializeToString()
    assert await in_thread(connection.back.broadcast, method, payload)
    announced = await wait_event(connection.events, AnnouncementReceived)
    assert announced.announcement.height == 4
    accepted = await wait_event(connection.events, BlockAccepted)
    assert accepted.block.hash == block_hash(BLOCKS[3])
    assert "RequestBlock" in methods_of(connection.foreign)


async def test_a_block_that_its_producer_pushes_is_accepted(connection: OldConnection) -> None:
    block = make_block(connection.foreign.key, previous_hash=block_hash(BLOCKS[2]), height=4)
    payload = block.SerializeToString()
    assert await in_thread(connection.back.broadcast, "BlockBroadcastStream", payload)
    received = await wait_event(connection.events, BlockReceived)
    assert received.block.encode() == payload
    accepted = await wait_event(connection.events, BlockAccepted)
    assert accepted.block.encode() == payload


@pytest.mark.parametrize("method", CLIENT_STREAMS)
async def test_a_malformed_item_ends_its_stream_alone(inbound: OldConnection, method: str) -> None:
    back = inbound.back
    other = next(each for each in CLIENT_STREAMS if each not in (method, TRANSACTIONS))
    assert await in_thread(back.broadcast, other, _payload(other))
    assert await in_thread(back.broadcast, method, b"\xff")
    assert await in_thread(back.broadcasts(method).wait_ended) is grpc.StatusCode.UNKNOWN
    assert await in_thread(back.broadcasts(other).end) is grpc.StatusCode.OK
    assert not await in_thread(back.broadcast, method, _payload(method))  # it finds out
    assert await in_thread(back.broadcast, method, _payload(method))
    assert await in_thread(back.broadcasts(method).end) is grpc.StatusCode.OK
    assert inbound.peer.close_reason is None


def _payload(method: str) -> bytes:
    announcement = types.BlockAnnouncement(block_height=3)
    announcement.block_hash.value = block_hash(BLOCKS[2])
    lib = types.LibAnnouncement(lib_height=1)
    lib.lib_hash.value = block_hash(BLOCKS[0])
    messages: dict[str, Any] = {
        "BlockBroadcastStream": BLOCKS[2],
        TRANSACTIONS: make_transaction(ForeignKey()),
        "AnnouncementBroadcastStream": announcement,
        "LibAnnouncementBroadcastStream": lib,
    }
    payload: bytes = messages[method].SerializeToString()
    return payload


@pytest.mark.parametrize("code", ["OK", "UNKNOWN", "INTERNAL"])
async def test_a_stream_that_the_foreign_node_ended_is_reopened(
    inbound: OldConnection, code: str
) -> None:
    """What is sent meanwhile may be lost; the peer is not, nor are the streams of other kinds."""
    foreign, network = inbound.foreign, inbound.node.network
    streams = foreign.server.broadcasts
    assert network.announce_lib(block_hash(BLOCKS[0]), 1).queued == 1
    [lib_stream] = await in_thread(streams.wait_for, lambda _: True)
    for times in (1, 2):
        await _broadcast_until_stream(inbound.node, inbound, times)
        streams.items[-1].end(grpc.StatusCode[code])
        assert await in_thread(streams.items[-1].ended.wait, WAIT_S)
    await _broadcast_until_stream(inbound.node, inbound, 3)
    await in_thread(streams.items[-1].payloads.wait_for, lambda _: True)
    assert inbound.peer.close_reason is None
    assert not lib_stream.ended.is_set()
    assert network.announce_lib(block_hash(BLOCKS[1]), 2).queued == 1
    await in_thread(lib_stream.payloads.wait_for, lambda _: True, 2)
    await inbound.peer.check_health(timeout_s=WAIT_S)


async def _broadcast_until_stream(node: Node, connection: OldConnection, count: int) -> None:
    """Broadcast transactions until a stream of them came for the ``count``-th time."""
    key = ForeignKey()
    for number in range(50):
        transaction = make_transaction(key, number)
        ours = Transaction.parse_untrusted(transaction.SerializeToString())
        node.network.broadcast_transaction(ours)
        try:
            await in_thread(
                connection.foreign.server.broadcasts.wait_for,
                lambda stream: stream.method == TRANSACTIONS,
                count,
                timeout_s=0.1,
            )
        except AssertionError:
            continue
        return
    raise AssertionError(f"no stream came for time {count}")


async def test_a_stream_that_is_refused_does_not_cost_the_peer(inbound: OldConnection) -> None:
    foreign = inbound.foreign
    foreign.server.faults[TRANSACTIONS] = [grpc.StatusCode.INTERNAL] * 2
    await _broadcast_until_stream(inbound.node, inbound, 1)
    assert methods_of(foreign).count(TRANSACTIONS) == 3
    assert inbound.peer.close_reason is None


# --- the end --------------------------------------------------------------------------------------


async def test_ours_says_goodbye(connection: OldConnection) -> None:
    foreign, back = connection.foreign, connection.back
    ours = Transaction.parse_untrusted(_payload(TRANSACTIONS))
    connection.node.network.broadcast_transaction(ours)
    [stream] = await in_thread(foreign.server.broadcasts.wait_for, lambda _: True)
    began = trio.current_time()
    assert await connection.node.disconnect(foreign.key.public)
    assert trio.current_time() - began < 4
    assert await in_thread(back.disconnected.wait, WAIT_S)
    assert await in_thread(stream.ended.wait, WAIT_S)
    assert methods_of(foreign).count("Disconnect") == 1
    gone = await wait_event(connection.events, PeerDisconnected)
    assert gone.reason is CloseReason.REMOVED
    assert connection.node.peers() == []
    assert foreign.pool.peers() == []
    again = await connection.node.connect(f"127.0.0.1:{foreign.port}")
    await again.check_health(timeout_s=WAIT_S)


async def test_the_foreign_node_says_goodbye(connection: OldConnection) -> None:
    node, foreign = connection.node, connection.foreign
    await in_thread(foreign.disconnect, connection.back)
    gone = await wait_event(connection.events, PeerDisconnected)
    assert gone.reason is CloseReason.DISCONNECTED_BY_PEER
    assert node.peers() == []
    assert "Disconnect" not in methods_of(foreign)
    again = await in_thread(foreign.connect, node.endpoint.port)
    assert isinstance(again, ForeignUnaryPeer)
    assert await in_thread(again.call, "CheckHealth") == b""


@pytest.mark.parametrize("ours_dials", DIALERS, ids=["foreign dialed", "ours dialed"])
async def test_a_foreign_node_sees_ours_stop(ours_dials: bool) -> None:
    async with open_foreign(node_version=OLD_VERSION) as foreign:
        async with (
            open_ours_old() as node,
            old_connection(node, foreign, ours_dials=ours_dials) as connection,
        ):
            stopping = trio.current_time()
        assert await in_thread(connection.back.disconnected.wait, WAIT_S)
        assert trio.current_time() - stopping < 4
        assert foreign.pool.peers() == []


async def test_ours_sees_a_foreign_node_stop(connection: OldConnection) -> None:
    await in_thread(connection.foreign.server.close)
    gone = await wait_event(connection.events, PeerDisconnected, timeout_s=4)
    assert gone.reason in (CloseReason.DISCONNECTED_BY_PEER, CloseReason.LOST)
    assert connection.node.peers() == []
