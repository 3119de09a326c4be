"""Connection set-up on grpc.aio: a channel that is ready, and the first answer on it.

It comes on a stream where our nodes have a peer that is ready; nobody shakes hands or signs.
"""

import asyncio
import time

from aelf_p2p.core.envelope import envelope_body, request_prefix
from aelf_p2p.wire import MessageType
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM
from benchmarks.aio_peer import aio_channel, answer_each, server_certificate
from benchmarks.connect_ours import PEER, TIMEOUT_S
from benchmarks.greeter import Greeter
from benchmarks.latency_grpc_aio import answering
from benchmarks.our_nodes import cpu_seconds
from benchmarks.worker import Parent


async def connect(port: int, certificate: bytes | None, what: str, at_once: int) -> list[float]:
    """So many new channels, all at once; when each was done, in seconds since they began."""
    greeter = Greeter()
    body = envelope_body(MessageType.HEALTH_CHECK, greeter.new_request_id())
    message = request_prefix(greeter.public_key, None) + body
    done: list[float] = []
    began = time.perf_counter()

    async def dial() -> None:
        async with aio_channel(port, certificate) as channel:
            await channel.channel_ready()
            if what == PEER:
                call = channel.stream_stream(REQUEST_BY_STREAM.path)()
                await call.write(message)
                await call.read()
                done.append(time.perf_counter() - began)
                call.cancel()
            else:
                await channel.unary_unary(PING.path)(b"", timeout=TIMEOUT_S)
                done.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(dial())
    return done


async def _run(parent: Parent) -> None:
    """As ``connect_ours`` does."""
    tls, port = map(parent.setup.get, ("tls", "port"))
    if port is None:
        async with answering(tls=tls) as own_port:
            parent.send({"port": own_port})
            await answer_each(parent, cpu_seconds)
    else:
        certificate = server_certificate(port, tls=tls)
        parent.send("ready")
        await answer_each(parent, lambda question: connect(port, certificate, *question))


if __name__ == "__main__":
    asyncio.run(_run(Parent()))
