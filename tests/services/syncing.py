"""What the tests of the sync share: a chain, a node that follows it, peers that announce it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from aelf_p2p.core.announcements import Announcement
from aelf_p2p.core.block import Block
from aelf_p2p.testing.fakes import FakePeer
from tests.services.support import Services, make_chain, stored

CHAIN = make_chain(120)


@asynccontextmanager
async def following(services: Services) -> AsyncIterator[None]:
    """Its one task runs."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(services.sync.run)
        yield
        nursery.cancel_scope.cancel()


def announce(services: Services, peer: FakePeer, block: Block) -> None:
    services.inbound.received(peer, Announcement(block.hash, block.height))


def asked(peer: FakePeer) -> list[str]:
    return [what for what, _ in peer.requests]


async def at_height(height: int) -> Services:
    return Services(store=await stored(CHAIN[:height]))
