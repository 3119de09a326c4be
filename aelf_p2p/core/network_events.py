"""What the network tells whoever subscribes."""

from dataclasses import dataclass

from aelf_p2p.core.announcements import Announcement
from aelf_p2p.core.block import Block
from aelf_p2p.core.peer_info import CloseReason, PeerInfo, PeerStatistics
from aelf_p2p.core.transaction import Transaction


@dataclass(frozen=True)
class NetworkInitialized:
    """All boot nodes were dialed, whatever came of it."""

    connected: int
    """How many peers there are."""


@dataclass(frozen=True)
class PeerConnected:
    """A peer's handshake is confirmed. Counts as an announcement of its best chain."""

    peer: PeerInfo
    best_hash: bytes
    best_height: int


@dataclass(frozen=True)
class PeerDisconnected:
    """A peer that was connected is gone.

    When another connection to the same key took its place (``CloseReason.REPLACED``), that one's
    PeerConnected may come before.
    """

    peer: PeerInfo
    reason: CloseReason
    statistics: PeerStatistics
    """Its last counters, with what the end of the connection lost."""


@dataclass(frozen=True)
class AnnouncementReceived:
    """A peer announced the end of its best chain, for the first time."""

    peer: PeerInfo
    announcement: Announcement


@dataclass(frozen=True)
class BlockReceived:
    """A peer pushed a block that it had not pushed before."""

    peer: PeerInfo
    block: Block


@dataclass(frozen=True)
class TransactionsReceived:
    """A peer sent transactions that it had not sent before, and that the kernel does not refuse:
    those that came together, 128 at most."""

    peer: PeerInfo
    transactions: tuple[Transaction, ...]


@dataclass(frozen=True)
class AbnormalPeerFound:
    """A peer served a wrong block, or is on a wrong chain; it is banned and removed."""

    peer: PeerInfo
    why: str


@dataclass(frozen=True)
class ClockDrift:
    """The clock differs from the time server's by more than ``max_clock_drift_s``."""

    drift_s: float
    """What the server's shows more than ours: above zero when ours is slow."""


@dataclass(frozen=True)
class EventsMissed:
    """This subscriber was too slow: so many events were left out at this place."""

    count: int


NetworkEvent = (
    NetworkInitialized
    | PeerConnected
    | PeerDisconnected
    | AnnouncementReceived
    | BlockReceived
    | TransactionsReceived
    | AbnormalPeerFound
    | ClockDrift
    | EventsMissed
)
