"""A peer before 1.4: unary calls with one retry, and a client stream for each kind (§3.2)."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import network_types_pb2 as types
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aelf_p2p.contracts import IncomingCall, Metadata, RpcChannel
from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind, DropReason
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import (
    CallFailedError,
    ConnectionLostError,
    FullBufferError,
    HandlerError,
    NetworkError,
    NotConnectedError,
    PeerUnstableError,
    RpcError,
    StatusCode,
    UnrecoverableError,
)
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason, PeerStatus
from aelf_p2p.core.round_trips import RoundTrip
from aelf_p2p.peers.broadcast_streams import BroadcastStreams
from aelf_p2p.peers.unary_peer import UnaryPeer
from aelf_p2p.testing.conditions import ConditionedHub
from aelf_p2p.wire import methods as m
from tests.peers.foreign_side import OUR_KEY, SESSIONS, make_info, make_item
from tests.services.support import EPOCH_NS, environment, make_chain

BLOCK, ANNOUNCEMENT, LIB, TRANSACTION = (
    BroadcastKind.BLOCK,
    BroadcastKind.ANNOUNCEMENT,
    BroadcastKind.LIB_ANNOUNCEMENT,
    BroadcastKind.TRANSACTION,
)
METADATA: Metadata = {"public-key": OUR_KEY.hex(), "session-id-bin": SESSIONS.theirs}
CHAIN = make_chain(3)
SELDOM = NetworkOptions(unary_call_period_s=1e6)
"""What the peer says by itself would be in the way."""
Handler = Callable[[IncomingCall], Awaitable[None]]


@dataclass
class OldNode:
    """The other end: what it was called, and what it does instead of answering with nothing."""

    calls: list[IncomingCall] = field(default_factory=list)
    scripts: dict[str, Handler] = field(default_factory=dict)
    replies: dict[str, bytes] = field(default_factory=dict)
    received: defaultdict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))

    async def handle(self, call: IncomingCall) -> None:
        self.calls.append(call)
        if call.method.name in self.scripts:
            await self.scripts[call.method.name](call)
        elif call.method.client_streaming:
            call.stream.trust()
            await self.read(call)
        else:
            await call.stream.receive_many()
            await call.stream.send_many([self.replies.get(call.method.name, b"")])

    async def read(self, call: IncomingCall) -> None:
        while messages := await call.stream.receive_many():
            self.received[call.method.name] += messages

    def fails(self, method: m.Method, *codes: StatusCode) -> None:
        """The next calls of a method end so; those behind them are answered."""
        left = list(codes)

        async def fail(call: IncomingCall) -> None:
            await call.stream.receive_many()
            if left:
                raise CallFailedError(left.pop(0), "no")
            await call.stream.send_many([b""])

        self.scripts[method.name] = fail

    def named(self, method: m.Method) -> list[IncomingCall]:
        return [call for call in self.calls if call.method == method]


@dataclass
class Pair:
    peer: UnaryPeer
    node: OldNode
    hub: ConditionedHub
    stop: Callable[[], None]
    """The node stops listening."""


@asynccontextmanager
async def open_pair(
    *,
    options: NetworkOptions | None = None,
    ready: bool = True,
    inbound: bool = False,
) -> AsyncIterator[Pair]:
    hub, node = ConditionedHub(), OldNode()
    async with trio.open_nursery() as nursery:
        server = trio.CancelScope()

        async def serve(*, task_status: trio.TaskStatus[Endpoint]) -> None:
            with server:
                await hub.transport("old").serve("", 0, node.handle, task_status=task_status)

        at: Endpoint = await nursery.start(serve)
        async with hub.transport("ours").dial(at, timeout_s=3) as channel:
            peer = UnaryPeer(
                channel,
                info=replace(make_info(), uses_stream=False, inbound=inbound),
                chain=_no_chain(),
                bit=1,
                sessions=SESSIONS,
                environment=environment(),
                options=options or SELDOM,
                own_public_key=OUR_KEY,
            )
            if ready:
                peer.confirmed_by_peer()
            nursery.start_soon(peer.run)
            yield Pair(peer, node, hub, server.cancel)
            peer.close(CloseReason.LOST)
            await peer.wait_closed()
        server.cancel()


def _no_chain() -> Any:
    return object()


async def ask(peer: UnaryPeer) -> None:
    await peer.check_health(timeout_s=1)


# --- requests -------------------------------------------------------------------------------------


async def test_each_request_is_its_method_with_the_session(autojump_clock: MockClock) -> None:
    async with open_pair(ready=False) as pair:
        node, peer = pair.node, pair.peer
        block = types.BlockWithTransactions.FromString(CHAIN[0].encode())
        node.replies = {
            "RequestBlock": types.BlockReply(block=block).SerializeToString(),
            "RequestBlocks": types.BlockList(
                blocks=[types.BlockWithTransactions.FromString(each.encode()) for each in CHAIN]
            ).SerializeToString(),
            "GetNodes": types.NodeList(
                nodes=[types.NodeInfo(endpoint="8.8.8.8:6800", pubkey=b"k" * 65)]
            ).SerializeToString(),
        }
        await peer.confirm()
        assert peer.status is PeerStatus.READY
        await peer.check_health(timeout_s=1)
        found = await peer.request_block(CHAIN[0].hash)
        assert found is not None
        assert found.hash == CHAIN[0].hash
        blocks = await peer.request_blocks(bytes(32), 3)
        assert [each.hash for each in blocks] == [each.hash for each in CHAIN]
        [record] = await peer.request_nodes(10)
        assert (str(record.endpoint), record.public_key) == ("8.8.8.8:6800", b"k" * 65)
        assert [call.method.name for call in node.calls] == [
            "ConfirmHandshake",
            "CheckHealth",
            "RequestBlock",
            "RequestBlocks",
            "GetNodes",
        ]
        assert all(call.metadata == METADATA for call in node.calls)


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
async def test_after_any_fault_a_call_is_made_once_more(
    code: StatusCode, autojump_clock: MockClock
) -> None:
    async with open_pair() as pair:
        pair.node.fails(m.CHECK_HEALTH, code)
        began = trio.current_time()
        await ask(pair.peer)
        assert len(pair.node.calls) == 2
        assert trio.current_time() == began  # at once


READINGS = {
    StatusCode.CANCELLED: UnrecoverableError,
    StatusCode.UNAVAILABLE: UnrecoverableError,
    StatusCode.UNKNOWN: HandlerError,
    StatusCode.DEADLINE_EXCEEDED: PeerUnstableError,
    StatusCode.INTERNAL: RpcError,
    StatusCode.RESOURCE_EXHAUSTED: RpcError,
    StatusCode.UNIMPLEMENTED: RpcError,
}


@pytest.mark.parametrize("code", READINGS)
async def test_what_a_status_means_for_the_peer(
    code: StatusCode, autojump_clock: MockClock
) -> None:
    async with open_pair() as pair:
        pair.node.fails(m.CHECK_HEALTH, code, code)
        with pytest.raises(NetworkError) as raised:
            await ask(pair.peer)
        assert type(raised.value) is READINGS[code]
        assert len(pair.node.calls) == 2
        await ask(pair.peer)


async def test_a_node_that_does_not_answer_is_unstable(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        pair.hub.stall("old")
        began = trio.current_time()
        with pytest.raises(PeerUnstableError, match=r"CheckHealth was not answered within 1 s"):
            await ask(pair.peer)
        assert trio.current_time() - began == pytest.approx(1)  # both attempts


async def test_a_lost_channel_ends_requests_and_peer(autojump_clock: MockClock) -> None:
    async with open_pair() as pair, trio.open_nursery() as nursery:
        pair.hub.stall("old")

        async def waits() -> None:
            with pytest.raises(UnrecoverableError):
                await pair.peer.check_health(timeout_s=30)

        nursery.start_soon(waits)
        await wait_all_tasks_blocked()
        began = trio.current_time()
        pair.hub.cut("ours", "old")
        await pair.peer.wait_closed()
        assert pair.peer.close_reason is CloseReason.LOST
        assert trio.current_time() == began
        with pytest.raises(NotConnectedError):
            await ask(pair.peer)


async def test_closing_ends_requests_at_once(autojump_clock: MockClock) -> None:
    async with open_pair() as pair, trio.open_nursery() as nursery:
        pair.node.scripts["CheckHealth"] = _never

        async def waits() -> None:
            with pytest.raises(UnrecoverableError, match="was closed before it answered"):
                await pair.peer.check_health(timeout_s=30)

        nursery.start_soon(waits)
        await wait_all_tasks_blocked()
        began = trio.current_time()
        pair.peer.close(CloseReason.REMOVED)
        await pair.peer.wait_closed()
        assert trio.current_time() == began


async def _never(call: IncomingCall) -> None:
    await trio.sleep_forever()


async def test_so_many_requests_may_be_unanswered(autojump_clock: MockClock) -> None:
    async with open_pair(options=NetworkOptions(max_pending_requests=2)) as pair:
        pair.node.scripts["CheckHealth"] = _never
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(ask, pair.peer)
            await wait_all_tasks_blocked()
            with pytest.raises(FullBufferError):
                await ask(pair.peer)
            nursery.cancel_scope.cancel()
        with pytest.raises(PeerUnstableError):
            await ask(pair.peer)


async def test_nonsense_is_a_handlers_error(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        pair.node.replies = {"GetNodes": b"\xff", "RequestBlocks": b"\xff"}
        with pytest.raises(HandlerError):
            await pair.peer.request_nodes(10)
        with pytest.raises(HandlerError):
            await pair.peer.request_blocks(bytes(32), 1)


async def test_the_last_hundred_round_trips_are_kept(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        peer = pair.peer
        assert peer.round_trips() == []
        pair.hub.set_latency("ours", "old", 0.25)
        await trio.sleep(1)
        await peer.request_block(bytes(32))
        await peer.check_health(timeout_s=1)  # is not asked for
        assert peer.round_trips() == [
            RoundTrip("GetBlock", "00" * 32, EPOCH_NS + 1_000_000_000, 0.25)
        ]
        pair.hub.set_latency("ours", "old", 0.0)
        for number in range(101):
            await peer.request_blocks(bytes([number]) * 32, 7)
        pair.node.fails(m.REQUEST_BLOCK, *[StatusCode.INTERNAL] * 2)
        with pytest.raises(RpcError):
            await peer.request_block(bytes(32))
        first, *others = peer.round_trips()
        assert first.method == "GetBlock"
        assert [each.asked_for for each in others] == [
            f"7 after {bytes([number]).hex() * 32}" for number in range(1, 101)
        ]
        assert {each.method for each in others} == {"GetBlocks"}


# --- broadcasts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BroadcastKind)
async def test_a_kind_has_one_stream_opened_at_first_use(
    kind: BroadcastKind, autojump_clock: MockClock
) -> None:
    async with open_pair() as pair:
        await trio.sleep(1)
        assert pair.node.calls == []
        items = [make_item(kind, size) for size in (1, 2, 3)]
        for item in items:
            assert pair.peer.enqueue(item) is None
            await trio.sleep(1)
        [call] = pair.node.calls
        assert m.BROADCAST_STREAMS[call.method] == kind.value
        assert call.metadata == METADATA
        assert pair.node.received[call.method.name] == [bytes(size) for size in (1, 2, 3)]
        assert pair.peer.statistics().sent == {kind: 3}
        assert pair.peer.statistics().unacknowledged == 0


async def test_no_kind_waits_for_another(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        pair.node.scripts["TransactionBroadcastStream"] = _never
        for _ in range(100):
            pair.peer.enqueue(make_item(TRANSACTION, 60_000))
        await wait_all_tasks_blocked()
        for kind in (BLOCK, ANNOUNCEMENT, LIB):
            pair.peer.enqueue(make_item(kind))
        await wait_all_tasks_blocked()
        assert {name: len(got) for name, got in pair.node.received.items()} == {
            "BlockBroadcastStream": 1,
            "AnnouncementBroadcastStream": 1,
            "LibAnnouncementBroadcastStream": 1,
        }
        refused = [pair.peer.enqueue(make_item(TRANSACTION)) for _ in range(101)]
        assert refused[-1] is DropReason.QUEUE_FULL
        pair.peer.close(CloseReason.LOST)
        await pair.peer.wait_closed()
        of = pair.peer.statistics()
        lost = Counter(dict(of.dropped))
        assert lost[TRANSACTION, DropReason.QUEUE_FULL] == refused.count(DropReason.QUEUE_FULL)
        total = of.sent[TRANSACTION] + lost[TRANSACTION, DropReason.CLOSED]
        assert total == 100 + refused.count(None)  # nothing is lost uncounted
        assert of.queued_bytes == of.queued_transactions == 0


@pytest.mark.parametrize("ended", [None, StatusCode.UNKNOWN, StatusCode.INTERNAL])
async def test_a_stream_that_broke_is_opened_again(
    ended: StatusCode | None, autojump_clock: MockClock
) -> None:
    async with open_pair() as pair:
        name = "TransactionBroadcastStream"

        async def take_one(call: IncomingCall) -> None:
            pair.node.received[name] += await call.stream.receive_many()
            del pair.node.scripts[name]
            if ended is None:
                await call.stream.send_many([b""])
            else:
                raise CallFailedError(ended, "")

        pair.node.scripts[name] = take_one
        for size in (1, 2, 3):
            pair.peer.enqueue(make_item(TRANSACTION, size))
            await trio.sleep(1)
        assert pair.node.received[name] == [bytes(1), bytes(2), bytes(3)]
        assert len(pair.node.calls) == 2
        assert pair.peer.close_reason is None


async def test_what_is_refused_twice_is_dropped_and_counted(autojump_clock: MockClock) -> None:
    channel = Refusing()
    streams = BroadcastStreams(cast(RpcChannel, channel), METADATA, NetworkOptions())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(streams.send, TRANSACTION)
        for count in (1, 2):
            for _ in range(3):
                assert streams.enqueue_nowait(make_item()) is None
            await wait_all_tasks_blocked()
            assert channel.opened == 2 * count
            assert streams.queues.dropped == {(TRANSACTION, DropReason.REFUSED): 3 * count}
            assert streams.sent == {}
        nursery.cancel_scope.cancel()


class Refusing:
    """A channel of whose streams each has ended before it is sent on."""

    is_open = True

    def __init__(self) -> None:
        self.opened = 0

    @asynccontextmanager
    async def open_stream(self, method: m.Method, *, metadata: Metadata) -> AsyncIterator[Any]:
        self.opened += 1
        yield self

    async def send_many(self, messages: list[bytes]) -> None:
        await trio.lowlevel.checkpoint()
        raise ConnectionLostError("it was ended by the other side")

    def send_nowait(self, message: bytes) -> bool:
        return False

    async def receive_many(self) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        raise CallFailedError(StatusCode.UNKNOWN)


async def test_a_node_that_forgot_us_is_lost(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:

        async def forget(call: IncomingCall) -> None:
            raise CallFailedError(StatusCode.CANCELLED, "")

        pair.node.scripts["AnnouncementBroadcastStream"] = forget
        for _ in range(3):
            pair.peer.enqueue(make_item(ANNOUNCEMENT))
            await trio.sleep(1)
        await pair.peer.wait_closed()
        assert pair.peer.close_reason is CloseReason.LOST


async def test_nothing_is_queued_before_it_is_ready(autojump_clock: MockClock) -> None:
    async with open_pair(ready=False) as pair:
        assert pair.peer.enqueue(make_item()) is DropReason.NOT_READY
        assert pair.peer.statistics().dropped == {(TRANSACTION, DropReason.NOT_READY): 1}


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [CloseReason.REMOVED, CloseReason.SHUTDOWN, CloseReason.LOST])
async def test_goodbye(reason: CloseReason, autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        requests: list[bytes] = []

        async def disconnect(call: IncomingCall) -> None:
            requests.extend(await call.stream.receive_many())
            await call.stream.send_many([b""])

        pair.node.scripts["Disconnect"] = disconnect
        pair.peer.close(reason)
        await pair.peer.wait_closed()
        polite = reason is not CloseReason.LOST
        expected = [types.DisconnectReason().SerializeToString()] if polite else []
        assert requests == expected
        assert [call.metadata for call in pair.node.calls] == [METADATA] * len(expected)
        assert pair.peer.close_reason is reason


async def test_a_goodbye_is_bounded(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        pair.hub.stall("old")
        began = trio.current_time()
        pair.peer.close(CloseReason.REMOVED)
        await pair.peer.wait_closed()
        assert trio.current_time() - began == pytest.approx(1)


async def test_a_node_that_stops_is_left(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        pair.stop()
        await pair.peer.wait_closed()
        assert pair.peer.close_reason is CloseReason.LOST  # it has said no goodbye


async def test_its_node_is_shown_our_session_at_once_and_each_minute(
    autojump_clock: MockClock,
) -> None:
    """Where it dialed us, ours is a stranger's connection to it until then."""
    for inbound, at_s in ((True, [0, 60, 120, 180]), (False, [60, 120, 180])):
        async with open_pair(options=NetworkOptions(), inbound=inbound) as pair:
            began = trio.current_time()
            calls: list[float] = []

            async def answer(
                call: IncomingCall, calls: list[float] = calls, began: float = began
            ) -> None:
                calls.append(trio.current_time() - began)
                assert call.metadata == METADATA
                await call.stream.send_many([b""])

            pair.node.scripts["CheckHealth"] = answer
            for _ in range(20):  # whatever it says by itself
                pair.peer.heard()
                await trio.sleep(10)
            assert calls == pytest.approx(at_s)


@pytest.mark.parametrize("code", [StatusCode.UNKNOWN, StatusCode.INTERNAL])
async def test_an_error_is_a_sign_of_life(code: StatusCode, autojump_clock: MockClock) -> None:
    """C# keeps a peer whose health check ends so; asked anew each time, and not without end."""
    async with open_pair(options=NetworkOptions(), inbound=True) as pair:
        pair.node.fails(m.CHECK_HEALTH, *[code] * 1000)
        await trio.sleep(200)
        assert pair.peer.status is PeerStatus.READY
        # At once, then whenever it was silent for 20 s, with one repetition each.
        assert len(pair.node.named(m.CHECK_HEALTH)) == 2 * 10


async def test_what_is_in_a_senders_hand_counts_as_queued(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        pair.node.scripts["TransactionBroadcastStream"] = _never
        for _ in range(50):
            pair.peer.enqueue(make_item(TRANSACTION, 60_000))
        await wait_all_tasks_blocked()
        of = pair.peer.statistics()
        assert of.queued_transactions + of.sent.get(TRANSACTION, 0) == 50
        assert of.queued_transactions > 0


async def test_a_sign_of_life_beside_the_channel_counts(autojump_clock: MockClock) -> None:
    async with open_pair() as pair:
        pair.hub.stall("old")
        for _ in range(10):
            await trio.sleep(15)
            pair.peer.heard()
        assert pair.peer.close_reason is None
        await pair.peer.wait_closed()
        assert pair.peer.close_reason is CloseReason.SILENT


def test_an_item_tells_its_payload() -> None:
    item = BroadcastItem(TRANSACTION, bytes(32), b"payload", "1_1")
    assert item.payload == b"payload"
