"""How a foreign node's connections begin: dialed, for both kinds, and dialed back (protocol §3).

``ForeignDial`` has the single steps.
"""

from typing import Any, Protocol

import grpc  # type: ignore[import-untyped]
import network_types_pb2 as types

from tests.wire_foreign.foreign_dial import ForeignDial
from tests.wire_foreign.foreign_handshake import judge
from tests.wire_foreign.foreign_key import ForeignKey
from tests.wire_foreign.foreign_pool import ForeignPeer, ForeignPool
from tests.wire_foreign.foreign_unary import ForeignUnaryPeer

PING_TIMEOUT_S = 3.0


class RefusedError(Exception):
    """Either side refused the handshake."""

    def __init__(self, code: types.HandshakeError) -> None:
        super().__init__(types.HandshakeError.Name(code))
        self.code = code


class DialingNode(Protocol):
    """What is needed of the node."""

    key: ForeignKey
    pool: ForeignPool

    def dial(self, port: int) -> ForeignDial:
        """A channel to another node."""

    def new_handshake(self, **changes: Any) -> types.Handshake:
        """A handshake of this moment with a new session id."""

    def speaks_by_stream_with(self, data: types.HandshakeData) -> bool:
        """Whether both sides are of the new kind."""


def connect(node: DialingNode, dial: ForeignDial, **changes: Any) -> ForeignPeer:
    """Shake hands, settle which connection stays, and confirm that one. Raises RefusedError; for
    a confirmation that fails grpc.RpcError, EOFError or TimeoutError.

    A dial that does not stay is closed.
    """
    sent = node.new_handshake(**changes)
    received = _accepted(node, dial.send_handshake(sent))
    peer: ForeignPeer
    if node.speaks_by_stream_with(received.handshake_data):
        stream = dial.open_stream()
        _accepted(node, stream.shake_hands())
        peer = stream
    else:
        peer = ForeignUnaryPeer(dial, received, session_in=sent.session_id, inbound=False)
    kept = node.pool.settle(peer, sent.handshake_data.time.ToNanoseconds())
    if kept is not peer:
        dial.close()
    try:
        kept.confirm()
    except (grpc.RpcError, EOFError, TimeoutError):  # the pool is empty then (protocol §6)
        node.pool.remove(kept)
        kept.release()
        raise
    return kept


def accept_by_dialing_back(node: DialingNode, asked: types.Handshake) -> types.HandshakeReply:
    """The answer to a dialer when either side is of the old kind: it is a peer by then."""
    key = asked.handshake_data.pubkey.hex()
    if node.pool.get(key) is not None:
        return types.HandshakeReply(error=types.REPEATED_CONNECTION)
    with node.pool.handshaking(key) as fresh:
        if not fresh:
            return types.HandshakeReply(error=types.CONNECTION_REFUSED)
        dial = _dial_back(node, asked.handshake_data.listening_port)
        if dial is None:
            return types.HandshakeReply(error=types.INVALID_CONNECTION)
        handshake = node.new_handshake()  # now, since it must not be old when it arrives
        peer = ForeignUnaryPeer(dial, asked, session_in=handshake.session_id, inbound=True)
        if not node.pool.add(peer):
            peer.release()
            return types.HandshakeReply(error=types.REPEATED_CONNECTION)
        return types.HandshakeReply(handshake=handshake)


def _dial_back(node: DialingNode, port: int) -> ForeignDial | None:
    try:
        dial = node.dial(port)
    except (OSError, ValueError):
        return None
    try:
        dial.call_twice("Ping", metadata=dial.metadata(), timeout_s=PING_TIMEOUT_S)
    except grpc.RpcError:
        dial.close()
        return None
    return dial


def _accepted(node: DialingNode, reply: types.HandshakeReply) -> types.Handshake:
    code = reply.error or judge(reply.handshake, node.key)
    if code:
        raise RefusedError(code)
    return reply.handshake
