"""What all services of one node share."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from aelf_p2p.contracts import ChainStore, Kernel, Peer
from aelf_p2p.core.admission import Admission
from aelf_p2p.core.bans import BanList, BanReason
from aelf_p2p.core.discovery_table import DiscoveryTable
from aelf_p2p.core.endpoint import Endpoint, counted_host, is_loopback_host
from aelf_p2p.core.environment import Environment
from aelf_p2p.core.errors import InvalidItemError, InvalidReason
from aelf_p2p.core.handshake import HandshakeRules
from aelf_p2p.core.known_items import KnownItems, PeerBits
from aelf_p2p.core.misbehaviour import Misbehaviour, MisbehaviourScores
from aelf_p2p.core.network_events import AbnormalPeerFound
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.core.replays import Replays
from aelf_p2p.core.sync_target import SyncState
from aelf_p2p.services.events import EventBus
from aelf_p2p.services.lost_peers import LostPeers
from aelf_p2p.services.peer_pool import PeerPool
from aelf_p2p.services.sync_jobs import JobDrop

log = logging.getLogger(__name__)


class KnownTables:
    """Which peer knows which block, announcement and transaction.

    Blocks and announcements are told apart, so that a block which is pushed after it was announced
    is not taken for a repetition.
    """

    def __init__(self, options: NetworkOptions) -> None:
        self.blocks = KnownItems(options.known_blocks, options.known_blocks_ttl_s)
        self.announcements = KnownItems(options.known_blocks, options.known_blocks_ttl_s)
        self.transactions = KnownItems(options.known_transactions, options.known_transactions_ttl_s)
        self.bits = PeerBits(max(options.known_blocks_ttl_s, options.known_transactions_ttl_s))

    def release(self, bit: int, now: float) -> None:
        """A peer is gone."""
        self.bits.release(bit, now)
        forgotten = self.bits.wake()
        if forgotten:
            for table in self.blocks, self.announcements, self.transactions:
                table.forget(forgotten)

    def block_mask(self, block_hash: bytes, now: float) -> int:
        """The peers that have a block or know of it."""
        return self.blocks.mask(block_hash, now) | self.announcements.mask(block_hash, now)


class Changes:
    """Whether what is kept over a restart has changed since it was last looked at."""

    def __init__(self) -> None:
        self._noted = trio.Event()

    def note(self) -> None:
        """Something changed."""
        self._noted.set()

    async def wait(self) -> None:
        """Wait until something has changed."""
        await self._noted.wait()

    def take(self) -> bool:
        """Whether something changed; what changes from now on is news."""
        changed = self._noted.is_set()
        if changed:
            self._noted = trio.Event()
        return changed


@dataclass
class SyncProgress:
    """Where the node stands, and the height it must reach while SYNCING."""

    state: SyncState = SyncState.NOT_STARTED
    target: int = 0
    dropped_jobs: Counter[JobDrop] = field(default_factory=Counter)
    """Announcements and blocks that were not looked at, by why."""

    @property
    def finished(self) -> bool:
        """Whether the node answers block requests and broadcasts blocks."""
        return self.state is SyncState.FINISHED


@dataclass(kw_only=True)
class NetworkContext:
    """The state of a node's network layer, and what it was given."""

    options: NetworkOptions
    environment: Environment
    rules: HandshakeRules
    store: ChainStore
    kernel: Kernel
    next_producer: Callable[[], bytes | None] = lambda: None
    """The public key of whoever produces the next block, as far as the embedder knows."""
    listening_port: int = 0
    """What handshakes say; set when the listener is up, or the announced port."""
    sync: SyncProgress = field(default_factory=SyncProgress)
    boot_nodes: frozenset[Endpoint] = frozenset()
    pool: PeerPool = field(default_factory=PeerPool)
    queued_broadcasts: int = 0
    """How many broadcasts were put into any peer's queue."""

    def __post_init__(self) -> None:
        self.changes = Changes()
        self.bans = BanList(self.changes.note)
        self.lost_peers = LostPeers(
            self.options, self.environment, self.boot_nodes, self.changes.note
        )
        self.known_nodes = DiscoveryTable(
            self.options.max_known_nodes, self.options.max_known_nodes_per_host, self.changes.note
        )
        self.admission = Admission(self.options, self.bans)
        self.events = EventBus(self.options.max_event_backlog, self.options.max_event_backlog_bytes)
        self.known = KnownTables(self.options)
        self.scores = MisbehaviourScores(
            limit=self.options.max_misbehaviour, half_life_s=self.options.misbehaviour_half_life_s
        )
        self.replays = Replays(self.options.handshake_max_age_s)

    @property
    def public_key(self) -> bytes:
        """Our own."""
        return self.rules.identity.public_key

    def punish(self, peer: Peer, why: str) -> None:
        """Ban and remove a peer that served a wrong block, or is on a wrong chain.

        Its host is banned too, of IPv6 the whole /64; loopback excepted.
        """
        until = self.environment.wall_s() + self.options.abnormal_ban_s
        self.bans.ban(peer.info.public_key.hex(), BanReason.ABNORMAL_PEER, until)
        if not peer.info.endpoint.is_loopback:  # else the ban would hit every local neighbour
            self.bans.ban(peer.info.endpoint.host, BanReason.ABNORMAL_PEER, until)
        peer.close(CloseReason.ABNORMAL)
        self.events.publish(AbnormalPeerFound(peer.info, why))

    def punish_refused(self, peer: Peer, error: InvalidItemError) -> None:
        """Punish a peer whose block the kernel refused.

        One that came too late is forgiven: the chain may have moved past it while it was fetched.
        """
        if error.reason is not InvalidReason.BELOW_LIB:
            self.punish(peer, str(error))

    def punish_for_transactions(self, peer: Peer) -> None:
        """Ban a peer's host and remove all peers on it, as too many invalid transactions came from
        there; on loopback, where every local neighbour is, this peer alone."""
        self._ban_sender(
            self.sender_of(peer), BanReason.INVALID_TRANSACTIONS, CloseReason.INVALID_TRANSACTIONS
        )

    def misbehaved(self, peer: Peer, fault: Misbehaviour) -> None:
        """Count a fault of a peer. Its sender is banned when that is enough."""
        self._count_fault(self.sender_of(peer), fault)

    def caller_misbehaved(self, host: str, fault: Misbehaviour) -> None:
        """The same of a caller who has proved no key; nobody's on loopback, where all are one."""
        if not is_loopback_host(host):
            self._count_fault(counted_host(host), fault)

    def broke_transport(self, host: str, why: str) -> None:
        """A transport has dropped a caller."""
        log.debug("%s: %s", host, why)
        self.caller_misbehaved(host, Misbehaviour.BROKE_TRANSPORT)

    def _count_fault(self, sender: str, fault: Misbehaviour) -> None:
        if self.scores.note(sender, fault, trio.current_time()):
            log.info("%s is banned: %s, and more before that", sender, fault.why)
            self._ban_sender(sender, BanReason.MISBEHAVIOUR, CloseReason.BANNED)

    def _ban_sender(self, sender: str, why: BanReason, reason: CloseReason) -> None:
        self.bans.ban(sender, why, self.environment.wall_s() + self.options.abnormal_ban_s)
        for peer in self.pool:
            if self.sender_of(peer) == sender:
                peer.close(reason)

    def sender_of(self, peer: Peer) -> str:
        """Whom faults of a peer are counted for, and who is banned for them."""
        info = peer.info
        if info.endpoint.is_loopback:
            return info.public_key.hex()
        return counted_host(info.endpoint.host)

    def shuffled_ready_peers(self) -> Sequence[Peer]:
        """The ready peers in random order."""
        peers: list[Peer] = list(self.pool.ready())
        self.environment.rng.shuffle(peers)
        return peers
