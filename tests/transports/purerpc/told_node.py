"""A node over either gRPC transport that does what it is told on stdin and tells what it sees.

A program, since the two transports need different h2: the other one runs it in its environment.
Each command and each answer is a line of JSON::

    {"do": "connect", "to": "127.0.0.1:6800"}      {"did": "connect"}
    {"do": "broadcast", "number": 7}               {"did": "broadcast", "acknowledged": true}
    {"do": "blocks", "after": 3, "count": 5}       {"did": "blocks", "heights": [4, 5, 6, 7, 8]}
    {"do": "block", "height": 3}                   {"did": "block", "heights": [3]}

It begins with ``{"endpoint": "127.0.0.1:6801"}``, and tells ``{"met": KEY}`` of a new peer and
``{"received": ID}`` of each transaction that comes. It ends with its stdin.
"""

import argparse
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from aelf_p2p import (
    GrpcTransport,
    NetworkOptions,
    Node,
    PeerConnected,
    PureRpcTransport,
    Transaction,
    TransactionsReceived,
    Transport,
    open_node,
)
from tests.services.support import identity, make_chain, make_transaction, stored

OPTIONS = NetworkOptions(dial_private=True)
TRANSPORTS: dict[str, type[GrpcTransport | PureRpcTransport]] = {
    "grpc": GrpcTransport,
    "purerpc": PureRpcTransport,
}
CHAIN = make_chain(12, transactions=tuple(make_transaction(number) for number in range(100)))
WAIT_S = 10.0


def transaction(number: int) -> Transaction:
    return make_transaction(1000 + number)


@asynccontextmanager
async def told_node(transport: Transport, *, key: int, version: str) -> AsyncIterator[Node]:
    """A node that has the chain, on a free port."""
    async with open_node(
        identity=identity(key),
        transport=transport,
        host="127.0.0.1",
        port=0,
        store=await stored(CHAIN),
        options=OPTIONS,
        node_version=version,
    ) as node:
        await node.wait_initialized()
        yield node


async def do(node: Node, told: dict[str, Any]) -> dict[str, Any]:
    """One command; its answer."""
    did = {"did": told["do"]}
    match told["do"]:
        case "connect":
            await node.connect(told["to"])
            return did
        case "broadcast":
            each = transaction(told["number"])
            with node.network.record_receipts(1) as book:
                node.network.broadcast_transaction(each)
                [receipt] = book
                acknowledged = await receipt.wait_acknowledged(1, timeout_s=WAIT_S)
            return {**did, "acknowledged": acknowledged}
        case "blocks":
            [peer] = node.peers()
            blocks = await peer.request_blocks(CHAIN[told["after"] - 1].hash, told["count"])
            return {**did, "heights": [block.height for block in blocks]}
        case "block":
            [peer] = node.peers()
            block = await peer.request_block(CHAIN[told["height"] - 1].hash)
            return {**did, "heights": [] if block is None else [block.height]}
        case unknown:
            raise AssertionError(f"told to {unknown}")


def tell(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


async def watch(node: Node) -> None:
    with node.subscribe() as events:
        async for event in events:
            if isinstance(event, PeerConnected):
                tell({"met": event.peer.public_key.hex()})
            elif isinstance(event, TransactionsReceived):
                for each in event.transactions:
                    tell({"received": each.id.hex()})


async def main(options: argparse.Namespace) -> None:
    transport = TRANSPORTS[options.transport](options=OPTIONS, insecure=options.insecure)
    async with (
        told_node(transport, key=options.key, version=options.node_version) as node,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(watch, node)
        tell({"endpoint": str(node.endpoint)})
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as commands:
            line = b""
            while received := await commands.receive_some(1):
                line += received
                if line.endswith(b"\n"):
                    tell(await do(node, json.loads(line)))
                    line = b""
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", choices=TRANSPORTS, required=True)
    parser.add_argument("--insecure", action="store_true")
    parser.add_argument("--key", type=int, required=True)
    parser.add_argument("--node-version", required=True)
    trio.run(main, parser.parse_args())
