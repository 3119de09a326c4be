"""A server on purerpc, which the tests of the transport share."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from aelf_p2p import Endpoint, WireLimits
from aelf_p2p.contracts import IncomingCall
from aelf_p2p.transports.purerpc import PureRpcTransport

WAIT_S = 10.0
HURRIED = WireLimits(goodbye_timeout_s=0.3, drain_timeout_s=0.1, write_timeout_s=0.3)


async def echo(call: IncomingCall) -> None:
    while messages := await call.stream.receive_many():
        await call.stream.send_many(messages)


@asynccontextmanager
async def serving(
    handler: Callable[[IncomingCall], Awaitable[None]], *, insecure: bool = True
) -> AsyncIterator[Endpoint]:
    transport = PureRpcTransport(limits=HURRIED, insecure=insecure)
    with trio.fail_after(3 * WAIT_S):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(transport.serve, "127.0.0.1", 0, handler)
            nursery.cancel_scope.cancel()
