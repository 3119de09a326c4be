"""What the rivals on grpc.aio have in common: a server of the peer service, and channels to it.

Both are as its documentation advises. Messages may be as large as ours.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from aelf_p2p.transports.net.tls import COMMON_NAME
from benchmarks.fanout_grpc_aio import credentials
from benchmarks.worker import Parent
from benchmarks.workload import HOST

_OPTIONS: tuple[tuple[str, object], ...] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.so_reuseport", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # each channel has a connection of its own
)


@asynccontextmanager
async def aio_server(handlers: Mapping[str, Any], *, tls: bool) -> AsyncIterator[int]:
    """Serves handlers by the name of their method; gives the port."""
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("PeerService", dict(handlers))]
    )
    if tls:
        port = server.add_secure_port(f"{HOST}:0", credentials())
    else:
        port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=None)


def server_certificate(port: int, *, tls: bool) -> bytes | None:
    """What the server at a port shows (PEM), which its callers have to be given; None without
    TLS."""
    return ssl.get_server_certificate((HOST, port)).encode() if tls else None


def aio_channel(port: int, certificate: bytes | None) -> grpc.aio.Channel:
    """A channel with a connection of its own."""
    if certificate is None:
        return grpc.aio.insecure_channel(f"{HOST}:{port}", _OPTIONS)
    return grpc.aio.secure_channel(
        f"{HOST}:{port}",
        grpc.ssl_channel_credentials(certificate),
        (*_OPTIONS, ("grpc.ssl_target_name_override", COMMON_NAME)),
    )


async def answer_each(parent: Parent, answer: Callable[[Any], Awaitable[object]]) -> None:
    """Answer the parent's questions until it wants no more."""
    with suppress(EOFError):
        while True:
            question = await asyncio.to_thread(parent.receive)
            parent.send(await answer(question))
