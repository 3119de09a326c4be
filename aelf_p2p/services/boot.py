"""Dialing the boot nodes when the node starts."""

import logging
from collections.abc import Sequence

import trio

from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import AelfP2PError, ClosedByUsError, OwnHandshakeError
from aelf_p2p.services.dialer import DialedPeers
from aelf_p2p.services.lost_peers import LostPeers

log = logging.getLogger(__name__)


async def dial_boot_nodes(
    dialer: DialedPeers, boot_nodes: Sequence[Endpoint], lost_peers: LostPeers
) -> None:
    """Dial all at once; returns when each is connected or has failed, which is logged.

    One that failed is dialed again as a lost peer is.
    """
    async with trio.open_nursery() as nursery:
        for endpoint in boot_nodes:
            nursery.start_soon(_dial, dialer, endpoint, lost_peers)


async def _dial(dialer: DialedPeers, endpoint: Endpoint, lost_peers: LostPeers) -> None:
    try:
        peer = await dialer.connect(endpoint)
    except ClosedByUsError as exc:
        log.info("boot node %s: %s", endpoint, exc)
    except OwnHandshakeError as exc:
        log.info("boot node %s: %s", endpoint, exc)
        lost_peers.boot_node_failed(endpoint)  # whoever answers there could have given it back
    except AelfP2PError as exc:
        log.warning("boot node %s: %s", endpoint, exc)
        lost_peers.boot_node_failed(endpoint)
    else:
        lost_peers.note_boot_node(endpoint, peer.info.public_key)
