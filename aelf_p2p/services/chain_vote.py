"""Asking all peers which of two chains is the network's (``core.abnormal_vote``)."""

import logging
import math

import trio

from aelf_p2p.contracts import Peer
from aelf_p2p.core.abnormal_vote import MIN_VOTERS, Verdict, decide
from aelf_p2p.core.chain_status import LEAST_KEPT_BLOCKS
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.network import NetworkService

log = logging.getLogger(__name__)


class ChainVote:
    """Finds peers whose chain leaves out what is irreversible here.

    No block of such a peer is wrong by itself. A vote costs a request for a block to each peer, all
    at once, so there is at most one in ``chain_vote_interval_s``.
    """

    def __init__(self, context: NetworkContext, network: NetworkService) -> None:
        self._context = context
        self._network = network
        self._next_at = -math.inf

    async def judge(self, suspect: Peer) -> None:
        """Ask about a peer that should have been able to give blocks, and gave none.

        It is punished when two thirds of the others have our last irreversible block and it has
        not. When they do not have it either, we are on a wrong chain: that is for the operator.
        """
        voters = [peer for peer in self._context.pool.ready() if self._is_informed(peer)]
        if suspect not in voters or trio.current_time() < self._next_at:
            return
        voters.remove(suspect)
        if len(voters) < MIN_VOTERS:
            return
        lib_hash = self._context.store.status.lib_hash
        if await self._holds(suspect, lib_hash) is not False:
            return
        self._next_at = trio.current_time() + self._context.options.chain_vote_interval_s
        votes: list[bool | None] = [None] * len(voters)

        async def ask(index: int) -> None:
            votes[index] = await self._holds(voters[index], lib_hash)

        async with trio.open_nursery() as nursery:
            for index in range(len(voters)):
                nursery.start_soon(ask, index)
        match decide(votes):
            case Verdict.PEER_IS_WRONG:
                why = f"its chain leaves out block {lib_hash.hex()}, which most peers have"
                self._context.punish(suspect, why)
            case Verdict.WE_ARE_WRONG:
                log.warning("most peers do not have our irreversible block %s", lib_hash.hex())

    def _is_informed(self, peer: Peer) -> bool:
        """Whether the peer must know what follows our last irreversible block.

        One that is far above it may have forgotten that, when it keeps no older blocks.
        """
        lib_height, chain = self._context.store.status.lib_height, peer.chain
        return (
            chain.synced
            and lib_height <= chain.lib_height <= lib_height + LEAST_KEPT_BLOCKS
            and chain.best_height > lib_height
        )

    async def _holds(self, peer: Peer, block_hash: bytes) -> bool | None:
        """Whether the peer's best chain holds a block; None when it gave no answer."""
        blocks = await self._network.request_blocks(block_hash, 1, peer)
        return None if blocks is None else bool(blocks)
