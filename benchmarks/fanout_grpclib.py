"""A rival's sender: grpclib, pure Python on asyncio.

Each peer has a queue, a writer and a reader.
"""

# Where grpclib is not installed its classes are unknown, and so are those made of them.
# mypy: disable-error-code="import-not-found, misc"

import asyncio
import socket
from typing import Any

from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server, Stream

from aelf_p2p import Transaction
from aelf_p2p.transports.net.tls import process_identity
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from benchmarks import rival
from benchmarks.asyncio_round import Waiter, run_rounds
from benchmarks.greeter import Greeter
from benchmarks.worker import Parent
from benchmarks.workload import HOST, Workload


class _AsItIs(CodecBase):
    """Messages are encoded once for all peers, so there is nothing left for it to do."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: Any) -> bytes:
        return message

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class _Line:
    """One connected peer, its queue and who waits for it."""

    def __init__(self, peer: rival.Peer) -> None:
        self.peer = peer
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.waiter = Waiter()
        peer.on_all_acknowledged = self.waiter.wake

    async def write(self, stream: Stream[bytes, bytes]) -> None:
        while True:
            await stream.send_message(await self.queue.get())

    async def read(self, stream: Stream[bytes, bytes]) -> None:
        async for data in stream:
            if (answer := self.peer.take(data)) is not None:
                self.queue.put_nowait(answer)


class _Sender:
    """The one method that the sinks call, and the broadcasts."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._lines: dict[_Line, None] = {}
        self._greeter = Greeter()

    def __mapping__(self) -> dict[str, Handler]:
        handler = Handler(self.request_by_stream, Cardinality.STREAM_STREAM, bytes, bytes)
        return {REQUEST_BY_STREAM.path: handler}

    async def request_by_stream(self, stream: Stream[bytes, bytes]) -> None:
        opening = await stream.recv_message()
        if opening is None:
            return
        line = _Line(rival.Peer(self._greeter, opening))
        await stream.send_message(line.peer.greeting)
        self._lines[line] = None
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(line.write(stream))
                await line.read(stream)
                writer.cancel()
        finally:
            del self._lines[line]
            line.waiter.lose()

    async def broadcast(self, transactions: list[Transaction]) -> None:
        """To all peers, and wait until all have acknowledged."""
        rival.check_count(len(self._lines), self._workload.peers)
        for number, transaction in enumerate(transactions, 1):
            request_id, body = rival.encode(self._greeter, transaction)
            for line in self._lines:
                line.queue.put_nowait(line.peer.envelope(request_id, body))
            if number % rival.TURN == 0:
                await asyncio.sleep(0)
        for line in list(self._lines):
            await line.waiter.wait_empty(line.peer.unacknowledged)


async def _run(parent: Parent) -> None:
    """Say where the server listens, then run a round for each question."""
    workload = Workload(**parent.setup["workload"])
    sender = _Sender(workload)
    server = Server([sender], codec=_AsItIs())
    listener = socket.create_server((HOST, 0), backlog=workload.peers)
    tls = process_identity().server_context(["h2"]) if workload.tls else None
    await server.start(sock=listener, ssl=tls)
    try:
        parent.send(listener.getsockname()[1])
        await run_rounds(parent, workload, sender.broadcast)
    finally:
        server.close()


if __name__ == "__main__":
    asyncio.run(_run(Parent()))
