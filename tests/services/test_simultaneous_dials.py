"""Two nodes that dial each other at once end with one connection (protocol §3.3, fault 57).

Every case runs in virtual time of its own; a failing one is named by its numbers.
"""

import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import network_types_pb2 as types
import peer_service_pb2 as service
import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from aelf_p2p.contracts import IncomingCall, Peer
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import AelfP2PError
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import PeerStatus
from aelf_p2p.node import Node, open_node
from aelf_p2p.testing.conditions import ConditionedHub, Latency
from aelf_p2p.wire import methods as m
from tests.services.foreign import (
    PORT,
    ForeignNode,
    ForeignServer,
    ForeignStream,
    open_test_node,
)
from tests.services.support import EPOCH_NS, SECOND_NS, identity

A, B = Endpoint("alice", PORT), Endpoint("bob", PORT)
SETTLED_S = 6.0
OLD, NEW = "1.3.0.0", "1.12.3.0"
LOCAL = NetworkOptions(dial_private=True)
LOW_KEY, HIGH_KEY = sorted((2, 3), key=lambda number: identity(number).public_key)


@dataclass(frozen=True)
class Case:
    """Latencies one way, when each side dials, whose key is lower, whose clock is how far off."""

    a_to_b: Latency = 0.05
    b_to_a: Latency = 0.05
    a_at_s: float = 0.0
    b_at_s: float = 0.0
    a_is_lower: bool = True
    b_clock_s: float = 0.0
    seed: int = 0
    a_version: str = NEW
    b_version: str = NEW

    @property
    def keys(self) -> tuple[int, int]:
        return (LOW_KEY, HIGH_KEY) if self.a_is_lower else (HIGH_KEY, LOW_KEY)

    def hub(self) -> ConditionedHub:
        hub = ConditionedHub(rng=random.Random(self.seed))
        hub.set_latency("alice", "bob", self.a_to_b)
        hub.set_latency("bob", "alice", self.b_to_a)
        return hub


def run(scenario: Callable[[Case], Awaitable[None]], case: Case) -> None:
    try:
        trio.run(scenario, case, clock=MockClock(autojump_threshold=0))
    except BaseException as exc:
        exc.add_note(repr(case))
        raise


def clock(off_s: float = 0.0) -> Callable[[], int]:
    return lambda: EPOCH_NS + round((trio.current_time() + off_s) * SECOND_NS)


async def is_usable(peer: Peer) -> bool:
    """Whether requests over it are answered."""
    assert peer.status is PeerStatus.READY
    await peer.check_health(timeout_s=4)
    await peer.request_nodes(10)
    return True


# --- two of our nodes -----------------------------------------------------------------------------


async def two_of_ours(case: Case) -> None:
    hub = case.hub()
    errors: list[AelfP2PError] = []

    async def dial(node: Node, to: Endpoint, at_s: float) -> None:
        await trio.sleep_until(at_s)
        try:
            await node.connect(to)
        except AelfP2PError as exc:
            errors.append(exc)

    key_a, key_b = map(identity, case.keys)
    async with (
        open_node(
            identity=key_a,
            transport=hub.transport("alice"),
            wall_ns=clock(),
            rng=random.Random(case.seed),
            node_version=case.a_version,
            options=LOCAL,
        ) as alice,
        open_node(
            identity=key_b,
            transport=hub.transport("bob"),
            wall_ns=clock(case.b_clock_s),
            rng=random.Random(case.seed + 1),
            node_version=case.b_version,
            options=LOCAL,
        ) as bob,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial, alice, B, case.a_at_s)
            nursery.start_soon(dial, bob, A, case.b_at_s)
        await trio.sleep_until(max(case.a_at_s, case.b_at_s) + SETTLED_S)
        assert errors == []
        [of_alice], [of_bob] = alice.peers(), bob.peers()
        assert len(list(alice._context.pool)) == len(list(bob._context.pool)) == 1
        # without a stream each side has its own to the other
        assert len(hub.connections) == (1 if of_alice.info.uses_stream else 2)
        assert of_alice.info.inbound is not of_bob.info.inbound
        assert of_alice.info.dial_times == of_bob.info.dial_times
        assert await is_usable(of_alice)
        assert await is_usable(of_bob)
        assert alice._context.admission.handshaking == bob._context.admission.handshaking == 0
        assert not alice._dialer._connections._own_dials
        assert not bob._dialer._connections._own_dials
        # and it stays
        await trio.sleep(40)
        assert alice.peers() == [of_alice]
        assert bob.peers() == [of_bob]


LATENCIES = [(0.0, 0.0), (0.05, 0.05), (0.01, 0.4), (0.4, 0.01), (0.3, 0.31), (0.7, 0.7)]
OFFSETS = [0.0, 1e-9, 0.001, 0.01, 0.03, 0.05, 0.051, 0.1, 0.2, 0.3, 0.45, 0.61, 1.0, 2.0]


@pytest.mark.fault(57)
@pytest.mark.parametrize("a_is_lower", [True, False])
@pytest.mark.parametrize("latencies", LATENCIES)
def test_two_of_ours(latencies: tuple[float, float], a_is_lower: bool) -> None:
    a_to_b, b_to_a = latencies
    for offset in OFFSETS:
        run(two_of_ours, Case(a_to_b, b_to_a, 0.0, offset, a_is_lower))


@pytest.mark.parametrize("versions", [(OLD, OLD), (OLD, NEW), (NEW, OLD)])
@pytest.mark.parametrize("a_is_lower", [True, False])
@pytest.mark.parametrize("latencies", LATENCIES)
def test_two_of_ours_without_a_stream(
    latencies: tuple[float, float], a_is_lower: bool, versions: tuple[str, str]
) -> None:
    a_to_b, b_to_a = latencies
    for offset in OFFSETS:
        run(two_of_ours, Case(a_to_b, b_to_a, 0.0, offset, a_is_lower, 0.0, 0, *versions))


@pytest.mark.parametrize("clock_s", [-0.6, -0.2, -0.05, 0.05, 0.2, 0.6])
def test_two_of_ours_whose_clocks_differ(clock_s: float) -> None:
    for latency, offset, lower in itertools.product(
        [0.0, 0.05, 0.3], [0.0, 0.04, 0.11, 0.31, 0.7], [True, False]
    ):
        run(two_of_ours, Case(latency, latency, 0.0, offset, lower, b_clock_s=clock_s))


@pytest.mark.parametrize("versions", [(NEW, NEW), (OLD, OLD), (OLD, NEW), (NEW, OLD)])
@settings(max_examples=60, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    seed=st.integers(0, 2**32),
    offset_s=st.one_of(st.just(0.0), st.floats(0, 1.5)),
    most_s=st.floats(0, 0.6),
    lower=st.booleans(),
    clock_s=st.one_of(st.just(0.0), st.floats(-0.5, 0.5)),
)
def test_two_of_ours_over_links_whose_latency_varies(
    versions: tuple[str, str],
    seed: int,
    offset_s: float,
    most_s: float,
    lower: bool,
    clock_s: float,
) -> None:
    def varies(rng: random.Random) -> float:
        return rng.uniform(0, most_s)

    run(two_of_ours, Case(varies, varies, 0.0, offset_s, lower, clock_s, seed, *versions))


async def equal_times(case: Case) -> None:
    """The dial of the lower key stays, on both sides."""
    hub = case.hub()
    key_a, key_b = map(identity, case.keys)
    async with (
        open_node(identity=key_a, transport=hub.transport("alice"), wall_ns=clock()) as alice,
        open_node(identity=key_b, transport=hub.transport("bob"), wall_ns=clock()) as bob,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.connect, B)
            nursery.start_soon(bob.connect, A)
        await trio.sleep(3)
        [of_alice], [of_bob] = alice.peers(), bob.peers()
        assert of_alice.info.inbound is not case.a_is_lower
        assert of_bob.info.inbound is case.a_is_lower


@pytest.mark.parametrize("a_is_lower", [True, False])
@pytest.mark.parametrize("latency_s", [0.02, 0.05, 0.5])
def test_at_equal_times_the_lower_keys_dial_stays(latency_s: float, a_is_lower: bool) -> None:
    run(equal_times, Case(latency_s, latency_s, a_is_lower=a_is_lower))


# --- one of ours, one as C# does it ---------------------------------------------------------------


class CSharpNode(ForeignServer):
    """Dials and accepts as C# does: one entry in its pool, and its own rule for two dials.

    It keeps its own dial exactly when the time of the handshake that it received on the stream is
    later than that of its own unary DoHandshake.
    """

    def __init__(self, node: ForeignNode, wall_ns: Callable[[], int]) -> None:
        super().__init__(node)
        self.wall_ns = wall_ns
        self.inbound: ForeignStream | None = None
        self.inbound_at_ns = 0
        self.own: ForeignStream | None = None
        self.own_at_ns = 0
        self.pooled: ForeignStream | None = None
        self.goodbyes: list[ForeignStream] = []

    def handshake(self) -> types.Handshake:
        return self.node.handshake(time_ns=self.wall_ns())

    def keeps_own(self) -> bool:
        return self.inbound_at_ns > self.own_at_ns

    async def handle(self, call: IncomingCall) -> None:
        if call.method == m.DO_HANDSHAKE:
            await call.stream.receive_many()
            await call.stream.send_many([self.reply()])
        elif call.method == m.REQUEST_BY_STREAM:
            stream = ForeignStream(self.node, call.stream)
            opening = await stream.wait_for(service.HAND_SHAKE)
            asked = types.HandshakeRequest.FromString(opening.message).handshake
            stream.session = asked.session_id
            self.inbound_at_ns = asked.handshake_data.time.ToNanoseconds()
            self.inbound = stream
            self.pooled = stream  # whatever it held
            await stream.reply(opening, self.reply())
            await self.live(stream)

    def reply(self) -> bytes:
        return types.HandshakeReply(handshake=self.handshake()).SerializeToString()

    def request(self) -> bytes:
        return types.HandshakeRequest(handshake=self.handshake()).SerializeToString()

    async def live(self, stream: ForeignStream) -> None:
        try:
            while (message := await stream.receive()) is not None:
                if message.stream_type != service.REQUEST:
                    stream.requests.append(message)
                elif message.message_type == service.DISCONNECT:
                    # C# removes the peer of that key, whichever stream it hears it on
                    self.goodbyes.append(stream)
                    self.pooled = None
                else:
                    await stream.reply(message)
        except AelfP2PError:
            pass  # an acceptor notices nothing, a dialer drops it

    async def dial(self, hub: ConditionedHub, to: Endpoint) -> None:
        async with hub.transport(self.node.host).dial(to, timeout_s=3) as channel:
            self.own_at_ns = self.wall_ns()
            reply = await channel.call(
                m.DO_HANDSHAKE, self.request(), metadata=self.node.metadata, timeout_s=6
            )
            if types.HandshakeReply.FromString(reply).error:
                return
            async with self.node.open_stream(channel) as stream:
                if (await stream.shake_hands(self.request())).error:
                    if self.inbound is not None:
                        await self.inbound.send(service.CONFIRM_HAND_SHAKE)
                    return
                self.own = stream
                if self.inbound is not None and not self.keeps_own():
                    await self.inbound.send(service.CONFIRM_HAND_SHAKE)
                    return
                self.pooled = stream
                await stream.send(service.CONFIRM_HAND_SHAKE)
                await self.live(stream)


async def one_of_theirs(case: Case) -> None:
    hub = case.hub()
    key_a, key_b = case.keys
    theirs = CSharpNode(ForeignNode(key_b, host="bob"), clock(case.b_clock_s))

    async def dial_ours(node: Node) -> None:
        await trio.sleep_until(case.a_at_s)
        await node.connect(B)

    async def dial_theirs() -> None:
        await trio.sleep_until(case.b_at_s)
        await theirs.dial(hub, A)

    async with trio.open_nursery() as servers:
        await servers.start(theirs.serve, hub)
        async with open_node(
            identity=identity(key_a),
            transport=hub.transport("alice"),
            wall_ns=clock(),
            rng=random.Random(case.seed),
        ) as node:
            servers.start_soon(dial_ours, node)
            servers.start_soon(dial_theirs)
            await trio.sleep_until(max(case.a_at_s, case.b_at_s) + SETTLED_S)
            [peer] = node.peers()
            assert len(list(node._context.pool)) == 1
            assert theirs.pooled is not None, "it has no peer left"
            assert theirs.pooled is (theirs.own if peer.info.inbound else theirs.inbound)
            await peer.check_health(timeout_s=4)
            await theirs.pooled.send(service.HEALTH_CHECK)
            await trio.sleep(2)
            answered = [message.message_type for message in theirs.pooled.requests]
            assert service.HEALTH_CHECK in answered
            await trio.sleep(40)
            assert node.peers() == [peer]
        servers.cancel_scope.cancel()


@pytest.mark.fault(57)
# A round trip stays below the second within which a live connection must answer for itself.
@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize("latencies", [*LATENCIES[:-1], (0.49, 0.49)])
def test_one_of_ours_and_one_of_theirs(latencies: tuple[float, float], first: str) -> None:
    a_to_b, b_to_a = latencies
    for offset in OFFSETS:
        a_at_s, b_at_s = (0.0, offset) if first == "ours" else (offset, 0.0)
        run(one_of_theirs, Case(a_to_b, b_to_a, a_at_s, b_at_s))


@settings(max_examples=100, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    seed=st.integers(0, 2**32),
    offset_s=st.floats(-1.0, 1.0),
    most_s=st.floats(0, 0.5),
    clock_s=st.one_of(st.just(0.0), st.floats(-0.5, 0.5)),
)
def test_one_of_theirs_over_links_whose_latency_varies(
    seed: int, offset_s: float, most_s: float, clock_s: float
) -> None:
    def varies(rng: random.Random) -> float:
        return rng.uniform(0, most_s)

    case = Case(varies, varies, max(0, -offset_s), max(0, offset_s), True, clock_s, seed)
    run(one_of_theirs, case)


async def redial_after_a_crash(case: Case) -> None:
    """The connection that we dialed is dead, and the other node dials us."""
    hub = case.hub()
    key_a, key_b = map(identity, case.keys)
    async with (
        open_node(identity=key_a, transport=hub.transport("alice"), wall_ns=clock()) as node,
        trio.open_nursery() as nursery,
    ):

        async def live(*, task_status: trio.TaskStatus[Node]) -> None:
            async with open_node(
                identity=key_b, transport=hub.transport("bob"), wall_ns=clock()
            ) as other:
                task_status.started(other)
                await trio.sleep_forever()

        await nursery.start(live)
        await trio.sleep(1)
        old = await node.connect(B)
        await trio.sleep(15)
        hub.stall("bob")
        async with open_node(
            identity=key_b, transport=hub.transport("moved"), wall_ns=clock()
        ) as again:
            began = trio.current_time()
            await again.connect(A)
            assert trio.current_time() - began < 2
            [new] = node.peers()
            assert new is not old
            assert new.info.inbound
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("a_is_lower", [True, False])
def test_a_dead_connection_of_ours_does_not_keep_its_node_out(a_is_lower: bool) -> None:
    run(redial_after_a_crash, Case(a_is_lower=a_is_lower))


class TakesItsTime(ForeignServer):
    """Answers our handshake on the stream only when it may."""

    def __init__(self, node: ForeignNode) -> None:
        super().__init__(node)
        self.may_answer = trio.Event()

    async def answer_stream_handshake(self, request: bytes) -> bytes:
        await self.may_answer.wait()
        return await super().answer_stream_handshake(request)


@pytest.mark.parametrize("takes_s", [0.5, 100.0])
async def test_our_answer_waits_until_theirs_has_taken_in_ours(
    takes_s: float, autojump_clock: MockClock
) -> None:
    """It compares the two dials at the end of its own; what comes later replaces what it has. It
    waits three seconds for us, so that we wait one at most."""
    hub, foreign = ConditionedHub(), ForeignNode(2)
    server, there = TakesItsTime(foreign), Endpoint("foreign", PORT)
    ours: list[Peer] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, hub)
        async with open_test_node(hub) as node, foreign.dial(hub) as channel:

            async def dial() -> None:
                ours.append(await node.connect(there))

            async def take_in() -> None:
                await trio.sleep(takes_s)
                server.may_answer.set()

            await foreign.do_handshake(channel)  # its dial began before our stream's handshake
            await trio.sleep(0.1)
            nursery.start_soon(dial)
            await trio.sleep(0.1)
            async with foreign.open_stream(channel) as stream:
                nursery.start_soon(take_in)
                began = trio.current_time()
                assert (await stream.shake_hands()).error == types.HANDSHAKE_OK
                assert trio.current_time() - began == pytest.approx(min(takes_s, 1.0))
                await stream.ask(service.CONFIRM_HAND_SHAKE)
                await trio.sleep(0.1)
                [peer] = node.peers()
                assert peer.info.inbound
                await trio.sleep(3)
                assert ours == [peer]
        nursery.cancel_scope.cancel()
