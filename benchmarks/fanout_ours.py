"""Our sender: a whole node, from ``node.network.broadcast_transaction`` to the socket."""

import trio

from aelf_p2p import (
    GrpcTransport,
    Identity,
    NetworkOptions,
    Node,
    TcpTransport,
    Transaction,
    Transport,
    open_node,
)
from aelf_p2p.core.broadcast import BroadcastKind
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
"""So many broadcasts at a time, then the node's other tasks have their turn."""
POLL_S = 0.002


async def _broadcast(node: Node, transactions: list[Transaction], peers: int) -> None:
    """To all peers; nothing may be dropped."""
    for number, transaction in enumerate(transactions, 1):
        report = node.network.broadcast_transaction(transaction)
        if report.queued != peers:
            raise RuntimeError(f"not every peer gets transaction {number}: {report}")
        if number % TURN == 0:
            await trio.lowlevel.checkpoint()


async def _wait_acknowledged(node: Node, total: int) -> None:
    """Until each peer has acknowledged so many, one peer after another."""
    for peer in node.peers():
        while (statistics := peer.statistics()).acknowledged.get(
            BroadcastKind.TRANSACTION
        ) != total:
            if statistics.dropped:
                raise RuntimeError(f"{peer.info} lost broadcasts: {statistics.dropped}")
            await trio.sleep(POLL_S)


async def _run_round(node: Node, transactions: list[Transaction], peers: int, total: int) -> Round:
    stopwatch = Stopwatch()
    with trio.fail_after(ROUND_TIMEOUT_S), stopwatch.running():
        await _broadcast(node, transactions, peers)
        await _wait_acknowledged(node, total)
    return stopwatch.round


def _transport(name: str, options: NetworkOptions, *, tls: bool) -> Transport:
    match name:
        case "grpc":
            return GrpcTransport(options=options, insecure=not tls)
        case "tcp":
            return TcpTransport(options=options, tls=tls)
    raise ValueError(f"no transport {name!r}")


async def _run(parent: Parent) -> None:
    """Say where the node listens, then run a round for each question."""
    workload = Workload(**parent.setup["workload"])
    options = NetworkOptions(max_peers=0, max_queued_transactions=workload.messages)
    source = TransactionSource(workload.payload_bytes)
    total = 0
    async with open_node(
        identity=Identity.generate(),
        transport=_transport(parent.setup["transport"], options, tls=workload.tls),
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
