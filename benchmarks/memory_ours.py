"""A node of ours with many idle peers: what it uses of memory, and a broadcast to them all."""

import time

import trio

from aelf_p2p import NetworkOptions, Node
from aelf_p2p.core.broadcast import BroadcastKind
from benchmarks.memory_use import allow_open_files, resident_bytes
from benchmarks.our_nodes import answer_each, our_node
from benchmarks.transports import make_transport
from benchmarks.worker import Parent
from benchmarks.workload import MANY_HANDSHAKES, ROUND_TIMEOUT_S, TransactionSource

PAYLOAD_BYTES = 300
POLL_S = 0.002


class _Broadcaster:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._source = TransactionSource(PAYLOAD_BYTES)
        self._count = 0

    async def broadcast(self) -> float:
        """One transaction to all peers; the seconds until each has acknowledged it."""
        (transaction,) = self._source.take(1)
        self._count += 1
        began = time.perf_counter()
        report = self._node.network.broadcast_transaction(transaction)
        peers = self._node.peers()
        if report.queued != len(peers):
            raise RuntimeError(f"not every peer gets the transaction: {report}")
        with trio.fail_after(ROUND_TIMEOUT_S):
            for peer in peers:
                while (statistics := peer.statistics()).acknowledged.get(
                    BroadcastKind.TRANSACTION
                ) != self._count:
                    if statistics.dropped:
                        raise RuntimeError(f"{peer.info} lost a broadcast: {statistics.dropped}")
                    await trio.sleep(POLL_S)
        return time.perf_counter() - began


async def _run(parent: Parent) -> None:
    """Listen and say where. Then the answer to ``"memory"`` is the resident bytes, to ``"peers"``
    how many are ready, to ``"broadcast"`` the seconds that one took."""
    options = NetworkOptions(max_peers=0, max_handshakes_at_once=MANY_HANDSHAKES)
    wire = make_transport(parent.setup["transport"], options, tls=parent.setup["tls"])
    async with our_node(wire, options) as node:
        broadcaster = _Broadcaster(node)

        async def answer(question: str) -> float:
            match question:
                case "memory":
                    return resident_bytes()
                case "peers":
                    return len(node.peers())
                case _:
                    return await broadcaster.broadcast()

        parent.send({"port": node.endpoint.port})
        await answer_each(parent, answer)


if __name__ == "__main__":
    allow_open_files()
    trio.run(_run, Parent())
