"""What waits for the block sync: announcements and blocks of peers, in turn."""

from collections import Counter, deque
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from aelf_p2p.contracts import Peer
from aelf_p2p.core.block import Block
from aelf_p2p.core.options import NetworkOptions


class JobDrop(Enum):
    """Why an announcement or a block that waited was not looked at."""

    DISPLACED = "newer ones of the same peer took its place"
    TOO_OLD = "it waited for too long"


@dataclass(frozen=True)
class SyncJob:
    """A peer has a block: it announced it, or sent it along."""

    peer: Peer
    block_hash: bytes
    height: int
    queued_at: float
    """By trio's clock."""
    block: Block | None = None
    is_retry: bool = False
    """The peer did not say it anew: it is asked again about what it said before."""

    @cached_property
    def held_bytes(self) -> int:
        """Memory that waits with it."""
        return 0 if self.block is None else self.block.size


class SyncJobs:
    """What waits to be done. The peers take turns, so that one that announces what it does not give
    costs the others a request of waiting, and displaces none of theirs.

    At most ``max_queued_sync_jobs`` of one peer wait; beyond, its oldest goes: what is announced
    later leads to it anyway. Of the blocks that were sent along, ``max_queued_sync_bytes`` are held
    for all peers together. What waited longer than ``max_sync_job_age_s`` is not done any more.
    ``dropped`` counts what went, except with its peer.
    """

    def __init__(self, options: NetworkOptions, dropped: Counter[JobDrop]) -> None:
        self._options = options
        self._dropped = dropped
        self._held_bytes = 0
        self._by_peer: dict[Peer, deque[SyncJob]] = {}  # whose turn it is first

    def put(self, job: SyncJob) -> None:
        """Let a job wait, without its block when too much is held."""
        jobs = self._by_peer.setdefault(job.peer, deque())
        while len(jobs) >= self._options.max_queued_sync_jobs:
            self._held_bytes -= jobs.popleft().held_bytes
            self._dropped[JobDrop.DISPLACED] += 1
        if self._held_bytes + job.held_bytes > self._options.max_queued_sync_bytes:
            job = replace(job, block=None)  # it is fetched when its turn comes
        self._held_bytes += job.held_bytes
        jobs.append(job)

    def put_back(self, job: SyncJob, now: float) -> None:
        """Let a job that was begun wait again: behind the other peers', before its own peer's.

        It may be one more than may wait, until another one comes.
        """
        begun = replace(job, queued_at=now, block=None)
        self._by_peer.setdefault(job.peer, deque()).appendleft(begun)

    def drop(self, peer: Peer) -> None:
        """Forget what a peer let wait."""
        for job in self._by_peer.pop(peer, ()):
            self._held_bytes -= job.held_bytes

    def take(self, now: float) -> SyncJob | None:
        """The next one, or None; ``now`` is by trio's clock."""
        while self._by_peer:
            peer = next(iter(self._by_peer))
            jobs = self._by_peer.pop(peer)
            job = jobs.popleft()
            self._held_bytes -= job.held_bytes
            if jobs:
                self._by_peer[peer] = jobs  # behind the others
            if now - job.queued_at <= self._options.max_sync_job_age_s:
                return job
            self._dropped[JobDrop.TOO_OLD] += 1
        return None
