"""The three workers of a node."""

import trio

from aelf_p2p.contracts import Transport
from aelf_p2p.core.single_error import single_error_as_itself
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.dialer import DialedPeers
from aelf_p2p.services.discovery import Discovery, DiscoveryRound
from aelf_p2p.services.health_check import HealthCheck
from aelf_p2p.services.network import NetworkService
from aelf_p2p.services.reconnection import Reconnector
from aelf_p2p.services.worker import Worker


class Workers:
    """Each is a task; the embedder may pause it, and step it instead."""

    def __init__(
        self,
        context: NetworkContext,
        network: NetworkService,
        dialer: DialedPeers,
        transport: Transport,
    ) -> None:
        health_check = HealthCheck(context, network)
        self.health_check: Worker[None] = Worker(
            "the health check", health_check.step, health_check.wait
        )
        """Asks every peer whether it lives."""
        reconnector = Reconnector(context, dialer)
        self.reconnection: Worker[None] = Worker(
            "the reconnection", reconnector.step, reconnector.wait
        )
        """Dials the lost peers whose time has come; a step dials those alone."""
        discovery = Discovery(context, dialer, transport)
        self.discovery: Worker[DiscoveryRound] = Worker("discovery", discovery.step, discovery.wait)
        """Finds nodes; a step tells what came of it."""

    async def run(self, initialized: trio.Event) -> None:
        """Let them work until closed."""
        with single_error_as_itself():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.health_check.run)
                nursery.start_soon(self.reconnection.run)
                await initialized.wait()
                # Who has just met its boot nodes needs others, and not only in a minute.
                await self.discovery.run(at_once=True)

    def close(self) -> None:
        """The node shuts down: nobody is dialed any more."""
        self.health_check.close()
        self.reconnection.close()
        self.discovery.close()
