"""The same pings on grpc.aio at both ends: nothing is written that a ping does not need.

On the stream each message is the envelope that nodes exchange, parsed by its receiver; the caller
awaits one answer at a time, without a reader of its own or a table of who waits.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from aelf_p2p.core.envelope import META_PUBLIC_KEY, envelope_body, reply_prefix, request_prefix
from aelf_p2p.wire import MessageType, StreamMessage
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM
from benchmarks.aio_peer import aio_channel, aio_server, answer_each, server_certificate
from benchmarks.greeter import Greeter
from benchmarks.latency_ours import STREAM, TIMEOUT_S, UNARY, Pings
from benchmarks.our_nodes import cpu_seconds
from benchmarks.worker import Parent

_SESSION = bytes(16)


@asynccontextmanager
async def answering(*, tls: bool) -> AsyncIterator[int]:
    """The server; gives its port."""
    handlers = {
        REQUEST_BY_STREAM.name: grpc.stream_stream_rpc_method_handler(_answer_on_stream),
        PING.name: grpc.unary_unary_rpc_method_handler(_answer),
    }
    async with aio_server(handlers, tls=tls) as port:
        yield port


async def _answer_on_stream(_requests: object, context: grpc.aio.ServicerContext) -> None:
    prefix = reply_prefix(_SESSION)
    while (data := await context.read()) is not grpc.aio.EOF:
        message = StreamMessage.FromString(data)
        await context.write(prefix + envelope_body(message.message_type, message.request_id))


async def _answer(_request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
    return b""


@asynccontextmanager
async def pinging(port: int, *, tls: bool) -> AsyncIterator[dict[str, Pings]]:
    """The caller, on one channel."""
    greeter = Greeter()
    metadata = ((META_PUBLIC_KEY, greeter.public_key.hex()),)
    async with aio_channel(port, server_certificate(port, tls=tls)) as channel:
        call = channel.stream_stream(REQUEST_BY_STREAM.path)(metadata=metadata)
        unary = channel.unary_unary(PING.path)
        yield {
            STREAM: partial(_ping_on_stream, call, greeter),
            UNARY: partial(_ping, unary, metadata),
        }
        call.cancel()


async def _ping_on_stream(call: Any, greeter: Greeter, count: int) -> list[int]:
    prefix = request_prefix(greeter.public_key, _SESSION)
    taken = []
    for _ in range(count):
        began = time.perf_counter_ns()
        request_id = greeter.new_request_id()
        await call.write(prefix + envelope_body(MessageType.HEALTH_CHECK, request_id))
        reply = StreamMessage.FromString(await call.read())
        taken.append(time.perf_counter_ns() - began)
        if reply.request_id != request_id:
            raise RuntimeError(f"an answer to {reply.request_id!r} instead of {request_id!r}")
    return taken


async def _ping(unary: Any, metadata: object, count: int) -> list[int]:
    taken = []
    for _ in range(count):
        began = time.perf_counter_ns()
        await unary(b"", metadata=metadata, timeout=TIMEOUT_S)
        taken.append(time.perf_counter_ns() - began)
    return taken


async def _run(parent: Parent) -> None:
    """Serve and say where, or connect, say so, and ping as it is asked: ``[way, count]``."""
    tls, port = map(parent.setup.get, ("tls", "port"))
    if port is None:
        async with answering(tls=tls) as own_port:
            parent.send({"port": own_port})
            await answer_each(parent, cpu_seconds)
    else:
        async with pinging(port, tls=tls) as pings:
            parent.send("connected")
            await answer_each(parent, lambda question: pings[question[0]](question[1]))


if __name__ == "__main__":
    asyncio.run(_run(Parent()))
