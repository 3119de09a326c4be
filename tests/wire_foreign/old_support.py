"""Our node and a foreign one, at least one of which is of the old kind (protocol §3.2)."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc  # type: ignore[import-untyped]
import network_types_pb2 as types

from aelf_p2p import NetworkOptions, Node, Peer, PeerConnected, Subscription
from tests.wire_foreign.foreign_dial import ForeignDial
from tests.wire_foreign.foreign_node import NEW_VERSION, OLD_VERSION, ForeignNode
from tests.wire_foreign.foreign_unary import ForeignUnaryPeer
from tests.wire_foreign.support import in_thread, open_ours, wait_event

PAIRS = [(NEW_VERSION, OLD_VERSION), (OLD_VERSION, OLD_VERSION), (OLD_VERSION, NEW_VERSION)]
"""Versions of ours and of the foreign node."""
PAIR_IDS = [f"ours {ours} foreign {theirs}" for ours, theirs in PAIRS]

WITH_SESSION = [
    "CheckHealth",
    "RequestBlock",
    "RequestBlocks",
    "GetNodes",
    "ConfirmHandshake",
    "Disconnect",
]


def open_ours_old(
    blocks: Iterable[types.BlockWithTransactions] = (),
    *,
    options: NetworkOptions | None = None,
    **arguments: Any,
) -> AbstractAsyncContextManager[Node]:
    """One of our nodes that may dial back to loopback."""
    options = replace(options or NetworkOptions(), dial_private=True)
    return open_ours(blocks, options=options, **arguments)


@dataclass(frozen=True)
class OldConnection:
    """Our node and a foreign one, connected: what each has of the other."""

    node: Node
    peer: Peer
    foreign: ForeignNode
    back: ForeignUnaryPeer
    events: Subscription
    """Of our node, from the beginning of the connection."""


@asynccontextmanager
async def old_connection(
    node: Node, foreign: ForeignNode, *, ours_dials: bool
) -> AsyncIterator[OldConnection]:
    """Connect them."""
    with node.subscribe() as events:
        if ours_dials:
            peer = await node.connect(f"127.0.0.1:{foreign.port}")
            [back] = foreign.pool.peers()
        else:
            back = await in_thread(foreign.connect, node.endpoint.port)
            await wait_event(events, PeerConnected)
            # Our own connection to it is a stranger's until then.
            await in_thread(
                foreign.server.calls.wait_for, lambda call: call.method == "CheckHealth"
            )
            [peer] = node.peers()
        assert isinstance(back, ForeignUnaryPeer)
        yield OldConnection(node, peer, foreign, back, events)


def methods_of(foreign: ForeignNode) -> list[str]:
    """What was called, in order."""
    return [call.method for call in foreign.server.calls.items]


async def status_of(
    dial: ForeignDial, method: str, metadata: dict[str, str | bytes], *, streams: bool = False
) -> str:
    """The name of the status that a call without a request's fields ends with."""
    try:
        if streams:
            await in_thread(dial.send_all, method, [], metadata=metadata)
        else:
            await in_thread(dial.call, method, metadata=metadata)
    except grpc.RpcError as exc:
        return str(exc.code().name)
    return "OK"
