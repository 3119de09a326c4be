"""Dialing nodes of another make, whatever they answer (protocol §3.1, faults 46-58)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import network_types_pb2 as types
import peer_service_pb2 as service
import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.contracts import IncomingCall
from aelf_p2p.core.bans import BanReason
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import (
    AelfP2PError,
    CallFailedError,
    ClosedByUsError,
    ConnectionLostError,
    DeadlineExceededError,
    HandlerError,
    HandshakeRefusedError,
    MalformedError,
    NetworkError,
    PeerUnstableError,
    ProtocolViolationError,
    StatusCode,
    TransportError,
)
from aelf_p2p.core.network_events import PeerConnected, PeerDisconnected
from aelf_p2p.core.peer_info import CloseReason, PeerStatus
from aelf_p2p.node import Node
from aelf_p2p.testing.conditions import ConditionedHub
from aelf_p2p.wire import methods as m
from tests.services.foreign import (
    NODE,
    ForeignNode,
    ForeignServer,
    ForeignStream,
    open_test_node,
)
from tests.services.support import EPOCH_NS, identity, read_all, wall_ns

FOREIGN = Endpoint("foreign", 6800)


@asynccontextmanager
async def open_pair(
    server: ForeignServer, **arguments: Any
) -> AsyncIterator[tuple[Node, ConditionedHub]]:
    """One of our nodes, and a foreign one that it can dial."""
    hub = ConditionedHub()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, hub)
        async with open_test_node(hub, **arguments) as node:
            yield node, hub
        nursery.cancel_scope.cancel()


def is_clean(node: Node) -> bool:
    """Nothing is left of a dial that failed."""
    return not list(node._context.pool) and node._context.admission.handshaking == 0


class Replies(ForeignServer):
    """Answers with bytes that are given."""

    def __init__(self, *, unary: bytes | None = None, stream: bytes | None = None) -> None:
        super().__init__(ForeignNode())
        self.unary = unary
        self.stream_reply = stream

    async def answer_handshake(self, request: bytes) -> bytes:
        return self.node.reply() if self.unary is None else self.unary

    async def answer_stream_handshake(self, request: bytes) -> bytes:
        return self.node.reply() if self.stream_reply is None else self.stream_reply


# --- what goes well -------------------------------------------------------------------------------


async def test_a_dial_as_the_protocol_has_it(autojump_clock: MockClock) -> None:
    server = ForeignServer(ForeignNode())
    server.node.best_height, server.node.lib_height = 30, 22
    async with open_pair(server) as (node, _):
        with node.subscribe() as events:
            peer = await node.connect("foreign")
            assert peer.status is PeerStatus.READY
            assert peer.info.public_key == server.node.key
            assert peer.info.endpoint == FOREIGN
            assert not peer.info.inbound
            assert node.peers() == [peer]
            [connected] = await read_all(events)
        assert connected == PeerConnected(peer.info, b"b" * 32, 30)
        assert server.calls == ["DoHandshake", "RequestByStream"]
        kinds = [request.message_type for request in server.streams[0].requests]
        assert kinds[0] == service.CONFIRM_HAND_SHAKE
        meta = server.streams[0].requests[0].meta
        assert meta["public-key"] == node.public_key.hex()
        assert meta["session-id-bin"] == server.node.session.hex()
        assert "peer-info" in meta


async def test_the_handshake_on_the_stream_is_a_new_one(autojump_clock: MockClock) -> None:
    seen: list[types.Handshake] = []

    class Server(ForeignServer):
        async def answer_handshake(self, request: bytes) -> bytes:
            seen.append(types.HandshakeRequest.FromString(request).handshake)
            await trio.sleep(0.1)
            return self.node.reply()

        async def answer_stream_handshake(self, request: bytes) -> bytes:
            seen.append(types.HandshakeRequest.FromString(request).handshake)
            return self.node.reply(session_id=b"later")

    server = Server(ForeignNode())
    async with open_pair(server) as (node, _):
        peer = await node.connect(FOREIGN)
        first, second = seen
        assert first.session_id != second.session_id
        times = [each.handshake_data.time.ToNanoseconds() for each in seen]
        assert times == [EPOCH_NS, EPOCH_NS + 100_000_000]
        # the session ids of the stream's exchange are in force
        assert server.streams[0].requests[0].meta["session-id-bin"] == b"later".hex()
        assert peer.accepts_session(second.session_id)
        assert not peer.accepts_session(first.session_id)


async def test_connecting_twice_gives_the_same_peer(autojump_clock: MockClock) -> None:
    server = ForeignServer(ForeignNode())
    async with open_pair(server) as (node, _):
        peer = await node.connect(FOREIGN)
        assert await node.connect(FOREIGN) is peer
        assert len(server.streams) == 1
        assert node.peers() == [peer]


@pytest.mark.parametrize("delay_s", [0.0, 0.5])
async def test_connecting_twice_at_once_gives_the_same_peer(
    delay_s: float, autojump_clock: MockClock
) -> None:
    class Slow(ForeignServer):
        async def answer_stream_handshake(self, request: bytes) -> bytes:
            await trio.sleep(0.2 * len(self.streams))
            return self.node.reply()

    found: list[object] = []
    async with open_pair(Slow(ForeignNode())) as (node, _):

        async def connect(after_s: float) -> None:
            await trio.sleep(after_s)
            peer = await node.connect(FOREIGN)
            found.append(peer)
            assert peer.status is PeerStatus.READY

        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect, 0)
            nursery.start_soon(connect, delay_s / 4)
        assert found == node.peers() * 2


async def test_a_peer_that_is_gone_is_dialed_again(autojump_clock: MockClock) -> None:
    server = ForeignServer(ForeignNode())
    async with open_pair(server) as (node, _):
        peer = await node.connect(FOREIGN)
        peer.close(CloseReason.REMOVED)  # closed, and still in the pool
        again = await node.connect(FOREIGN)
        assert again is not peer
        assert node.peers() == [again]


async def test_an_inbound_peer_is_not_dialed_again(autojump_clock: MockClock) -> None:
    server = ForeignServer(ForeignNode())
    async with open_pair(server) as (node, hub), server.node.connect(hub) as peer:
        [held] = node.peers()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.stream.answer_all)
            await trio.sleep(5)
            assert await node.connect(FOREIGN) is held
            nursery.cancel_scope.cancel()
        assert server.streams == []


async def test_connecting_waits_until_the_other_connection_is_ready(
    autojump_clock: MockClock,
) -> None:
    server = ForeignServer(ForeignNode())
    async with (
        open_pair(server) as (node, hub),
        server.node.connect(hub, confirm=False) as peer,
        trio.open_nursery() as nursery,
    ):
        await trio.sleep(2)

        async def confirm() -> None:
            await trio.sleep(1)
            await peer.stream.ask(service.CONFIRM_HAND_SHAKE)

        nursery.start_soon(confirm)
        found = await node.connect(FOREIGN)
        assert found.status is PeerStatus.READY
        assert found.info.inbound


async def test_a_node_is_told_goodbye(autojump_clock: MockClock) -> None:
    server = ForeignServer(ForeignNode())
    async with open_pair(server) as (node, _):
        await node.connect(FOREIGN)
    assert server.streams[0].requests[-1].message_type == service.DISCONNECT


# --- who refuses ----------------------------------------------------------------------------------

ERRORS = [code for code in types.HandshakeError.values() if code] + [8, 1000]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["unary", "stream"])
async def test_each_refusal_is_told(where: str, error: int, autojump_clock: MockClock) -> None:
    reply = types.HandshakeReply(error=error).SerializeToString()  # type: ignore[arg-type]
    server = Replies(**{where: reply})
    async with open_pair(server) as (node, _):
        with pytest.raises(HandshakeRefusedError) as raised:
            await node.connect(FOREIGN)
        assert raised.value.code == error
        assert is_clean(node)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"chain_id": 1}, types.CHAIN_MISMATCH),
        ({"version": 2}, types.PROTOCOL_MISMATCH),
        ({"time_ns": EPOCH_NS - 1_500_000_001}, types.SIGNATURE_TIMEOUT),
        ({"time_ns": EPOCH_NS + 1_600_000_000}, types.SIGNATURE_TIMEOUT),
        ({"signature": bytes(65)}, types.WRONG_SIGNATURE),
        ({"pubkey": identity(77).public_key}, types.WRONG_SIGNATURE),
    ],
)
@pytest.mark.parametrize("where", ["unary", "stream"])
async def test_a_reply_is_checked_like_a_request(
    where: str, changes: dict[str, object], error: int, autojump_clock: MockClock
) -> None:
    class Server(ForeignServer):
        async def answer_handshake(self, request: bytes) -> bytes:
            return self.node.reply(**changes if where == "unary" else {})

        async def answer_stream_handshake(self, request: bytes) -> bytes:
            return self.node.reply(**changes)

    async with open_pair(Server(ForeignNode())) as (node, _):
        with pytest.raises(HandshakeRefusedError) as raised:
            await node.connect(FOREIGN)
        assert raised.value.code == error
        assert is_clean(node)


async def test_connecting_to_oneself(autojump_clock: MockClock) -> None:
    async with open_test_node(ConditionedHub()) as node:
        with pytest.raises(HandshakeRefusedError) as raised:
            await node.connect(NODE)
        assert raised.value.code == types.CONNECTION_REFUSED
        assert is_clean(node)


@pytest.mark.parametrize("what", ["key", "host"])
async def test_connecting_to_who_is_banned(what: str, autojump_clock: MockClock) -> None:
    server = ForeignServer(ForeignNode())
    async with open_pair(server) as (node, _):
        subject = server.node.key.hex() if what == "key" else "foreign"
        node._context.bans.ban(subject, BanReason.OPERATOR, wall_ns() / 1e9 + 60)
        with pytest.raises(HandshakeRefusedError) as raised:
            await node.connect(FOREIGN)
        assert raised.value.code == types.CONNECTION_REFUSED
        assert is_clean(node)
        await trio.sleep(60)
        await node.connect(FOREIGN)


@pytest.mark.fault(73)
async def test_who_is_banned_while_shaking_hands(autojump_clock: MockClock) -> None:
    node: Node

    class Server(ForeignServer):
        async def answer_stream_handshake(self, request: bytes) -> bytes:
            until = wall_ns() / 1e9 + 60
            node._context.bans.ban(self.node.key.hex(), BanReason.OPERATOR, until)
            return self.node.reply()

    async with open_pair(Server(ForeignNode())) as (node, _):
        with pytest.raises(HandshakeRefusedError):
            await node.connect(FOREIGN)
        assert is_clean(node)


# --- who answers nonsense -------------------------------------------------------------------------

GARBAGE = {
    "bytes": b"\xff\xff\xff",
    "nothing": b"",
    "an empty handshake": types.HandshakeReply(handshake=types.Handshake()).SerializeToString(),
    "empty data": b"\x0a\x02\x0a\x00",
}


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("where", ["unary", "stream"])
async def test_garbage(where: str, name: str, autojump_clock: MockClock) -> None:
    async with open_pair(Replies(**{where: GARBAGE[name]})) as (node, _):
        with pytest.raises(ProtocolViolationError):
            await node.connect(FOREIGN)
        assert is_clean(node)


async def test_a_key_that_changes_between_the_two_handshakes(autojump_clock: MockClock) -> None:
    class Server(ForeignServer):
        async def answer_stream_handshake(self, request: bytes) -> bytes:
            return ForeignNode(3).reply()

    async with open_pair(Server(ForeignNode())) as (node, _):
        with pytest.raises(ProtocolViolationError):
            await node.connect(FOREIGN)
        assert is_clean(node)


@pytest.mark.parametrize(
    "case", ["another id", "another type", "a request", "no envelope", "the end"]
)
async def test_other_answers_on_the_stream(case: str, autojump_clock: MockClock) -> None:
    class Server(ForeignServer):
        async def serve_stream(self, stream: ForeignStream) -> None:
            opening = await stream.wait_for(service.HAND_SHAKE)
            answer = service.StreamMessage(
                stream_type=service.REPLY,
                message_type=service.HAND_SHAKE,
                request_id=opening.request_id,
                message=self.node.reply(),
            )
            if case == "another id":
                answer.request_id = "1_2"
            elif case == "another type":
                answer.message_type = service.PING
            elif case == "a request":
                answer.stream_type = service.REQUEST
            raw = {"no envelope": [b"\xff\xff"], "the end": []}.get(
                case, [answer.SerializeToString()]
            )
            await stream.stream.send_many(raw)

    async with open_pair(Server(ForeignNode())) as (node, _):
        with pytest.raises(ProtocolViolationError):
            await node.connect(FOREIGN)
        assert is_clean(node)


async def test_a_handshake_over_64_kib_is_too_much(autojump_clock: MockClock) -> None:
    filled = ForeignNode().reply() + b"\x7a\x80\x80\x04" + bytes(65536)  # an unknown field
    for where in "unary", "stream":
        async with open_pair(Replies(**{where: filled})) as (node, _):
            with pytest.raises(CallFailedError) as raised:
                await node.connect(FOREIGN)
            assert raised.value.code is StatusCode.RESOURCE_EXHAUSTED
            assert is_clean(node)


async def test_messages_right_behind_the_handshake_are_not_lost(autojump_clock: MockClock) -> None:
    class Server(ForeignServer):
        async def serve_stream(self, stream: ForeignStream) -> None:
            opening = await stream.wait_for(service.HAND_SHAKE)
            asked = types.HandshakeRequest.FromString(opening.message)
            stream.session = asked.handshake.session_id
            replied = service.StreamMessage(
                stream_type=service.REPLY,
                message_type=service.HAND_SHAKE,
                request_id=opening.request_id,
                message=self.node.reply(),
            )
            announcement = types.BlockAnnouncement(block_height=9)
            announcement.block_hash.value = b"h" * 32
            message = service.StreamMessage(
                stream_type=service.REQUEST,
                message_type=service.ANNOUNCEMENT_BROADCAST,
                request_id="1_1",
                message=announcement.SerializeToString(),
                meta=stream.meta(),
            )
            both = [replied.SerializeToString(), message.SerializeToString()]
            await stream.stream.send_many(both)
            await stream.answer_all()

    async with open_pair(Server(ForeignNode())) as (node, _):
        peer = await node.connect(FOREIGN)
        assert peer.chain.best_height == 9


# --- how much a node may say ----------------------------------------------------------------------


class Talkative(ForeignServer):
    """Answers a request for blocks with a size that is given, or pushes one."""

    def __init__(self, size: int, *, unasked: bool) -> None:
        super().__init__(ForeignNode())
        self.size = size
        self.unasked = unasked

    async def serve_stream(self, stream: ForeignStream) -> None:
        opening = await stream.wait_for(service.HAND_SHAKE)
        asked = types.HandshakeRequest.FromString(opening.message)
        stream.session = asked.handshake.session_id
        await stream.reply(opening, self.node.reply())
        await stream.reply(await stream.wait_for(service.CONFIRM_HAND_SHAKE))
        if self.unasked:
            await stream.send(service.BLOCK_BROADCAST, bytes(self.size))
        else:
            await stream.reply(await stream.wait_for(service.REQUEST_BLOCKS), bytes(self.size))
        await stream.answer_all()


@pytest.mark.parametrize(
    ("size", "reason"), [(5 * 2**20, None), (5 * 2**20 + 8 * 2**10, CloseReason.VIOLATION)]
)
async def test_a_node_that_was_dialed_may_push_blocks_up_to_a_size(
    size: int, reason: CloseReason | None, autojump_clock: MockClock
) -> None:
    async with open_pair(Talkative(size, unasked=True)) as (node, _):
        peer = await node.connect(FOREIGN)
        await trio.sleep(1)
        assert peer.close_reason is reason


async def test_blocks_that_were_asked_for_may_be_larger(autojump_clock: MockClock) -> None:
    async with open_pair(Talkative(20 * 2**20, unasked=False)) as (node, _):
        peer = await node.connect(FOREIGN)
        with pytest.raises(HandlerError):  # it came, and is no list of blocks
            await peer.request_blocks(bytes(32), 10)
        assert peer.close_reason is None


# --- who does not answer --------------------------------------------------------------------------


class Silent(ForeignServer):
    """Stops at one step."""

    def __init__(self, step: str) -> None:
        super().__init__(ForeignNode())
        self.step = step

    async def answer_handshake(self, request: bytes) -> bytes:
        if self.step == "DoHandshake":
            await trio.sleep_forever()
        return self.node.reply()

    async def answer_stream_handshake(self, request: bytes) -> bytes:
        if self.step == "HAND_SHAKE":
            await trio.sleep_forever()
        return self.node.reply()

    async def serve_stream(self, stream: ForeignStream) -> None:
        if self.step != "CONFIRM_HAND_SHAKE":
            await super().serve_stream(stream)
            return
        opening = await stream.wait_for(service.HAND_SHAKE)
        await stream.reply(opening, self.node.reply())
        while (message := await stream.receive()) is not None:
            stream.requests.append(message)


@pytest.mark.parametrize(
    ("step", "after_s", "error"),
    [
        ("DoHandshake", 6, DeadlineExceededError),
        ("HAND_SHAKE", 3, DeadlineExceededError),
        ("CONFIRM_HAND_SHAKE", 3, PeerUnstableError),
    ],
)
async def test_each_step_has_its_deadline(
    step: str, after_s: float, error: type[AelfP2PError], autojump_clock: MockClock
) -> None:
    server = Silent(step)
    async with open_pair(server) as (node, _):
        with node.subscribe() as events:
            began = trio.current_time()
            with pytest.raises(error):
                await node.connect(FOREIGN)
            took = trio.current_time() - began
            assert after_s <= took <= after_s + 1.01  # a second for the goodbye
            assert is_clean(node)
            assert await read_all(events) == []
    if step == "CONFIRM_HAND_SHAKE":
        assert server.streams[0].requests[-1].message_type == service.DISCONNECT


async def test_a_host_that_cannot_be_reached(autojump_clock: MockClock) -> None:
    server = ForeignServer(ForeignNode())
    async with open_pair(server) as (node, hub):
        with pytest.raises(ConnectionLostError):
            await node.connect("nobody:6800")
        hub.stall("foreign")
        began = trio.current_time()
        with pytest.raises(DeadlineExceededError):
            await node.connect(FOREIGN)
        assert trio.current_time() - began == pytest.approx(3)
        assert is_clean(node)


@pytest.mark.parametrize("text", ["a:b:c", "host:99999", "host:0", "", "a b"])
async def test_endpoints_that_are_none(text: str, autojump_clock: MockClock) -> None:
    async with open_test_node(ConditionedHub()) as node:
        with pytest.raises(MalformedError):
            await node.connect(text)


@pytest.mark.parametrize("method", [m.DO_HANDSHAKE, m.REQUEST_BY_STREAM])
async def test_a_call_that_fails_there(method: m.Method, autojump_clock: MockClock) -> None:
    class Broken(ForeignServer):
        async def handle(self, call: IncomingCall) -> None:
            if call.method == method:
                raise CallFailedError(StatusCode.UNKNOWN)
            await super().handle(call)

    async with open_pair(Broken(ForeignNode())) as (node, _):
        with pytest.raises(TransportError):
            await node.connect(FOREIGN)
        assert is_clean(node)


async def test_a_failed_confirmation_empties_the_pool(autojump_clock: MockClock) -> None:
    class Server(ForeignServer):
        async def serve_stream(self, stream: ForeignStream) -> None:
            opening = await stream.wait_for(service.HAND_SHAKE)
            await stream.reply(opening, self.node.reply())

    async with open_pair(Server(ForeignNode())) as (node, _):
        with pytest.raises(NetworkError):
            await node.connect(FOREIGN)
        assert is_clean(node)


# --- cancelled and closed -------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["DoHandshake", "HAND_SHAKE", "CONFIRM_HAND_SHAKE"])
async def test_a_dial_that_is_cancelled_leaves_nothing(
    step: str, autojump_clock: MockClock
) -> None:
    async with open_pair(Silent(step)) as (node, hub):
        with node.subscribe() as events:
            with trio.move_on_after(1) as scope:
                await node.connect(FOREIGN)
            assert scope.cancelled_caught
            assert is_clean(node)
            assert await read_all(events) == []  # who never connected does not disconnect
        assert not hub.connections


async def test_the_connection_outlives_the_task_that_asked_for_it(
    autojump_clock: MockClock,
) -> None:
    async with open_pair(ForeignServer(ForeignNode())) as (node, _):
        with trio.CancelScope() as scope:
            peer = await node.connect(FOREIGN)
            scope.cancel()
            await trio.lowlevel.checkpoint()
        await trio.sleep(60)
        assert node.peers() == [peer]


async def test_a_stream_that_ends_later_is_a_loss_and_no_error(autojump_clock: MockClock) -> None:
    async with open_pair(ForeignServer(ForeignNode())) as (node, hub):
        with node.subscribe() as events:
            peer = await node.connect(FOREIGN)
            hub.cut("node", "foreign")
            await peer.wait_closed()
            connected, disconnected = await read_all(events)
        assert isinstance(connected, PeerConnected)
        assert disconnected == PeerDisconnected(peer.info, CloseReason.LOST, peer.statistics())
        assert is_clean(node)


async def test_a_closed_node_dials_nobody(autojump_clock: MockClock) -> None:
    async with open_pair(ForeignServer(ForeignNode())) as (node, _):
        pass
    with pytest.raises(ClosedByUsError):
        await node.connect(FOREIGN)


# --- several dials, and the node's end ------------------------------------------------------------


async def test_many_connects_to_one_endpoint_are_one_connection(
    autojump_clock: MockClock,
) -> None:
    hub = ConditionedHub(latency_s=0.1)
    peers: list[object] = []
    async with open_test_node(hub), open_test_node(hub, "other", 2) as other:

        async def connect() -> None:
            peers.append(await other.connect("node"))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(connect)
    assert len(peers) == 5
    assert len(set(map(id, peers))) == 1


async def test_leaving_a_node_does_not_wait_for_its_dials(autojump_clock: MockClock) -> None:
    hub = ConditionedHub()
    hub.stall("dead")
    ended: list[float] = []
    async with trio.open_nursery() as nursery:
        async with open_test_node(hub) as node:

            async def connect() -> None:
                with pytest.raises(ClosedByUsError):
                    await node.connect("dead")
                ended.append(trio.current_time())

            nursery.start_soon(connect)
            await trio.sleep(1)
        assert trio.current_time() == 1
    assert ended == [1]
