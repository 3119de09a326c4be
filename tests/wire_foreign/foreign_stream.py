"""One RequestByStream as a C# node speaks on it, whichever side dialed (protocol §3.4)."""

import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Event
from typing import Any, Protocol

import grpc  # type: ignore[import-untyped]
import network_types_pb2 as types
import peer_service_pb2 as service

from tests.wire_foreign.foreign_handshake import BrokenHandshakeError
from tests.wire_foreign.journal import WAIT_S, Journal

BROADCASTS = {
    service.BLOCK_BROADCAST,
    service.TRANSACTION_BROADCAST,
    service.ANNOUNCEMENT_BROADCAST,
    service.LIB_ANNOUNCEMENT_BROADCAST,
}
WITHOUT_SESSION = {service.PING, service.HEALTH_CHECK}


class StreamOwner(Protocol):
    """What a stream needs of the node that it belongs to."""

    @property
    def key_hex(self) -> str:
        """The node's public key."""

    def new_handshake(self, **changes: Any) -> types.Handshake:
        """A handshake of this moment with a new session id."""

    def accept_stream(self, stream: "ForeignStream", request: bytes) -> bytes:
        """The reply to a HAND_SHAKE; raises BrokenHandshakeError."""

    def answer(self, message_type: int, request: bytes) -> bytes:
        """The reply to a request for blocks or nodes."""


class ForeignStream:
    """The stream's messages out are ``outgoing``; ``read`` takes those that come in, until the end.

    Both are run by threads: grpc's own, and one that whoever opened the stream gives it.
    """

    def __init__(self, owner: StreamOwner, peer_key: str, *, dialed: bool) -> None:
        self.peer_key = peer_key
        """Of the stream's gRPC header, or of the handshake: hex."""
        self.session_in: bytes | None = None
        """What we announced: it comes with the peer's requests."""
        self.session_out: bytes | None = None
        """What the peer announced: it goes on ours."""
        self.inbound = not dialed
        self.handshake_ns = 0
        """When the other side made the last handshake that came on it."""
        self.requests: Journal[service.StreamMessage] = Journal()
        """All of the peer's requests, those that are not answered too."""
        self.unmatched: Journal[service.StreamMessage] = Journal()
        """Replies to nothing, or of the wrong type."""
        self.confirmed = Event()
        self.disconnected = Event()
        self.ended: Future[grpc.StatusCode] = Future()
        """How the peer's half ended. A dialer has the call's status; an acceptor cannot tell a
        caller that is gone from one that has said all, and has OK for both."""
        self._owner = owner
        self._dialed = dialed
        self._outgoing: SimpleQueue[bytes | None] = SimpleQueue()
        self._replies: dict[str, tuple[int, Future[bytes]]] = {}

    # --- out ---

    def outgoing(self) -> Iterator[bytes]:
        """What is sent, until our half ends."""
        return iter(self._outgoing.get, None)

    def end(self) -> None:
        """End our half behind what is sent already."""
        self._outgoing.put(None)

    def meta(self) -> dict[str, str]:
        """Of a request, as C# fills it."""
        meta = {
            "public-key": self._owner.key_hex,
            "peer-info": "{ listening: 127.0.0.1:6800 }",
            "timeout": "3000",
            "retry-count": "0",
        }
        if self.session_out is not None:
            meta["session-id-bin"] = self.session_out.hex()
        return meta

    def send(
        self, message_type: int, payload: bytes = b"", *, meta: dict[str, str] | None = None
    ) -> Future[bytes]:
        """Send a request; the payload of its reply."""
        request_id = f"{time.time_ns() // 1_000_000}_{uuid.uuid4()}"
        reply: Future[bytes] = Future()
        self._replies[request_id] = message_type, reply
        self._put(
            service.StreamMessage(
                stream_type=service.REQUEST,
                message_type=message_type,  # type: ignore[arg-type]
                request_id=request_id,
                message=payload,
                meta=self.meta() if meta is None else meta,
            )
        )
        return reply

    def ask(
        self,
        message_type: int,
        payload: bytes = b"",
        *,
        meta: dict[str, str] | None = None,
        timeout_s: float = WAIT_S,
    ) -> bytes:
        """Send a request and wait for its reply. TimeoutError, or EOFError at the stream's end."""
        return self.send(message_type, payload, meta=meta).result(timeout_s)

    def shake_hands(self, **changes: Any) -> types.HandshakeReply:
        """HAND_SHAKE, as the dialer; from then on the sessions of this exchange are in force."""
        handshake = self._owner.new_handshake(**changes)
        request = types.HandshakeRequest(handshake=handshake)
        reply = types.HandshakeReply.FromString(
            self.ask(service.HAND_SHAKE, request.SerializeToString())
        )
        self.session_in = handshake.session_id
        self.session_out = reply.handshake.session_id
        self.handshake_ns = reply.handshake.handshake_data.time.ToNanoseconds()
        self.peer_key = reply.handshake.handshake_data.pubkey.hex()
        return reply

    def confirm(self) -> None:
        """CONFIRM_HAND_SHAKE, as the dialer, or as one whose own dial gave way to this stream."""
        assert self.ask(service.CONFIRM_HAND_SHAKE) == b""
        self.confirmed.set()

    def broadcast(self, message_type: int, payloads: Iterable[bytes]) -> int:
        """Send broadcasts, and wait until all are acknowledged; how many those are."""
        sent = [self.send(message_type, payload) for payload in payloads]
        return sum(reply.result(WAIT_S) == b"" for reply in sent)

    def disconnect(self) -> None:
        """Say goodbye; nothing answers it."""
        reason = types.DisconnectReason(why=types.DisconnectReason.SHUTDOWN)
        self.send(service.DISCONNECT, reason.SerializeToString())

    def release(self) -> None:
        """A dialer ends its stream; an acceptor means to, but never does (protocol §3.4)."""
        if self._dialed:
            self.end()

    # --- in ---

    def read(self, incoming: Iterable[bytes]) -> None:
        """Act on messages until there are no more, or one makes a C# node throw."""
        code = grpc.StatusCode.OK
        try:
            for message in incoming:
                self._take(service.StreamMessage.FromString(message))
        except grpc.RpcError as exc:
            if isinstance(exc, grpc.Call):
                code = exc.code()
        except BrokenHandshakeError:
            code = grpc.StatusCode.UNKNOWN
        finally:
            self.ended.set_result(code)
            for _, reply in list(self._replies.values()):
                if not reply.done():
                    reply.set_exception(EOFError(f"the stream ended: {code}"))

    def _take(self, message: service.StreamMessage) -> None:
        if message.stream_type == service.REPLY:
            wanted, reply = self._replies.get(message.request_id, (None, None))
            if reply is None or wanted != message.message_type or reply.done():
                self.unmatched.append(message)
            else:
                reply.set_result(message.message)
        elif message.stream_type == service.REQUEST:
            answer = self._answer(message)
            if answer is not None:
                self._reply(message, answer)
            self.requests.append(message)

    def _answer(self, request: service.StreamMessage) -> bytes | None:
        """The reply's payload; None when there is no reply."""
        kind = request.message_type
        if kind == service.HAND_SHAKE:
            return self._owner.accept_stream(self, request.message)
        if not self._is_authentic(request):
            return None
        if kind == service.DISCONNECT:
            self.disconnected.set()
            if self._dialed:
                self.end()  # an acceptor leaves that to the dialer
            return None
        if kind == service.CONFIRM_HAND_SHAKE:
            self.confirmed.set()
        elif kind in (service.REQUEST_BLOCK, service.REQUEST_BLOCKS, service.GET_NODES):
            return self._owner.answer(kind, request.message)
        return b""

    def _is_authentic(self, request: service.StreamMessage) -> bool:
        if request.meta.get("public-key") != self.peer_key or self.session_in is None:
            return False
        shown = request.meta.get("session-id-bin")
        return request.message_type in WITHOUT_SESSION or shown == self.session_in.hex()

    def _reply(self, request: service.StreamMessage, payload: bytes) -> None:
        meta = {} if self.session_out is None else {"session-id-bin": self.session_out.hex()}
        self._put(
            service.StreamMessage(
                stream_type=service.REPLY,
                message_type=request.message_type,
                request_id=request.request_id,
                message=payload,
                meta=meta,
            )
        )

    def _put(self, message: service.StreamMessage) -> None:
        self._outgoing.put(message.SerializeToString())
