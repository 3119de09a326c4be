"""Where either node is before 1.4: unary calls and broadcast streams (protocol §3.2).

Two of our nodes, over the memory transport.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import product
from typing import Any

import network_types_pb2 as types
import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.contracts import IncomingCall, MessageStream, Peer
from aelf_p2p.core.announcements import Announcement, LibAnnouncement
from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import (
    CallFailedError,
    DeadlineExceededError,
    HandshakeRefusedError,
    StatusCode,
)
from aelf_p2p.core.network_events import (
    AnnouncementReceived,
    BlockReceived,
    PeerConnected,
    PeerDisconnected,
    TransactionsReceived,
)
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.node import Node, open_node
from aelf_p2p.services.events import Event
from aelf_p2p.testing.conditions import ConditionedHub
from aelf_p2p.transports.grpc import GrpcTransport
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.tcp import TcpTransport
from aelf_p2p.wire import methods as m
from tests.services.foreign import PORT, ForeignNode, ForeignServer, open_test_node
from tests.services.support import identity, make_chain, make_transaction, read_all, stored

OLD, NEW = "1.3.9.9", "1.12.3.0"
BOB = Endpoint("bob", PORT)
LOCAL = NetworkOptions(dial_private=True)
PAIRS = [pair for pair in product((OLD, NEW), repeat=2) if OLD in pair]
CHAIN = make_chain(60)


@asynccontextmanager
async def two_nodes(
    versions: tuple[str, str] = (OLD, OLD), *, hub: ConditionedHub | None = None, **of_bob: Any
) -> AsyncIterator[tuple[Node, Node]]:
    """Alice, who dials, and Bob."""
    hub = hub or ConditionedHub(latency_s=0.02)
    of_bob = {"options": LOCAL, "node_version": versions[1], **of_bob}
    async with (
        open_test_node(hub, "alice", 1, node_version=versions[0], options=LOCAL) as alice,
        open_test_node(hub, "bob", 2, **of_bob) as bob,
    ):
        yield alice, bob


async def peers_of(alice: Node, bob: Node) -> tuple[Peer, Peer]:
    """What each has of the other, once both are ready."""
    to_bob = await alice.connect(BOB)
    with trio.fail_after(5):
        to_alice = await bob._context.pool.wait_ready(alice.public_key)
    return to_bob, to_alice


@pytest.mark.parametrize("versions", PAIRS)
async def test_they_connect(versions: tuple[str, str], autojump_clock: MockClock) -> None:
    async with two_nodes(versions) as (alice, bob):
        with alice.subscribe() as of_alice, bob.subscribe() as of_bob:
            to_bob, to_alice = await peers_of(alice, bob)
            assert (to_bob.info.inbound, to_alice.info.inbound) == (False, True)
            assert to_bob.info.endpoint == BOB
            assert to_alice.info.endpoint == Endpoint("alice", PORT)
            assert (to_bob.info.node_version, to_alice.info.node_version) == versions[::-1]
            assert not to_bob.info.uses_stream
            assert not to_alice.info.uses_stream
            assert alice.peers() == [to_bob]
            assert bob.peers() == [to_alice]
            for events in of_alice, of_bob:
                assert [type(event) for event in await read_all(events)] == [PeerConnected]


async def test_two_new_nodes_are_on_a_stream(autojump_clock: MockClock) -> None:
    async with two_nodes((NEW, NEW)) as (alice, bob):
        assert all(peer.info.uses_stream for peer in await peers_of(alice, bob))


@pytest.mark.parametrize("versions", PAIRS)
@pytest.mark.parametrize("dialer", [True, False])
async def test_every_request(
    versions: tuple[str, str], dialer: bool, autojump_clock: MockClock
) -> None:
    async with two_nodes(versions, store=await stored(CHAIN)) as (alice, bob):
        await alice.connect(BOB)
        if not dialer:  # the one that has the chain is asked by the one that it dialed
            await alice.disconnect(bob.public_key)
            await bob.connect(Endpoint("alice", PORT))
        peer = alice.peer(bob.public_key)
        assert peer is not None
        await peer.check_health(timeout_s=1)
        block = await peer.request_block(CHAIN[3].hash)
        assert block is not None
        assert block.encode() == CHAIN[3].encode()
        assert await peer.request_block(bytes(32)) is None
        found = await peer.request_blocks(CHAIN[4].hash, 50)
        assert [each.hash for each in found] == [each.hash for each in CHAIN[5:55]]
        assert await peer.request_nodes(10) == []


BLOCK = make_chain(1, after=CHAIN[-1], producer=identity(2))[0]
BROADCASTS = {
    BroadcastKind.BLOCK: BLOCK.encode(),
    BroadcastKind.ANNOUNCEMENT: Announcement(bytes(31) + b"\1", 61).encode(),
    BroadcastKind.TRANSACTION: make_transaction(7).raw,
}


@pytest.mark.parametrize("versions", PAIRS)
@pytest.mark.parametrize("kind", BROADCASTS)
async def test_every_broadcast_arrives(
    kind: BroadcastKind, versions: tuple[str, str], autojump_clock: MockClock
) -> None:
    """From the one that was dialed, and in the other direction from the one that dials."""
    async with two_nodes(versions) as (alice, bob):
        to_bob, to_alice = await peers_of(alice, bob)
        for receiver, peer in ((alice, to_alice), (bob, to_bob)):
            if kind is BroadcastKind.BLOCK and peer is to_bob:
                continue  # Alice did not sign it, so that nobody takes it of her
            with receiver.subscribe() as events:
                item = BroadcastItem(kind, b"h" * 32, BROADCASTS[kind], "1_1")
                assert peer.enqueue(item) is None
                await trio.sleep(1)
                [event] = [each for each in await read_all(events) if isinstance(each, RECEIVED)]
                assert carried(event) == BROADCASTS[kind]
                assert peer.statistics().sent == {kind: 1}


RECEIVED = (BlockReceived, AnnouncementReceived, TransactionsReceived)


def carried(event: Event) -> bytes:
    match event:
        case BlockReceived(_, block):
            return block.encode()
        case AnnouncementReceived(_, announcement):
            return announcement.encode()
        case TransactionsReceived(_, (transaction,)):
            return transaction.raw
    raise AssertionError(event)


async def test_a_lib_announcement_arrives(autojump_clock: MockClock) -> None:
    async with two_nodes(store=await stored(CHAIN)) as (alice, bob):
        to_bob, to_alice = await peers_of(alice, bob)
        assert to_bob.chain.best_height == 60
        payload = LibAnnouncement(CHAIN[49].hash, 50).encode()
        to_alice.enqueue(BroadcastItem(BroadcastKind.LIB_ANNOUNCEMENT, b"l" * 32, payload, "1_1"))
        await trio.sleep(1)
        assert (to_bob.chain.lib_hash, to_bob.chain.lib_height) == (CHAIN[49].hash, 50)


async def test_a_chain_is_followed(autojump_clock: MockClock) -> None:
    """Mixed: a node of the new kind between two old ones; blocks go from one end to the other."""
    hub = ConditionedHub(latency_s=0.02)
    async with (
        open_test_node(hub, "alice", 1, node_version=OLD, options=LOCAL) as alice,
        open_test_node(hub, "bob", 2, node_version=NEW, options=LOCAL, boot_nodes=["alice"]) as bob,
        open_test_node(hub, "carol", 3, node_version=OLD, options=LOCAL, boot_nodes=["bob"]) as end,
    ):
        await trio.sleep(1)
        assert len(bob.peers()) == 2
        for block in make_chain(30, producer=identity(1)):
            await alice.kernel.accept_block(block)
            await trio.sleep(0.5)
        assert end.store.status.best_height == bob.store.status.best_height == 30
        transaction = make_transaction(1)
        with end.subscribe() as events:
            alice.kernel.submit_transaction(transaction)
            await trio.sleep(1)
            found = [each for each in await read_all(events) if type(each) is TransactionsReceived]
            assert [each.transactions for each in found] == [(transaction,)]


@pytest.mark.parametrize("versions", PAIRS)
@pytest.mark.parametrize("dialer", [True, False])
async def test_goodbye(versions: tuple[str, str], dialer: bool, autojump_clock: MockClock) -> None:
    async with two_nodes(versions) as (alice, bob):
        await peers_of(alice, bob)
        one, other = (alice, bob) if dialer else (bob, alice)
        with one.subscribe() as of_one, other.subscribe() as of_other:
            assert await one.disconnect(other.public_key)
            await trio.sleep(0.5)
            assert alice.peers() == bob.peers() == []
            for events, reason in (
                (of_one, CloseReason.REMOVED),
                (of_other, CloseReason.DISCONNECTED_BY_PEER),
            ):
                [event] = await read_all(events)
                assert isinstance(event, PeerDisconnected)
                assert event.reason is reason
        # and it can come back
        await peers_of(*((alice, bob)))


async def test_a_node_that_vanishes(autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=0.02)
    async with two_nodes(hub=hub) as (alice, bob):
        to_bob, to_alice = await peers_of(alice, bob)
        hub.cut("alice", "bob")
        await trio.sleep(0.1)
        assert to_bob.close_reason is to_alice.close_reason is CloseReason.LOST
        await peers_of(alice, bob)


async def test_a_silent_node_is_found_by_its_health_check(autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=0.02)
    async with two_nodes(hub=hub) as (alice, bob):
        to_bob, to_alice = await peers_of(alice, bob)
        await trio.sleep(3600)
        assert alice.peers() == [to_bob]  # alive, though neither has anything to say
        assert bob.peers() == [to_alice]
        hub.stall("bob")
        began = trio.current_time()
        await to_bob.wait_closed()
        assert to_bob.close_reason is CloseReason.SILENT
        # 20 s of silence, then asked twice for at most 10 s each, then a goodbye of a second
        assert trio.current_time() - began <= 20 + 20 + 1.1


async def test_a_dialer_that_never_confirms_goes_at_ten_seconds(autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=0.02)
    async with two_nodes(hub=hub) as (alice, bob):

        async def connect() -> None:
            with pytest.raises(DeadlineExceededError):
                await alice.connect(BOB)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect)
            await bob._context.pool._added.wait()
            [peer] = bob._context.pool
            hub.stall("alice")  # it gets no answer to anything
            began = trio.current_time()
            await peer.wait_closed()
            assert peer.close_reason is CloseReason.UNCONFIRMED
            assert trio.current_time() - began == pytest.approx(10, abs=1.1)
            hub.unstall("alice")
        assert alice.peers() == bob.peers() == []


# --- who is refused -------------------------------------------------------------------------------


async def test_private_hosts_are_not_dialed_back_unasked(autojump_clock: MockClock) -> None:
    async with two_nodes(options=NetworkOptions()) as (alice, bob):
        with pytest.raises(HandshakeRefusedError) as raised:
            await alice.connect(BOB)
        assert raised.value.code == types.INVALID_CONNECTION
        assert not list(bob._context.pool)


async def test_an_announced_port_where_nobody_listens(autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=0.02)
    async with (
        open_test_node(
            hub, "alice", 1, node_version=OLD, options=LOCAL, announce_port=7000
        ) as alice,
        open_test_node(hub, "bob", 2, options=LOCAL) as bob,
    ):
        for _ in range(LOCAL.max_failed_dial_backs + 3):
            with pytest.raises(HandshakeRefusedError) as raised:
                await alice.connect(BOB)
            assert raised.value.code == types.INVALID_CONNECTION
        assert bob._context.admission.handshaking == 0
        assert alice.peers() == bob.peers() == []


async def test_a_host_where_nobody_answered_rests(autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=0.02)
    async with two_nodes(hub=hub) as (alice, bob):
        alice._context.listening_port = 7000
        for _ in range(LOCAL.max_failed_dial_backs):
            with pytest.raises(HandshakeRefusedError):
                await alice.connect(BOB)
        alice._context.listening_port = PORT
        with pytest.raises(HandshakeRefusedError) as raised:
            await alice.connect(BOB)
        assert raised.value.code == types.INVALID_CONNECTION
        await trio.sleep(60)
        await peers_of(alice, bob)


@pytest.mark.parametrize("versions", PAIRS)
async def test_a_key_that_is_connected_and_alive_is_refused(
    versions: tuple[str, str], autojump_clock: MockClock
) -> None:
    hub = ConditionedHub(latency_s=0.02)
    async with (
        two_nodes(versions, hub=hub) as (alice, bob),
        open_test_node(hub, "twin", 1, node_version=OLD, options=LOCAL) as twin,
    ):
        _, to_alice = await peers_of(alice, bob)
        with pytest.raises(HandshakeRefusedError) as raised:
            await twin.connect(BOB)
        assert raised.value.code == types.REPEATED_CONNECTION
        assert bob.peers() == [to_alice]


@pytest.mark.parametrize("versions", PAIRS)
async def test_a_dead_one_gives_way(versions: tuple[str, str], autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=0.02)
    async with (
        two_nodes(versions, hub=hub) as (alice, bob),
        open_test_node(hub, "twin", 1, node_version=OLD, options=LOCAL) as twin,
    ):
        await peers_of(alice, bob)
        hub.stall("alice")
        await twin.connect(BOB)
        await trio.sleep(0.1)
        [peer] = bob.peers()
        assert peer.info.endpoint.host == "twin"


async def test_a_dialer_cannot_have_us_dial_ourselves(autojump_clock: MockClock) -> None:
    """Behind one address with us it could name our own port."""
    hub = ConditionedHub(latency_s=0.02)
    foreign = ForeignNode(3, host="bob", node_version=OLD)
    async with two_nodes(hub=hub) as (_, bob), foreign.dial(hub, BOB) as channel:
        reply = await foreign.do_handshake(channel, listening_port=BOB.port)
        assert reply.error == types.INVALID_CONNECTION
        assert not list(bob._context.pool)


async def test_a_failed_ping_is_repeated_once(autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=0.02)

    class Failing(ForeignServer):
        failures = 1

        async def handle(self, call: IncomingCall) -> None:
            if call.method == m.PING and self.failures:
                self.failures -= 1
                raise CallFailedError(StatusCode.INTERNAL)
            await super().handle(call)
            if call.method == m.PING:
                await call.stream.receive_many()
                await call.stream.send_many([b""])

    foreign = ForeignNode(3, node_version=OLD)
    server = Failing(foreign)
    async with two_nodes(hub=hub) as (_, bob), trio.open_nursery() as nursery:
        await nursery.start(server.serve, hub)
        for failures, error in ((1, types.HANDSHAKE_OK), (2, types.INVALID_CONNECTION)):
            server.failures = failures
            async with foreign.dial(hub, BOB) as channel:
                assert (await foreign.do_handshake(channel)).error == error
            for peer in bob._context.pool:
                peer.close(CloseReason.REMOVED)
                await peer.wait_closed()
        nursery.cancel_scope.cancel()


async def test_a_kind_has_two_streams_at_most(autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=0.02)
    async with open_test_node(hub, "bob", 2), AsyncExitStack() as opened:
        peer = await opened.enter_async_context(ForeignNode(3).connect(hub, BOB))

        async def open_stream(method: m.Method) -> MessageStream:
            stream = peer.channel.open_stream(method, metadata=peer.metadata)
            return await opened.enter_async_context(stream)

        for method in m.BROADCAST_STREAMS:
            first, second = await open_stream(method), await open_stream(method)
            await trio.sleep(1)
            third = await open_stream(method)
            with pytest.raises(CallFailedError) as raised:
                await third.receive_many()
            assert raised.value.code is StatusCode.RESOURCE_EXHAUSTED
            await first.send_eof()
            assert await first.receive_many() == [b""]
            await trio.sleep(1)
            fourth = await open_stream(method)
            for stream in (second, fourth):
                await stream.send_eof()
                assert await stream.receive_many() == [b""]


class SlowPong(ForeignServer):
    """Answers a ping after a second, and counts them."""

    pings = 0
    delay_s = 1.0

    async def handle(self, call: IncomingCall) -> None:
        if call.method != m.PING:
            await super().handle(call)
            return
        self.pings += 1
        await call.stream.receive_many()
        await trio.sleep(self.delay_s)
        await call.stream.send_many([b""])


@pytest.mark.parametrize("what", ["key", "host"])
async def test_who_is_banned_while_it_is_dialed_back_stays_out(
    what: str, autojump_clock: MockClock
) -> None:
    hub = ConditionedHub(latency_s=0.02)
    foreign = ForeignNode(3, node_version=OLD)
    async with two_nodes(hub=hub) as (_, bob), trio.open_nursery() as nursery:
        await nursery.start(SlowPong(foreign).serve, hub)

        async def ban() -> None:
            await trio.sleep(0.5)
            bob.operator.ban(foreign.key if what == "key" else "foreign", for_s=3600)

        nursery.start_soon(ban)
        async with foreign.dial(hub, BOB) as channel:
            reply = await foreign.do_handshake(channel)
        assert reply.error == types.CONNECTION_REFUSED
        assert not list(bob._context.pool)
        nursery.cancel_scope.cancel()


async def test_a_dial_back_that_its_dialer_gives_up_counts_too(autojump_clock: MockClock) -> None:
    """Else whoever hangs up in time could have any of its host's ports tried, without end."""
    hub = ConditionedHub(latency_s=0.02)
    server = SlowPong(ForeignNode(3, node_version=OLD))
    server.delay_s = 100
    async with two_nodes(hub=hub), trio.open_nursery() as nursery:
        await nursery.start(server.serve, hub)
        for number in range(40):
            foreign = ForeignNode(10 + number, node_version=OLD)
            with trio.move_on_after(0.5):
                async with foreign.dial(hub, BOB) as channel:
                    await foreign.do_handshake(channel)
        assert server.pings == LOCAL.max_failed_dial_backs
        nursery.cancel_scope.cancel()


async def test_a_fault_of_ours_ends_that_connection_and_not_the_node(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_nodes() as (alice, bob):

        def fail(*arguments: object) -> None:
            raise ZeroDivisionError("a bug")

        sync = bob._dialer._connections._sync
        monkeypatch.setattr(sync, "announced", fail)
        await alice.connect(BOB)
        await trio.sleep(1)
        assert "a bug" in caplog.text
        assert bob.peers() == []
        monkeypatch.undo()
        await trio.sleep(120)
        await peers_of(alice, bob)


@pytest.mark.parametrize("transport", ["grpc", "tcp"])
@pytest.mark.parametrize("versions", PAIRS)
async def test_quiet_nodes_stay_connected_over_sockets(
    versions: tuple[str, str], transport: str
) -> None:
    """The channel of the one that dialed back is a stranger's at first, and strangers go."""
    limits = WireLimits(stranger_timeout_s=0.6)
    make: Any = GrpcTransport if transport == "grpc" else TcpTransport
    arguments: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "options": LOCAL}
    with trio.fail_after(20):
        async with (
            open_node(
                identity=identity(1),
                transport=make(limits=limits),
                node_version=versions[0],
                **arguments,
            ) as alice,
            open_node(
                identity=identity(2),
                transport=make(limits=limits),
                node_version=versions[1],
                **arguments,
            ) as bob,
        ):
            for node in alice, bob:
                node.workers.discovery.pause()
            to_bob = await alice.connect(bob.endpoint)
            to_alice = await bob._context.pool.wait_ready(alice.public_key)
            with trio.move_on_after(0.9):
                await to_alice.wait_closed()
            assert to_bob.close_reason is to_alice.close_reason is None
            await to_alice.check_health(timeout_s=5)
            await to_bob.check_health(timeout_s=5)


async def test_a_key_whose_health_check_fails_there_is_connected_and_alive(
    autojump_clock: MockClock,
) -> None:
    hub = ConditionedHub(latency_s=0.02)

    class Failing(ForeignServer):
        async def handle(self, call: IncomingCall) -> None:
            if call.method == m.CHECK_HEALTH:
                raise CallFailedError(StatusCode.INTERNAL)
            await call.stream.receive_many()
            await call.stream.send_many([b""])

    foreign = ForeignNode(3, node_version=OLD)
    async with two_nodes(hub=hub) as (_, bob), trio.open_nursery() as nursery:
        await nursery.start(Failing(foreign).serve, hub)
        async with foreign.dial(hub, BOB) as channel:
            first = (await foreign.do_handshake(channel)).handshake
            metadata = {**foreign.metadata, "session-id-bin": first.session_id}
            await channel.call(m.CONFIRM_HANDSHAKE, b"", metadata=metadata, timeout_s=3)
            await trio.sleep(100)
            [peer] = bob.peers()
            async with foreign.dial(hub, BOB, host="elsewhere") as other:
                assert (await foreign.do_handshake(other)).error == types.REPEATED_CONNECTION
            assert bob.peers() == [peer]
        nursery.cancel_scope.cancel()
