"""Reaching the target that the peers' LIBs call for, before the node takes part (protocol §4,
"Sync state")."""

import logging
from collections import Counter

import trio

from aelf_p2p.core.sync_target import SyncState, choose_target
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.download import Downloader

log = logging.getLogger(__name__)

UNSERVED_CLAIMS = 12
"""So often in a row may a LIB that a peer claims lead to no block; then the initial sync goes on
without its claim, which may be a lie. With the default ``sync_retry_s`` that is a minute."""


MAX_REMEMBERED = 1024
"""Keys whose claims led to nothing."""


class InitialSync:
    """From not started to finished, once."""

    def __init__(self, context: NetworkContext, downloader: Downloader) -> None:
        self._context = context
        self._downloader = downloader
        self._accepted = trio.Event()

    def block_accepted(self) -> None:
        """The target may be reached."""
        self._accepted.set()

    async def run(self) -> None:
        """Download to the target; there, ask the peers again; return when they call for none."""
        context, options = self._context, self._context.options
        unserved: Counter[bytes] = Counter()  # by key: how often a peer's claim led to nothing
        while True:
            status = context.store.status
            peers = [
                peer
                for peer in context.shuffled_ready_peers()
                if unserved[peer.info.public_key] < UNSERVED_CLAIMS
            ]
            libs = [peer.chain.lib_height for peer in peers]
            target = choose_target(status.lib_height, libs, options.sync_lib_distance)
            if target is None or target <= status.longest_height:
                context.sync.state, context.sync.target = SyncState.FINISHED, 0
                log.info("synced: height %d", status.best_height)
                if idle := sum(count >= UNSERVED_CLAIMS for count in unserved.values()):
                    log.warning("%d peers say that they are further, and give no blocks", idle)
                return
            # Reached one after another, so that nobody's number alone is what all rests on.
            target = min(target, status.longest_height + options.max_sync_lead)
            context.sync.state, context.sync.target = SyncState.SYNCING, target
            log.info("syncing from height %d to %d", status.longest_height, target)
            claimants = [peer for peer in peers if peer.chain.lib_height >= target]
            if await self._downloader.download(target, claimants):
                continue
            if context.store.status.longest_height > status.longest_height:
                unserved.clear()
            else:
                unserved.update(peer.info.public_key for peer in claimants)
                while len(unserved) > MAX_REMEMBERED:
                    del unserved[next(iter(unserved))]  # the one that was noted first
            self._accepted = trio.Event()
            with trio.move_on_after(options.sync_retry_s):
                await self._accepted.wait()
