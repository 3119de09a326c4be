"""Dialing lost peers again, when it is time."""

import logging

from aelf_p2p.core.errors import AelfP2PError, HandshakeRefusedError, OwnHandshakeError
from aelf_p2p.core.network_state import Reconnection
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.dialer import DialedPeers
from aelf_p2p.services.parallel import for_each
from aelf_p2p.wire import HandshakeError

log = logging.getLogger(__name__)

# What waiting does not change. A node that refuses a connection may have room for it later.
_FOR_GOOD = {
    HandshakeError.CHAIN_MISMATCH,
    HandshakeError.PROTOCOL_MISMATCH,
    HandshakeError.WRONG_SIGNATURE,
}


class Reconnector:
    """Dials what waits in ``context.lost_peers``; a few at once."""

    def __init__(self, context: NetworkContext, dialer: DialedPeers) -> None:
        self._context = context
        self._dialer = dialer

    async def wait(self) -> None:
        """Until something is due."""
        await self._context.lost_peers.wait_due()

    async def step(self) -> None:
        """Dial all that are due."""
        most = self._context.options.max_worker_dials
        await for_each(self._context.lost_peers.due(), self._dial_again, at_once=most)

    async def _dial_again(self, entry: Reconnection) -> None:
        context, lost_peers = self._context, self._context.lost_peers
        if entry.endpoint not in lost_peers.table:
            return  # it came by itself, while others were dialed
        wall_s = context.environment.wall_s()
        if context.bans.find(entry.endpoint.host, entry.public_key, wall_s) is not None:
            lost_peers.failed(entry)  # the ban may end before the entry does
            return
        try:
            peer = await self._dialer.connect(entry.endpoint)
        except AelfP2PError as exc:
            log.info("%s cannot be reached again: %s", entry.endpoint, exc)
            if self._is_final(entry, exc):
                lost_peers.table.end(entry.endpoint)
            else:
                lost_peers.failed(entry)
            return
        lost_peers.note_boot_node(entry.endpoint, peer.info.public_key)
        if peer.close_reason is None:
            lost_peers.table.end(entry.endpoint)
        else:
            lost_peers.failed(entry)  # without effect unless it still waits

    def _is_final(self, entry: Reconnection, error: AelfP2PError) -> bool:
        """Whether there is no sense in trying again."""
        if entry.endpoint in self._context.boot_nodes:
            return False
        if isinstance(error, OwnHandshakeError):
            return True
        return isinstance(error, HandshakeRefusedError) and error.code in _FOR_GOOD
