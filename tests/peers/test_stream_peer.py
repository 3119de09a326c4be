"""A peer's life on its stream: requests, confirmation, silence, goodbye, cancellation.

The other side is written by hand with AElf's own protobuf messages (protocol §3.4); all times are
virtual.
"""

import logging
import re
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing
from network_types_pb2 import (
    BlockList,
    BlockReply,
    BlockRequest,
    BlocksRequest,
    DisconnectReason,
    NodeList,
    NodesRequest,
)

from aelf_p2p.core.block import Block
from aelf_p2p.core.broadcast import BroadcastKind, DropReason
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.envelope import LARGE_BYTES
from aelf_p2p.core.errors import (
    CallFailedError,
    FullBufferError,
    HandlerError,
    NetworkError,
    NotConnectedError,
    PeerUnstableError,
    StatusCode,
    UnrecoverableError,
)
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.payloads import NodeRecord
from aelf_p2p.core.peer_info import CloseReason, PeerStatus
from aelf_p2p.peers.stream_peer import StreamPeer
from aelf_p2p.testing.cancellation import cancel_at_every_step
from aelf_p2p.testing.vectors import load_vectors
from tests.peers.foreign_side import (
    ANNOUNCEMENT_BROADCAST,
    BLOCK_BROADCAST,
    CONFIRM_HAND_SHAKE,
    DISCONNECT,
    GET_NODES,
    HEALTH_CHECK,
    LIB_ANNOUNCEMENT_BROADCAST,
    META,
    OUR_KEY,
    PING,
    REPLY,
    REQUEST,
    REQUEST_BLOCK,
    REQUEST_BLOCKS,
    SESSIONS,
    TRANSACTION_BROADCAST,
    ForeignSide,
    Handler,
    Pair,
    encode,
    make_item,
    make_peer,
    open_pair,
)

[RAW_97] = [
    vector.block_with_transactions
    for vector in load_vectors().blocks
    if vector.block_with_transactions
]
RAW_TRANSACTION = load_vectors().transactions[0].raw
HASH = bytes(range(32))
REQUEST_ID = re.compile(
    r"[0-9]{13}_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
)

Ask = Callable[[StreamPeer], Awaitable[object]]
ASK: dict[int, tuple[Ask, float]] = {
    REQUEST_BLOCK: (lambda peer: peer.request_block(HASH), 2.0),
    REQUEST_BLOCKS: (lambda peer: peer.request_blocks(HASH, 10), 5.0),
    GET_NODES: (lambda peer: peer.request_nodes(10), 2.0),
    HEALTH_CHECK: (lambda peer: peer.check_health(timeout_s=2), 2.0),
    CONFIRM_HAND_SHAKE: (lambda peer: peer.confirm(), 3.0),
}
"""Our requests, and how long C# waits for their replies (protocol §3.4)."""

EVERY_ASK = pytest.mark.parametrize(("ask", "timeout_s"), ASK.values(), ids=map(str, ASK))


@dataclass
class Outcome:
    """What became of a call, and when."""

    result: object = None
    error: NetworkError | None = None
    at: float | None = None

    def is_waiting(self) -> bool:
        return self.at is None


def start(pair: Pair, ask: Ask) -> Outcome:
    """Make a call in the background."""
    outcome = Outcome()
    pair.nursery.start_soon(settle, pair.peer, ask, outcome)
    return outcome


async def settle(peer: StreamPeer, ask: Ask, outcome: Outcome) -> None:
    try:
        outcome.result = await ask(peer)
    except NetworkError as exc:
        outcome.error = exc
    outcome.at = trio.current_time()


async def idle() -> None:
    await trio.testing.wait_all_tasks_blocked()


def block_reply(raw: bytes = b"", error: str = "") -> bytes:
    reply = BlockReply(error=error)
    if raw:
        reply.block.ParseFromString(raw)
    return reply.SerializeToString()


def block_list(*raws: bytes) -> bytes:
    # by hand: python's protobuf would write the maps of the headers in another order
    return b"".join(b"\x0a" + varint(len(raw)) + raw for raw in raws)


def varint(number: int) -> bytes:
    more, low = divmod(number, 128)
    return bytes([low | 128]) + varint(more) if more else bytes([low])


def node_list(count: int) -> bytes:
    nodes = NodeList()
    for number in range(count):
        high, low = divmod(number, 250)
        nodes.nodes.add(endpoint=f"10.1.{high % 250}.{low + 1}:6800", pubkey=bytes(65))
    return nodes.SerializeToString()


def assert_goodbye(message: Any) -> None:
    assert (message.stream_type, message.message_type) == (REQUEST, DISCONNECT)
    reason = DisconnectReason.FromString(message.message)
    assert reason.why == DisconnectReason.SHUTDOWN
    assert dict(message.meta)["session-id-bin"] == SESSIONS.theirs.hex()


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("message_type", ASK)
async def test_what_a_request_looks_like(autojump_clock: trio.abc.Clock, message_type: int) -> None:
    async with open_pair() as pair:
        outcome = start(pair, ASK[message_type][0])
        request = await pair.side.receive()
        assert (request.stream_type, request.message_type) == (REQUEST, message_type)
        assert REQUEST_ID.fullmatch(request.request_id)
        assert request.request_id.startswith("1700000000000_")
        meta = dict(request.meta)
        assert meta.pop("peer-info")
        assert meta == {"public-key": OUR_KEY.hex(), "session-id-bin": SESSIONS.theirs.hex()}
        await pair.side.reply(request)
        await idle()
        assert (outcome.error, outcome.at) == (None, 0)


async def test_what_requests_ask(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        start(pair, lambda peer: peer.request_block(HASH))
        request = await pair.side.receive()
        assert BlockRequest.FromString(request.message).hash.value == HASH
        start(pair, lambda peer: peer.request_blocks(HASH, 50))
        blocks = BlocksRequest.FromString((await pair.side.receive()).message)
        assert (blocks.previous_block_hash.value, blocks.count) == (HASH, 50)
        start(pair, lambda peer: peer.request_nodes(10))
        assert NodesRequest.FromString((await pair.side.receive()).message).max_count == 10
        start(pair, lambda peer: peer.check_health(timeout_s=1))
        assert (await pair.side.receive()).message == b""


async def test_each_request_has_its_own_id(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        for _ in range(50):
            start(pair, ASK[REQUEST_BLOCK][0])
        requests = [await pair.side.receive() for _ in range(50)]
        assert len({request.request_id for request in requests}) == 50


async def test_a_block_comes_byte_for_byte(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        outcome = start(pair, ASK[REQUEST_BLOCK][0])
        request = await pair.side.receive()
        await pair.side.reply(request, b"\x12" + varint(len(RAW_97)) + RAW_97)
        await idle()
        assert isinstance(outcome.result, Block)
        assert outcome.result.encode() == RAW_97


async def test_the_peer_does_not_have_the_block(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        outcome = start(pair, ASK[REQUEST_BLOCK][0])
        await pair.side.reply(await pair.side.receive(), block_reply())
        await idle()
        assert (outcome.result, outcome.error, outcome.at) == (None, None, 0)


async def test_blocks_come_byte_for_byte(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        for count in (0, 3, 10):
            outcome = start(pair, lambda peer: peer.request_blocks(HASH, 10))
            await pair.side.reply(await pair.side.receive(), block_list(*[RAW_97] * count))
            await idle()
            assert isinstance(outcome.result, list)
            assert [block.encode() for block in outcome.result] == [RAW_97] * count


async def test_large_replies_come_byte_for_byte(autojump_clock: trio.abc.Clock) -> None:
    count = LARGE_BYTES // len(RAW_97) + 1
    async with open_pair() as pair:
        outcome = start(pair, lambda peer: peer.request_blocks(HASH, count))
        await pair.side.reply(await pair.side.receive(), block_list(*[RAW_97] * count))
        await idle()
        assert isinstance(outcome.result, list)
        assert [block.encode() for block in outcome.result] == [RAW_97] * count
        outcome = start(pair, ASK[REQUEST_BLOCK][0])
        await pair.side.reply(await pair.side.receive(), block_reply(error="e" * LARGE_BYTES))
        await idle()
        assert isinstance(outcome.error, HandlerError)


class Read(list[bytes]):
    """What a read gave; one can see whether it is still held."""


async def test_what_was_read_is_let_go_before_the_next_read(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, side, _ = make_peer()
    receive_many = side.peer_end.receive_many
    reads: list[weakref.ref[Read]] = []

    async def receive() -> list[bytes]:
        assert [read() for read in reads] == [None] * len(reads)
        messages = Read(await receive_many())
        reads.append(weakref.ref(messages))
        return messages

    monkeypatch.setattr(side.peer_end, "receive_many", receive)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.run)
        for _ in range(3):
            await side.request(PING)
            await idle()
        assert len(reads) == 3
        nursery.cancel_scope.cancel()


async def test_nodes(autojump_clock: trio.abc.Clock) -> None:
    nodes = NodeList()
    for text in ("10.0.0.9:6801", "a:b:c", "host:99999", "[::1]:6800", "10.0.0.8", "", "x:0"):
        nodes.nodes.add(endpoint=text, pubkey=b"key")
    async with open_pair() as pair:
        outcome = start(pair, lambda peer: peer.request_nodes(10))
        await pair.side.reply(await pair.side.receive(), nodes.SerializeToString())
        await idle()
        assert outcome.result == [
            NodeRecord(Endpoint("10.0.0.9", 6801), b"key"),
            NodeRecord(Endpoint("::1", 6800), b"key"),
            NodeRecord(Endpoint("10.0.0.8", 6800), b"key"),
        ]


@pytest.mark.fault(67)
async def test_of_a_hundred_thousand_nodes_ten_are_taken(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        outcome = start(pair, lambda peer: peer.request_nodes(10))
        await pair.side.reply(await pair.side.receive(), node_list(100_000))
        await idle()
        assert isinstance(outcome.result, list)
        assert len(outcome.result) == 10


@EVERY_ASK
async def test_no_reply_in_time(autojump_clock: trio.abc.Clock, ask: Ask, timeout_s: float) -> None:
    async with open_pair() as pair:
        outcome = start(pair, ask)
        request = await pair.side.receive()
        await trio.sleep(timeout_s - 0.001)
        assert outcome.is_waiting()
        await trio.sleep(0.001)
        await idle()
        assert isinstance(outcome.error, PeerUnstableError)
        assert outcome.at == timeout_s
        await pair.side.reply(request)  # too late
        await idle()
        assert pair.ignored == {"reply to nothing": 1}
        assert pair.is_open()


@EVERY_ASK
async def test_the_stream_ends_while_waiting(
    autojump_clock: trio.abc.Clock, ask: Ask, timeout_s: float
) -> None:
    async with open_pair() as pair:
        outcome = start(pair, ask)
        await pair.side.receive()
        await trio.sleep(1)
        await pair.side.end_stream()
        await pair.peer.wait_closed()
        await idle()
        assert isinstance(outcome.error, UnrecoverableError)
        assert outcome.at == 1
        assert pair.peer.close_reason is CloseReason.LOST


async def test_the_stream_breaks_while_waiting(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        outcomes = [start(pair, ask) for ask, _ in ASK.values()]
        await idle()
        pair.side.reset()
        await idle()
        for outcome in outcomes:
            assert isinstance(outcome.error, UnrecoverableError)
            assert outcome.at == 0
        assert pair.peer.close_reason is CloseReason.LOST


@pytest.mark.parametrize("reason", CloseReason)
async def test_we_close_while_waiting(autojump_clock: trio.abc.Clock, reason: CloseReason) -> None:
    async with open_pair() as pair:  # the other side reads nothing: a goodbye takes its second
        outcomes = [start(pair, ask) for ask, _ in ASK.values()]
        await idle()
        pair.peer.close(reason)
        await idle()
        for outcome in outcomes:
            assert isinstance(outcome.error, UnrecoverableError)
            assert outcome.at == 0


@EVERY_ASK
async def test_asking_a_closed_peer(
    autojump_clock: trio.abc.Clock, ask: Ask, timeout_s: float
) -> None:
    async with open_pair() as pair:
        pair.peer.close(CloseReason.REMOVED)
        closing = start(pair, ask)
        said = await pair.closed()
        closed = start(pair, ask)
        await idle()
        for outcome in (closing, closed):
            assert isinstance(outcome.error, NotConnectedError)
            assert outcome.at == 0
        assert [message.message_type for message in said] == [DISCONNECT]


@pytest.mark.parametrize(
    ("message_type", "reply"),
    [
        (REQUEST_BLOCK, b"\xff"),
        (REQUEST_BLOCK, b"\x12\x05abcde"),
        (REQUEST_BLOCK, b"\x12\x00"),
        (REQUEST_BLOCK, b"\x12" + varint(len(RAW_97) - 1) + RAW_97[:-1]),
        (REQUEST_BLOCK, block_reply(error="no such block")),
        (REQUEST_BLOCKS, b"\xff"),
        (REQUEST_BLOCKS, b"\x0a\x00"),
        (REQUEST_BLOCKS, block_list(RAW_97, RAW_97) + b"\x0a\x05abcde"),
        (REQUEST_BLOCKS, block_list(*[RAW_97] * 11)),
        (REQUEST_BLOCKS, BlockList().SerializeToString() + b"\x0a"),
        (GET_NODES, b"\xff"),
        (GET_NODES, b"\x0a\x02\x0a\x05"),
    ],
)
async def test_an_answer_that_is_wrong(
    autojump_clock: trio.abc.Clock, message_type: int, reply: bytes
) -> None:
    async with open_pair() as pair:
        outcome = start(pair, ASK[message_type][0])
        await pair.side.reply(await pair.side.receive(), reply)
        await idle()
        assert isinstance(outcome.error, HandlerError)
        assert pair.peer.status is PeerStatus.READY  # protocol §4, "Errors": keep it
        again = start(pair, ASK[message_type][0])
        await pair.side.reply(await pair.side.receive())
        await idle()
        assert again.error is None


@pytest.mark.fault(62)
async def test_a_reply_of_another_type_leaves_the_request_waiting(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_pair() as pair:
        outcome = start(pair, ASK[REQUEST_BLOCK][0])
        request = await pair.side.receive()
        await pair.side.reply(request, b"", message_type=REQUEST_BLOCKS)
        await pair.side.reply(request, b"", message_type=PING)
        await idle()
        assert outcome.is_waiting()
        assert pair.ignored == {"reply to nothing": 2}
        await pair.side.reply(request)
        await pair.side.reply(request)  # repeated
        await idle()
        assert (outcome.error, outcome.at) == (None, 0)
        assert pair.ignored == {"reply to nothing": 3}


async def test_replies_in_any_order(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        outcomes = [start(pair, lambda peer: peer.request_nodes(10)) for _ in range(3)]
        requests = [await pair.side.receive() for _ in range(3)]
        for request in reversed(requests):
            await pair.side.reply(request, node_list(2))
        await idle()
        assert [outcome.error for outcome in outcomes] == [None] * 3


async def test_the_meta_of_a_reply_does_not_matter(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        outcome = start(pair, ASK[HEALTH_CHECK][0])
        request_id = (await pair.side.receive()).request_id
        meta = {"public-key": "00", "session-id-bin": "wrong"}
        await pair.side.send_raw(encode(REPLY, HEALTH_CHECK, request_id, b"", meta))
        await idle()
        assert (outcome.error, outcome.at) == (None, 0)


async def test_too_many_unanswered_requests(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair(options=NetworkOptions(max_pending_requests=3)) as pair:
        outcomes = [start(pair, ASK[REQUEST_BLOCK][0]) for _ in range(3)]
        await idle()
        one_more = start(pair, ASK[REQUEST_BLOCK][0])
        await idle()
        assert isinstance(one_more.error, FullBufferError)
        assert [outcome.at for outcome in outcomes] == [None] * 3
        await pair.side.reply(await pair.side.receive())
        await idle()
        start(pair, ASK[REQUEST_BLOCK][0])
        await idle()
        await trio.sleep(2)  # a timeout makes room too
        await idle()
        with trio.move_on_after(1):
            await pair.peer.request_block(HASH)
        for _ in range(3):  # so does a caller that gave up
            start(pair, ASK[REQUEST_BLOCK][0])
        await idle()
        kinds = [message.message_type for message in await pair.side.heard_within(0.5)]
        assert kinds == [REQUEST_BLOCK] * 7


# --- how large a message may be -------------------------------------------------------------------

UNASKED, ANY_SIZE = 5 * 2**20 + 8192, 100 * 2**20
FOR_BLOCKS = pytest.mark.parametrize("message_type", [REQUEST_BLOCK, REQUEST_BLOCKS])


@FOR_BLOCKS
@pytest.mark.parametrize("reply", [b"", b"\xff"])  # a wrong answer is one too
async def test_messages_may_be_large_until_the_blocks_are_there(
    autojump_clock: trio.abc.Clock, message_type: int, reply: bytes
) -> None:
    async with open_pair() as pair:
        assert pair.max_bytes == 0
        for _ in range(2):
            start(pair, ASK[message_type][0])
            request = await pair.side.receive()
            assert pair.max_bytes == ANY_SIZE
            await pair.side.reply(request, reply)
            await idle()
            assert pair.max_bytes == UNASKED


async def test_what_is_unasked_is_an_option(autojump_clock: trio.abc.Clock) -> None:
    options = NetworkOptions(max_pushed_block_bytes=7000, max_transaction_bytes=10)
    async with open_pair(options=options) as pair:
        start(pair, ASK[REQUEST_BLOCK][0])
        await pair.side.reply(await pair.side.receive())
        await idle()
        assert pair.max_bytes == 7000 + 8192


@pytest.mark.parametrize(
    "message_type", [each for each in ASK if each not in (REQUEST_BLOCK, REQUEST_BLOCKS)]
)
async def test_other_answers_are_never_large(
    autojump_clock: trio.abc.Clock, message_type: int
) -> None:
    async with open_pair() as pair:
        outcome = start(pair, ASK[message_type][0])
        await pair.side.reply(await pair.side.receive())
        await idle()
        assert outcome.error is None
        assert pair.max_bytes == 0


async def test_messages_may_be_large_until_the_last_blocks_are_there(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_pair() as pair:
        start(pair, ASK[REQUEST_BLOCK][0])
        start(pair, ASK[REQUEST_BLOCKS][0])
        start(pair, ASK[GET_NODES][0])
        requests = [await pair.side.receive() for _ in range(3)]
        asked = {request.message_type: request for request in requests}
        for message_type in (GET_NODES, REQUEST_BLOCKS):
            await pair.side.reply(asked[message_type])
            await idle()
            assert pair.max_bytes == ANY_SIZE
        await pair.side.reply(asked[REQUEST_BLOCK])
        await idle()
        assert pair.max_bytes == UNASKED


@FOR_BLOCKS
async def test_a_late_answer_may_be_large_too(
    autojump_clock: trio.abc.Clock, message_type: int
) -> None:
    ask, timeout_s = ASK[message_type]
    async with open_pair() as pair:
        start(pair, ask)
        start(pair, ask)
        late, answered = [await pair.side.receive() for _ in range(2)]
        await trio.sleep(timeout_s / 2)
        await pair.side.reply(answered)
        await trio.sleep(timeout_s)
        assert pair.max_bytes == ANY_SIZE
        await pair.side.reply(late)
        await idle()
        assert pair.max_bytes == ANY_SIZE  # it was none of the requests that wait
        start(pair, ask)
        await pair.side.reply(await pair.side.receive())
        await idle()
        assert pair.max_bytes == UNASKED


async def test_who_gave_up_waiting_for_blocks_may_get_them_late(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_pair() as pair:
        with trio.move_on_after(1):
            await pair.peer.request_blocks(HASH, 10)
        assert pair.max_bytes == ANY_SIZE


async def test_a_request_for_blocks_that_is_not_sent_changes_nothing(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_pair(options=NetworkOptions(max_pending_requests=1)) as pair:
        start(pair, ASK[GET_NODES][0])
        await idle()
        with pytest.raises(FullBufferError):
            await pair.peer.request_block(HASH)
        assert pair.max_bytes == 0


async def test_a_message_over_the_limit_ends_the_peer(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    too_large = CallFailedError(StatusCode.RESOURCE_EXHAUSTED, "5000001 bytes, over 5000000")
    async with open_pair() as pair:
        outcome = start(pair, ASK[HEALTH_CHECK][0])
        await idle()
        pair.side.end.outgoing.fail(too_large)
        assert [message.message_type for message in await pair.closed()] == [HEALTH_CHECK]
        await idle()
        assert pair.peer.close_reason is CloseReason.VIOLATION
        assert isinstance(outcome.error, UnrecoverableError)
    [line] = [record.getMessage() for record in caplog.records]
    assert "5000001 bytes, over 5000000" in line


@pytest.mark.parametrize("code", set(StatusCode) - {StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED})
async def test_a_stream_that_ends_with_another_status_is_lost_or_dropped(
    autojump_clock: trio.abc.Clock, code: StatusCode, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_pair() as pair:
        pair.side.end.outgoing.fail(CallFailedError(code, "bye"))
        assert await pair.closed() == []
        dropped = code.name in {"CANCELLED", "UNAVAILABLE"}  # protocol §3.4
        expected = CloseReason.DROPPED_BY_PEER if dropped else CloseReason.LOST
        assert pair.peer.close_reason is expected
    assert caplog.records == []


# --- broadcasts -----------------------------------------------------------------------------------


async def test_broadcasts_on_the_wire(autojump_clock: trio.abc.Clock) -> None:
    kinds = {
        BLOCK_BROADCAST: BroadcastKind.BLOCK,
        ANNOUNCEMENT_BROADCAST: BroadcastKind.ANNOUNCEMENT,
        LIB_ANNOUNCEMENT_BROADCAST: BroadcastKind.LIB_ANNOUNCEMENT,
        TRANSACTION_BROADCAST: BroadcastKind.TRANSACTION,
    }
    async with open_pair() as pair:
        for number, kind in kinds.items():
            item = make_item(kind)
            assert pair.peer.enqueue(item) is None
            message = await pair.side.receive()
            assert (message.stream_type, message.message_type) == (REQUEST, number)
            assert (message.request_id, message.message) == (item.request_id, item.payload)
            meta = dict(message.meta)
            assert meta["public-key"] == OUR_KEY.hex()
            assert meta["session-id-bin"] == SESSIONS.theirs.hex()
            assert pair.peer.statistics().unacknowledged == 1
            await pair.side.reply(message)
            await idle()
            assert pair.peer.statistics().unacknowledged == 0
        statistics = pair.peer.statistics()
        assert statistics.sent == statistics.acknowledged == dict.fromkeys(kinds.values(), 1)
        assert (statistics.dropped, statistics.ignored) == ({}, {})


@pytest.mark.fault(62)
async def test_acknowledgements_that_are_wrong(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        pair.peer.enqueue(make_item())
        message = await pair.side.receive()
        await pair.side.reply(message, message_type=BLOCK_BROADCAST)
        await pair.side.reply(message)
        await pair.side.reply(message)
        await idle()
        assert pair.ignored == {"reply to nothing": 2}
        assert pair.peer.statistics().acknowledged == {BroadcastKind.TRANSACTION: 1}


@pytest.mark.fault(72)
async def test_broadcasts_that_nobody_answers(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        for _ in range(5):
            pair.peer.enqueue(make_item())
        messages = [await pair.side.receive() for _ in range(5)]
        await trio.sleep(2.999)
        assert pair.peer.statistics().unacknowledged == 5
        await trio.sleep(0.001)
        await idle()
        statistics = pair.peer.statistics()
        assert statistics.unacknowledged == 0
        lost = (BroadcastKind.TRANSACTION, DropReason.UNACKNOWLEDGED)
        assert statistics.dropped == {lost: 5}
        await pair.side.reply(messages[0])
        await idle()
        assert pair.ignored == {"reply to nothing": 1}


@pytest.mark.fault(71)
async def test_a_stalled_peer_loses_its_own_only(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair(window_bytes=1000) as stalled, open_pair() as healthy:
        items = [make_item(size=200) for _ in range(300)]
        for item in items:
            stalled.peer.enqueue(item)
            assert healthy.peer.enqueue(item) is None
            message = await healthy.side.receive()
            assert message.request_id == item.request_id
            await healthy.side.reply(message)
        await idle()
        statistics = stalled.peer.statistics()
        assert statistics.queued_transactions == 100
        [((kind, reason), lost)] = statistics.dropped.items()
        assert (kind, reason) == (BroadcastKind.TRANSACTION, DropReason.QUEUE_FULL)
        assert lost == 200 - sum(statistics.sent.values())
        assert healthy.peer.statistics().acknowledged == {BroadcastKind.TRANSACTION: 300}
        assert healthy.peer.statistics().dropped == {}


@pytest.mark.parametrize("kind", BroadcastKind)
async def test_enqueueing_to_a_peer_that_is_not_ready(
    autojump_clock: trio.abc.Clock, kind: BroadcastKind
) -> None:
    async with open_pair(confirmed=False) as pair:
        assert pair.peer.enqueue(make_item(kind)) is DropReason.NOT_READY
        assert pair.peer.status is PeerStatus.UNCONFIRMED
        pair.peer.confirmed_by_peer()
        assert pair.peer.enqueue(make_item(kind)) is None
        pair.peer.close(CloseReason.REMOVED)
        assert pair.peer.enqueue(make_item(kind)) is DropReason.NOT_READY
        said = await pair.closed()
        assert pair.peer.enqueue(make_item(kind)) is DropReason.NOT_READY
        dropped = pair.peer.statistics().dropped
        assert dropped[kind, DropReason.NOT_READY] == 3
        # sent or not, what was queued at the end is counted once
        assert dropped[kind, DropReason.CLOSED] == 1
        assert said[-1].message_type == DISCONNECT
        assert pair.peer.statistics().queued_bytes == 0


# --- the first messages ---------------------------------------------------------------------------


async def test_the_greeting_comes_first(autojump_clock: trio.abc.Clock) -> None:
    early = [
        encode(REQUEST, CONFIRM_HAND_SHAKE, "1_a", b"", META),
        encode(REQUEST, TRANSACTION_BROADCAST, "1_b", RAW_TRANSACTION, META),
    ]
    greeting = encode(REPLY, 1, "1_hello", b"our handshake", {})
    async with open_pair(confirmed=False, early=early, greeting=greeting) as pair:
        said = [await pair.side.receive() for _ in range(3)]
        assert [message.request_id for message in said] == ["1_hello", "1_a", "1_b"]
        assert pair.peer.status is PeerStatus.READY
        assert len(pair.handler.contents) == 1


async def test_early_messages_can_break_the_protocol_too(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_pair(confirmed=False, early=[b"\xff"]) as pair:
        await pair.closed()
        assert pair.peer.close_reason is CloseReason.VIOLATION


# --- confirmation ---------------------------------------------------------------------------------


async def test_confirmed_on_the_stream(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair(confirmed=False) as pair:
        outcome = start(pair, lambda peer: peer.wait_confirmed())
        await trio.sleep(9.9)
        assert outcome.is_waiting()
        await pair.side.request(CONFIRM_HAND_SHAKE)
        assert (await pair.side.receive()).message_type == CONFIRM_HAND_SHAKE
        assert pair.peer.status is PeerStatus.READY
        await pair.side.request(CONFIRM_HAND_SHAKE)  # C# may repeat it
        assert (await pair.side.receive()).message_type == CONFIRM_HAND_SHAKE
        await idle()
        assert outcome.result is True
        await trio.sleep(5)
        assert pair.peer.status is PeerStatus.READY


async def test_never_confirmed_is_closed_after_ten_seconds(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_pair(confirmed=False) as pair:
        outcome = start(pair, lambda peer: peer.wait_confirmed())
        for _ in range(9):
            await trio.sleep(1)
            await pair.side.request(PING)  # being alive is not enough
        await trio.sleep(0.999)
        assert pair.is_open()
        said = await pair.closed()
        assert trio.current_time() == 10
        assert pair.peer.close_reason is CloseReason.UNCONFIRMED
        await idle()
        assert (outcome.result, outcome.at) == (False, 10)
        assert_goodbye(said[-1])


async def test_the_dialer_confirms(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair(confirmed=False) as pair:
        outcome = start(pair, ASK[CONFIRM_HAND_SHAKE][0])
        request = await pair.side.receive()
        assert pair.peer.status is PeerStatus.UNCONFIRMED
        await pair.side.reply(request)
        await idle()
        assert (outcome.error, pair.peer.status) == (None, PeerStatus.READY)
        assert await pair.peer.wait_confirmed() is True


async def test_closed_instead_of_confirmed(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair(confirmed=False) as pair:
        outcome = start(pair, lambda peer: peer.wait_confirmed())
        await pair.side.end_stream()
        await idle()
        assert outcome.result is False
        pair.peer.confirmed_by_peer()  # by the unary call, too late
        assert pair.peer.status is PeerStatus.CLOSED
        assert await pair.peer.wait_confirmed() is False


# --- silence --------------------------------------------------------------------------------------


async def test_a_silent_peer_is_asked_and_then_closed(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        probe = await pair.side.receive()
        assert trio.current_time() == 20
        assert (probe.stream_type, probe.message_type) == (REQUEST, HEALTH_CHECK)
        assert await pair.side.receive() is None  # no goodbye: nobody would read it
        assert trio.current_time() == 30
        await pair.peer.wait_closed()
        assert pair.peer.close_reason is CloseReason.SILENT
        assert pair.peer.close_reason.is_loss


async def test_a_peer_that_answers_stays(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        for number in range(1, 500):
            probe = await pair.side.receive()
            assert probe.message_type == HEALTH_CHECK
            assert trio.current_time() == pytest.approx(number * 29.5 - 9.5)
            await trio.sleep(9.5)
            await pair.side.reply(probe)
        assert pair.peer.status is PeerStatus.READY


@pytest.mark.parametrize("message_type", [PING, TRANSACTION_BROADCAST, HEALTH_CHECK, REQUEST_BLOCK])
async def test_a_peer_that_speaks_is_not_asked(
    autojump_clock: trio.abc.Clock, message_type: int
) -> None:
    async with open_pair() as pair:
        for _ in range(10):
            await trio.sleep(19.9)
            await pair.side.request(message_type, RAW_TRANSACTION)
        said = await pair.side.heard_within(19.9)
        assert [message.message_type for message in said] == [message_type] * 10
        assert (await pair.side.receive()).message_type == HEALTH_CHECK
        assert trio.current_time() == pytest.approx(199 + 20)


async def test_a_silent_peer_that_cannot_be_asked_has_as_long(
    autojump_clock: trio.abc.Clock,
) -> None:
    options = NetworkOptions(max_pending_requests=1, blocks_timeout_s=60)
    async with open_pair(options=options) as pair:
        start(pair, ASK[REQUEST_BLOCKS][0])
        await trio.sleep(29.9)
        assert pair.is_open()
        await pair.peer.wait_closed()
        assert trio.current_time() == 30
        assert pair.peer.close_reason is CloseReason.SILENT


async def test_a_peer_that_cannot_be_asked_and_speaks_stays(
    autojump_clock: trio.abc.Clock,
) -> None:
    options = NetworkOptions(max_pending_requests=1, blocks_timeout_s=60)
    async with open_pair(options=options) as pair:
        outcome = start(pair, ASK[REQUEST_BLOCKS][0])
        request = await pair.side.receive()
        await trio.sleep(25)
        await pair.side.reply(request)
        await trio.sleep(19)
        assert (outcome.error, outcome.at) == (None, 25)
        assert pair.is_open()
        assert (await pair.side.receive()).message_type == HEALTH_CHECK
        assert trio.current_time() == 45


# --- goodbye --------------------------------------------------------------------------------------

POLITE = [
    CloseReason.SHUTDOWN,
    CloseReason.REMOVED,
    CloseReason.REPLACED,
    CloseReason.UNCONFIRMED,
    CloseReason.ABNORMAL,
    CloseReason.FRUITLESS,
    CloseReason.INVALID_TRANSACTIONS,
    CloseReason.BANNED,
    CloseReason.GUEST,
]


@pytest.mark.parametrize("reason", POLITE)
async def test_goodbye_is_the_last_word(
    autojump_clock: trio.abc.Clock, reason: CloseReason
) -> None:
    async with open_pair(revision=1) as pair:
        for _ in range(100):
            pair.peer.enqueue(make_item())
        await pair.side.request(PING)
        await idle()
        pair.peer.close(reason)
        said = await pair.closed()
        assert [message.message_type for message in said].count(DISCONNECT) == 1
        assert_goodbye(said[-1])
        assert pair.peer.close_reason is reason
        assert trio.current_time() == 0


# A C# node would remove whatever it holds by our key: the connection that takes the place.
@pytest.mark.parametrize("reason", [each for each in POLITE if each is not CloseReason.REPLACED])
async def test_goodbye_to_a_csharp_node(
    autojump_clock: trio.abc.Clock, reason: CloseReason
) -> None:
    async with open_pair() as pair:
        pair.peer.close(reason)
        assert_goodbye((await pair.closed())[-1])


@pytest.mark.parametrize(
    ("reason", "revision"),
    [(each, revision) for each in CloseReason if each not in POLITE for revision in (0, 1)]
    + [(CloseReason.REPLACED, 0)],
)
async def test_no_goodbye_to_who_is_gone_or_not_worth_it(
    autojump_clock: trio.abc.Clock, reason: CloseReason, revision: int
) -> None:
    async with open_pair(revision=revision) as pair:
        pair.peer.close(reason)
        assert await pair.closed() == []
        assert trio.current_time() == 0


async def test_cancellation_says_goodbye(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        await idle()
        pair.nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            said = await pair.closed()
        assert_goodbye(said[-1])
        assert pair.peer.close_reason is CloseReason.SHUTDOWN
        assert trio.current_time() == 0


@pytest.mark.parametrize("cancelled", [False, True])
async def test_goodbye_to_a_peer_that_reads_nothing(
    autojump_clock: trio.abc.Clock, cancelled: bool
) -> None:
    async with open_pair(window_bytes=1) as pair:
        for _ in range(10):
            pair.peer.enqueue(make_item())
        await trio.sleep(5)
        if cancelled:
            pair.nursery.cancel_scope.cancel()
        else:
            pair.peer.close(CloseReason.REMOVED)
        with trio.CancelScope(shield=True):
            await pair.peer.wait_closed()
        assert trio.current_time() == 6


async def test_goodbye_to_a_peer_that_never_stops_talking(
    autojump_clock: trio.abc.Clock,
) -> None:
    async def talk() -> None:
        while True:
            await pair.side.request(PING)
            await trio.sleep(0.01)

    async with open_pair() as pair:
        pair.nursery.start_soon(talk)
        await trio.sleep(1)
        pair.peer.close(CloseReason.REMOVED)
        await pair.peer.wait_closed()
        assert trio.current_time() == 2


async def test_goodbye_over_a_broken_stream(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        pair.peer.close(CloseReason.REMOVED)
        pair.side.reset()
        await pair.peer.wait_closed()
        assert pair.peer.close_reason is CloseReason.REMOVED
        assert trio.current_time() == 0


async def test_the_first_reason_stays(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        assert pair.is_open()
        pair.peer.close(CloseReason.BANNED)
        pair.peer.close(CloseReason.REMOVED)
        assert pair.peer.status is PeerStatus.CLOSED
        await pair.side.request(DISCONNECT)
        await pair.closed()
        pair.peer.close(CloseReason.SHUTDOWN)
        assert pair.peer.close_reason is CloseReason.BANNED
        await pair.peer.wait_closed()  # again, and at once


async def test_closed_before_it_lived(autojump_clock: trio.abc.Clock) -> None:
    peer, *_ = make_peer(greeting=b"never sent")
    peer.close(CloseReason.REPLACED)
    assert peer.enqueue(make_item()) is DropReason.NOT_READY
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.run)
        with trio.fail_after(2):
            await peer.wait_closed()
    assert peer.close_reason is CloseReason.REPLACED


async def test_a_close_frees_what_was_held(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair(window_bytes=1) as pair:
        for _ in range(100):
            pair.peer.enqueue(make_item())
        await idle()
        pair.peer.close(CloseReason.VIOLATION)
        await pair.peer.wait_closed()
        statistics = pair.peer.statistics()
        assert statistics.queued_transactions == statistics.unacknowledged == 0
        assert statistics.queued_bytes == 0
        assert sum(statistics.dropped.values()) == 100
        assert set(statistics.dropped) == {(BroadcastKind.TRANSACTION, DropReason.CLOSED)}


# --- who it is ------------------------------------------------------------------------------------


async def test_the_session_that_others_may_show(autojump_clock: trio.abc.Clock) -> None:
    async with open_pair() as pair:
        assert pair.peer.accepts_session(SESSIONS.ours)
        assert pair.peer.accepts_session(SESSIONS.ours.hex())
        for wrong in (b"", "", SESSIONS.theirs, SESSIONS.ours.hex().upper(), SESSIONS.ours[:-1]):
            assert not pair.peer.accepts_session(wrong)
        assert SESSIONS.ours.hex() not in f"{pair.peer!r} {pair.peer.info}"


# --- cancelled ------------------------------------------------------------------------------------


@dataclass
class Life:
    """A peer, the tasks that wait for it, and the other side: only the peer is cancelled."""

    peer: StreamPeer
    side: ForeignSide
    handler: Handler
    outcomes: list[Outcome] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)
    left: bool = False


@asynccontextmanager
async def a_life() -> AsyncIterator[Life]:
    life = Life(*make_peer(greeting=encode(REPLY, 1, "1_hello", b"", {}), window_bytes=2000))
    waits: list[Ask] = [
        lambda peer: peer.wait_confirmed(),
        lambda peer: peer.wait_closed(),
        *(ask for ask, _ in ASK.values()),
        _answered_later,
    ]
    async with trio.open_nursery() as nursery:
        for wait in waits:
            life.outcomes.append(Outcome())
            nursery.start_soon(settle, life.peer, wait, life.outcomes[-1])
        nursery.start_soon(_play_the_other_side, life)
        yield life
        nursery.cancel_scope.cancel()


async def _answered_later(peer: StreamPeer) -> None:
    if await peer.wait_confirmed():
        for _ in range(40):
            peer.enqueue(make_item(size=100))
        await peer.request_nodes(10)
        await peer.check_health(timeout_s=100)  # is never answered


async def _play_the_other_side(life: Life) -> None:
    """Confirm, ask, broadcast, answer all but the second HEALTH_CHECK, be silent, and leave."""
    side = life.side
    await side.request(CONFIRM_HAND_SHAKE)
    await side.request(TRANSACTION_BROADCAST, RAW_TRANSACTION)
    await side.request(REQUEST_BLOCK)
    health_checks = 0
    with trio.move_on_after(7):
        while (message := await side.receive()) is not None:
            life.heard.append(message)
            health_checks += message.message_type == HEALTH_CHECK
            if message.stream_type == REQUEST and health_checks < 2:
                await side.reply(message)
            if message.message_type == DISCONNECT:
                await side.end_stream()
                return
    life.left = True
    await side.end_stream()


async def live(life: Life) -> None:
    await life.peer.run()


async def nobody_hangs(life: Life) -> None:
    """All that waited have their answer, or an error that says why not; at once."""
    with trio.move_on_after(0.1):
        await life.peer.wait_closed()
    await idle()
    assert [outcome.at is not None for outcome in life.outcomes] == [True] * len(life.outcomes)
    assert life.peer.status is PeerStatus.CLOSED
    assert life.peer.close_reason in (CloseReason.SHUTDOWN, CloseReason.LOST)
    errors = [outcome.error for outcome in life.outcomes if outcome.error is not None]
    assert all(isinstance(error, UnrecoverableError | NotConnectedError) for error in errors)
    statistics = life.peer.statistics()
    assert statistics.queued_bytes == statistics.unacknowledged == 0
    assert isinstance(await _error_of(life.peer), NotConnectedError)
    if not life.left:
        assert_goodbye(life.heard[-1])
    assert [message.message_type for message in life.heard[:-1]].count(DISCONNECT) == 0


async def _error_of(peer: StreamPeer) -> NetworkError | None:
    outcome = Outcome()
    await settle(peer, ASK[REQUEST_BLOCK][0], outcome)
    return outcome.error


@pytest.mark.parametrize("seed", range(3))
def test_cancelled_at_every_step_nobody_hangs(seed: int) -> None:
    report = cancel_at_every_step(live, around=a_life, check=nobody_hangs, seed=seed)
    assert report.steps > 80
