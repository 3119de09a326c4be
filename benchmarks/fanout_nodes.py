"""Receivers that are nodes of ours: all in one process, each with a connection to the sender.

Their kernel takes every transaction without looking at its signature; all else is a node's usual
work, up to the relaying of what was accepted, which here finds nobody who does not know it.
"""

import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import trio

from aelf_p2p import (
    Block,
    Endpoint,
    Identity,
    InvalidItemError,
    InvalidReason,
    KernelEvent,
    MemoryChainStore,
    NetworkOptions,
    Transaction,
    TransactionAccepted,
    open_node,
)
from benchmarks.transports import make_transport
from benchmarks.worker import Parent
from benchmarks.workload import HOST


class TrustingKernel:
    """A ``Kernel`` that takes every transaction, and no block. It keeps none: what a pool of
    transactions costs is not measured here, and grpc.aio's receivers have none either."""

    def __init__(self) -> None:
        self.transactions = 0
        """How many it took."""
        self._emit: Callable[[KernelEvent], None] = lambda event: None

    def connect(self, emit: Callable[[KernelEvent], None]) -> None:
        """See ``Kernel``."""
        self._emit = emit

    async def accept_block(self, block: Block) -> bool:
        """Nobody sends any here."""
        raise InvalidItemError(InvalidReason.BAD_SIGNATURE, f"block {block.hash.hex()}")

    def submit_transaction(self, transaction: Transaction) -> bool:
        """Take it: here each comes once, from the one sender."""
        self.transactions += 1
        self._emit(TransactionAccepted(transaction))
        return True


async def _run(parent: Parent) -> None:
    """Connect all nodes, say so, then answer each question with what was done so far."""
    setup = parent.setup
    options = NetworkOptions()
    transport = make_transport(setup["transport"], options, tls=setup["tls"])
    kernels = []
    async with AsyncExitStack() as stack:
        for _ in range(setup["peers"]):
            kernel = TrustingKernel()
            node = await stack.enter_async_context(
                open_node(
                    identity=Identity.generate(),
                    transport=transport,
                    host=HOST,
                    port=0,
                    store=MemoryChainStore(),
                    kernel=kernel,
                    options=options,
                )
            )
            node.workers.discovery.pause()  # or they would connect to each other
            await node.connect(Endpoint(HOST, setup["address"]))
            kernels.append(kernel)
        parent.send("connected")
        try:
            while True:
                await trio.to_thread.run_sync(parent.receive, abandon_on_cancel=True)
                transactions = sum(kernel.transactions for kernel in kernels)
                parent.send({"cpu_seconds": time.process_time(), "transactions": transactions})
        except EOFError:
            return


if __name__ == "__main__":
    trio.run(_run, Parent())
