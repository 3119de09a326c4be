"""Our node and one before 1.4 as C# does it dial each other at once (protocol §3.2 and §3.3)."""

import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import network_types_pb2 as types
import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from aelf_p2p.contracts import IncomingCall, RpcChannel
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import AelfP2PError, CallFailedError, StatusCode
from aelf_p2p.node import Node, open_node
from aelf_p2p.testing.conditions import ConditionedHub
from aelf_p2p.wire import methods as m
from tests.services.foreign import ForeignNode, ForeignServer
from tests.services.support import identity
from tests.services.test_simultaneous_dials import (
    LATENCIES,
    LOCAL,
    NEW,
    OFFSETS,
    OLD,
    SETTLED_S,
    A,
    B,
    Case,
    clock,
    is_usable,
    run,
)


@dataclass(eq=False)
class Entry:
    """Its one entry for our key: its own channel to us, and the sessions."""

    channel: RpcChannel
    inbound: bool
    received_ns: int
    session_in: bytes
    session_out: bytes


class OldCSharpNode(ForeignServer):
    """A pool of one key, and C#'s rule: a dial that ends replaces the pooled inbound connection
    when the handshake received on that is later than the one sent."""

    def __init__(self, node: ForeignNode, hub: ConditionedHub, wall_ns: Callable[[], int]) -> None:
        super().__init__(node)
        self.hub = hub
        self.wall_ns = wall_ns
        self.pooled: Entry | None = None
        self.handshaking = False
        self.sessions = 0
        self.channels = AsyncExitStack()

    def new_handshake(self) -> types.Handshake:
        self.sessions += 1
        session_id = self.sessions.to_bytes(5, "big")
        return self.node.handshake(time_ns=self.wall_ns(), session_id=session_id)

    async def handle(self, call: IncomingCall) -> None:
        self.calls.append(call.method.name)
        [request] = await call.stream.receive_many()
        if call.method == m.DO_HANDSHAKE:
            await call.stream.send_many([await self.accept(call, request)])
            return
        if call.method != m.PING:
            held, shown = self.pooled, call.metadata.get("session-id-bin")
            if held is None or shown != held.session_in:
                raise CallFailedError(StatusCode.CANCELLED, "")
            if call.method == m.DISCONNECT:
                self.pooled = None
        await call.stream.send_many([b""])

    async def accept(self, call: IncomingCall, request: bytes) -> bytes:
        asked = types.HandshakeRequest.FromString(request).handshake
        if self.holds_us():
            return types.HandshakeReply(error=types.REPEATED_CONNECTION).SerializeToString()
        if self.handshaking:
            return types.HandshakeReply(error=types.CONNECTION_REFUSED).SerializeToString()
        self.handshaking = True
        try:
            back = Endpoint(call.caller.host, asked.handshake_data.listening_port)
            channel = await self.open_channel(back)
            await channel.call(m.PING, b"", metadata=self.node.metadata, timeout_s=3)
        except AelfP2PError:
            return types.HandshakeReply(error=types.INVALID_CONNECTION).SerializeToString()
        finally:
            self.handshaking = False
        if self.holds_us():  # now
            return types.HandshakeReply(error=types.REPEATED_CONNECTION).SerializeToString()
        ours = self.new_handshake()
        self.pooled = Entry(
            channel,
            True,
            asked.handshake_data.time.ToNanoseconds(),
            ours.session_id,
            asked.session_id,
        )
        return types.HandshakeReply(handshake=ours).SerializeToString()

    def holds_us(self) -> bool:
        return self.pooled is not None

    async def dial(self, to: Endpoint) -> None:
        channel = await self.open_channel(to)
        sent = self.new_handshake()
        request = types.HandshakeRequest(handshake=sent).SerializeToString()
        answer = await channel.call(
            m.DO_HANDSHAKE, request, metadata=self.node.metadata, timeout_s=6
        )
        reply = types.HandshakeReply.FromString(answer)
        if reply.error:
            return
        sent_ns = sent.handshake_data.time.ToNanoseconds()
        held = self.pooled
        if held is not None and not (held.inbound and held.received_ns > sent_ns):
            return
        received_ns = reply.handshake.handshake_data.time.ToNanoseconds()
        self.pooled = Entry(
            channel, False, received_ns, sent.session_id, reply.handshake.session_id
        )
        await self.call(m.CONFIRM_HANDSHAKE)

    async def call(self, method: m.Method) -> None:
        assert self.pooled is not None, "it has no peer left"
        shown = {**self.node.metadata, "session-id-bin": self.pooled.session_out}
        await self.pooled.channel.call(method, b"", metadata=shown, timeout_s=4)

    async def open_channel(self, to: Endpoint) -> RpcChannel:
        transport = self.hub.transport(self.node.host)
        return await self.channels.enter_async_context(transport.dial(to, timeout_s=3))


async def one_old_csharp(case: Case) -> None:
    hub = case.hub()
    key_a, key_b = case.keys
    node_of_b = ForeignNode(key_b, host="bob", node_version=case.b_version)
    theirs = OldCSharpNode(node_of_b, hub, clock(case.b_clock_s))

    async def dial_ours(node: Node) -> None:
        await trio.sleep_until(case.a_at_s)
        await node.connect(B)

    async def dial_theirs() -> None:
        await trio.sleep_until(case.b_at_s)
        await theirs.dial(A)

    async with theirs.channels, trio.open_nursery() as servers:
        await servers.start(theirs.serve, hub)
        async with open_node(
            identity=identity(key_a),
            transport=hub.transport("alice"),
            wall_ns=clock(),
            rng=random.Random(case.seed),
            node_version=case.a_version,
            options=LOCAL,
        ) as node:
            async with trio.open_nursery() as dials:
                dials.start_soon(dial_ours, node)
                dials.start_soon(dial_theirs)
            await trio.sleep_until(max(case.a_at_s, case.b_at_s) + SETTLED_S)
            [peer] = node.peers()
            assert list(node._context.pool) == [peer]
            assert theirs.pooled is not None, "it has no peer left"
            assert theirs.pooled.inbound is not peer.info.inbound
            assert await is_usable(peer)
            await theirs.call(m.CHECK_HEALTH)
            await trio.sleep(40)
            assert node.peers() == [peer]
        servers.cancel_scope.cancel()


@pytest.mark.parametrize("versions", [(NEW, OLD), (OLD, OLD), (OLD, NEW)])
@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize("latencies", [*LATENCIES[:-1], (0.49, 0.49)])
def test_one_connection(
    latencies: tuple[float, float], first: str, versions: tuple[str, str]
) -> None:
    a_to_b, b_to_a = latencies
    for offset in OFFSETS:
        a_at_s, b_at_s = (0.0, offset) if first == "ours" else (offset, 0.0)
        run(one_old_csharp, Case(a_to_b, b_to_a, a_at_s, b_at_s, True, 0.0, 0, *versions))


@settings(max_examples=100, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    seed=st.integers(0, 2**32),
    offset_s=st.floats(-1.0, 1.0),
    most_s=st.floats(0, 0.5),
    clock_s=st.one_of(st.just(0.0), st.floats(-0.5, 0.5)),
    lower=st.booleans(),
)
def test_one_connection_over_links_whose_latency_varies(
    seed: int, offset_s: float, most_s: float, clock_s: float, lower: bool
) -> None:
    def varies(rng: random.Random) -> float:
        return rng.uniform(0, most_s)

    at_s = max(0, -offset_s), max(0, offset_s)
    run(one_old_csharp, Case(varies, varies, *at_s, lower, clock_s, seed, NEW, OLD))
