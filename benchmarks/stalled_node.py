"""The sender of the benchmark of a stalled peer: a whole node, asked for bursts and for a pace."""

import time
from collections.abc import Sequence
from typing import Any

import trio

from aelf_p2p import Identity, NetworkOptions, Node, Peer, Transaction, WireLimits, open_node
from benchmarks.fanout_ours import broadcast, wait_acknowledged
from benchmarks.transports import make_transport
from benchmarks.worker import Parent
from benchmarks.workload import HOST, ROUND_TIMEOUT_S, Stopwatch, TransactionSource, Workload

FOREVER_S = 3600.0


async def _pace(node: Node, transactions: Sequence[Transaction], interval_s: float) -> list[float]:
    """One after another; when each was broadcast, by ``time.perf_counter``."""
    begins = trio.current_time()
    times = []
    for number, transaction in enumerate(transactions):
        await trio.sleep_until(begins + number * interval_s)
        times.append(time.perf_counter())
        node.network.broadcast_transaction(transaction)
    return times


async def _run_round(
    node: Node, question: dict[str, Any], transactions: list[Transaction], readers: Sequence[Peer]
) -> Any:
    """What the question asks for, and wait until all who read have acknowledged."""
    sent_before = readers[0].statistics().acknowledged
    total = sum(sent_before.values()) + len(transactions)
    with trio.fail_after(ROUND_TIMEOUT_S):
        if "interval_s" in question:
            times = await _pace(node, transactions, question["interval_s"])
            await wait_acknowledged(readers, total)
            return times
        stopwatch = Stopwatch()
        with stopwatch.running():
            await broadcast(node, transactions, len(readers))
            await wait_acknowledged(readers, total)
        return stopwatch.round.as_answer()


async def _run(parent: Parent) -> None:
    """Say where the node listens; be told the keys of peers that will stall; then a round for each
    question: ``messages`` at once, or one each ``interval_s`` seconds."""
    workload = Workload(**parent.setup["workload"])
    # A stalled peer is let go after half a minute. Here it stays, or there were nothing to measure.
    options = NetworkOptions(
        max_peers=0, max_queued_transactions=workload.messages, silence_probe_s=FOREVER_S
    )
    limits = WireLimits(write_timeout_s=FOREVER_S)
    source = TransactionSource(workload.payload_bytes)
    transport = make_transport(parent.setup["transport"], options, tls=workload.tls, limits=limits)
    async with open_node(
        identity=Identity.generate(), transport=transport, host=HOST, port=0, options=options
    ) as node:
        node.workers.health_check.pause()
        parent.send(node.endpoint.port)
        try:
            stalled = await trio.to_thread.run_sync(parent.receive, abandon_on_cancel=True)
            peers = node.peers()
            readers = [peer for peer in peers if peer.info.public_key.hex() not in stalled]
            parent.send(len(readers))
            while True:
                question = await trio.to_thread.run_sync(parent.receive, abandon_on_cancel=True)
                transactions = source.take(question["messages"])
                answer = await _run_round(node, question, transactions, readers)
                if node.peers() != peers:
                    raise RuntimeError(f"{len(node.peers())} of {len(peers)} peers are left")
                parent.send(answer)
        except EOFError:
            return


if __name__ == "__main__":
    trio.run(_run, Parent())
