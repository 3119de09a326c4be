"""A host of py-libp2p with its publish and subscribe, as the two sides of its fan-out open it.

Its own defaults hold, security among them, but for what would keep gossipsub from sending: by
itself it sends to a few peers of a topic, and takes ten messages a second from each.
"""

# mypy: disable-error-code="import-not-found"

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from libp2p import new_host
from libp2p.pubsub.floodsub import PROTOCOL_ID as FLOODSUB_ID
from libp2p.pubsub.floodsub import FloodSub
from libp2p.pubsub.gossipsub import PROTOCOL_ID as GOSSIPSUB_ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from benchmarks.workload import HOST

TOPIC = "transactions"


def _router(name: str, peers: int) -> Any:
    match name:
        case "floodsub":
            return FloodSub([FLOODSUB_ID])
        case "gossipsub":
            return GossipSub(
                [GOSSIPSUB_ID],
                degree=peers,
                degree_low=peers,
                degree_high=peers,
                spam_protection_enabled=False,
            )
    raise ValueError(f"no router {name!r}")


@asynccontextmanager
async def open_pubsub(router_name: str, peers: int) -> AsyncIterator[Any]:
    """A host on any free port, whose messages go to ``peers`` others, as long as the block."""
    host = new_host()
    router = _router(router_name, peers)
    pubsub = Pubsub(host, router)
    async with (
        host.run(listen_addrs=[Multiaddr(f"/ip4/{HOST}/tcp/0")]),
        background_trio_service(pubsub),
    ):
        if router_name == "floodsub":
            await pubsub.wait_until_ready()
            yield pubsub
        else:
            async with background_trio_service(router):
                await pubsub.wait_until_ready()
                yield pubsub
