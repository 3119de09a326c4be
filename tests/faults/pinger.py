"""A healthy peer in a process of its own: ``python -m tests.faults.pinger HOST:PORT``.

It asks for health one time after another. For each line that it reads it tells, as JSON, how long
the questions since the last line took: count, p99 and the longest, in seconds.
"""

import json
import sys

import trio

from aelf_p2p import GrpcTransport, Identity, open_node
from aelf_p2p.contracts import Peer

PAUSE_S = 0.005


async def main(victim: str) -> None:
    """Ping until the input ends."""
    took_s: list[float] = []
    async with open_node(
        identity=Identity.generate(), transport=GrpcTransport(), host="127.0.0.1", port=0
    ) as node:
        node.workers.discovery.pause()
        peer = await node.connect(victim)
        print("connected", flush=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ping, peer, took_s)
            while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                done, took_s[:] = sorted(took_s), []
                p99 = done[len(done) * 99 // 100] if done else 0.0
                longest = max(done, default=0.0)
                print(json.dumps({"count": len(done), "p99": p99, "longest": longest}), flush=True)
            nursery.cancel_scope.cancel()


async def _ping(peer: Peer, took_s: list[float]) -> None:
    while True:
        began = trio.current_time()
        await peer.check_health(timeout_s=10)
        took_s.append(trio.current_time() - began)
        await trio.sleep(PAUSE_S)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
