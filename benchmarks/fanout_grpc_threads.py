"""A rival's sender: grpcio's synchronous server, with a thread for each peer that writes, and one
that reads.
"""

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc  # type: ignore[import-untyped]

from aelf_p2p import Transaction
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from benchmarks import rival
from benchmarks.fanout_grpc_aio import OPTIONS, credentials
from benchmarks.greeter import Greeter
from benchmarks.worker import Parent
from benchmarks.workload import HOST, ROUND_TIMEOUT_S, Stopwatch, TransactionSource, Workload


class _Line:
    """One connected peer, its queue and who waits for it."""

    def __init__(self, peer: rival.Peer) -> None:
        self.peer = peer
        self.queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()  # None ends it
        self.empty = threading.Event()
        peer.on_all_acknowledged = self.empty.set

    def read(self, requests: Iterator[bytes]) -> None:
        try:
            for data in requests:
                if (answer := self.peer.take(data)) is not None:
                    self.queue.put(answer)
        except grpc.RpcError:
            pass  # the peer is gone, and what waits for it will say so
        finally:
            self.queue.put(None)


class _Sender:
    """The one method that the sinks call, and the broadcasts."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._lines: dict[_Line, None] = {}
        self._greeter = Greeter()

    def request_by_stream(self, requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
        line = _Line(rival.Peer(self._greeter, next(requests)))
        yield line.peer.greeting
        self._lines[line] = None
        threading.Thread(target=line.read, args=(requests,), daemon=True).start()
        try:
            yield from iter(line.queue.get, None)
        finally:
            del self._lines[line]

    def broadcast(self, transactions: list[Transaction]) -> None:
        """To all peers, and wait until all have acknowledged. Raises RuntimeError."""
        lines = list(self._lines)
        rival.check_count(len(lines), self._workload.peers)
        for line in lines:
            # What is in flight may run empty before all is sent: it counts once all is.
            line.peer.unacknowledged[""] = rival.TRANSACTION
        for transaction in transactions:
            request_id, body = rival.encode(self._greeter, transaction)
            for line in lines:
                line.queue.put(line.peer.envelope(request_id, body))
        for line in lines:
            line.empty.clear()
            del line.peer.unacknowledged[""]
            while line.peer.unacknowledged:
                if not line.empty.wait(ROUND_TIMEOUT_S):
                    raise RuntimeError(f"{len(line.peer.unacknowledged)} unacknowledged")
                line.empty.clear()


def _run(parent: Parent) -> None:
    """Say where the server listens, then run a round for each question."""
    workload = Workload(**parent.setup["workload"])
    sender = _Sender(workload)
    source = TransactionSource(workload.payload_bytes)
    server = grpc.server(ThreadPoolExecutor(workload.peers), options=OPTIONS)
    handler = grpc.stream_stream_rpc_method_handler(sender.request_by_stream)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("PeerService", {REQUEST_BY_STREAM.name: handler})]
    )
    address = f"{HOST}:0"
    if workload.tls:
        port = server.add_secure_port(address, credentials())
    else:
        port = server.add_insecure_port(address)
    server.start()
    parent.send(port)
    try:
        while True:
            parent.receive()
            transactions = source.take(workload.messages)
            stopwatch = Stopwatch()
            with stopwatch.running():
                sender.broadcast(transactions)
            parent.send(stopwatch.round.as_answer())
    except EOFError:
        pass
    finally:
        server.stop(grace=None).wait()


if __name__ == "__main__":
    _run(Parent())
