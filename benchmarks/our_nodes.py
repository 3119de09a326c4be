"""Our nodes as the benchmarks open them, on any transport that runs over sockets."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from aelf_p2p import (
    ChainStore,
    Identity,
    NetworkOptions,
    Node,
    Transport,
    WireLimits,
    open_node,
)
from aelf_p2p.core.budgets import Rate
from aelf_p2p.node import DEFAULT_NODE_VERSION
from benchmarks.transports import make_transport
from benchmarks.worker import Parent
from benchmarks.workload import HOST

UNARY_NODE_VERSION = "1.3.0.0"
"""What a node says to be asked and answered by unary calls: one before 1.4 has no stream."""

_PATIENCE_S = 3600.0
_MAX_STRANGERS = 4096


def patient_transport(name: str, options: NetworkOptions, *, tls: bool) -> Transport:
    """``grpc`` or ``tcp``, for connections without a handshake too.

    Of its limits only those on strangers differ from the defaults: a channel that makes unary
    calls, and no handshake, would be closed after ten seconds, or after a hundred of them.
    """
    limits = WireLimits(
        stranger_timeout_s=_PATIENCE_S,
        max_strangers=_MAX_STRANGERS,
        stranger_calls=Rate(10**9, 10**9),
    )
    return make_transport(name, options, tls=tls, limits=limits)


@asynccontextmanager
async def our_node(
    transport: Transport,
    options: NetworkOptions,
    *,
    store: ChainStore | None = None,
    node_version: str = DEFAULT_NODE_VERSION,
) -> AsyncIterator[Node]:
    """A whole node that listens on a free port of loopback, with a key of its own.

    It discovers nobody: the nodes of a benchmark are connected as it wants them.
    """
    async with open_node(
        identity=Identity.generate(),
        transport=transport,
        host=HOST,
        port=0,
        options=options,
        store=store,
        node_version=node_version,
    ) as node:
        node.workers.discovery.pause()
        yield node


async def answer_each(parent: Parent, answer: Callable[[Any], Awaitable[object]]) -> None:
    """Answer the parent's questions until it wants no more."""
    with suppress(EOFError):
        while True:
            question = await trio.to_thread.run_sync(parent.receive, abandon_on_cancel=True)
            parent.send(await answer(question))


async def cpu_seconds(_question: object) -> float:
    """The answer of a process that only serves, whatever it is asked."""
    return time.process_time()
