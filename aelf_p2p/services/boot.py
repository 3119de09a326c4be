"""Dialing the boot nodes when the node starts."""

import logging
from collections.abc import Sequence

import trio

from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import AelfP2PError
from aelf_p2p.services.dialer import DialedPeers

log = logging.getLogger(__name__)


async def dial_boot_nodes(dialer: DialedPeers, boot_nodes: Sequence[Endpoint]) -> None:
    """Dial all at once; returns when each is connected or has failed, which is logged."""
    async with trio.open_nursery() as nursery:
        for endpoint in boot_nodes:
            nursery.start_soon(_dial, dialer, endpoint)


async def _dial(dialer: DialedPeers, endpoint: Endpoint) -> None:
    try:
        await dialer.connect(endpoint)
    except AelfP2PError as exc:
        log.warning("boot node %s: %s", endpoint, exc)
