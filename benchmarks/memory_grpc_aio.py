"""A server on grpc.aio with as many idle streams, which does what a broadcast to them needs.

No node: for each stream there is its handshake, a queue, a writer, a reader, and what is not
acknowledged.
"""

import asyncio
import time

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from benchmarks import rival
from benchmarks.aio_peer import aio_server, answer_each
from benchmarks.asyncio_round import Waiter
from benchmarks.greeter import Greeter
from benchmarks.memory_ours import PAYLOAD_BYTES
from benchmarks.memory_use import allow_open_files, resident_bytes
from benchmarks.worker import Parent
from benchmarks.workload import ROUND_TIMEOUT_S, TransactionSource


class _Line:
    """One connected peer, its queue and who waits for it."""

    def __init__(self, peer: rival.Peer) -> None:
        self.peer = peer
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.waiter = Waiter()
        peer.on_all_acknowledged = self.waiter.wake

    async def write(self, context: grpc.aio.ServicerContext) -> None:
        while True:
            await context.write(await self.queue.get())

    async def read(self, context: grpc.aio.ServicerContext) -> None:
        while (data := await context.read()) is not grpc.aio.EOF:
            if (answer := self.peer.take(data)) is not None:
                self.queue.put_nowait(answer)


class _Server:
    def __init__(self) -> None:
        self.lines: dict[_Line, None] = {}
        self._greeter = Greeter()
        self._source = TransactionSource(PAYLOAD_BYTES)

    async def request_by_stream(self, _requests: object, context: grpc.aio.ServicerContext) -> None:
        line = _Line(rival.Peer(self._greeter, await context.read()))
        await context.write(line.peer.greeting)
        self.lines[line] = None
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(line.write(context))
                await line.read(context)
                writer.cancel()
        finally:
            del self.lines[line]
            line.waiter.lose()

    async def broadcast(self) -> float:
        """One transaction to all peers; the seconds until each has acknowledged it."""
        (transaction,) = self._source.take(1)
        began = time.perf_counter()
        request_id, body = rival.encode(self._greeter, transaction)
        for line in self.lines:
            line.queue.put_nowait(line.peer.envelope(request_id, body))
        async with asyncio.timeout(ROUND_TIMEOUT_S):
            for line in list(self.lines):
                await line.waiter.wait_empty(line.peer.unacknowledged)
        return time.perf_counter() - began


async def _run(parent: Parent) -> None:
    """As ``memory_ours`` does."""
    server = _Server()
    handlers = {
        REQUEST_BY_STREAM.name: grpc.stream_stream_rpc_method_handler(server.request_by_stream)
    }

    async def answer(question: str) -> float:
        match question:
            case "memory":
                return resident_bytes()
            case "peers":
                return len(server.lines)
            case _:
                return await server.broadcast()

    async with aio_server(handlers, tls=parent.setup["tls"]) as port:
        parent.send({"port": port})
        await answer_each(parent, answer)


if __name__ == "__main__":
    allow_open_files()
    asyncio.run(_run(Parent()))
