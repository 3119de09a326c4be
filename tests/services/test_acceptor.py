"""Serving all thirteen methods to a node of another make (protocol §3 and §6, faults 46-58)."""

from contextlib import AsyncExitStack
from typing import Any

import network_types_pb2 as types
import peer_service_pb2 as service
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aelf_p2p.core.bans import BanReason
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import CallFailedError, StatusCode, TransportError
from aelf_p2p.core.network_events import (
    AnnouncementReceived,
    BlockReceived,
    PeerConnected,
    PeerDisconnected,
    TransactionsReceived,
)
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason, PeerStatus
from aelf_p2p.node import Node
from aelf_p2p.testing.conditions import ConditionedHub
from aelf_p2p.transports.memory import _End
from aelf_p2p.wire import methods as m
from tests.services.foreign import ForeignNode, ForeignPeer, open_test_node
from tests.services.support import (
    EPOCH_NS,
    identity,
    make_chain,
    make_transaction,
    read_all,
    stored,
    wall_ns,
)

MANY = NetworkOptions(max_peers_per_host=0)
UNARY_WITH_SESSION = [
    m.CHECK_HEALTH,
    m.CONFIRM_HANDSHAKE,
    m.REQUEST_BLOCK,
    m.REQUEST_BLOCKS,
    m.GET_NODES,
    m.DISCONNECT,
]
BROADCAST_STREAMS = [
    m.BLOCK_BROADCAST_STREAM,
    m.TRANSACTION_BROADCAST_STREAM,
    m.ANNOUNCEMENT_BROADCAST_STREAM,
    m.LIB_ANNOUNCEMENT_BROADCAST_STREAM,
]


@pytest.fixture
def hub() -> ConditionedHub:
    return ConditionedHub()


async def unary_error(hub: ConditionedHub, foreign: ForeignNode, **changes: Any) -> int:
    async with foreign.dial(hub) as channel:
        return (await foreign.do_handshake(channel, **changes)).error


async def stream_error(
    hub: ConditionedHub, foreign: ForeignNode, *, host: str | None = None, **changes: Any
) -> int:
    """The error that the stream handshake is answered with; the stream then ends."""
    async with (
        foreign.dial(hub, host=host) as channel,
        foreign.open_stream(channel) as stream,
    ):
        reply = await stream.shake_hands(foreign.request(**changes))
        if reply.error:
            assert not reply.HasField("handshake")
            assert await stream.receive() is None
        return reply.error


# --- what the handshake must say ------------------------------------------------------------------

OWN = identity(1)
REFUSED: dict[str, tuple[int, dict[str, Any]]] = {
    "chain": (types.CHAIN_MISMATCH, {"chain_id": 1}),
    "version": (types.PROTOCOL_MISMATCH, {"version": 2}),
    "version zero": (types.PROTOCOL_MISMATCH, {"version": 0}),
    "stale": (types.SIGNATURE_TIMEOUT, {"time_ns": EPOCH_NS - 1_500_000_001}),
    "future": (types.SIGNATURE_TIMEOUT, {"time_ns": EPOCH_NS + 1_500_000_001}),
    "signature": (types.WRONG_SIGNATURE, {"signature": bytes(65)}),
    "no signature": (types.WRONG_SIGNATURE, {"signature": b""}),
    "recovery id": (types.WRONG_SIGNATURE, {"signature": b"\x01" * 64 + b"\x04"}),
    "another's key": (types.WRONG_SIGNATURE, {"pubkey": identity(77).public_key}),
    "no node version": (types.INVALID_CONNECTION, {"node_version": ""}),
    "bad node version": (types.INVALID_CONNECTION, {"node_version": "x"}),
    "old node version": (types.INVALID_CONNECTION, {"node_version": "1.3.0.0"}),
    "short node version": (types.INVALID_CONNECTION, {"node_version": "1.4.0"}),
    # the first rule that is broken gives the answer
    "chain first": (types.CHAIN_MISMATCH, {"chain_id": 1, "version": 2, "signature": b""}),
    "version next": (types.PROTOCOL_MISMATCH, {"version": 2, "time_ns": 0, "signature": b""}),
    "time next": (types.SIGNATURE_TIMEOUT, {"time_ns": EPOCH_NS - 10**10, "signature": b""}),
}


@pytest.mark.fault(46, 47, 49, 54)
@pytest.mark.parametrize("name", REFUSED)
async def test_each_refusal_has_its_error(
    name: str, hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    error, changes = REFUSED[name]
    async with open_test_node(hub) as node:
        assert await unary_error(hub, ForeignNode(), **changes) == error
        if "pubkey" not in changes:
            assert await stream_error(hub, ForeignNode(), **changes) == error
        assert not list(node._context.pool)
        assert node._context.admission.handshaking == 0


@pytest.mark.fault(49)
@pytest.mark.parametrize("off_ns", [-1_500_000_000, 1_500_000_000])
async def test_a_clock_may_be_a_second_and_a_half_off(
    off_ns: int, hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with open_test_node(hub):
        assert await unary_error(hub, ForeignNode(), time_ns=EPOCH_NS + off_ns) == 0
        assert await stream_error(hub, ForeignNode(), time_ns=EPOCH_NS + off_ns) == 0


async def test_a_host_that_forges_handshakes_is_banned(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    forger = ForeignNode(2, host="192.0.2.2")
    async with open_test_node(hub) as node:
        for _ in range(3):  # each by a unary call and on a stream is one
            assert await unary_error(hub, forger, signature=bytes(65)) == types.WRONG_SIGNATURE
            assert await unary_error(hub, ForeignNode(3), chain_id=1) == types.CHAIN_MISMATCH
        assert await stream_error(hub, forger, signature=bytes(65)) == types.WRONG_SIGNATURE
        async with forger.dial(hub) as channel:
            with pytest.raises(CallFailedError):
                await channel.call(m.DO_HANDSHAKE, b"\xff", metadata={}, timeout_s=3)
        [ban] = node.operator.bans()
        assert (ban.subject, ban.reason) == ("192.0.2.2", BanReason.MISBEHAVIOUR)
        assert await stream_error(hub, forger) == types.CONNECTION_REFUSED
        assert node.operator.scores() == {}


async def test_a_peer_that_sends_what_cannot_be_parsed_is_banned(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with open_test_node(hub) as node, ForeignNode(2, host="192.0.2.2").connect(hub) as peer:
        [ours] = node.peers()
        for _ in range(49):
            await peer.stream.send(service.TRANSACTION_BROADCAST, b"malformed")
        await peer.stream.send(service.REQUEST_BLOCK, b"\xff")
        await ours.wait_closed()
        assert ours.close_reason is CloseReason.BANNED
        assert ours.statistics().ignored == {"malformed broadcast": 49, "malformed request": 1}
        [ban] = node.operator.bans()
        assert (ban.subject, ban.reason) == ("192.0.2.2", BanReason.MISBEHAVIOUR)


@pytest.mark.fault(52)
async def test_its_own_key_is_refused(hub: ConditionedHub, autojump_clock: MockClock) -> None:
    async with open_test_node(hub):
        assert await unary_error(hub, ForeignNode(1)) == types.CONNECTION_REFUSED
        assert await stream_error(hub, ForeignNode(1)) == types.CONNECTION_REFUSED


async def test_the_whitelist(hub: ConditionedHub, autojump_clock: MockClock) -> None:
    listed, stranger = ForeignNode(2), ForeignNode(3, host="stranger")
    async with open_test_node(hub, authorized_keys=frozenset({listed.key})):
        assert await unary_error(hub, listed) == 0
        assert await stream_error(hub, listed) == 0
        # before everything else, its chain for example
        assert await unary_error(hub, stranger, chain_id=1) == types.CONNECTION_REFUSED
        assert await stream_error(hub, stranger) == types.CONNECTION_REFUSED


MALFORMED: dict[str, dict[str, Any]] = {
    "no time": {"drop": ["time"]},
    "no key": {"drop": ["pubkey"]},
    "port 0": {"listening_port": 0},
    "port -1": {"listening_port": -1},
    "port 65536": {"listening_port": 65536},
    "no session": {"session_id": b""},
    "long session": {"session_id": b"s" * 65},
    "negative height": {"best_chain_height": -1},
    "long version": {"node_version": "1" * 65},
}


@pytest.mark.fault(38, 48, 53)
@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_handshakes(
    name: str, hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with open_test_node(hub) as node:
        with pytest.raises(CallFailedError) as raised:
            await unary_error(hub, ForeignNode(), **MALFORMED[name])
        assert raised.value.code is StatusCode.INVALID_ARGUMENT
        with pytest.raises(CallFailedError) as raised:
            await stream_error(hub, ForeignNode(), **MALFORMED[name])
        assert raised.value.code is StatusCode.INVALID_ARGUMENT
        assert not list(node._context.pool)


@pytest.mark.fault(56)
@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"\xff\xff",
        types.HandshakeRequest(handshake=types.Handshake()).SerializeToString(),
        types.HandshakeRequest(handshake=types.Handshake(session_id=b"s")).SerializeToString(),
    ],
)
async def test_requests_without_a_handshake(
    request_: bytes, hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with open_test_node(hub), foreign.dial(hub) as channel:
        with pytest.raises(CallFailedError) as raised:
            await channel.call(m.DO_HANDSHAKE, request_, metadata=foreign.metadata, timeout_s=6)
        assert raised.value.code is StatusCode.INVALID_ARGUMENT
        async with foreign.open_stream(channel) as stream:
            with pytest.raises(CallFailedError) as raised:
                await stream.shake_hands(request_)
        assert raised.value.code is StatusCode.INVALID_ARGUMENT


async def test_what_a_handshake_of_ours_says(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    store = await stored(make_chain(9), lib=4)
    foreign = ForeignNode()
    async with open_test_node(hub, store=store), foreign.dial(hub) as channel:
        reply = await foreign.do_handshake(channel)
        data = reply.handshake.handshake_data
        assert (data.chain_id, data.version, data.listening_port) == (9992731, 1, 6800)
        assert data.pubkey == OWN.public_key
        assert (data.best_chain_height, data.last_irreversible_block_height) == (9, 4)
        assert data.best_chain_hash.value == store.status.best_hash
        assert data.time.ToNanoseconds() == wall_ns()
        assert data.node_version == "1.12.3.0"
        async with foreign.open_stream(channel) as stream:
            again = await stream.shake_hands()
            assert again.handshake.session_id != reply.handshake.session_id


# --- places ---------------------------------------------------------------------------------------


async def test_bans_count_on_the_stream_only(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    by_host, by_key = ForeignNode(2), ForeignNode(3, host="other")
    async with open_test_node(hub) as node:
        bans = node._context.bans
        until = wall_ns() / 1e9 + 300
        bans.ban("foreign", BanReason.OPERATOR, until)
        bans.ban(by_key.key.hex(), BanReason.OPERATOR, until)
        for foreign in (by_host, by_key):
            assert await unary_error(hub, foreign) == 0
            assert await stream_error(hub, foreign) == types.CONNECTION_REFUSED
        await trio.sleep(300)
        for foreign in (by_host, by_key):
            assert await stream_error(hub, foreign) == 0


async def test_room_counts_on_the_stream_only(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    options = NetworkOptions(max_peers=5, max_guests=0)  # three of them for who dials it
    async with open_test_node(hub, options=options), AsyncExitStack() as stack:
        for number in range(2, 5):
            foreign = ForeignNode(number, host=f"host{number}")
            await stack.enter_async_context(foreign.connect(hub))
        newcomer = ForeignNode(9, host="late")
        assert await unary_error(hub, newcomer) == 0
        assert await stream_error(hub, newcomer) == types.CONNECTION_REFUSED


async def test_a_full_node_takes_in_a_guest_and_sends_it_off(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    options = NetworkOptions(max_peers=1, max_guests=1)
    async with (
        open_test_node(hub, options=options) as node,
        ForeignNode(2, host="host2").connect(hub) as resident,
        ForeignNode(3, host="host3").connect(hub) as guest,
    ):
        assert await stream_error(hub, ForeignNode(4, host="host4")) == types.CONNECTION_REFUSED
        came_at = trio.current_time()
        asked = types.NodesRequest(max_count=10).SerializeToString()
        reply = await guest.stream.ask(service.GET_NODES, asked)
        [told] = types.NodeList.FromString(reply.message).nodes
        assert told.endpoint == "host2:6800"
        await guest.stream.wait_for(service.DISCONNECT)
        assert trio.current_time() - came_at == options.guest_s == 5
        await trio.sleep(1)
        assert [peer.info.public_key for peer in node.peers()] == [resident.node.key]
        assert await stream_error(hub, ForeignNode(4, host="host4")) == 0


async def test_a_guest_stays_when_a_place_is_free_by_then(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    options = NetworkOptions(max_peers=1, max_guests=1)
    async with open_test_node(hub, options=options) as node, AsyncExitStack() as stack:
        async with ForeignNode(2, host="host2").connect(hub):
            guest = await stack.enter_async_context(ForeignNode(3, host="host3").connect(hub))
            await trio.sleep(1)
        await trio.sleep(14)
        assert [peer.info.public_key for peer in node.peers()] == [guest.node.key]


async def test_of_two_that_come_at_once_one_is_a_guest(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async def stay(number: int) -> None:
        async with ForeignNode(number, host=f"host{number}").connect(hub):
            await trio.sleep(15)

    options = NetworkOptions(max_peers=1, max_guests=1)
    async with open_test_node(hub, options=options) as node, trio.open_nursery() as nursery:
        nursery.start_soon(stay, 2)
        nursery.start_soon(stay, 3)
        await trio.sleep(1)
        assert len(node.peers()) == 2
        await trio.sleep(10)
        assert len(node.peers()) == 1


async def test_a_guest_that_leaves_leaves_nothing_behind(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    options = NetworkOptions(max_peers=1, max_guests=1)
    async with (
        open_test_node(hub, options=options) as node,
        ForeignNode(2, host="host2").connect(hub),
    ):
        async with ForeignNode(3, host="host3").connect(hub):
            await trio.sleep(1)
            assert len(node.peers()) == 2
        with trio.fail_after(1):
            await trio.sleep(0.5)
            assert len(hub.connections) == 1


async def test_one_a_host_counts_on_the_stream_only(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    neighbour = ForeignNode(3)
    async with open_test_node(hub):
        async with ForeignNode(2).connect(hub):
            assert await unary_error(hub, neighbour) == 0
            assert await stream_error(hub, neighbour) == types.CONNECTION_REFUSED
            assert await stream_error(hub, neighbour, host="elsewhere") == 0
        await trio.sleep(1)
        assert await stream_error(hub, neighbour) == 0


async def test_loopback_is_exempt_from_the_host_limit(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with open_test_node(hub) as node, AsyncExitStack() as stack:
        for number in range(2, 7):
            foreign = ForeignNode(number, host="127.0.0.1")
            await stack.enter_async_context(foreign.connect(hub))
        assert len(node.peers()) == 5


async def test_handshakes_under_way_count_and_their_mark_goes(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    first, neighbour = ForeignNode(2), ForeignNode(3, host="busy")
    async with open_test_node(hub) as node, first.connect(hub):
        # The same key comes from another host: for a second its old connection is asked whether it
        # lives, and meanwhile the newcomer's handshake is under way.
        async with trio.open_nursery() as nursery:
            errors: list[int] = []

            async def redial() -> None:
                errors.append(await stream_error(hub, first, host="busy"))

            nursery.start_soon(redial)
            await trio.sleep(0.5)
            assert node._context.admission.handshaking == 1
            assert await stream_error(hub, neighbour) == types.CONNECTION_REFUSED
            # twice at once is once too often, whichever wins
            assert await stream_error(hub, first, host="busy") == types.CONNECTION_REFUSED
            assert node._context.admission.handshaking == 1
        assert errors == [0]
        assert node._context.admission.handshaking == 0
        await trio.sleep(1)
        assert await stream_error(hub, neighbour) == 0


@pytest.mark.parametrize("leaves", [True, False])
async def test_the_mark_goes_after_a_failure(
    leaves: bool, hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    first, neighbour = ForeignNode(2), ForeignNode(3, host="busy")
    async with open_test_node(hub) as node, first.connect(hub) as held:
        async with trio.open_nursery() as nursery:
            if leaves:  # in the middle of its handshake
                with trio.move_on_after(0.5):
                    await stream_error(hub, first, host="busy")
            else:
                nursery.start_soon(held.stream.answer_all)
                error = await stream_error(hub, first, host="busy")
                assert error == types.REPEATED_CONNECTION
            nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert node._context.admission.handshaking == 0
        assert await stream_error(hub, neighbour) == 0


# --- sessions -------------------------------------------------------------------------------------


def wrong_metadata(peer: ForeignPeer) -> dict[str, dict[str, str | bytes]]:
    """By what is wrong with it; with the right session id and key of another peer, for example."""
    right = peer.metadata
    key, session = str(right["public-key"]), bytes(right["session-id-bin"])  # type: ignore[arg-type]
    return {
        "nothing": {},
        "no session": {"public-key": key},
        "no key": {"session-id-bin": session},
        "empty session": {**right, "session-id-bin": b""},
        "wrong session": {**right, "session-id-bin": bytes(len(session))},
        "own session": {**right, "session-id-bin": peer.node.session},
        "session as hex": {**right, "session-id-bin": session.hex().encode()},
        "unknown key": {**right, "public-key": identity(55).public_key.hex()},
        "empty key": {**right, "public-key": ""},
        "not hex": {**right, "public-key": "zz"},
        "upper case": {**right, "public-key": key.upper()},
        "blanks": {**right, "public-key": f" {key}"},
    }


async def test_without_a_session_unary_calls_are_cancelled(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with open_test_node(hub) as node, ForeignNode().connect(hub) as peer:
        for what, metadata in wrong_metadata(peer).items():
            for method in UNARY_WITH_SESSION:
                with pytest.raises(CallFailedError) as raised:
                    await peer.call(method, metadata=metadata)
                assert raised.value.code is StatusCode.CANCELLED, (what, method)
        assert len(node.peers()) == 1


async def test_without_a_session_broadcast_streams_are_cancelled(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with open_test_node(hub), ForeignNode().connect(hub) as peer:
        for what, metadata in wrong_metadata(peer).items():
            for method in BROADCAST_STREAMS:
                async with peer.channel.open_stream(method, metadata=metadata) as stream:
                    with pytest.raises(CallFailedError) as raised:
                        await stream.receive_many()
                assert raised.value.code is StatusCode.CANCELLED, (what, method)


async def test_one_peers_session_is_not_anothers(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with (
        open_test_node(hub, options=MANY),
        ForeignNode(2).connect(hub) as first,
        ForeignNode(3).connect(hub) as second,
    ):
        mixed = {**first.metadata, "session-id-bin": second.metadata["session-id-bin"]}
        with pytest.raises(CallFailedError) as raised:
            await first.call(m.CHECK_HEALTH, metadata=mixed)
        assert raised.value.code is StatusCode.CANCELLED


async def test_a_session_ends_with_its_connection(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with (
        open_test_node(hub) as node,
        foreign.connect(hub) as peer,
        peer.channel.open_stream(m.TRANSACTION_BROADCAST_STREAM, metadata=peer.metadata) as stream,
    ):
        await stream.send_many([make_transaction(1).raw])
        await wait_all_tasks_blocked()
        [held] = node.peers()
        held.close(CloseReason.ABNORMAL)
        await held.wait_closed()
        with pytest.raises(CallFailedError) as raised:
            await peer.call(m.CHECK_HEALTH)
        assert raised.value.code is StatusCode.CANCELLED
        # and so do the calls that were under way in it
        with node.subscribe() as events, trio.fail_after(5):
            with pytest.raises(CallFailedError) as raised:
                await stream.receive_many()
            assert await read_all(events) == []
        assert raised.value.code is StatusCode.CANCELLED


async def test_who_shows_a_session_is_trusted_where_it_matters(
    hub: ConditionedHub, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted: list[_End] = []

    def trust(end: _End) -> None:
        trusted.append(end)

    async with open_test_node(hub), ForeignNode().connect(hub) as peer:
        monkeypatch.setattr(_End, "trust", trust)
        for count, method in enumerate(m.BROADCAST_STREAMS, 1):
            async with peer.channel.open_stream(method, metadata={}) as stream:
                with pytest.raises(CallFailedError):
                    await stream.receive_many()
            async with peer.channel.open_stream(method, metadata=peer.metadata):
                await wait_all_tasks_blocked()
            assert len(trusted) == count
        # A unary call is over at once; were it to make its connection trusted beside a stream, one
        # key could fill a node with connections.
        for method in UNARY_WITH_SESSION:
            await peer.call(method)
        assert len(trusted) == len(m.BROADCAST_STREAMS)


async def test_ping_and_do_handshake_need_no_session(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with open_test_node(hub), foreign.dial(hub) as channel:
        assert await channel.call(m.PING, b"", metadata={}, timeout_s=3) == b""
        reply = await channel.call(m.DO_HANDSHAKE, foreign.request(), metadata={}, timeout_s=3)
        assert types.HandshakeReply.FromString(reply).error == 0


async def test_all_thirteen_methods(hub: ConditionedHub, autojump_clock: MockClock) -> None:
    chain = make_chain(5)
    foreign = ForeignNode()
    pushed = make_chain(1, after=chain[-1], producer=foreign.identity)[0]
    served: set[str] = set()
    async with (
        open_test_node(hub, store=await stored(chain)) as node,
        foreign.connect(hub) as peer,
    ):
        served |= {m.DO_HANDSHAKE.name, m.REQUEST_BY_STREAM.name}
        for method in (m.PING, m.CHECK_HEALTH, m.CONFIRM_HANDSHAKE):
            assert await peer.call(method) == b""
            served.add(method.name)

        one = types.BlockRequest()
        one.hash.value = chain[2].hash
        reply = await peer.call(m.REQUEST_BLOCK, one.SerializeToString())
        assert types.BlockReply.FromString(reply).block.header.height == 3
        several = types.BlocksRequest(count=2)
        several.previous_block_hash.value = chain[2].hash
        reply = await peer.call(m.REQUEST_BLOCKS, several.SerializeToString())
        heights = [block.header.height for block in types.BlockList.FromString(reply).blocks]
        assert heights == [4, 5]
        nodes = types.NodesRequest(max_count=10).SerializeToString()
        assert types.NodeList.FromString(await peer.call(m.GET_NODES, nodes)).nodes == []
        served |= {m.REQUEST_BLOCK.name, m.REQUEST_BLOCKS.name, m.GET_NODES.name}

        lib = types.LibAnnouncement(lib_height=1)
        lib.lib_hash.value = chain[0].hash
        announcement = types.BlockAnnouncement(block_height=6)
        announcement.block_hash.value = pushed.hash
        contents = {
            m.ANNOUNCEMENT_BROADCAST_STREAM: announcement.SerializeToString(),
            m.BLOCK_BROADCAST_STREAM: pushed.encode(),
            m.TRANSACTION_BROADCAST_STREAM: make_transaction().raw,
            m.LIB_ANNOUNCEMENT_BROADCAST_STREAM: lib.SerializeToString(),
        }
        with node.subscribe() as events:
            for method, content in contents.items():
                async with peer.channel.open_stream(method, metadata=peer.metadata) as stream:
                    await stream.send_many([content])
                    await stream.send_eof()
                    assert await stream.receive_many() == [b""]
                    assert await stream.receive_many() == []
                served.add(method.name)
            kinds = {type(event) for event in await read_all(events)}
        assert {AnnouncementReceived, BlockReceived, TransactionsReceived} <= kinds

        reason = types.DisconnectReason().SerializeToString()
        assert await peer.call(m.DISCONNECT, reason) == b""
        served.add(m.DISCONNECT.name)
        await trio.sleep(1)
        assert node.peers() == []
    assert served == {method.name for method in m.METHODS.values()}
    assert len(served) == 13


@pytest.mark.parametrize("method", BROADCAST_STREAMS)
async def test_a_malformed_broadcast_ends_its_stream_with_unknown(
    method: m.Method, hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with open_test_node(hub) as node, ForeignNode().connect(hub) as peer:
        async with peer.channel.open_stream(method, metadata=peer.metadata) as stream:
            await stream.send_many([b"\xff\xff\xff"])
            with pytest.raises(CallFailedError) as raised:
                await stream.receive_many()
        assert raised.value.code is StatusCode.UNKNOWN
        assert len(node.peers()) == 1


@pytest.mark.fault(39)
@pytest.mark.parametrize("requests", [[], [b"", b""], [b"", b"", b""]])
async def test_a_unary_call_takes_one_request(
    requests: list[bytes], hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with open_test_node(hub), ForeignNode().dial(hub) as channel:
        async with channel.open_stream(m.PING, metadata={}) as stream:
            await stream.send_many(requests)
            await stream.send_eof()
            with pytest.raises(CallFailedError) as raised:
                await stream.receive_many()
        assert raised.value.code is StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("requests", [[], [b""]])
async def test_a_unary_call_does_not_wait_for_ever(
    requests: list[bytes], hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with open_test_node(hub), ForeignNode().dial(hub) as channel:
        began = trio.current_time()
        async with channel.open_stream(m.PING, metadata={}) as stream:
            await stream.send_many(requests)
            with pytest.raises(CallFailedError) as raised:
                await stream.receive_many()
        assert raised.value.code is StatusCode.DEADLINE_EXCEEDED
        assert trio.current_time() - began == pytest.approx(10)


# --- the stream's first message -------------------------------------------------------------------


@pytest.mark.parametrize("case", ["no header", "header", "meta", "no meta", "header in upper case"])
async def test_header_and_meta_must_name_the_handshakes_key(
    case: str, hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    other = identity(55).public_key.hex()
    header = {
        "no header": {},
        "header": {"public-key": other},
        "header in upper case": {"public-key": foreign.key.hex().upper()},
    }.get(case, foreign.metadata)
    meta = {"meta": {"public-key": other}, "no meta": {}}.get(case)
    async with open_test_node(hub) as node, foreign.dial(hub) as channel:
        async with foreign.open_stream(channel, metadata=header) as stream:
            with pytest.raises(CallFailedError) as raised:
                await stream.ask(service.HAND_SHAKE, foreign.request(), meta=meta)
        assert raised.value.code is StatusCode.CANCELLED
        assert not list(node._context.pool)


@pytest.mark.fault(56)
@pytest.mark.parametrize(
    "message_type",
    [kind for kind in service.MessageType.values() if kind != service.HAND_SHAKE] + [99],
)
async def test_nothing_comes_before_the_handshake(
    message_type: int, hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with (
        open_test_node(hub) as node,
        foreign.dial(hub) as channel,
        foreign.open_stream(channel) as stream,
    ):
        with node.subscribe() as events:
            payload = make_transaction().raw
            with pytest.raises(CallFailedError) as raised:
                await stream.ask(message_type, payload)
            assert raised.value.code is StatusCode.INVALID_ARGUMENT
            assert await read_all(events) == []


async def test_a_reply_is_no_handshake(hub: ConditionedHub, autojump_clock: MockClock) -> None:
    foreign = ForeignNode()
    message = service.StreamMessage(
        stream_type=service.REPLY, message_type=service.HAND_SHAKE, message=foreign.request()
    )
    async with (
        open_test_node(hub),
        foreign.dial(hub) as channel,
        foreign.open_stream(channel) as stream,
    ):
        await stream.stream.send_many([message.SerializeToString()])
        with pytest.raises(CallFailedError):
            await stream.receive()


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([b"\xff" * 10], StatusCode.INVALID_ARGUMENT),
        ([b"\x22\x00" * 32768], StatusCode.INVALID_ARGUMENT),  # it may weigh so much
        ([b"x" * 65537], StatusCode.RESOURCE_EXHAUSTED),
        ([b"x" * 65536, b"x"], StatusCode.INVALID_ARGUMENT),  # too much in one read
    ],
)
async def test_garbage_and_too_much_before_the_handshake(
    messages: list[bytes], code: StatusCode, hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with (
        open_test_node(hub),
        foreign.dial(hub) as channel,
        foreign.open_stream(channel) as stream,
    ):
        await stream.stream.send_many(messages)
        with pytest.raises(CallFailedError) as raised:
            await stream.receive()
        assert raised.value.code is code


async def test_a_handshake_over_64_kib_is_too_much(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    filled = foreign.request() + b"\x7a" + b"\x80\x80\x04" + bytes(65536)  # an unknown field
    async with open_test_node(hub), foreign.dial(hub) as channel:
        async with foreign.open_stream(channel) as stream:
            with pytest.raises(CallFailedError) as raised:
                await stream.shake_hands(filled)
        assert raised.value.code is StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("ends", [True, False])
async def test_a_stream_that_says_nothing_ends(
    ends: bool, hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with (
        open_test_node(hub),
        foreign.dial(hub) as channel,
        foreign.open_stream(channel) as stream,
    ):
        began = trio.current_time()
        if ends:
            await stream.stream.send_eof()
        with pytest.raises(CallFailedError) as raised:
            await stream.receive()
        took = trio.current_time() - began
        assert took == pytest.approx(0 if ends else 10)
        assert raised.value.code is not StatusCode.OK


@pytest.mark.fault(55)
async def test_a_second_handshake_on_a_stream_ends_it(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with open_test_node(hub) as node, foreign.connect(hub) as peer:
        with node.subscribe() as events:
            with pytest.raises(TransportError):
                await peer.stream.shake_hands()
            [event] = await read_all(events)
        assert isinstance(event, PeerDisconnected)
        assert event.reason is CloseReason.VIOLATION


# --- the life of an accepted peer -----------------------------------------------------------------


@pytest.mark.parametrize("how", ["stream", "unary"])
async def test_confirmation_makes_the_peer_ready(
    how: str, hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    foreign.best_height, foreign.lib_height = 20, 12
    async with open_test_node(hub) as node, foreign.connect(hub, confirm=False) as peer:
        with node.subscribe() as events:
            assert node.peers() == []
            held = node.peer(foreign.key)
            assert held is not None
            assert held.status is PeerStatus.UNCONFIRMED
            if how == "stream":
                assert (await peer.stream.ask(service.CONFIRM_HAND_SHAKE)).message == b""
            else:
                assert await peer.call(m.CONFIRM_HANDSHAKE) == b""
                await peer.call(m.CONFIRM_HANDSHAKE)  # C# repeats calls that fail
            [event] = await read_all(events)
        assert node.peers() == [held]
        assert event == PeerConnected(held.info, b"b" * 32, 20)
        assert (held.chain.best_height, held.chain.lib_height) == (20, 12)
        assert not held.chain.synced


@pytest.mark.parametrize("port", [1, 7000, 65535])
async def test_the_endpoint_is_what_it_listens_on(
    port: int, hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with (
        open_test_node(hub) as node,
        foreign.dial(hub) as channel,
        foreign.open_stream(channel) as stream,
    ):
        await stream.shake_hands(foreign.request(listening_port=port))
        held = node.peer(foreign.key)
        assert held is not None
        assert held.info.endpoint == Endpoint("foreign", port)
        assert held.info.inbound
        assert held.info.is_csharp
        assert held.info.node_version == "1.12.3.0"


@pytest.mark.fault(58)
async def test_who_never_confirms_is_removed_after_ten_seconds(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with open_test_node(hub) as node, foreign.connect(hub, confirm=False):
        with node.subscribe() as events:
            await trio.sleep(9.9)
            assert len(node._context.pool) == 1
            await trio.sleep(1.2)
            assert len(node._context.pool) == 0
            assert await read_all(events) == []  # it never was connected


async def test_an_accepted_peer_that_breaks_the_rules_is_cancelled(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    """C# drops us at CANCELLED; OK without DISCONNECT would leave it a zombie."""
    foreign = ForeignNode()
    async with open_test_node(hub), foreign.connect(hub) as peer:
        meta = {**peer.stream.meta(), "public-key": identity(55).public_key.hex()}
        await peer.stream.send(service.PING, meta=meta)
        with pytest.raises(CallFailedError) as raised:
            await peer.stream.receive()
        assert raised.value.code is StatusCode.CANCELLED


async def test_an_accepted_peer_that_falls_silent_is_cancelled(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with open_test_node(hub) as node, ForeignNode().connect(hub) as peer:
        health = await peer.stream.wait_for(service.HEALTH_CHECK)  # which is not answered
        assert health.meta["session-id-bin"] == peer.node.session.hex()
        with pytest.raises(CallFailedError) as raised:
            await peer.stream.receive()
        assert raised.value.code is StatusCode.CANCELLED
        assert trio.current_time() <= 31
        assert node.peers() == []


async def test_disconnect_is_said_before_the_stream_ends(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with (
        open_test_node(hub) as node,
        foreign.connect(hub) as peer,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(node.disconnect, foreign.key)
        message = await peer.stream.wait_for(service.DISCONNECT)
        assert message.meta["session-id-bin"] == foreign.session.hex()
        assert await peer.stream.receive() is None


async def test_its_goodbye_is_not_answered(hub: ConditionedHub, autojump_clock: MockClock) -> None:
    foreign = ForeignNode()
    async with open_test_node(hub) as node, foreign.connect(hub) as peer:
        with node.subscribe() as events:
            await peer.stream.send(service.DISCONNECT)
            assert await peer.stream.receive() is None
            [event] = await read_all(events)
        assert isinstance(event, PeerDisconnected)
        assert event.reason is CloseReason.DISCONNECTED_BY_PEER


# --- the same key again ---------------------------------------------------------------------------


async def test_a_redial_while_the_old_connection_lives_is_refused(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with (
        open_test_node(hub) as node,
        foreign.connect(hub) as old,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(old.stream.answer_all)
        [held] = node.peers()
        for host in ("foreign", "thief"):
            assert await stream_error(hub, foreign, host=host) == types.REPEATED_CONNECTION
        assert node.peers() == [held]
        nursery.cancel_scope.cancel()


async def test_a_redial_replaces_a_dead_connection_within_a_second(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with (
        open_test_node(hub) as node,
        foreign.connect(hub) as old,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(old.stream.answer_all)
        await trio.sleep(5)
        [held] = node.peers()
        hub.stall("foreign")
        began = trio.current_time()
        async with foreign.connect(hub, host="moved") as new:
            assert trio.current_time() - began <= 1.1
            [peer] = node.peers()
            assert peer is not held
            assert peer.info.endpoint.host == "moved"
            assert held.close_reason is CloseReason.REPLACED
            assert await new.call(m.CHECK_HEALTH) == b""
        nursery.cancel_scope.cancel()


@pytest.mark.fault(73)
async def test_who_is_banned_while_its_old_connection_is_probed_stays_out(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with open_test_node(hub) as node, foreign.connect(hub):
        errors: list[int] = []

        async def redial() -> None:
            errors.append(await stream_error(hub, foreign, host="moved"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(redial)
            await trio.sleep(0.5)
            until = wall_ns() / 1e9 + 300
            node._context.bans.ban("moved", BanReason.OPERATOR, until)
        assert errors == [types.CONNECTION_REFUSED]


async def break_stream(peer: ForeignPeer, node: Node) -> None:
    """Let the stream end while the channel lives on."""
    await peer.stream.stream.send_eof()
    with pytest.raises(CallFailedError):
        await peer.stream.receive()
    assert node.peers() == []


async def test_a_stream_that_is_rebuilt_needs_no_second_confirmation(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with open_test_node(hub) as node, foreign.connect(hub) as peer:
        await break_stream(peer, node)
        async with foreign.open_stream(peer.channel) as stream, trio.open_nursery() as nursery:
            assert (await stream.shake_hands()).error == 0
            assert len(node.peers()) == 1
            nursery.start_soon(stream.answer_all)
            await trio.sleep(15)
            assert len(node.peers()) == 1
            nursery.cancel_scope.cancel()


async def test_a_new_dial_does_need_its_confirmation(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with open_test_node(hub) as node, foreign.connect(hub) as peer:
        await break_stream(peer, node)
        async with foreign.connect(hub, confirm=False):
            assert node.peers() == []
            await trio.sleep(11.1)
            assert len(node._context.pool) == 0


async def test_a_broken_stream_that_was_not_noticed_is_rebuilt_too(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    foreign = ForeignNode()
    async with (
        open_test_node(hub) as node,
        foreign.connect(hub) as peer,
        foreign.open_stream(peer.channel) as stream,
    ):
        # the old stream is open, but nobody answers on it any more
        assert (await stream.shake_hands()).error == 0
        [held] = node.peers()
        assert held.accepts_session(stream.session or b"")


# --- the end --------------------------------------------------------------------------------------


async def test_a_node_that_closes_lets_nobody_in(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    old, newcomer = ForeignNode(2), ForeignNode(3, host="late")
    errors: list[int] = []

    async def stay() -> None:
        async with old.connect(hub) as peer, newcomer.dial(hub) as channel:
            await peer.stream.wait_for(service.DISCONNECT)  # the node waits for our end now
            errors.append((await newcomer.do_handshake(channel)).error)
            async with newcomer.open_stream(channel) as stream:
                errors.append((await stream.shake_hands()).error)

    async with trio.open_nursery() as nursery, open_test_node(hub):
        nursery.start_soon(stay)
        await trio.sleep(1)
    assert errors == [types.CONNECTION_REFUSED, types.CONNECTION_REFUSED]


# --- limits of calls ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "most"), [(m.PING, 2**16), (m.DO_HANDSHAKE, 2**16), (m.REQUEST_BLOCK, 8 * 2**10)]
)
async def test_a_unary_request_has_a_limit(
    method: m.Method, most: int, autojump_clock: MockClock
) -> None:
    hub = ConditionedHub()
    async with open_test_node(hub), ForeignNode().connect(hub) as peer:
        with pytest.raises(CallFailedError) as raised:
            await peer.call(method, b"\x18\x05" * (most // 2 + 1))
        assert raised.value.code is StatusCode.RESOURCE_EXHAUSTED
        codes = []
        try:
            await peer.call(method, b"\x18\x05" * (most // 2))
        except CallFailedError as exc:  # it was looked at
            codes.append(exc.code)
        assert StatusCode.RESOURCE_EXHAUSTED not in codes


async def test_a_peer_may_push_what_a_stranger_may_not(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with open_test_node(hub) as node, ForeignNode().connect(hub) as peer:
        [held] = node.peers()
        # 5 MiB of payload, of no block and too large for one, and so ignored
        await peer.stream.send(service.BLOCK_BROADCAST, bytes(5 * 2**20))
        await wait_all_tasks_blocked()
        assert held.statistics().ignored == {"oversized message": 1}
        assert held.close_reason is None


async def test_a_peer_that_pushes_too_large_a_message_is_dropped(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    async with open_test_node(hub) as node, ForeignNode().connect(hub) as peer:
        [held] = node.peers()
        await peer.stream.send(service.BLOCK_BROADCAST, bytes(5 * 2**20 + 8 * 2**10))
        with pytest.raises(CallFailedError) as raised:
            await peer.stream.receive()
        assert raised.value.code is StatusCode.CANCELLED  # at which C# drops us
        assert held.close_reason is CloseReason.VIOLATION
        assert node.peers() == []
        assert await peer.channel.call(m.PING, b"", metadata={}, timeout_s=3) == b""


async def test_a_client_stream_has_the_limits_of_the_stream(autojump_clock: MockClock) -> None:
    hub = ConditionedHub()
    async with open_test_node(hub), ForeignNode().connect(hub) as peer:
        for method, most in (
            (m.BLOCK_BROADCAST_STREAM, 4 * 2**20),
            (m.TRANSACTION_BROADCAST_STREAM, 5 * 2**20),
            (m.ANNOUNCEMENT_BROADCAST_STREAM, 1024),
            (m.LIB_ANNOUNCEMENT_BROADCAST_STREAM, 1024),
        ):
            for size, code in (
                (most, StatusCode.UNKNOWN),  # looked at, and malformed
                (most + 1, StatusCode.RESOURCE_EXHAUSTED),
            ):
                async with peer.channel.open_stream(method, metadata=peer.metadata) as stream:
                    await stream.send_many([bytes(size)])
                    with pytest.raises(CallFailedError) as raised:
                        await stream.receive_many()
                assert raised.value.code is code


async def test_a_session_has_few_unary_requests_answered_at_once(
    autojump_clock: MockClock,
) -> None:
    hub = ConditionedHub(latency_s=0.1)
    ended: list[str] = []
    async with open_test_node(hub), ForeignNode().connect(hub) as peer:

        async def ask() -> None:
            try:
                await peer.call(m.REQUEST_BLOCK)
            except CallFailedError as exc:
                ended.append(exc.code.name)
            else:
                ended.append("answered")

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask)
        await ask()
    assert ended[-1] == "answered"
    assert set(ended) <= {"answered", "RESOURCE_EXHAUSTED"}
