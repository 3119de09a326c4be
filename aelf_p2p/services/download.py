"""Downloading blocks in bulk from peers (protocol §4, "Following the chain")."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from aelf_p2p.contracts import Peer
from aelf_p2p.core.errors import InvalidItemError, UnknownParentError
from aelf_p2p.core.lost_time import LostTime
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason, PeerStatus
from aelf_p2p.services.chain_vote import ChainVote
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.network import NetworkService

log = logging.getLogger(__name__)

DOWNLOAD_SOURCES = 3
"""Asked in a row in vain, the first one included."""


@dataclass
class _Round:
    """What a source gave, and how long it let us wait for that."""

    new: int = 0
    """Blocks."""
    grew: bool = False
    """The longest chain. New blocks alone are no progress: anyone can make any number of them
    beside the chain."""
    waited_s: float = 0.0

    def is_over(self, options: NetworkOptions) -> bool:
        """Whether the source has used up its time."""
        earned_s = options.download_patience_s * (1 + self.new / options.download_batch)
        return self.waited_s >= (earned_s if self.grew else min(earned_s, options.max_lost_sync_s))


class Downloader:
    """Brings the longest chain to a height. Used by one task, so that the store is never raced."""

    def __init__(self, context: NetworkContext, network: NetworkService) -> None:
        self._context = context
        self._network = network
        self._vote = ChainVote(context, network)
        self._lost = LostTime()

    async def download(
        self, goal: int, suggested: Sequence[Peer], *, until: float = math.inf
    ) -> bool:
        """Download until the longest chain has the goal's height, or, once it grew, until a time by
        trio's clock. False when nobody makes it longer.

        The ``suggested`` peers say that they have the goal. When one gives nothing that makes the
        longest chain longer, two others are asked in its place.
        """
        failed: list[Peer] = []
        failures = 0  # since the last progress
        while self._context.store.status.longest_height < goal:
            peer = self._choose_source(goal, suggested, failed)
            if peer is None or failures >= DOWNLOAD_SOURCES:
                return False
            round_ = await self._round(goal, peer, until)
            if round_.grew:
                failures = 0
                if trio.current_time() >= until:
                    break
            else:
                failed = [*(each for each in failed if each.status is PeerStatus.READY), peer]
                failures += 1
                await self._vote.judge(peer)
                self._note_lost_time(peer, round_.waited_s)
        return True

    def _note_lost_time(self, peer: Peer, lost_s: float) -> None:
        """Let a source go that kept us waiting for too long in all, and gave nothing."""
        options, key = self._context.options, peer.info.public_key
        if lost_s <= options.blocks_timeout_s:
            return  # so a peer answers that syncs itself, be it far away
        if self._lost.add(key, lost_s, trio.current_time()) > options.max_lost_sync_s:
            log.info("%s is too slow a source of blocks", peer.info)
            peer.close(CloseReason.FRUITLESS)

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

    async def _round(self, goal: int, peer: Peer, until: float) -> _Round:
        """About ``download_round`` new blocks from one peer; more when it is on a longer fork,
        which has to grow above our tip before it counts.

        Begins behind the longest chain, else the best one, else the last irreversible block: the
        peer may be on another fork. To lead over what we have costs it of its time.
        """
        options, status = self._context.options, self._context.store.status
        round_ = _Round()
        for start in dict.fromkeys((status.longest_hash, status.best_hash, status.lib_hash)):
            previous = start
            while round_.new < options.download_round or not round_.grew:
                asked_at = trio.current_time()
                if round_.is_over(options) or (round_.grew and asked_at >= until):
                    return round_
                blocks = await self._network.request_blocks(previous, options.download_batch, peer)
                round_.waited_s += trio.current_time() - asked_at
                for block in blocks or ():
                    above = block.height > self._context.store.status.longest_height
                    try:
                        is_new = await self._context.kernel.accept_block(block)
                    except InvalidItemError as exc:
                        self._context.punish_refused(peer, exc)
                        return round_
                    except UnknownParentError as exc:  # it links: the store must have lost it
                        log.warning("a downloaded block cannot be attached: %s", exc)
                        return round_
                    round_.new += is_new
                    round_.grew |= is_new and above
                if not blocks or self._context.store.status.longest_height >= goal:
                    break
                previous = blocks[-1].hash
            if round_.new or peer.status is not PeerStatus.READY:
                break
        return round_
