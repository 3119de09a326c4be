"""A stream that broke on a channel that lives is made anew, without a confirmation (§3.1)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import network_types_pb2 as types
import peer_service_pb2 as service
import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import CallFailedError, StatusCode
from aelf_p2p.core.network_events import PeerConnected, PeerDisconnected
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.node import Node
from aelf_p2p.testing.conditions import ConditionedHub
from aelf_p2p.wire import methods as m
from tests.services.foreign import PORT, ForeignNode, ForeignServer, ForeignStream, open_test_node
from tests.services.support import identity, read_all

FOREIGN = Endpoint("foreign", PORT)


class Breaking(ForeignServer):
    """Its streams end when a test says so, as ``ends`` says."""

    def __init__(self, node: ForeignNode) -> None:
        super().__init__(node)
        self.breaks = trio.Event()
        self.ends: StatusCode | None = StatusCode.INTERNAL
        self.refuses_from = 1000
        """The stream from which on the handshake is refused."""

    def break_stream(self) -> None:
        self.breaks.set()
        self.breaks = trio.Event()

    async def serve_stream(self, stream: ForeignStream) -> None:
        broken = self.breaks
        async with trio.open_nursery() as nursery:

            async def live() -> None:
                await super(Breaking, self).serve_stream(stream)
                nursery.cancel_scope.cancel()

            nursery.start_soon(live)
            await broken.wait()
            nursery.cancel_scope.cancel()
        if broken.is_set() and self.ends is not None:
            raise CallFailedError(self.ends)

    async def answer_stream_handshake(self, request: bytes) -> bytes:
        if len(self.streams) >= self.refuses_from:
            return types.HandshakeReply(error=types.CONNECTION_REFUSED).SerializeToString()
        return self.node.reply(session_id=bytes([len(self.streams)]) * 5)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Node, Breaking, ConditionedHub]]:
    hub, server = ConditionedHub(latency_s=0.02), Breaking(ForeignNode())
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, hub)
        async with open_test_node(hub) as node:
            await node.connect(FOREIGN)
            await trio.sleep(5)
            yield node, server, hub
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ends", [StatusCode.INTERNAL, StatusCode.UNKNOWN, None])
async def test_a_broken_stream_is_made_anew(
    ends: StatusCode | None, autojump_clock: MockClock
) -> None:
    async with connected() as (node, server, hub):
        server.ends = ends
        [old] = node.peers()
        for count in (2, 3, 4):
            await trio.sleep(10)  # the next has to live for longer each time
            with node.subscribe() as events:
                server.break_stream()
                await trio.sleep(1)
                gone, back = await read_all(events)
            assert isinstance(gone, PeerDisconnected)
            assert gone.reason is CloseReason.LOST
            assert isinstance(back, PeerConnected)
            [peer] = node.peers()
            assert peer is not old
            await peer.check_health(timeout_s=1)
            assert len(server.streams) == count
        # One connection, one DoHandshake and one confirmation; a handshake for each stream.
        assert len(hub.connections) == 1
        assert server.calls == ["DoHandshake", *["RequestByStream"] * 4]
        kinds = [[each.message_type for each in stream.requests] for stream in server.streams]
        assert [kind.count(service.CONFIRM_HAND_SHAKE) for kind in kinds] == [1, 0, 0, 0]
        # and what we say on it carries the session of its own handshake
        shown = {each.meta["session-id-bin"] for each in server.streams[-1].requests}
        assert shown == {(bytes([4]) * 5).hex()}


@pytest.mark.parametrize("ends", [StatusCode.CANCELLED, StatusCode.UNAVAILABLE])
async def test_who_dropped_us_is_not_asked_again(
    ends: StatusCode, autojump_clock: MockClock
) -> None:
    async with connected() as (node, server, hub):
        server.ends = ends
        [peer] = node.peers()
        server.break_stream()
        await trio.sleep(1)
        assert peer.close_reason is CloseReason.DROPPED_BY_PEER
        assert node.peers() == []
        assert len(server.streams) == 1
        assert not hub.connections


async def test_a_lost_channel_is_not_used_again(autojump_clock: MockClock) -> None:
    async with connected() as (node, server, hub):
        hub.cut("node", "foreign")
        await trio.sleep(1)
        assert node.peers() == []
        assert len(server.streams) == 1


async def test_a_refusal_ends_it(autojump_clock: MockClock) -> None:
    async with connected() as (node, server, hub):
        server.refuses_from = 2
        server.break_stream()
        await trio.sleep(1)
        assert node.peers() == []
        assert len(server.streams) == 2
        assert not hub.connections
        server.refuses_from = 1000
        await node.connect(FOREIGN)


async def test_what_breaks_at_once_again_is_left(autojump_clock: MockClock) -> None:
    async with connected() as (node, server, _):
        server.break_stream()
        await trio.sleep(0.5)
        assert len(server.streams) == 2
        server.break_stream()
        await trio.sleep(30)
        assert len(server.streams) == 2
        assert node.peers() == []


async def test_a_node_that_closes_rebuilds_nothing(autojump_clock: MockClock) -> None:
    async with connected() as (node, server, _):
        await node.disconnect(server.node.key)
        await trio.sleep(5)
        assert len(server.streams) == 1


async def test_between_our_own_nodes(autojump_clock: MockClock) -> None:
    """The acceptor, too, takes the new stream for the same peer: no second confirmation."""
    hub = ConditionedHub(latency_s=0.02)
    async with (
        open_test_node(hub, "alice", 1) as alice,
        open_test_node(hub, "bob", 2) as bob,
    ):
        await alice.connect("bob")
        await trio.sleep(5)
        [connection] = hub.connections
        [stream] = [
            call for call in connection.calls.values() if call.method == m.REQUEST_BY_STREAM
        ]
        reset = CallFailedError(StatusCode.INTERNAL, "reset")
        stream.abort(reset, reset)
        await trio.sleep(1)
        [of_alice], [of_bob] = alice.peers(), bob.peers()
        await of_alice.check_health(timeout_s=1)
        await of_bob.check_health(timeout_s=1)
        assert [connection] == list(hub.connections)
        await trio.sleep(60)  # it is not taken for one that was never confirmed
        assert (alice.peers(), bob.peers()) == ([of_alice], [of_bob])


@pytest.mark.parametrize("offset_s", [-0.1, -0.05, -0.02, -0.001, 0.0, 0.01, 0.03, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("latency_s", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
async def test_a_dial_that_crosses_it(
    numbers: tuple[int, int], latency_s: float, offset_s: float, autojump_clock: MockClock
) -> None:
    """The other node dials while the stream breaks and is rebuilt: one connection on both sides."""
    hub = ConditionedHub(latency_s=latency_s)
    async with (
        open_test_node(hub, "alice", numbers[0]) as alice,
        open_test_node(hub, "bob", numbers[1]) as bob,
    ):
        await alice.connect("bob")
        await trio.sleep(5)
        [connection] = hub.connections
        [stream] = [c for c in connection.calls.values() if c.method == m.REQUEST_BY_STREAM]
        breaks_at = trio.current_time() + 1

        async def dial() -> None:
            await trio.sleep_until(breaks_at + offset_s)
            await bob.connect("alice")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial)
            await trio.sleep_until(breaks_at)
            reset = CallFailedError(StatusCode.INTERNAL, "reset")
            stream.abort(reset, reset)
        await trio.sleep(15)
        [of_alice], [of_bob] = alice.peers(), bob.peers()
        assert of_alice.info.inbound is not of_bob.info.inbound
        await of_alice.check_health(timeout_s=2)
        await of_bob.check_health(timeout_s=2)
        assert len(hub.connections) == 1


def the_stream(hub: ConditionedHub) -> Any:
    [stream] = [
        call
        for connection in hub.connections
        for call in connection.calls.values()
        if call.method == m.REQUEST_BY_STREAM
    ]
    return stream


def reset(hub: ConditionedHub) -> None:
    error = CallFailedError(StatusCode.INTERNAL, "reset")
    the_stream(hub).abort(error, error)


async def test_a_second_connect_takes_nothing_from_it(autojump_clock: MockClock) -> None:
    """The second dial's DoHandshake, which leads to no stream, is another connection's."""
    hub = ConditionedHub(latency_s=0.02)
    async with (
        open_test_node(hub, "alice", 1) as alice,
        open_test_node(hub, "bob", 2) as bob,
    ):
        peer = await alice.connect("bob")
        await trio.sleep(5)
        assert await alice.connect("bob") is peer
        await trio.sleep(5)
        reset(hub)
        await trio.sleep(30)
        [of_alice], [of_bob] = alice.peers(), bob.peers()
        await of_alice.check_health(timeout_s=1)
        await of_bob.check_health(timeout_s=1)


async def test_a_flood_of_handshakes_takes_nothing_from_it(autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=0.02)
    generous = NetworkOptions(max_handshakes_at_once=2000, max_handshakes_at_once_per_host=2000)
    async with (
        open_test_node(hub, "alice", 1) as alice,
        open_test_node(hub, "bob", 2, options=generous) as bob,
    ):
        await alice.connect("bob")
        await trio.sleep(5)
        stranger = ForeignNode(9, host="stranger")
        async with stranger.dial(hub, Endpoint("bob", PORT)) as channel:
            for number in range(1030):
                stranger.identity = identity(100 + number)
                changes = {"pubkey": stranger.identity.public_key}
                assert (await stranger.do_handshake(channel, **changes)).error == 0
        reset(hub)
        await trio.sleep(30)
        assert len(alice.peers()) == len(bob.peers()) == 1


async def test_one_that_breaks_for_ever_is_rebuilt_less_and_less(autojump_clock: MockClock) -> None:
    async with connected() as (node, server, _):
        node.workers.reconnection.pause()
        for _ in range(600):
            await trio.sleep(1.1)
            server.break_stream()
        assert len(server.streams) <= 3
        assert node.peers() == []


@pytest.mark.parametrize("by_key", [True, False])
async def test_who_is_removed_meanwhile_does_not_come_back(
    by_key: bool, autojump_clock: MockClock
) -> None:
    async with connected() as (node, server, hub):
        hub.set_latency("node", "foreign", 0.3)
        server.break_stream()
        await trio.sleep(0.2)
        assert node.peers() == []
        if by_key:
            assert await node.disconnect(server.node.key)
        else:
            assert await node.operator.remove(FOREIGN, ban_s=0)
        await trio.sleep(3600)
        assert node.peers() == []
        assert not hub.connections
        assert not await node.disconnect(server.node.key)
