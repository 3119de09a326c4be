"""Which lost peers are dialed again: the rules around the table (protocol §4, "Reconnection")."""

import math
from collections.abc import Callable

import trio

from aelf_p2p.core.backoff import Backoff
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.environment import Environment
from aelf_p2p.core.network_state import Reconnection
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason, PeerInfo
from aelf_p2p.core.reconnections import ReconnectionTable

# Unlike C#, ours goes back to a boot node that said goodbye, or that was down: the operator named
# it. What we end ourselves stays ended.
_BOOT_NODE_MAY_RETURN = {
    CloseReason.LOST,
    CloseReason.DROPPED_BY_PEER,
    CloseReason.SILENT,
    CloseReason.UNCONFIRMED,
    CloseReason.DISCONNECTED_BY_PEER,
}


class LostPeers:
    """What waits to be dialed again, in ``table``; says when the next of it is due.

    Dialed peers that were lost come in, and boot nodes, whichever side dialed.
    """

    def __init__(
        self,
        options: NetworkOptions,
        environment: Environment,
        boot_nodes: frozenset[Endpoint],
        on_change: Callable[[], None],
    ) -> None:
        self._environment = environment
        self._period_s = options.reconnection_period_s
        self._boot_nodes = boot_nodes
        self._boot_node_of: dict[bytes, Endpoint] = {}  # by key, of those that were connected
        # Of boot nodes that were dialed again: with how many retries, and when they connected.
        self._returned: dict[Endpoint, tuple[int, float]] = {}
        self._earlier = trio.Event()  # something may be due earlier than what was waited for
        self.table = ReconnectionTable(
            Backoff(
                period_s=options.reconnection_period_s,
                cap_s=options.reconnection_cap_s,
                jitter=options.worker_jitter,
                give_up_after_s=options.reconnection_give_up_s,
            ),
            environment.rng,
            capacity=options.max_reconnections,
            boot_nodes=boot_nodes,
            on_change=on_change,
        )

    # --- what the other services tell it ---

    def peer_connected(self, info: PeerInfo) -> None:
        """A peer is there: nothing of it waits any more."""
        ended = self.table.end_key(info.public_key)
        if not info.inbound:
            # The endpoint of an inbound peer is in part what it says.
            if (entry := self.table.end(info.endpoint)) is not None:
                ended.append(entry)
            self.note_boot_node(info.endpoint, info.public_key)
        for entry in ended:
            if entry.endpoint in self._boot_nodes:
                self._returned[entry.endpoint] = entry.retries, trio.current_time()

    def note_boot_node(self, endpoint: Endpoint, public_key: bytes) -> None:
        """Whom a dial led to; without effect unless the endpoint is a boot node's."""
        if endpoint in self._boot_nodes:
            # One that has a new key is not known by the old one any more.
            stale = [key for key, held in self._boot_node_of.items() if held == endpoint]
            for key in stale:
                del self._boot_node_of[key]
            self._boot_node_of[public_key] = endpoint

    def peer_gone(self, info: PeerInfo, reason: CloseReason) -> None:
        """A connected peer is gone, and no other connection to it is there."""
        boot_node = self._boot_node_of.get(info.public_key)
        if boot_node is None and info.endpoint in self._boot_nodes:
            boot_node = info.endpoint
        if boot_node is not None:
            if reason in _BOOT_NODE_MAY_RETURN:
                self._schedule(boot_node, info.public_key, self._boot_retries(boot_node))
        elif reason.is_loss and not info.inbound:
            self._schedule(info.endpoint, info.public_key)

    def boot_node_failed(self, endpoint: Endpoint) -> None:
        """A boot node could not be dialed at the start."""
        self._schedule(endpoint, None)

    def cancel(self, public_key: bytes) -> None:
        """The operator does not want this peer any more."""
        self.table.end_key(public_key)

    def cancel_endpoint(self, endpoint: Endpoint) -> None:
        """Nor whoever is at this endpoint."""
        self.table.end(endpoint)

    # --- what the reconnection asks ---

    def due(self) -> list[Reconnection]:
        """What is to be dialed now."""
        return self.table.due(trio.current_time())

    def failed(self, entry: Reconnection) -> None:
        """An attempt failed."""
        self.table.failed(entry, now=trio.current_time(), wall_s=self._environment.wall_s())

    async def wait_due(self) -> None:
        """Wait until something is to be dialed."""
        while True:
            due_at = self.table.next_due_at()
            with trio.move_on_at(math.inf if due_at is None else due_at) as scope:
                await self._earlier.wait()
                self._earlier = trio.Event()
            if scope.cancelled_caught:
                return

    def _schedule(self, endpoint: Endpoint, public_key: bytes | None, retries: int = 0) -> None:
        self.table.schedule(
            endpoint,
            public_key,
            now=trio.current_time(),
            wall_s=self._environment.wall_s(),
            retries=retries,
        )
        self._earlier.set()

    def _boot_retries(self, boot_node: Endpoint) -> int:
        """With which retry its backoff begins. One that left within a period, as a full one does,
        goes on where it was: else it would be dialed every minute for ever."""
        retries, connected_at = self._returned.pop(boot_node, (0, -math.inf))
        return retries + 1 if trio.current_time() - connected_at < self._period_s else 0
