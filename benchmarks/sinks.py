"""The receiving side: peers that acknowledge every broadcast, as cheaply as they can.

All of them live in one process and one loop, each with a key and a connection of its own. They are
the same for every sender. Each read is answered with one write, whatever it brought.
"""

import selectors
import socket
import ssl
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from aelf_p2p.core.envelope import META_PUBLIC_KEY, envelope_body, reply_prefix, request_prefix
from aelf_p2p.core.stream_handshake import encode_opening, parse_answer_untrusted
from aelf_p2p.transports.net.messages import frame_messages
from aelf_p2p.transports.net.tls import COMMON_NAME, process_identity
from aelf_p2p.transports.tcp.transport import ALPN as TCP_ALPN
from aelf_p2p.wire import MessageType
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from benchmarks.acknowledger import Acknowledger, cut_messages
from benchmarks.greeter import Greeter
from benchmarks.stream_client import StreamClient, StreamEndedError
from benchmarks.tcp_client import TcpClient
from benchmarks.worker import Parent
from benchmarks.workload import HOST

CONNECT_TIMEOUT_S = 10.0
READ_BYTES = 256 * 1024


class Sink:
    """One peer of the sender."""

    def __init__(self, port: int, tls: ssl.SSLContext | None, wire: str = "grpc") -> None:
        """Connect, and wait until the sender has taken us as a peer. ``wire``: grpc or tcp."""
        greeter = Greeter()
        self.public_key = greeter.public_key
        self.socket = socket.create_connection((HOST, port), CONNECT_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=COMMON_NAME)
        metadata = {META_PUBLIC_KEY: self.public_key.hex()}
        self._client: StreamClient | TcpClient
        if wire == "tcp":
            self._client = TcpClient(REQUEST_BY_STREAM, metadata=metadata)
        else:
            self._client = StreamClient(
                REQUEST_BY_STREAM,
                authority=f"{HOST}:{port}",
                scheme="http" if tls is None else "https",
                metadata=metadata,
            )
        session_id = self._shake_hands(greeter)
        confirmation = envelope_body(MessageType.CONFIRM_HAND_SHAKE, greeter.new_request_id())
        self._exchange(request_prefix(self.public_key, session_id) + confirmation)
        self.acknowledger = Acknowledger(reply_prefix(session_id))
        self.socket.settimeout(None)

    def acknowledge(self) -> None:
        """Read once, and answer all that came."""
        self._receive()
        self._client.send(self.acknowledger.answer(self._client.unread))
        self._flush()

    def _shake_hands(self, greeter: Greeter) -> bytes:
        """The handshake on the stream; the session id that goes on what we send."""
        request_id = greeter.new_request_id()
        handshake = greeter.new_handshake().as_request()
        answers = self._exchange(encode_opening(greeter.public_key, request_id, handshake))
        answer, _ = parse_answer_untrusted(answers, request_id, greeter.max_opening_bytes)
        return greeter.rules.check_reply_untrusted(answer, time.time_ns()).session_id

    def _exchange(self, message: bytes) -> list[bytes]:
        """Send a message; what comes next."""
        self._client.send(frame_messages([message]))
        self._flush()
        while not (answers := cut_messages(self._client.unread)):
            self._receive()
            self._flush()
        return answers

    def _receive(self) -> None:
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise StreamEndedError("the sender closed the connection")
        self._client.receive(data)

    def _flush(self) -> None:
        if data := self._client.data_to_send():
            self.socket.sendall(data)


def connect(port: int, count: int, *, tls: bool, wire: str) -> list[Sink]:
    """So many sinks of one sender."""
    alpn = TCP_ALPN if wire == "tcp" else "h2"
    context = process_identity().client_context([alpn]) if tls else None
    return [Sink(port, context, wire) for _ in range(count)]


def _progress(sinks: Sequence[Sink]) -> dict[str, float]:
    return {
        "cpu_seconds": time.process_time(),
        "transactions": sum(sink.acknowledger.transactions for sink in sinks),
    }


def _run(parent: Parent) -> None:
    """Connect all sinks, say so, then answer each question with what was done so far."""
    port, peers, tls, wire = (parent.setup[name] for name in ("address", "peers", "tls", "wire"))
    sinks = connect(port, peers, tls=tls, wire=wire)
    parent.send("connected")
    with selectors.DefaultSelector() as selector:
        selector.register(parent, selectors.EVENT_READ)
        for sink in sinks:
            selector.register(sink.socket, selectors.EVENT_READ, sink)
        while True:
            for key, _ in selector.select():
                if isinstance(key.data, Sink):
                    key.data.acknowledge()
                else:
                    parent.receive()
                    parent.send(_progress(sinks))


if __name__ == "__main__":
    with suppress(EOFError):
        try:
            _run(Parent())
        except StreamEndedError as exc:  # the sender's failure, which it tells of itself
            sys.exit(str(exc))
