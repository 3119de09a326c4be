"""Serving the peer service: every call that comes to our listener ends up here."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

from aelf_p2p.contracts import IncomingCall, LivePeer, SessionHandler
from aelf_p2p.core.admission import refused
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.envelope import META_PUBLIC_KEY, META_SESSION_ID
from aelf_p2p.core.errors import (
    CallFailedError,
    HandshakeRefusedError,
    MalformedError,
    RefusalReason,
    StatusCode,
)
from aelf_p2p.core.handshake import ReceivedHandshake, refusal
from aelf_p2p.core.payloads import parse_broadcast_in_steps_untrusted
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.core.single_error import single_error_as_itself
from aelf_p2p.core.steps import in_turns
from aelf_p2p.core.stream_handshake import Opening, parse_opening_untrusted
from aelf_p2p.services.connections import Connections
from aelf_p2p.services.unary_acceptor import UnaryAcceptor
from aelf_p2p.wire import HandshakeError, MessageType
from aelf_p2p.wire import methods as m

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_BROADCAST_STREAMS = 2
"""Of one kind and peer at once: one, and one that takes its place before we know that it broke."""

_REQUESTS = {
    m.REQUEST_BLOCK: MessageType.REQUEST_BLOCK,
    m.REQUEST_BLOCKS: MessageType.REQUEST_BLOCKS,
    m.GET_NODES: MessageType.GET_NODES,
}
# A stream that ends with OK and without DISCONNECT leaves a C# dialer a zombie; at CANCELLED it
# drops us (protocol §3.4).
_WITHOUT_GOODBYE = {CloseReason.LOST, CloseReason.SILENT, CloseReason.VIOLATION}


class Acceptor:
    """The handler of incoming calls: all 13 methods. Ping and the handshakes need no session."""

    def __init__(
        self, connections: Connections, unary: UnaryAcceptor, handler: SessionHandler
    ) -> None:
        self._connections = connections
        self._unary = unary
        self._handler = handler
        self._serving: Counter[bytes] = Counter()  # by key: unary requests that are being answered
        self._receiving: Counter[tuple[bytes, int]] = Counter()  # by key and kind: client streams
        self._opened = trio.Event()
        self._closing = False

    def open(self) -> None:
        """The node knows where it listens, and so what its handshakes say: calls that came before
        are served now."""
        self._opened.set()

    def close(self) -> None:
        """The node shuts down: nobody new is let in."""
        self._closing = True

    async def handle(self, call: IncomingCall) -> None:
        """Serve one call. Raises CallFailedError with the status it ends with."""
        await self._opened.wait()
        method = call.method
        if method == m.REQUEST_BY_STREAM:
            if not self._connections.handshakes.have_stream:
                raise CallFailedError(StatusCode.UNIMPLEMENTED, "a node before 1.4 has no stream")
            await self._accept_stream(call)
        elif method in m.BROADCAST_STREAMS:
            await self._receive_broadcasts(call, m.BROADCAST_STREAMS[method])
        else:
            request = await self._receive_request(call)
            try:
                reply = await self._answer(call, request)
            except MalformedError as exc:
                raise CallFailedError(StatusCode.INVALID_ARGUMENT, str(exc)) from exc
            await call.stream.send_many([reply])

    # --- unary calls ---

    async def _answer(self, call: IncomingCall, request: bytes) -> bytes:
        if call.method == m.PING:
            if call.metadata.get(META_PUBLIC_KEY) == self._connections.context.public_key.hex():
                raise CallFailedError(StatusCode.FAILED_PRECONDITION, "this node itself")
            return b""
        if call.method == m.DO_HANDSHAKE:
            return await self._do_handshake(call, request)
        shown = call.metadata.get(META_SESSION_ID)
        if call.method == m.CONFIRM_HANDSHAKE and self._connections.handshakes.is_unanswered(shown):
            # Two dials crossed, and a C# node of the old kind keeps ours, whose answer is still to
            # come. It confirms; at CANCELLED it would drop what it keeps.
            return b""
        peer = self._authenticate(call)
        if not peer.info.uses_stream:  # else one key could fill a node with connections
            call.stream.trust()
        if call.method in _REQUESTS:
            return await self._serve_request(peer, _REQUESTS[call.method], request)
        if call.method == m.CONFIRM_HANDSHAKE:
            peer.confirmed_by_peer()
        elif call.method == m.DISCONNECT:
            peer.close(CloseReason.DISCONNECTED_BY_PEER)
        return b""  # CheckHealth's reply, and VoidReply

    async def _serve_request(self, peer: LivePeer, message_type: int, request: bytes) -> bytes:
        """At most ``workers_per_peer`` at once for a peer, beside those on its stream."""
        key = peer.info.public_key
        if self._serving[key] >= self._connections.context.options.workers_per_peer:
            raise CallFailedError(StatusCode.RESOURCE_EXHAUSTED, "too many requests at once")
        with _counted(self._serving, key):
            return await self._handler.answer(peer, message_type, request)

    async def _do_handshake(self, call: IncomingCall, request: bytes) -> bytes:
        """Check a dialer's handshake and answer with ours. One of the new kind enters the pool with
        its stream, one of the old kind now."""
        connections = self._connections
        try:
            if self._closing:
                raise refused(RefusalReason.CLOSING)
            remote = connections.handshakes.check_request_untrusted(request, call)
            if connections.handshakes.use_stream_with(remote):
                connections.note_their_dial(remote, call.caller)
                return connections.handshakes.make(call).as_reply()
            return await self._unary.accept(call, remote)
        except HandshakeRefusedError as exc:
            log.debug("refused a handshake of %s: %s", call.caller.host, exc)
            return refusal(exc.code)

    def _authenticate(self, call: IncomingCall) -> LivePeer:
        """The peer that a call speaks for. Raises CallFailedError(CANCELLED), as C# does."""
        key, session = call.metadata.get(META_PUBLIC_KEY), call.metadata.get(META_SESSION_ID)
        if isinstance(key, str) and isinstance(session, bytes):
            peer = self._connections.context.pool.get(_key_bytes_untrusted(key))
            # The text itself is compared too: keys are lower-case hex (protocol §3).
            if (
                peer is not None
                and peer.info.public_key.hex() == key
                and peer.accepts_session(session)
            ):
                peer.heard()
                return peer
        raise CallFailedError(StatusCode.CANCELLED, "no session")

    # --- client streams ---

    async def _receive_broadcasts(self, call: IncomingCall, message_type: int) -> None:
        peer = self._authenticate(call)
        slot = peer.info.public_key, message_type
        if self._receiving[slot] >= MAX_BROADCAST_STREAMS:
            raise CallFailedError(StatusCode.RESOURCE_EXHAUSTED, "too many streams of one kind")
        call.stream.trust()
        with _counted(self._receiving, slot), single_error_as_itself():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_after, peer, nursery.cancel_scope)
                await self._take_broadcasts(call, peer, message_type)
                nursery.cancel_scope.cancel()
        if peer.close_reason is not None:  # the session ended, though the call did not
            raise CallFailedError(StatusCode.CANCELLED, "no session")
        await call.stream.send_many([b""])

    async def _take_broadcasts(self, call: IncomingCall, peer: LivePeer, message_type: int) -> None:
        while messages := await call.stream.receive_many():
            for payload in messages:
                try:
                    content = await in_turns(  # one read may bring thousands, too
                        parse_broadcast_in_steps_untrusted(message_type, payload),
                        trio.lowlevel.checkpoint,
                    )
                except MalformedError as exc:  # protocol §2: C# ends it with UNKNOWN
                    raise CallFailedError(StatusCode.UNKNOWN, str(exc)) from exc
                if peer.close_reason is None:
                    peer.heard()
                    self._handler.received(peer, content)

    # --- the stream ---

    async def _accept_stream(self, call: IncomingCall) -> None:
        """A RequestByStream, from its handshake to its end: it is the peer's life."""
        opening = await self._receive_opening(call)
        admission = self._connections.context.admission
        try:
            remote = self._check_opening(call, opening)
            host = call.caller.host
            with admission.mark_handshaking(host, remote.public_key) as fresh:
                peer = await self._admit(call, opening, remote, fresh=fresh)
        except HandshakeRefusedError as exc:
            log.debug("refused a stream of %s: %s", call.caller.host, exc)
            await call.stream.send_many([opening.reply(refusal(exc.code))])
            return
        call.stream.trust()
        await self._connections.run_inbound(peer, call.caller)
        if peer.close_reason in _WITHOUT_GOODBYE:
            raise CallFailedError(StatusCode.CANCELLED, peer.close_reason.value)

    async def _receive_opening(self, call: IncomingCall) -> Opening:
        options = self._connections.context.options
        messages: list[bytes] = []
        with trio.move_on_after(options.first_message_timeout_s) as scope:
            messages = await call.stream.receive_many()
        if scope.cancelled_caught:
            raise CallFailedError(StatusCode.DEADLINE_EXCEEDED, "no handshake came")
        try:
            return parse_opening_untrusted(messages, options.max_message_before_handshake_bytes)
        except MalformedError as exc:
            raise CallFailedError(StatusCode.INVALID_ARGUMENT, str(exc)) from exc

    def _check_opening(self, call: IncomingCall, opening: Opening) -> ReceivedHandshake:
        """Check the handshake, and that meta and call metadata name the key that it proves."""
        try:
            remote = self._connections.handshakes.check_request_untrusted(opening.handshake, call)
        except MalformedError as exc:
            raise CallFailedError(StatusCode.INVALID_ARGUMENT, str(exc)) from exc
        key = remote.public_key.hex()
        if opening.claimed_key != key or call.metadata.get(META_PUBLIC_KEY) != key:
            raise CallFailedError(StatusCode.CANCELLED, "another key than the handshake's")
        return remote

    async def _admit(
        self, call: IncomingCall, opening: Opening, remote: ReceivedHandshake, *, fresh: bool
    ) -> LivePeer:
        """Give the dialer a place, and answer with our handshake. Raises HandshakeRefusedError."""
        connections = self._connections
        if not connections.handshakes.use_stream_with(remote):
            raise HandshakeRefusedError(
                HandshakeError.INVALID_CONNECTION,
                f"its node version {remote.node_version!r} has no stream",
            )
        times = connections.times_of_their_dial(remote, call.caller)
        why = None if fresh else RefusalReason.HANDSHAKING
        why = RefusalReason.CLOSING if self._closing else why
        why = why or await connections.refuse_inbound(call.caller.host, remote, times)
        if why is not None:
            raise refused(why)
        sent = connections.handshakes.make(call)
        peer = connections.add_stream_peer(
            call.stream,
            remote,
            sent,
            endpoint=Endpoint.of_untrusted(call.caller.host, remote.listening_port),
            inbound=True,
            times=times,
            early=opening.early,
            greeting=opening.reply(sent.as_reply()),
        )
        if connections.was_confirmed(remote.public_key, call.caller):
            peer.confirmed_by_peer()
        return peer

    # --- both ---

    async def _receive_request(self, call: IncomingCall) -> bytes:
        """The one request of a unary call."""
        timeout_s = self._connections.context.options.first_message_timeout_s
        requests: list[bytes] = []
        with trio.move_on_after(timeout_s) as scope:
            while messages := await call.stream.receive_many():
                requests += messages
                if len(requests) > 1:
                    break
        if scope.cancelled_caught:
            raise CallFailedError(StatusCode.DEADLINE_EXCEEDED, "no request came")
        if len(requests) != 1:
            raise CallFailedError(StatusCode.INVALID_ARGUMENT, "a unary call takes one request")
        return requests[0]


@contextmanager
def _counted(counts: Counter[T], key: T) -> Iterator[None]:
    counts[key] += 1
    try:
        yield
    finally:
        counts[key] -= 1
        if not counts[key]:
            del counts[key]


async def _cancel_after(peer: LivePeer, scope: trio.CancelScope) -> None:
    """What a peer sends beside its stream ends with it."""
    await peer.wait_closed()
    scope.cancel()


def _key_bytes_untrusted(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""  # no peer has it
