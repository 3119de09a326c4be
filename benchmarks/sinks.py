"""The receiving side: peers that acknowledge every broadcast, as cheaply as they can.

All of them live in one process and one loop, each with a key and a connection of its own. They are
the same for every sender. Each read is answered with one write, whatever it brought.
"""

import selectors
import socket
import ssl
import time
from contextlib import suppress

from aelf_p2p.core.envelope import META_PUBLIC_KEY, envelope_body, reply_prefix, request_prefix
from aelf_p2p.core.stream_handshake import encode_opening, parse_answer_untrusted
from aelf_p2p.transports.net.tls import COMMON_NAME, process_identity
from aelf_p2p.wire import MessageType, StreamMessage, StreamType
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from benchmarks.greeter import Greeter
from benchmarks.stream_client import StreamClient, StreamEndedError
from benchmarks.worker import Parent
from benchmarks.workload import HOST

CONNECT_TIMEOUT_S = 10.0
READ_BYTES = 256 * 1024

_REQUEST = int(StreamType.REQUEST)  # once, not for every message


class Sink:
    """One peer of the sender."""

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        """Connect, and wait until the sender has taken us as a peer."""
        greeter = Greeter()
        key = greeter.public_key
        self.socket = socket.create_connection((HOST, port), CONNECT_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=COMMON_NAME)
        self._client = StreamClient(
            REQUEST_BY_STREAM,
            authority=f"{HOST}:{port}",
            scheme="http" if tls is None else "https",
            metadata={META_PUBLIC_KEY: key.hex()},
        )
        session_id = self._shake_hands(greeter)
        confirmation = envelope_body(MessageType.CONFIRM_HAND_SHAKE, greeter.new_request_id())
        self._exchange(request_prefix(key, session_id) + confirmation)
        self._prefix = reply_prefix(session_id)
        self.socket.settimeout(None)

    def acknowledge(self) -> None:
        """Read once, and answer all that came."""
        replies = []
        for data in self._receive():
            message = StreamMessage.FromString(data)
            if message.stream_type == _REQUEST:
                body = envelope_body(message.message_type, message.request_id)
                replies.append(self._prefix + body)
        self._send(replies)

    def _shake_hands(self, greeter: Greeter) -> bytes:
        """The handshake on the stream; the session id that goes on what we send."""
        request_id = greeter.new_request_id()
        handshake = greeter.new_handshake().as_request()
        answers = self._exchange(encode_opening(greeter.public_key, request_id, handshake))
        answer, _ = parse_answer_untrusted(answers, request_id, greeter.max_opening_bytes)
        return greeter.rules.check_reply_untrusted(answer, time.time_ns()).session_id

    def _exchange(self, message: bytes) -> list[bytes]:
        """Send a message; what comes next."""
        self._send([message])
        while not (answers := self._receive()):
            self._send([])
        return answers

    def _receive(self) -> list[bytes]:
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise StreamEndedError("the sender closed the connection")
        return self._client.receive(data)

    def _send(self, messages: list[bytes]) -> None:
        self._client.send(messages)
        if data := self._client.data_to_send():
            self.socket.sendall(data)


def _run(parent: Parent) -> None:
    """Connect all sinks, say so, then answer each question with the CPU seconds used so far."""
    port, peers, tls = (parent.setup[name] for name in ("port", "peers", "tls"))
    context = process_identity().client_context(["h2"]) if tls else None
    sinks = [Sink(port, context) for _ in range(peers)]
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
                    parent.send(time.process_time())


if __name__ == "__main__":
    with suppress(EOFError):
        _run(Parent())
