"""A handshake that somebody saw is of no use to him (faults 50 and 51)."""

import hashlib
from dataclasses import dataclass
from typing import Any

import network_types_pb2 as types
import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.contracts import IncomingCall
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import HandshakeRefusedError
from aelf_p2p.node import open_node
from aelf_p2p.testing.conditions import ConditionedHub
from aelf_p2p.transports.grpc import GrpcTransport
from aelf_p2p.transports.net.tls import TlsIdentity, process_identity
from aelf_p2p.wire import methods as m
from tests.services.foreign import PORT, ForeignNode, ForeignServer, open_test_node
from tests.services.support import identity


@pytest.fixture
def hub() -> ConditionedHub:
    return ConditionedHub()


def error_of(reply: bytes) -> int:
    return types.HandshakeReply.FromString(reply).error


async def do_handshake(channel: Any, node: ForeignNode, request: bytes) -> int:
    reply = await channel.call(m.DO_HANDSHAKE, request, metadata=node.metadata, timeout_s=3)
    return error_of(reply)


@pytest.mark.fault(50)
async def test_on_another_connection_it_is_refused(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    victim = ForeignNode()
    request = victim.request()
    async with (
        open_test_node(hub) as node,
        victim.dial(hub) as channel,
        victim.dial(hub, host="attacker") as other,
    ):
        assert await do_handshake(channel, victim, request) == types.HANDSHAKE_OK
        assert await do_handshake(other, victim, request) == types.SIGNATURE_TIMEOUT
        async with victim.open_stream(other) as stream:
            assert (await stream.shake_hands(request)).error == types.SIGNATURE_TIMEOUT
        # with another session id, which is not signed, it is the same
        handshake = types.HandshakeRequest.FromString(request)
        handshake.handshake.session_id = b"other"
        changed = handshake.SerializeToString()
        assert await do_handshake(other, victim, changed) == types.SIGNATURE_TIMEOUT
        # on its own connection DoHandshake and the stream may say the same
        async with victim.open_stream(channel) as stream:
            assert (await stream.shake_hands(request)).error == types.HANDSHAKE_OK
            assert len(list(node._context.pool)) == 1


async def test_the_answer_to_a_dial_is_not_used_twice(
    hub: ConditionedHub, autojump_clock: MockClock
) -> None:
    """Nor as a request: whom we dialed could answer with what another told it a moment ago."""
    victim = ForeignNode()
    reply = victim.reply()

    class Replays(ForeignServer):
        async def answer_handshake(self, request: bytes) -> bytes:
            return reply

    async with trio.open_nursery() as nursery, open_test_node(hub) as node:
        await nursery.start(Replays(ForeignNode(3, host="attacker")).serve, hub)
        async with victim.dial(hub) as channel:
            assert await do_handshake(channel, victim, _as_request(reply)) == 0
        with pytest.raises(HandshakeRefusedError, match="used on another connection"):
            await node.connect(Endpoint("attacker", PORT))
        nursery.cancel_scope.cancel()


def _as_request(reply: bytes) -> bytes:
    handshake = types.HandshakeReply.FromString(reply).handshake
    return types.HandshakeRequest(handshake=handshake).SerializeToString()


# --- between our own nodes ------------------------------------------------------------------------


@dataclass
class Recorder:
    """Who is dialed by our node, and keeps its handshake to show it elsewhere."""

    request: bytes = b""

    async def handle(self, call: IncomingCall) -> None:
        [self.request] = await call.stream.receive_many()
        refused = types.HandshakeReply(error=types.CONNECTION_REFUSED)
        await call.stream.send_many([refused.SerializeToString()])


@pytest.mark.fault(11, 51)
async def test_a_handshake_relayed_to_a_third_node_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over TLS a handshake names the certificate that its maker was shown."""
    attackers_own = TlsIdentity.generate()
    monkeypatch.setattr("aelf_p2p.transports.net.tls.process_identity", lambda: attackers_own)
    attacker = GrpcTransport()
    monkeypatch.undo()
    recorder = Recorder()
    options: dict[str, Any] = {"host": "127.0.0.1", "port": 0}
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            at: Endpoint = await nursery.start(attacker.serve, "127.0.0.1", 0, recorder.handle)
            async with _real_node(2, **options) as victim, _real_node(3, **options) as third:
                with pytest.raises(HandshakeRefusedError):
                    await victim.connect(at)
                shown = types.HandshakeRequest.FromString(recorder.request).handshake
                data = shown.handshake_data.SerializeToString()
                assert hashlib.sha256(attackers_own.certificate).digest() in data
                assert hashlib.sha256(process_identity().certificate).digest() not in data
                async with attacker.dial(third.endpoint, timeout_s=5) as channel:
                    metadata = {"public-key": victim.public_key.hex()}
                    reply = await channel.call(
                        m.DO_HANDSHAKE, recorder.request, metadata=metadata, timeout_s=5
                    )
                assert error_of(reply) == types.INVALID_CONNECTION
                # while the victim itself is welcome
                peer = await victim.connect(third.endpoint)
                assert peer.info.public_key == third.public_key
            nursery.cancel_scope.cancel()


def _real_node(number: int, **arguments: Any) -> Any:
    return open_node(identity=identity(number), transport=GrpcTransport(), **arguments)
