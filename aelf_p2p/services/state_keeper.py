"""What the node remembers over a restart: taken in at the start, and saved behind what happens."""

import logging

import trio

from aelf_p2p.contracts import StateStore
from aelf_p2p.core.errors import StoreError
from aelf_p2p.core.network_state import NetworkState
from aelf_p2p.services.context import NetworkContext

log = logging.getLogger(__name__)


class StateKeeper:
    """Saves bans, known nodes and reconnections. ``run`` is its one task."""

    def __init__(self, context: NetworkContext, store: StateStore) -> None:
        self._context = context
        self._store = store
        self._saved = True

    async def load(self) -> None:
        """Take in what was saved. Raises StoreError."""
        state = await self._store.load()
        context = self._context
        wall_s = context.environment.wall_s()
        for ban in state.bans:
            context.bans.ban(ban.subject, ban.reason, ban.until)
        context.known_nodes.restore(state.nodes)
        context.lost_peers.table.restore(
            state.reconnections, now=trio.current_time(), wall_s=wall_s
        )
        context.changes.take()

    async def run(self) -> None:
        """Save soon after something changed, and once more when cancelled.

        A save that fails is logged: the node needs no memory to live.
        """
        options = self._context.options
        try:
            while True:
                await self._context.changes.wait()
                await trio.sleep(options.state_save_delay_s)  # more may come
                await self._save()
        finally:
            if self._context.changes.take() or not self._saved:
                deadline = trio.current_time() + options.state_save_timeout_s
                with trio.CancelScope(shield=True, deadline=deadline):
                    await self._save()
                if not self._saved:
                    log.warning("what changed last in the network's state is not saved")

    async def _save(self) -> None:
        self._context.changes.take()
        self._saved = False
        try:
            await self._store.save(self._state())
        except StoreError as exc:
            log.warning("the network's state could not be saved: %s", exc)
        else:
            self._saved = True

    def _state(self) -> NetworkState:
        context = self._context
        return NetworkState(
            bans=tuple(context.bans.active(context.environment.wall_s())),
            nodes=context.known_nodes.nodes,
            reconnections=context.lost_peers.table.entries,
        )
