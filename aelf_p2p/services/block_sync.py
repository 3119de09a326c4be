"""Following the chain: blocks near the tip are fetched or attached, what is further off downloaded.

Source: protocol §4, "Sync state" and "Following the chain". One task does all of it, one job after
another, so that the store is never raced.
"""

import logging
from collections import Counter, deque
from dataclasses import dataclass, replace

import trio

from aelf_p2p.contracts import Peer
from aelf_p2p.core.block import Block
from aelf_p2p.core.errors import InvalidItemError, InvalidReason, UnknownParentError
from aelf_p2p.core.peer_info import CloseReason, PeerStatus
from aelf_p2p.core.sync_target import SyncState, choose_target
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.network import NetworkService

log = logging.getLogger(__name__)

DOWNLOAD_SOURCES = 3
"""A download is tried with one peer, and twice more with others."""

UNSERVED_CLAIMS = 12
"""So often in a row may a LIB that a peer claims lead to no block; then the initial sync goes on
without its claim, which may be a lie. With the default ``sync_retry_s`` that is a minute."""

FRUITLESS_JOBS = 8
"""After so many announcements in a row of which nothing came, a peer is let go."""

MAX_REMEMBERED = 1024


@dataclass(frozen=True)
class _Job:
    """A peer has a block: it announced it, or sent it along."""

    peer: Peer
    block_hash: bytes
    height: int
    block: Block | None = None

    @property
    def held_bytes(self) -> int:
        """Memory that waits with it."""
        return 0 if self.block is None else self.block.size


class _Jobs:
    """What waits to be done. The peers take turns, so that one that announces what it does not give
    costs the others a request of waiting, and displaces none of theirs.

    At most ``most_a_peer`` jobs of one peer wait; beyond, its oldest goes: what is announced later
    leads to it anyway. Of the blocks that were sent along, ``most_bytes`` are held for all peers
    together.
    """

    def __init__(self, most_a_peer: int, most_bytes: int) -> None:
        self._most_a_peer = most_a_peer
        self._most_bytes = most_bytes
        self._held_bytes = 0
        self._by_peer: dict[Peer, deque[_Job]] = {}  # whose turn it is first

    def __bool__(self) -> bool:
        return bool(self._by_peer)

    def put(self, job: _Job) -> None:
        jobs = self._by_peer.setdefault(job.peer, deque())
        if len(jobs) >= self._most_a_peer:
            self._held_bytes -= jobs.popleft().held_bytes
        if self._held_bytes + job.held_bytes > self._most_bytes:
            job = replace(job, block=None)  # it is fetched when its turn comes
        self._held_bytes += job.held_bytes
        jobs.append(job)

    def take(self) -> _Job:
        peer = next(iter(self._by_peer))
        jobs = self._by_peer.pop(peer)
        job = jobs.popleft()
        self._held_bytes -= job.held_bytes
        if jobs:
            self._by_peer[peer] = jobs  # behind the others
        return job


class BlockSync:
    """Brings the store to where the peers are. ``run`` is its one task."""

    def __init__(self, context: NetworkContext, network: NetworkService) -> None:
        self._context = context
        self._network = network
        self._jobs = _Jobs(
            context.options.max_queued_sync_jobs, context.options.max_queued_sync_bytes
        )
        self._wake = trio.Event()
        self._accepted = trio.Event()
        self._fruitless: Counter[bytes] = Counter()  # by key: jobs in a row that led to nothing

    # --- what the other services tell it ---

    def announced(self, peer: Peer, block_hash: bytes, height: int) -> None:
        """A peer's best chain ends with this block."""
        self._put(_Job(peer, block_hash, height))

    def pushed(self, peer: Peer, block: Block) -> None:
        """A peer sent a block that it produced."""
        self._put(_Job(peer, block.hash, block.height, block))

    def recheck_target(self) -> None:
        """A block was accepted while syncing: the target may be reached."""
        self._accepted.set()

    def _put(self, job: _Job) -> None:
        if job.height > self._context.store.status.lib_height:
            self._jobs.put(job)
            self._wake.set()

    # --- its task ---

    async def run(self) -> None:
        """Reach the target that the boot nodes' LIBs call for, then follow; until cancelled."""
        await self._initial_sync()
        while True:
            while self._jobs:
                job = self._jobs.take()
                if await self._is_news(job):
                    await self._do(job)
                    await self._judge(job)
            self._wake = trio.Event()
            await self._wake.wait()

    async def _initial_sync(self) -> None:
        sync = self._context.sync
        unserved: Counter[bytes] = Counter()  # by key: how often a peer's claim led to nothing
        while True:
            status = self._context.store.status
            libs = {
                peer.info.public_key: peer.chain.lib_height
                for peer in self._context.pool.ready()
                if unserved[peer.info.public_key] < UNSERVED_CLAIMS
            }
            target = choose_target(
                status.lib_height, list(libs.values()), self._context.options.sync_lib_distance
            )
            if target is None or target <= status.longest_height:
                sync.state, sync.target = SyncState.FINISHED, 0
                log.info("synced: height %d", status.best_height)
                if idle := sum(count >= UNSERVED_CLAIMS for count in unserved.values()):
                    log.warning("%d peers say that they are further, and give no blocks", idle)
                return
            sync.state, sync.target = SyncState.SYNCING, target
            log.info("syncing from height %d to %d", status.longest_height, target)
            if not await self._download(target):
                if self._context.store.status.longest_height > status.longest_height:
                    unserved.clear()
                else:
                    unserved.update(key for key, lib in libs.items() if lib >= target)
                self._accepted = trio.Event()
                with trio.move_on_after(self._context.options.sync_retry_s):
                    await self._accepted.wait()

    async def _judge(self, job: _Job) -> None:
        """Let a peer go that again and again announces what it does not give."""
        key = job.peer.info.public_key
        reached = self._context.store.status.longest_height >= job.height
        if reached or await self._context.store.has_block(job.block_hash):
            self._fruitless.pop(key, None)
            return
        if len(self._fruitless) >= MAX_REMEMBERED:
            self._fruitless.clear()
        self._fruitless[key] += 1
        if self._fruitless[key] >= FRUITLESS_JOBS:
            log.info("%s announces blocks that it does not give", job.peer.info)
            job.peer.close(CloseReason.FRUITLESS)

    async def _is_news(self, job: _Job) -> bool:
        """Whether the block is above the last irreversible one, and not there yet."""
        store = self._context.store
        return job.height > store.status.lib_height and not await store.has_block(job.block_hash)

    async def _do(self, job: _Job) -> None:
        status = self._context.store.status
        if job.height > status.longest_height + self._context.options.near_tip_blocks:
            await self._download(job.height, job.peer)
        elif job.block is not None:
            await self._attach(job.block, job.peer)
        else:
            # One iterator: when an answer is a wrong block, the next source is asked.
            sources = iter([job.peer, *self._other_announcers(job)])
            while found := await self._network.request_block_from_any(job.block_hash, sources):
                if await self._attach(*found):
                    return

    def _other_announcers(self, job: _Job) -> list[Peer]:
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
            self._punish(source, exc)
            return False
        except UnknownParentError:
            await self._download(block.height, source)
        return True

    def _punish(self, source: Peer, error: InvalidItemError) -> None:
        """For a wrong block; the chain may have moved past a right one while it was fetched."""
        if error.reason is not InvalidReason.BELOW_LIB:
            self._context.punish(source, str(error))

    async def _download(self, goal: int, suggested: Peer | None = None) -> bool:
        """Download until the longest chain has the goal's height. False when no source gets there.

        Begins with the suggested peer and goes on with random others that are high enough.
        """
        failed: list[Peer] = []
        while self._context.store.status.longest_height < goal:
            peer = self._choose_source(goal, suggested, failed)
            if peer is None or len(failed) >= DOWNLOAD_SOURCES:
                return False
            height = self._context.store.status.longest_height
            await self._download_round(goal, peer)
            # New blocks alone are no progress: anyone can make any number of them beside the chain.
            if self._context.store.status.longest_height <= height:
                failed.append(peer)
        return True

    def _choose_source(self, goal: int, suggested: Peer | None, failed: list[Peer]) -> Peer | None:
        if (
            suggested is not None
            and suggested not in failed
            and suggested.status is PeerStatus.READY
        ):
            return suggested
        for peer in self._context.shuffled_ready_peers():
            high_enough = peer.chain.best_height >= goal and (
                peer.chain.synced or peer.chain.lib_height >= goal
            )
            if high_enough and peer not in failed:
                return peer
        return None

    async def _download_round(self, goal: int, peer: Peer) -> None:
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
                for block in blocks:
                    try:
                        new += await self._context.kernel.accept_block(block)
                    except InvalidItemError as exc:
                        self._punish(peer, exc)
                        return
                    except UnknownParentError as exc:  # it links: the store must have lost it
                        log.warning("a downloaded block cannot be attached: %s", exc)
                        return
                if not blocks or self._context.store.status.longest_height >= goal:
                    break
                previous, height = blocks[-1].hash, blocks[-1].height
            if new or peer.status is not PeerStatus.READY:
                break
