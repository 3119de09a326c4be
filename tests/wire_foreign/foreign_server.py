"""The listening half of a foreign node: all 13 methods, served by grpc's C core over TLS."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Protocol

import grpc  # type: ignore[import-untyped]
import peer_service_pb2 as service

from tests.wire_foreign.foreign_broadcasts import CLIENT_STREAMS, IncomingBroadcasts
from tests.wire_foreign.foreign_certificate import certificate_of
from tests.wire_foreign.foreign_handshake import BrokenHandshakeError
from tests.wire_foreign.foreign_pool import ForeignPeer, ForeignPool
from tests.wire_foreign.foreign_stream import ForeignStream, StreamOwner
from tests.wire_foreign.journal import WAIT_S, Journal

MAX_WORKERS = 16
"""Calls at once: a thread each."""

REQUESTS = {
    "RequestBlock": service.REQUEST_BLOCK,
    "RequestBlocks": service.REQUEST_BLOCKS,
    "GetNodes": service.GET_NODES,
}


@dataclass(frozen=True)
class Call:
    """A call that came."""

    method: str
    metadata: dict[str, str | bytes]
    time_left_s: float | None
    """How long the caller waits; None when it set no deadline."""
    caller: str


class ServingNode(StreamOwner, Protocol):
    """What the server needs of its node."""

    pool: ForeignPool

    def accept_handshake(self, request: bytes) -> bytes:
        """The reply to DoHandshake; raises BrokenHandshakeError."""

    def left(self, peer: ForeignPeer) -> None:
        """A peer said goodbye by a unary call."""

    def received(self, message_type: int, payload: bytes) -> None:
        """A broadcast came on a client stream."""


class ForeignServer:
    """Serves a node on 127.0.0.1, from its making until ``close``."""

    def __init__(self, node: ServingNode, *, max_message_bytes: int) -> None:
        self.calls: Journal[Call] = Journal()
        self.streams: Journal[ForeignStream] = Journal()
        self.broadcasts: Journal[IncomingBroadcasts] = Journal()
        """The client streams that came with a session."""
        self.faults: dict[str, list[grpc.StatusCode]] = {}
        """By method: what the next unary calls of it end with, before anything else is looked at.
        """
        self.may_pong = Event()
        """While it is not set, a Ping is not answered yet."""
        self.may_pong.set()
        self._node = node
        unary: dict[str, Callable[[bytes, Any], bytes]] = {
            "Ping": self._ping,
            "DoHandshake": self._do_handshake,
            "CheckHealth": self._check_health,
            "ConfirmHandshake": self._confirm_handshake,
            "Disconnect": self._disconnect,
            **{name: self._request(kind) for name, kind in REQUESTS.items()},
        }
        handlers = {
            **{name: _unary(self._noting(name, serve)) for name, serve in unary.items()},
            **{
                name: _client_stream(self._noting(name, self._receive(name)))
                for name in CLIENT_STREAMS
            },
            "RequestByStream": grpc.stream_stream_rpc_method_handler(
                self._noting("RequestByStream", self._request_by_stream)
            ),
        }
        self._readers: list[Thread] = []
        self._workers = ThreadPoolExecutor(MAX_WORKERS)
        self._server = grpc.server(
            self._workers,
            handlers=[grpc.method_handlers_generic_handler("PeerService", handlers)],
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.max_receive_message_length", max_message_bytes),
            ],
        )
        own = certificate_of("server")
        credentials = grpc.ssl_server_credentials([(own.private_key, own.certificate)])
        self.port: int = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()

    def stop(self, grace_s: float | None = None) -> Any:
        """Take no new calls and say GOAWAY; those under way have ``grace_s`` to end. The event
        that is set when they have."""
        return self._server.stop(grace_s)

    def close(self) -> None:
        """End all calls at once, and wait for their threads."""
        self.may_pong.set()
        assert self.stop().wait(WAIT_S)
        self._workers.shutdown()
        for reader in self._readers:
            reader.join(WAIT_S)
            assert not reader.is_alive()

    def _noting(self, name: str, serve: Callable[..., Any]) -> Callable[..., Any]:
        def noting(request: Any, context: Any) -> Any:
            left_s = context.time_remaining()
            self.calls.append(
                Call(
                    name,
                    dict(context.invocation_metadata()),
                    # The C core has a time that never comes where there is no deadline.
                    None if left_s is None or left_s > 1e9 else left_s,
                    context.peer(),
                )
            )
            faults = self.faults.get(name)
            if faults:
                context.abort(faults.pop(0), "as the test wants it")
            return serve(request, context)

        return noting

    # --- unary calls ---

    def _ping(self, request: bytes, context: Any) -> bytes:
        self.may_pong.wait(WAIT_S)
        return b""

    def _do_handshake(self, request: bytes, context: Any) -> bytes:
        try:
            return self._node.accept_handshake(request)
        except BrokenHandshakeError:
            context.abort(grpc.StatusCode.UNKNOWN, "Exception was thrown by handler.")
            raise

    def _authenticate(self, context: Any) -> ForeignPeer:
        metadata = dict(context.invocation_metadata())
        peer = self._node.pool.of_session(
            metadata.get("public-key"), metadata.get("session-id-bin")
        )
        if peer is None:
            context.abort(grpc.StatusCode.CANCELLED, "")
            raise AssertionError("abort raises")
        return peer

    def _check_health(self, request: bytes, context: Any) -> bytes:
        self._authenticate(context)
        return b""

    def _confirm_handshake(self, request: bytes, context: Any) -> bytes:
        self._authenticate(context).confirmed.set()
        return b""

    def _disconnect(self, request: bytes, context: Any) -> bytes:
        self._node.left(self._authenticate(context))
        return b""

    def _request(self, kind: int) -> Callable[[bytes, Any], bytes]:
        def serve(request: bytes, context: Any) -> bytes:
            self._authenticate(context)
            if kind == service.REQUEST_BLOCKS:
                context.set_compression(grpc.Compression.Gzip)
            return self._node.answer(kind, request)

        return serve

    # --- streams ---

    def _receive(self, method: str) -> Callable[[Iterable[bytes], Any], bytes]:
        def serve(incoming: Iterable[bytes], context: Any) -> bytes:
            self._authenticate(context)
            stream = IncomingBroadcasts(method, dict(context.invocation_metadata()))
            reader = Thread(target=stream.read, args=(incoming,), name="foreign broadcasts' reader")
            self._readers.append(reader)
            reader.start()
            self.broadcasts.append(stream)
            code = stream.act(self._node.received)
            if code is not grpc.StatusCode.OK:
                context.abort(code, "")
            return b""

        return serve

    def _request_by_stream(self, incoming: Iterable[bytes], context: Any) -> Iterator[bytes]:
        key = dict(context.invocation_metadata()).get("public-key", "")
        stream = ForeignStream(self._node, key, dialed=False)

        def read() -> None:
            stream.read(incoming)
            stream.end()

        if not context.add_callback(stream.end):
            return
        reader = Thread(target=read, name="foreign acceptor's reader")
        self._readers.append(reader)
        reader.start()
        self.streams.append(stream)
        yield from stream.outgoing()
        if stream.ended.done() and stream.ended.result() is grpc.StatusCode.UNKNOWN:
            context.abort(grpc.StatusCode.UNKNOWN, "Exception was thrown by handler.")


def _unary(serve: Callable[..., Any]) -> Any:
    return grpc.unary_unary_rpc_method_handler(serve)


def _client_stream(serve: Callable[..., Any]) -> Any:
    return grpc.stream_unary_rpc_method_handler(serve)
