"""Our sender: a whole node, from ``node.network.broadcast_transaction`` to the socket."""

from collections.abc import Iterable

import trio

from aelf_p2p import Identity, NetworkOptions, Node, Peer, Transaction, open_node
from aelf_p2p.core.broadcast import BroadcastKind
from benchmarks.transports import make_transport
from benchmarks.worker import Parent
from benchmarks.workload import (
    HOST,
    MANY_HANDSHAKES,
    ROUND_TIMEOUT_S,
    Round,
    Stopwatch,
    TransactionSource,
    Workload,
)

TURN = 64
"""So many broadcasts at a time, then the node's other tasks have their turn."""
POLL_S = 0.002


async def broadcast(node: Node, transactions: list[Transaction], peers: int) -> None:
    """To at least so many peers. Raises RuntimeError when fewer get one."""
    for number, transaction in enumerate(transactions, 1):
        report = node.network.broadcast_transaction(transaction)
        if report.queued < peers:
            raise RuntimeError(f"not every peer gets transaction {number}: {report}")
        if number % TURN == 0:
            await trio.lowlevel.checkpoint()


async def wait_acknowledged(peers: Iterable[Peer], total: int) -> None:
    """Until each has acknowledged so many. Raises RuntimeError when one has lost any."""
    for peer in peers:
        while (statistics := peer.statistics()).acknowledged.get(
            BroadcastKind.TRANSACTION
        ) != total:
            if statistics.dropped:
                raise RuntimeError(f"{peer.info} lost broadcasts: {statistics.dropped}")
            await trio.sleep(POLL_S)


async def _run_round(node: Node, transactions: list[Transaction], peers: int, total: int) -> Round:
    stopwatch = Stopwatch()
    with trio.fail_after(ROUND_TIMEOUT_S), stopwatch.running():
        await broadcast(node, transactions, peers)
        await wait_acknowledged(node.peers(), total)
    return stopwatch.round


async def _run(parent: Parent) -> None:
    """Say where the node listens, then run a round for each question."""
    workload = Workload(**parent.setup["workload"])
    options = NetworkOptions(
        max_peers=0,
        max_handshakes_at_once=MANY_HANDSHAKES,
        max_queued_transactions=workload.messages,
        acknowledgement_timeout_s=ROUND_TIMEOUT_S,  # a busy machine is no loss
    )
    source = TransactionSource(workload.payload_bytes)
    total = 0
    async with open_node(
        identity=Identity.generate(),
        transport=make_transport(parent.setup["transport"], options, tls=workload.tls),
        host=HOST,
        port=0,
        options=options,
    ) as node:
        parent.send(node.endpoint.port)
        try:
            while True:
                await trio.to_thread.run_sync(parent.receive, abandon_on_cancel=True)
                transactions = source.take(workload.messages)
                total += workload.messages
                took = await _run_round(node, transactions, workload.peers, total)
                parent.send(took.as_answer())
        except EOFError:
            return


if __name__ == "__main__":
    trio.run(_run, Parent())
