"""Bulk download between two of our nodes, each whole and in a process of its own.

The downloading node asks by ``Peer.request_blocks``, and has Block objects in the end: parsed,
hashed, every transaction with its id. On a stream the reply is plain; a node before 1.4 asks by
unary calls, whose reply is gzipped, as it is between AElf's nodes.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Self

import trio

from aelf_p2p import Block, ChainRoot, Endpoint, MemoryChainStore, NetworkOptions, Peer
from aelf_p2p.core.chain_status import GENESIS_PREVIOUS_HASH
from aelf_p2p.core.options import MIB
from aelf_p2p.node import DEFAULT_NODE_VERSION
from benchmarks.download_chain import make_blocks
from benchmarks.our_nodes import (
    UNARY_NODE_VERSION,
    answer_each,
    cpu_seconds,
    our_node,
)
from benchmarks.transports import make_transport
from benchmarks.worker import Parent
from benchmarks.workload import HOST, Stopwatch

PLAIN, GZIP = "plain", "gzip"
TIMEOUT_S = 60.0

_options = NetworkOptions(
    max_peers=0,
    blocks_timeout_s=TIMEOUT_S,
    max_blocks_reply_bytes=99 * MIB,
    dial_private=True,  # a node before 1.4 is dialed back
)


@dataclass(frozen=True)
class Expected:
    """The chain that is there to be downloaded, by what is checked of it."""

    blocks: int
    tip_hash: str
    """In hex: this goes from process to process as JSON."""
    transactions: int

    @classmethod
    def of(cls, blocks: Sequence[Block]) -> Self:
        """Of the whole chain."""
        tip_hash = blocks[-1].hash.hex()
        return cls(len(blocks), tip_hash, sum(len(each.transactions) for each in blocks))

    def check(self, blocks: Sequence[Block]) -> None:
        """Raises RuntimeError for anything else than the whole chain."""
        if not blocks or Expected.of(blocks) != self:
            raise RuntimeError(f"{len(blocks)} blocks came instead of {self}")


@asynccontextmanager
async def serving(transport: str, blocks: Sequence[Block], *, tls: bool) -> AsyncIterator[int]:
    """The node that has the chain, in memory; gives its port."""
    store = MemoryChainStore()
    for block in blocks:
        await store.put_block(block)
    wire = make_transport(transport, _options, tls=tls)
    async with our_node(wire, _options, store=store) as node:
        yield node.endpoint.port


@asynccontextmanager
async def connected(
    transport: str, port: int, expected: Expected, encoding: str, *, tls: bool
) -> AsyncIterator[Peer]:
    """The peer to download from, of a node that takes the chain's tip for the root of its own: it
    has nothing to sync, and meanwhile downloads nothing by itself."""
    wire = make_transport(transport, _options, tls=tls)
    version = DEFAULT_NODE_VERSION if encoding == PLAIN else UNARY_NODE_VERSION
    store = MemoryChainStore(ChainRoot(bytes.fromhex(expected.tip_hash), expected.blocks))
    async with our_node(wire, _options, store=store, node_version=version) as node:
        yield await node.connect(Endpoint(HOST, port))


async def download(peer: Peer, expected: Expected) -> list[Block]:
    """Ask, and check that what came is what is there; RuntimeError when it is not."""
    blocks = await peer.request_blocks(GENESIS_PREVIOUS_HASH, expected.blocks)
    expected.check(blocks)
    return blocks


async def serve(parent: Parent, transport: str, blocks: Sequence[Block], *, tls: bool) -> None:
    """Serve the chain and say where, until the parent wants no more."""
    async with serving(transport, blocks, tls=tls) as port:
        parent.send({"port": port, "expected": asdict(Expected.of(blocks))})
        await answer_each(parent, cpu_seconds)


async def _download(parent: Parent, transport: str, port: int, *, tls: bool) -> None:
    expected = Expected(**parent.setup["expected"])
    async with (
        connected(transport, port, expected, PLAIN, tls=tls) as plain,
        connected(transport, port, expected, GZIP, tls=tls) as gzip,
    ):
        peers = {PLAIN: plain, GZIP: gzip}

        async def repeat(question: tuple[str, int]) -> dict[str, Any]:
            encoding, count = question
            stopwatch = Stopwatch()
            with stopwatch.running():
                for _ in range(count):
                    await download(peers[encoding], expected)
            return stopwatch.round.as_answer()

        parent.send("connected")
        await answer_each(parent, repeat)


async def _run(parent: Parent) -> None:
    """Serve; or connect, and download as it is asked: ``[encoding, count]``. The answer is what all
    of them took together, a ``Round``."""
    transport, tls, port = map(parent.setup.get, ("transport", "tls", "port"))
    if port is None:
        await serve(parent, transport, make_blocks(**parent.setup["chain"]), tls=tls)
    else:
        await _download(parent, transport, port, tls=tls)


if __name__ == "__main__":
    trio.run(_run, Parent())
