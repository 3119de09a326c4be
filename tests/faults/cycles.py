"""Thousands of connections that come to nothing: ``python -m tests.faults.cycles``.

In turn a node connects and leaves, is cancelled in the midst of connecting, and a bare connection
is reset. At the end both processes have as many descriptors and tasks as at the beginning, and
about as much memory.
"""

import argparse
import random
import socket
import struct
import sys
from pathlib import Path

import trio

from aelf_p2p import (
    Endpoint,
    GrpcTransport,
    Identity,
    NetworkOptions,
    Node,
    TransportError,
    open_node,
)
from tests.faults.floods import resident_mb
from tests.faults.processes import other_process, read_line

PROGRESS_CYCLES = 1000
WARM_UP_CYCLES = 300
"""Before the beginning is looked at: caches fill, and the heap takes its shape."""
SETTLE_S = 12.0
"""Until a connection that says nothing is dropped, and all else is long over."""
MAX_GROWTH_MB = 4.0
UNHURRIED = "max_handshakes_at_once=100000", "handshakes_per_s=100000"
"""Options of the other node: this one shakes hands more often than all that a node should meet."""


def descriptors(pid: int | str) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def connect_and_leave(node: Node, at: Endpoint) -> None:
    peer = await node.connect(at)
    await node.disconnect(peer.info.public_key)


async def connect_and_cancel(node: Node, at: Endpoint, after_s: float) -> None:
    with trio.move_on_after(after_s):
        try:
            await node.connect(at)
        except TransportError:
            return
    for peer in node.peers():
        await node.disconnect(peer.info.public_key)


async def connect_and_reset(at: Endpoint, sent: bytes) -> None:
    stream = await trio.open_tcp_stream(at.host, at.port)
    if sent:
        await stream.send_all(sent)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def cycle(node: Node, at: Endpoint, number: int, rng: random.Random) -> None:
    """One of the three."""
    if number % 3 == 0:
        await connect_and_leave(node, at)
    elif number % 3 == 1:
        await connect_and_cancel(node, at, rng.expovariate(200))
    else:
        await connect_and_reset(at, rng.randbytes(rng.choice((0, 1, 100))))


async def main(cycles: int, seed: int) -> int:
    """Returns the exit status."""
    rng = random.Random(seed)
    options = NetworkOptions(dial_private=True)
    async with (
        other_process("tests.faults.other_node", "127.0.0.1", *UNHURRIED) as other,
        open_node(
            identity=Identity.generate(),
            transport=GrpcTransport(),
            host="127.0.0.1",
            port=0,
            options=options,
        ) as node,
    ):
        at = Endpoint("127.0.0.1", int(await read_line(other)))
        for worker in (node.workers.discovery, node.workers.reconnection):
            worker.pause()
        for number in range(WARM_UP_CYCLES):
            await cycle(node, at, number, rng)
        await trio.sleep(SETTLE_S)
        before = _state(other.pid)
        for number in range(cycles):
            await cycle(node, at, number, rng)
            if (number + 1) % PROGRESS_CYCLES == 0:
                print(f"{number + 1} of {cycles} cycles", file=sys.stderr)
        await trio.sleep(SETTLE_S)
        after = _state(other.pid)
        answers = (await node.connect(at)).info.node_version
    print(f"{cycles} cycles; the node still answers, as {answers}")
    wrong = False
    for name in before:
        growth = after[name] - before[name]
        bad = growth > MAX_GROWTH_MB if name.endswith("MB") else growth > 0
        wrong |= bad
        print(f"{name}: {before[name]:g} before, {after[name]:g} after{' - TOO MUCH' * bad}")
    return int(wrong)


def _state(pid: int) -> dict[str, float]:
    return {
        "descriptors there": descriptors(pid),
        "descriptors here": descriptors("self"),
        "tasks here": trio.lowlevel.current_statistics().tasks_living,
        "memory there, MB": round(resident_mb(pid), 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.faults.cycles", description=__doc__)
    parser.add_argument("--cycles", type=int, default=10_000, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of when it is cancelled (%(default)s)")
    chosen = parser.parse_args()
    sys.exit(trio.run(main, chosen.cycles, chosen.seed))
