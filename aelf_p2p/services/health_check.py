"""The health check: every peer is asked now and then whether it lives (protocol §4)."""

import logging

import trio

from aelf_p2p.contracts import LivePeer
from aelf_p2p.core.errors import NetworkError
from aelf_p2p.core.peer_info import PeerStatus
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.network import NetworkService
from aelf_p2p.services.parallel import for_each
from aelf_p2p.services.worker import jittered

log = logging.getLogger(__name__)


class HealthCheck:
    """C#'s sweep, beside the watchdog that each peer has.

    The watchdog asks a peer that is silent, and ends one that is never confirmed: of these it alone
    knows the age by a clock that nobody puts right. The sweep also finds a peer that goes on
    sending and answers nothing.
    """

    def __init__(self, context: NetworkContext, network: NetworkService) -> None:
        self._context = context
        self._network = network

    async def wait(self) -> None:
        """A period."""
        options, rng = self._context.options, self._context.environment.rng
        await trio.sleep(jittered(options.health_check_period_s, options.worker_jitter, rng))

    async def step(self) -> None:
        """Ask all ready peers, a few at once; those that fail are let go."""
        peers = self._context.pool.ready()
        await for_each(peers, self._check, at_once=self._context.options.max_health_checks)

    async def _check(self, peer: LivePeer) -> None:
        if peer.status is not PeerStatus.READY:
            return  # it went while others were asked
        try:
            await peer.check_health(timeout_s=self._context.options.silence_probe_timeout_s)
        except NetworkError as exc:
            log.info("%s failed the health check: %s", peer.info, exc)
            await self._network.handle_failure(peer, exc)
