"""The rival: the same exchange on grpc.aio, written as its documentation advises.

It does what the measured path needs and nothing else: no node, no limits, no known items, no
priorities. Each broadcast's body is encoded once; each peer has a queue, a writer that awaits one
write after another, a reader, and a dictionary in which acknowledgements are matched.
"""

import asyncio
import ssl
import time

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from aelf_p2p import Transaction
from aelf_p2p.core.envelope import envelope_body, reply_prefix, request_prefix
from aelf_p2p.core.stream_handshake import parse_opening_untrusted
from aelf_p2p.transports.net.tls import process_identity
from aelf_p2p.wire import MessageType, StreamMessage, StreamType
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from benchmarks.greeter import Greeter
from benchmarks.worker import Parent
from benchmarks.workload import (
    HOST,
    ROUND_TIMEOUT_S,
    Round,
    Stopwatch,
    TransactionSource,
    Workload,
)

TURN = 64
"""So many broadcasts at a time, then the other tasks have their turn."""

_TRANSACTION = int(MessageType.TRANSACTION_BROADCAST)  # once, not for every message
_REPLY = int(StreamType.REPLY)


class _Peer:
    """One connected sink."""

    def __init__(self, prefix: bytes, replies: bytes) -> None:
        self.prefix = prefix
        """What our requests to it begin with."""
        self.reply_prefix = replies
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.unacknowledged: dict[str, int] = {}
        """The message type of each broadcast in flight, by request id."""
        self._lost = False
        self._wake = asyncio.Event()

    async def write(self, context: grpc.aio.ServicerContext) -> None:
        while True:
            await context.write(await self.queue.get())

    async def read(self, context: grpc.aio.ServicerContext) -> None:
        while (data := await context.read()) is not grpc.aio.EOF:
            message = StreamMessage.FromString(data)
            if message.stream_type == _REPLY:
                self._acknowledge(message.request_id, message.message_type)
            else:  # CONFIRM_HAND_SHAKE
                body = envelope_body(message.message_type, message.request_id)
                self.queue.put_nowait(self.reply_prefix + body)

    def lose(self) -> None:
        self._lost = True
        self._wake.set()

    async def wait_all_acknowledged(self) -> None:
        while self.unacknowledged:
            if self._lost:
                raise RuntimeError(f"a peer is gone, {len(self.unacknowledged)} unacknowledged")
            self._wake.clear()
            await self._wake.wait()

    def _acknowledge(self, request_id: str, message_type: int) -> None:
        if self.unacknowledged.pop(request_id, None) != message_type:
            raise RuntimeError(f"a reply to nothing: {request_id}")
        if not self.unacknowledged:
            self._wake.set()


class _Sender:
    """The one method that the sinks call, and the broadcasts."""

    def __init__(self) -> None:
        self.peers: dict[_Peer, None] = {}
        self._greeter = Greeter()

    async def request_by_stream(self, _requests: object, context: grpc.aio.ServicerContext) -> None:
        greeter = self._greeter
        opening = parse_opening_untrusted([await context.read()], greeter.max_opening_bytes)
        remote = greeter.rules.check_request_untrusted(opening.handshake, time.time_ns())
        peer = _Peer(
            request_prefix(greeter.public_key, remote.session_id),
            reply_prefix(remote.session_id),
        )
        await context.write(opening.reply(greeter.new_handshake().as_reply()))
        self.peers[peer] = None
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(peer.write(context))
                await peer.read(context)
                writer.cancel()
        finally:
            del self.peers[peer]
            peer.lose()

    async def broadcast(self, transactions: list[Transaction]) -> None:
        """To all peers, and wait until all have acknowledged."""
        for number, transaction in enumerate(transactions, 1):
            request_id = self._greeter.new_request_id()
            body = envelope_body(_TRANSACTION, request_id, transaction.raw)
            for peer in self.peers:
                peer.unacknowledged[request_id] = _TRANSACTION
                peer.queue.put_nowait(peer.prefix + body)
            if number % TURN == 0:
                await asyncio.sleep(0)
        for peer in list(self.peers):
            await peer.wait_all_acknowledged()


async def _serve(sender: _Sender, *, tls: bool) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler = grpc.stream_stream_rpc_method_handler(sender.request_by_stream)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("PeerService", {REQUEST_BY_STREAM.name: handler})]
    )
    if tls:
        identity = process_identity()
        certificate = ssl.DER_cert_to_PEM_cert(identity.certificate).encode()
        credentials = grpc.ssl_server_credentials([(identity.key_pem, certificate)])
        port = server.add_secure_port(f"{HOST}:0", credentials)
    else:
        port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    return server, port


async def _run_round(sender: _Sender, transactions: list[Transaction], peers: int) -> Round:
    if len(sender.peers) != peers:
        raise RuntimeError(f"{len(sender.peers)} of {peers} peers are connected")
    stopwatch = Stopwatch()
    async with asyncio.timeout(ROUND_TIMEOUT_S):
        with stopwatch.running():
            await sender.broadcast(transactions)
    return stopwatch.round


async def _run(parent: Parent) -> None:
    """Say where the server listens, then run a round for each question."""
    workload = Workload(**parent.setup)
    sender = _Sender()
    source = TransactionSource(workload.payload_bytes)
    server, port = await _serve(sender, tls=workload.tls)
    try:
        parent.send(port)
        while True:
            await asyncio.to_thread(parent.receive)
            transactions = source.take(workload.messages)
            parent.send((await _run_round(sender, transactions, workload.peers)).as_answer())
    except EOFError:
        return
    finally:
        await server.stop(grace=None)


if __name__ == "__main__":
    asyncio.run(_run(Parent()))
