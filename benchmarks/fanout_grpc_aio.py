"""A rival's sender: grpc.aio, written as its documentation advises.

Each peer has a queue, a writer that awaits one write after another, and a reader.
"""

import asyncio
import ssl

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from aelf_p2p import Transaction
from aelf_p2p.transports.net.tls import process_identity
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from benchmarks import rival
from benchmarks.asyncio_round import Waiter, run_rounds
from benchmarks.greeter import Greeter
from benchmarks.worker import Parent
from benchmarks.workload import HOST, Workload

# One message may be larger than the 4 MiB that it takes by itself; and no two servers on one port.
OPTIONS = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]


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


class _Sender:
    """The one method that the sinks call, and the broadcasts."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._lines: dict[_Line, None] = {}
        self._greeter = Greeter()

    async def request_by_stream(self, _requests: object, context: grpc.aio.ServicerContext) -> None:
        line = _Line(rival.Peer(self._greeter, await context.read()))
        await context.write(line.peer.greeting)
        self._lines[line] = None
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(line.write(context))
                await line.read(context)
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


def credentials() -> grpc.ServerCredentials:
    """With a certificate as our nodes make it."""
    identity = process_identity()
    certificate = ssl.DER_cert_to_PEM_cert(identity.certificate).encode()
    return grpc.ssl_server_credentials([(identity.key_pem, certificate)])


async def _run(parent: Parent) -> None:
    """Say where the server listens, then run a round for each question."""
    workload = Workload(**parent.setup["workload"])
    sender = _Sender(workload)
    server = grpc.aio.server(options=OPTIONS)
    handler = grpc.stream_stream_rpc_method_handler(sender.request_by_stream)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("PeerService", {REQUEST_BY_STREAM.name: handler})]
    )
    address = f"{HOST}:0"
    if workload.tls:
        port = server.add_secure_port(address, credentials())
    else:
        port = server.add_insecure_port(address)
    await server.start()
    try:
        parent.send(port)
        await run_rounds(parent, workload, sender.broadcast)
    finally:
        await server.stop(grace=None)


if __name__ == "__main__":
    asyncio.run(_run(Parent()))
