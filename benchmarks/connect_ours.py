"""Connection set-up between our nodes: one that is dialed, and others, in another process, that
dial it."""

import time
from contextlib import AsyncExitStack

import trio

from aelf_p2p import Endpoint, NetworkOptions, Node, Transport
from aelf_p2p.core.envelope import META_PUBLIC_KEY
from aelf_p2p.wire.methods import PING
from benchmarks.our_nodes import answer_each, cpu_seconds, our_node, patient_transport
from benchmarks.worker import Parent
from benchmarks.workload import HOST, MANY_HANDSHAKES

PEER, PING_ANSWER = "peer", "ping"
TIMEOUT_S = 20.0

_options = NetworkOptions(
    max_peers=0,
    max_handshakes_at_once=MANY_HANDSHAKES,
    # Of many that dial at once on few cores, the last has to wait for the others.
    dial_timeout_s=TIMEOUT_S,
    handshake_timeout_s=TIMEOUT_S,
    stream_handshake_timeout_s=TIMEOUT_S,
    handshake_max_age_s=TIMEOUT_S,
)


async def connect(wire: Transport, port: int, what: str, at_once: int) -> list[float]:
    """So many new nodes dial, all at once; when each was done, in seconds since they began.

    ``PEER`` is the whole of it: TCP, TLS, DoHandshake, the stream and its handshake, and the
    confirmation. ``PING_ANSWER`` is TCP, TLS and the answer to a unary Ping, without a handshake.
    """
    endpoint = Endpoint(HOST, port)
    done: list[float] = []
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(our_node(wire, _options)) for _ in range(at_once)]
        began = time.perf_counter()

        async def dial(node: Node) -> None:
            if what == PEER:
                await node.connect(endpoint)
                done.append(time.perf_counter() - began)
                return
            metadata = {META_PUBLIC_KEY: node.public_key.hex()}
            async with wire.dial(endpoint, timeout_s=TIMEOUT_S) as channel:
                await channel.call(PING, b"", metadata=metadata, timeout_s=TIMEOUT_S)
                done.append(time.perf_counter() - began)

        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(dial, node)
    return done


async def _run(parent: Parent) -> None:
    """Serve and say where; or connect as it is asked, ``[what, at_once]``, and answer with what
    ``connect`` gives."""
    transport, tls, port = map(parent.setup.get, ("transport", "tls", "port"))
    wire = patient_transport(transport, _options, tls=tls)
    if port is None:
        async with our_node(wire, _options) as node:
            parent.send({"port": node.endpoint.port})
            await answer_each(parent, cpu_seconds)
    else:
        parent.send("ready")
        await answer_each(parent, lambda question: connect(wire, port, *question))


if __name__ == "__main__":
    trio.run(_run, Parent())
