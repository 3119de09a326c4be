"""The ceiling: HTTP/2 frames prepared by hand, sent by a loop that does nothing else.

One DATA frame a message, 64 messages a write. A broadcast's envelope is made once, what stands
before it once for each peer. Acknowledgements are counted by their bytes: nobody looks at them.
"""

import selectors
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Sequence

from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame, WindowUpdateFrame

from aelf_p2p.core.envelope import envelope_body, reply_prefix, request_prefix
from aelf_p2p.core.stream_handshake import parse_opening_untrusted
from aelf_p2p.transports.grpc.frames import PREFACE
from aelf_p2p.transports.net.messages import frame_messages, message_prefix
from aelf_p2p.transports.net.tls import process_identity
from aelf_p2p.wire import StreamMessage
from benchmarks import rival
from benchmarks.acknowledger import cut_messages
from benchmarks.greeter import Greeter
from benchmarks.worker import Parent
from benchmarks.workload import HOST, ROUND_TIMEOUT_S, Stopwatch, TransactionSource, Workload

MESSAGES_A_WRITE = 64

_CALL = 1
_FRAME_BYTES = 9
_WINDOW = (1 << 31) - 1
_MAX_FRAME_BYTES = 16 * 1024
_READ_BYTES = 256 * 1024

_frame = struct.Struct(">BHBBI")  # the length in two parts, type, flags, stream
_frame_start = struct.Struct(">IB")  # length and type, flags


def data_frame_header(content_bytes: int) -> bytes:
    """Of a DATA frame of the only call. Raises ValueError when one frame cannot hold so much."""
    if content_bytes > _MAX_FRAME_BYTES:
        raise ValueError(f"{content_bytes} bytes do not go into one frame")
    return _frame.pack(content_bytes >> 16, content_bytes & 0xFFFF, DataFrame.type, 0, _CALL)


def prepare(prefix: bytes, body_bytes: int) -> bytes:
    """All that stands before a body on its way to one peer: headers of frame and message, and the
    envelope's ``prefix``."""
    message = message_prefix(len(prefix) + body_bytes) + prefix
    return data_frame_header(len(message) + body_bytes) + message


class DataReader:
    """Finds what DATA frames hold among what a client sends."""

    def __init__(self, passing: int) -> None:
        """``passing``: so many bytes come before the first frame."""
        self.content = bytearray()
        """Of the frames so far; whoever reads it deletes it."""
        self._passing = passing
        self._frames = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what came."""
        frames = self._frames
        frames += data
        if self._passing:
            skipped = min(self._passing, len(frames))
            del frames[:skipped]
            self._passing -= skipped
        at = 0
        while len(frames) - at >= _FRAME_BYTES:
            length_and_kind, _ = _frame_start.unpack_from(frames, at)
            end = at + _FRAME_BYTES + (length_and_kind >> 8)
            if end > len(frames):
                break
            if length_and_kind & 0xFF == DataFrame.type:
                self.content += frames[at + _FRAME_BYTES : end]
            at = end
        del frames[:at]


class _Line:
    """One connected peer."""

    def __init__(self, connection: socket.socket, greeter: Greeter) -> None:
        """Greet it, and shake hands."""
        self.socket = connection
        self._reader = DataReader(len(PREFACE))
        settings = {SettingsFrame.INITIAL_WINDOW_SIZE: _WINDOW, SettingsFrame.ENABLE_PUSH: 0}
        connection.sendall(
            SettingsFrame(0, settings).serialize()
            + WindowUpdateFrame(0, _WINDOW - 65_535).serialize()
            + SettingsFrame(0, flags=["ACK"]).serialize()
            # :status 200 of HPACK's static table, and a content type that is not in any table
            + HeadersFrame(
                _CALL, b"\x88\x0f\x10\x10application/grpc", flags=["END_HEADERS"]
            ).serialize()
        )
        opened = parse_opening_untrusted([self._next()], greeter.max_opening_bytes)
        remote = greeter.rules.check_request_untrusted(opened.handshake, time.time_ns())
        self._send(opened.reply(greeter.new_handshake().as_reply()))
        confirmation = StreamMessage.FromString(self._next())
        body = envelope_body(confirmation.message_type, confirmation.request_id)
        replies = reply_prefix(remote.session_id)
        self._send(replies + body)
        self.requests = request_prefix(greeter.public_key, remote.session_id)
        # Acknowledgements have request ids, and so lengths, like the one that was just sent.
        kind_and_id = envelope_body(rival.TRANSACTION, greeter.new_request_id())
        self._acknowledgement_bytes = len(frame_messages([replies + kind_and_id]))
        self._unacknowledged_bytes = 0
        self._unsent: memoryview = memoryview(b"")
        self._writes: Iterator[bytes] = iter(())
        connection.setblocking(False)

    @property
    def is_done(self) -> bool:
        """Whether all is sent and acknowledged."""
        return not self._unacknowledged_bytes

    def begin(self, batches: Sequence[Sequence[bytes]]) -> None:
        """Send these bodies, as the socket takes them."""
        before = prepare(self.requests, len(batches[0][0]))
        self._writes = (before + before.join(bodies) for bodies in batches)
        self._unacknowledged_bytes = sum(map(len, batches)) * self._acknowledgement_bytes

    def write(self) -> bool:
        """Write what the socket takes now; whether there is more."""
        try:
            while True:
                if not self._unsent:
                    self._unsent = memoryview(next(self._writes, b""))
                    if not self._unsent:
                        return False
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            return True

    def read(self) -> None:
        """Count what was acknowledged. Raises RuntimeError for what was not sent."""
        try:
            self._feed()
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        self._unacknowledged_bytes -= len(self._reader.content)
        self._reader.content.clear()
        if self._unacknowledged_bytes < 0:
            raise RuntimeError(f"{-self._unacknowledged_bytes} bytes that acknowledge nothing")

    def _feed(self) -> None:
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise RuntimeError("a sink closed its connection")
        self._reader.feed(data)

    def _next(self) -> bytes:
        while not (messages := cut_messages(self._reader.content)):
            self._feed()
        return messages[0]

    def _send(self, message: bytes) -> None:
        framed = frame_messages([message])
        self.socket.sendall(data_frame_header(len(framed)) + framed)


def _run_round(lines: Sequence[_Line], batches: Sequence[Sequence[bytes]]) -> None:
    deadline = time.monotonic() + ROUND_TIMEOUT_S
    with selectors.DefaultSelector() as selector:
        for line in lines:
            line.begin(batches)
            selector.register(line.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, line)
        waiting = len(lines)
        while waiting:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{waiting} sinks have not acknowledged all")
            for key, events in selector.select(1):
                line = key.data
                if events & selectors.EVENT_WRITE and not line.write():
                    selector.modify(line.socket, selectors.EVENT_READ, line)
                if events & selectors.EVENT_READ:
                    line.read()
                    if line.is_done:
                        selector.unregister(line.socket)
                        waiting -= 1


def _run(parent: Parent) -> None:
    """Say where it listens, accept all sinks, then run a round for each question."""
    workload = Workload(**parent.setup["workload"])
    source = TransactionSource(workload.payload_bytes)
    greeter = Greeter()
    tls = process_identity().server_context(["h2"]) if workload.tls else None
    lines = []
    with socket.create_server((HOST, 0), backlog=workload.peers) as listener:
        parent.send(listener.getsockname()[1])
        for _ in range(workload.peers):
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            lines.append(_Line(connection, greeter))
    while True:
        try:
            parent.receive()
        except EOFError:
            return
        transactions = source.take(workload.messages)
        stopwatch = Stopwatch()
        with stopwatch.running():
            bodies = [rival.encode(greeter, transaction)[1] for transaction in transactions]
            batches = [
                bodies[at : at + MESSAGES_A_WRITE] for at in range(0, len(bodies), MESSAGES_A_WRITE)
            ]
            _run_round(lines, batches)
        parent.send(stopwatch.round.as_answer())


if __name__ == "__main__":
    _run(Parent())
