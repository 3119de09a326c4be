"""Pings between two of our nodes, each whole and in a process of its own."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from aelf_p2p import Endpoint, NetworkOptions
from aelf_p2p.core.envelope import META_PUBLIC_KEY
from aelf_p2p.wire.methods import PING
from benchmarks.our_nodes import answer_each, cpu_seconds, our_node, patient_transport
from benchmarks.worker import Parent
from benchmarks.workload import HOST

STREAM, UNARY = "stream", "unary"
TIMEOUT_S = 5.0

Pings = Callable[[int], Awaitable[list[int]]]
"""So many pings, one after another; what each took, in nanoseconds."""

_options = NetworkOptions(max_peers=0)


@asynccontextmanager
async def answering(transport: str, *, tls: bool) -> AsyncIterator[int]:
    """The node that is pinged; gives its port."""
    async with our_node(patient_transport(transport, _options, tls=tls), _options) as node:
        yield node.endpoint.port


@asynccontextmanager
async def pinging(transport: str, port: int, *, tls: bool) -> AsyncIterator[dict[str, Pings]]:
    """The node that pings: on the stream of its peer by HEALTH_CHECK, from ``Peer.check_health``
    on, and by the unary Ping, on a channel as discovery's."""
    wire = patient_transport(transport, _options, tls=tls)
    async with our_node(wire, _options) as node:
        endpoint = Endpoint(HOST, port)
        peer = await node.connect(endpoint)
        metadata = {META_PUBLIC_KEY: node.public_key.hex()}
        async with wire.dial(endpoint, timeout_s=TIMEOUT_S) as channel:
            yield {
                STREAM: partial(_timed, partial(peer.check_health, timeout_s=TIMEOUT_S)),
                UNARY: partial(
                    _timed,
                    partial(channel.call, PING, b"", metadata=metadata, timeout_s=TIMEOUT_S),
                ),
            }


async def _timed(ping: Callable[[], Awaitable[object]], count: int) -> list[int]:
    taken = []
    for _ in range(count):
        began = time.perf_counter_ns()
        await ping()
        taken.append(time.perf_counter_ns() - began)
    return taken


async def _run(parent: Parent) -> None:
    """Serve and say where, or connect, say so, and ping as it is asked: ``[way, count]``."""
    transport, tls, port = map(parent.setup.get, ("transport", "tls", "port"))
    if port is None:
        async with answering(transport, tls=tls) as own_port:
            parent.send({"port": own_port})
            await answer_each(parent, cpu_seconds)
    else:
        async with pinging(transport, port, tls=tls) as pings:
            parent.send("connected")
            await answer_each(parent, lambda question: pings[question[0]](question[1]))


if __name__ == "__main__":
    trio.run(_run, Parent())
