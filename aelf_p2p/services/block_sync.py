"""Following the chain: blocks near the tip are fetched or attached, what is further off downloaded.

Source: protocol §4, "Following the chain". One task does all of it, one job after another, so that
the store is never raced; a long download takes turns with the other peers' jobs.
"""

import logging
from collections import Counter

import trio

from aelf_p2p.contracts import Peer
from aelf_p2p.core.block import Block
from aelf_p2p.core.errors import InvalidItemError, UnknownParentError
from aelf_p2p.core.peer_info import CloseReason, PeerStatus
from aelf_p2p.core.unmet_claims import UnmetClaims
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.download import Downloader
from aelf_p2p.services.initial_sync import InitialSync
from aelf_p2p.services.network import NetworkService
from aelf_p2p.services.sync_jobs import SyncJob, SyncJobs

log = logging.getLogger(__name__)

FRUITLESS_JOBS = 8
"""After so many announcements in a row of which nothing came, a peer is let go."""

MAX_REMEMBERED = 1024


class BlockSync:
    """Brings the store to where the peers are. ``run`` is its one task."""

    def __init__(self, context: NetworkContext, network: NetworkService) -> None:
        self._context = context
        self._network = network
        self._jobs = SyncJobs(context.options, context.sync.dropped_jobs)
        self._downloader = Downloader(context, network)
        self._initial = InitialSync(context, self._downloader)
        self._unmet = UnmetClaims(context.options.sync_retry_s)
        self._wake = trio.Event()
        self._fruitless: Counter[bytes] = Counter()  # by key: jobs in a row that led to nothing

    # --- what the other services tell it ---

    def announced(self, peer: Peer, block_hash: bytes, height: int) -> None:
        """A peer's best chain ends with this block."""
        self._put(SyncJob(peer, block_hash, height, trio.current_time()))

    def pushed(self, peer: Peer, block: Block) -> None:
        """A peer sent a block that it produced."""
        self._put(SyncJob(peer, block.hash, block.height, trio.current_time(), block))

    def gone(self, peer: Peer) -> None:
        """A peer's tasks are over: nothing of it is done any more, nor kept."""
        self._jobs.drop(peer)

    def recheck_target(self) -> None:
        """A block was accepted while syncing: the target may be reached."""
        self._initial.block_accepted()

    def _put(self, job: SyncJob) -> None:
        if job.height > self._context.store.status.lib_height:
            self._jobs.put(job)
            self._wake.set()

    # --- its task ---

    async def run(self) -> None:
        """Reach the target that the boot nodes' LIBs call for, then follow; until cancelled."""
        await self._initial.run()
        while True:
            self._wake = trio.Event()
            self._ask_again()
            while job := self._jobs.take(trio.current_time()):
                if await self._is_news(job):
                    if await self._do(job):
                        self._jobs.put_back(job, trio.current_time())
                    else:
                        await self._judge(job)
            with trio.move_on_at(self._unmet.next_due_at):
                await self._wake.wait()

    def _ask_again(self) -> None:
        """Let a peer wait for its turn that says it is further and gave nothing yet."""
        peers = {peer.info.public_key: peer for peer in self._context.pool.ready()}
        heights = {key: peer.chain.best_height for key, peer in peers.items()}
        now, own_height = trio.current_time(), self._context.store.status.longest_height
        key = self._unmet.take_due(heights, own_height, now)
        if key is not None:
            chain = peers[key].chain
            self._put(SyncJob(peers[key], chain.best_hash, chain.best_height, now, is_retry=True))

    async def _is_news(self, job: SyncJob) -> bool:
        """Whether the peer is still there, and the block above the last irreversible one, and not
        there yet."""
        if job.peer.status is not PeerStatus.READY:
            return False
        store = self._context.store
        return job.height > store.status.lib_height and not await store.has_block(job.block_hash)

    async def _do(self, job: SyncJob) -> bool:
        """Fetch, attach or download. True when a turn is over in which a download came nearer."""
        status = self._context.store.status
        if job.height > status.longest_height + self._context.options.near_tip_blocks:
            came_nearer = await self._download(job.height, job.peer)
            return came_nearer and job.height > self._context.store.status.longest_height
        if job.block is not None:
            await self._attach(job.block, job.peer)
            return False
        # One iterator: when an answer is a wrong block, the next source is asked.
        sources = iter([job.peer, *self._other_announcers(job)])
        while found := await self._network.request_block_from_any(job.block_hash, sources):
            block, source = found
            if block.height != job.height:  # the hash says it: whoever gave the block is right
                self._context.punish(job.peer, f"it announced {block.height} as {job.height}")
            if await self._attach(block, source):
                break
        return False

    async def _download(self, goal: int, source: Peer) -> bool:
        """Download for a turn. False when nobody gets nearer to the goal."""
        until = trio.current_time() + self._context.options.download_patience_s
        return await self._downloader.download(goal, [source], until=until)

    def _other_announcers(self, job: SyncJob) -> list[Peer]:
        mask = self._context.known.block_mask(job.block_hash, trio.current_time())
        return [
            peer for peer in self._context.pool.ready() if peer.bit & mask and peer is not job.peer
        ]

    async def _attach(self, block: Block, source: Peer) -> bool:
        """Put a block near the tip into the chain, with what lies between when that is missing.

        False when the block is wrong.
        """
        try:
            await self._context.kernel.accept_block(block)
        except InvalidItemError as exc:
            self._context.punish_refused(source, exc)
            return False
        except UnknownParentError:
            await self._download(block.height, source)
        return True

    async def _judge(self, job: SyncJob) -> None:
        """Let a peer go that again and again announces what it does not give."""
        if job.peer.status is not PeerStatus.READY:
            return  # whose connection is lost cannot give it
        key = job.peer.info.public_key
        reached = self._context.store.status.longest_height >= job.height
        if reached or await self._context.store.has_block(job.block_hash):
            self._fruitless.pop(key, None)
            return
        if job.is_retry:
            return
        if len(self._fruitless) >= MAX_REMEMBERED:
            self._fruitless.clear()
        self._fruitless[key] += 1
        if self._fruitless[key] >= FRUITLESS_JOBS:
            log.info("%s announces blocks that it does not give", job.peer.info)
            job.peer.close(CloseReason.FRUITLESS)
