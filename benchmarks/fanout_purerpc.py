"""A rival's sender: purerpc as it is, on trio, in an environment of its own (it needs an h2 < 4).

Each peer has a queue, an asynchronous generator that gives what is to be sent, and a reader.
"""

# mypy: disable-error-code="import-not-found"

import logging
import math
from collections.abc import AsyncIterator

import purerpc
import trio

from aelf_p2p import Transaction
from aelf_p2p.transports.net.tls import process_identity
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from benchmarks import rival
from benchmarks.greeter import Greeter
from benchmarks.worker import Parent
from benchmarks.workload import ROUND_TIMEOUT_S, Stopwatch, TransactionSource, Workload


class Encoded:
    """A message in the shape that purerpc asks for, which is encoded already."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def SerializeToString(self) -> bytes:  # protobuf's name
        return self.data

    def ParseFromString(self, data: bytes) -> None:
        self.data = data


class _Line:
    """One connected peer and its queue."""

    def __init__(self, peer: rival.Peer) -> None:
        self.peer = peer
        self.put, self.queue = trio.open_memory_channel[Encoded](math.inf)
        self.empty = trio.Event()
        peer.on_all_acknowledged = self._wake

    def _wake(self) -> None:
        self.empty.set()

    async def read(self, requests: AsyncIterator[Encoded]) -> None:
        async with self.put:  # its end ends the generator
            async for message in requests:
                if (answer := self.peer.take(message.data)) is not None:
                    self.put.send_nowait(Encoded(answer))

    async def wait_all_acknowledged(self) -> None:
        while self.peer.unacknowledged:
            self.empty = trio.Event()
            await self.empty.wait()


class _Sender(purerpc.Servicer):  # type: ignore[misc]
    """The one method that the sinks call, and the broadcasts."""

    def __init__(self, workload: Workload, nursery: trio.Nursery) -> None:
        self._workload = workload
        self._nursery = nursery
        self._lines: dict[_Line, None] = {}
        self._greeter = Greeter()

    @property
    def service(self) -> purerpc.Service:
        service = purerpc.Service("PeerService")
        signature = purerpc.RPCSignature(purerpc.Cardinality.STREAM_STREAM, Encoded, Encoded)
        service.add_method(REQUEST_BY_STREAM.name, self.request_by_stream, signature)
        return service

    async def request_by_stream(self, requests: AsyncIterator[Encoded]) -> AsyncIterator[Encoded]:
        line = _Line(rival.Peer(self._greeter, (await anext(requests)).data))
        yield Encoded(line.peer.greeting)
        self._lines[line] = None
        self._nursery.start_soon(line.read, requests)
        try:
            async for message in line.queue:
                yield message
        finally:
            del self._lines[line]

    async def broadcast(self, transactions: list[Transaction]) -> None:
        """To all peers, and wait until all have acknowledged."""
        rival.check_count(len(self._lines), self._workload.peers)
        for number, transaction in enumerate(transactions, 1):
            request_id, body = rival.encode(self._greeter, transaction)
            for line in self._lines:
                line.put.send_nowait(Encoded(line.peer.envelope(request_id, body)))
            if number % rival.TURN == 0:
                await trio.lowlevel.checkpoint()
        for line in list(self._lines):
            await line.wait_all_acknowledged()


async def _run(parent: Parent) -> None:
    """Say where the server listens, then run a round for each question."""
    workload = Workload(**parent.setup["workload"])
    source = TransactionSource(workload.payload_bytes)
    tls = process_identity().server_context(["h2"]) if workload.tls else None
    async with trio.open_nursery() as nursery:
        sender = _Sender(workload, nursery)
        server = purerpc.Server(port=0, ssl_context=tls)
        server.add_service(sender.service)
        parent.send(await nursery.start(server.serve_async))
        try:
            while True:
                await trio.to_thread.run_sync(parent.receive, abandon_on_cancel=True)
                transactions = source.take(workload.messages)
                stopwatch = Stopwatch()
                with trio.fail_after(ROUND_TIMEOUT_S), stopwatch.running():
                    await sender.broadcast(transactions)
                parent.send(stopwatch.round.as_answer())
        except EOFError:
            logging.disable()  # it takes its own end for errors, two a peer
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_run, Parent())
