"""Downloading blocks in bulk from peers (protocol §4, "Following the chain")."""

import logging
from collections.abc import Sequence

from aelf_p2p.contracts import Peer
from aelf_p2p.core.errors import InvalidItemError, UnknownParentError
from aelf_p2p.core.peer_info import PeerStatus
from aelf_p2p.services.chain_vote import ChainVote
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.network import NetworkService

log = logging.getLogger(__name__)

DOWNLOAD_SOURCES = 3
"""Asked in a row in vain, the first one included."""


class Downloader:
    """Brings the longest chain to a height. Used by one task, so that the store is never raced."""

    def __init__(self, context: NetworkContext, network: NetworkService) -> None:
        self._context = context
        self._network = network
        self._vote = ChainVote(context, network)

    async def download(self, goal: int, suggested: Sequence[Peer]) -> bool:
        """Download until the longest chain has the goal's height. False when nobody gets there.

        The ``suggested`` peers say that they have the goal. When one gives nothing that makes the
        longest chain longer, two others are asked in its place.
        """
        failed: list[Peer] = []
        failures = 0  # since the last progress
        while (height := self._context.store.status.longest_height) < goal:
            peer = self._choose_source(goal, suggested, failed)
            if peer is None or failures >= DOWNLOAD_SOURCES:
                return False
            await self._round(goal, peer)
            # New blocks alone are no progress: anyone can make any number of them beside the chain.
            if self._context.store.status.longest_height > height:
                failures = 0
            else:
                failed = [*(each for each in failed if each.status is PeerStatus.READY), peer]
                failures += 1
                await self._vote.judge(peer)
        return True

    def _choose_source(
        self, goal: int, suggested: Sequence[Peer], failed: Sequence[Peer]
    ) -> Peer | None:
        """The suggested peer for what is not irreversible to it yet, else any that must have it."""
        usable = [p for p in suggested if p not in failed and p.status is PeerStatus.READY]
        reach = self._context.store.status.longest_height + self._context.options.download_round
        reach = min(goal, reach)
        if usable and usable[0].chain.lib_height < reach:
            return usable[0]
        others = [
            peer
            for peer in self._context.shuffled_ready_peers()
            if peer.chain.synced and peer not in failed
        ]
        sure = [peer for peer in others if peer.chain.lib_height >= reach]
        hopeful = [peer for peer in others if peer.chain.best_height >= goal]
        return next(iter([*sure, *usable, *hopeful]), None)

    async def _round(self, goal: int, peer: Peer) -> None:
        """About ``download_round`` new blocks from one peer; more when it is on a longer fork,
        which has to grow above our tip before it counts.

        Begins behind the longest chain, else the best one, else the last irreversible block: the
        peer may be on another fork.
        """
        options, status = self._context.options, self._context.store.status
        new = 0
        for start in dict.fromkeys((status.longest_hash, status.best_hash, status.lib_hash)):
            previous = start
            height = 0
            while new < options.download_round or height < status.longest_height:
                blocks = await self._network.request_blocks(previous, options.download_batch, peer)
                for block in blocks or ():
                    try:
                        new += await self._context.kernel.accept_block(block)
                    except InvalidItemError as exc:
                        self._context.punish_refused(peer, exc)
                        return
                    except UnknownParentError as exc:  # it links: the store must have lost it
                        log.warning("a downloaded block cannot be attached: %s", exc)
                        return
                if not blocks or self._context.store.status.longest_height >= goal:
                    break
                previous, height = blocks[-1].hash, blocks[-1].height
            if new or peer.status is not PeerStatus.READY:
                break
