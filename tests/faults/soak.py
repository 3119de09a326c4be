"""A node with many peers that are busy for long: ``python -m tests.faults.soak``.

The node is a process of its own; all its peers are in this one. Each asks for health and for
blocks, and sends a transaction, twice a second. The node's memory is noted every ten seconds; the
slope of a line through what was noted is what it grows by.
"""

import argparse
import random
import sys
from contextlib import AsyncExitStack
from statistics import linear_regression

import trio

from aelf_p2p import GrpcTransport, Identity, NetworkError, Node, Transaction, open_node
from aelf_p2p.contracts import Peer
from aelf_p2p.testing.vectors import load_vectors
from tests.faults.floods import resident_mb
from tests.faults.processes import other_process, read_line

SAMPLE_S = 10.0
MAX_GROWTH_MB = 1.0
"""In ten minutes."""
WARM_UP_SHARE = 0.2
"""Of the time, at its beginning, that is not looked at."""
TRANSACTIONS = [Transaction.parse_untrusted(vector.raw) for vector in load_vectors().transactions]


async def be_busy(node: Node, peer: Peer, rng: random.Random) -> None:
    """Until cancelled."""
    while True:
        await trio.sleep(rng.expovariate(2))
        try:
            await peer.check_health(timeout_s=10)
            await peer.request_blocks(bytes(32), 10)
        except NetworkError as exc:
            print(f"{peer.info}: {exc}", file=sys.stderr)
        node.network.broadcast_transaction(rng.choice(TRANSACTIONS))


async def main(minutes: float, peers: int, seed: int) -> int:
    """Returns the exit status."""
    rng = random.Random(seed)
    samples: list[tuple[float, float]] = []
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(
            other_process("tests.faults.other_node", "127.0.0.1", f"max_peers={peers * 2}")
        )
        at = f"127.0.0.1:{await read_line(other)}"
        nursery = await stack.enter_async_context(trio.open_nursery())
        for _ in range(peers):
            node = await stack.enter_async_context(
                open_node(
                    identity=Identity.generate(),
                    transport=GrpcTransport(),
                    host="127.0.0.1",
                    port=0,
                )
            )
            node.workers.discovery.pause()
            nursery.start_soon(be_busy, node, await node.connect(at), rng)
        began = trio.current_time()
        while (elapsed_s := trio.current_time() - began) < minutes * 60:
            await trio.sleep(SAMPLE_S)
            samples.append((elapsed_s / 600, resident_mb(other.pid)))
            print(f"{elapsed_s:6.0f} s  {samples[-1][1]:7.1f} MB", file=sys.stderr)
        nursery.cancel_scope.cancel()
    seen = samples[int(len(samples) * WARM_UP_SHARE) :]
    slope, _ = linear_regression([elapsed for elapsed, _ in seen], [mb for _, mb in seen])
    print(f"{peers} peers, {minutes:g} minutes: {slope:+.2f} MB in ten minutes (wanted: below 1)")
    return int(slope >= MAX_GROWTH_MB)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long (%(default)s)")
    parser.add_argument("--peers", type=int, default=25, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    chosen = parser.parse_args()
    sys.exit(trio.run(main, chosen.minutes, chosen.peers, chosen.seed))
