"""Who a peer is, as its handshake said and proved."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from aelf_p2p.core.broadcast import BroadcastKind, DropReason
from aelf_p2p.core.duplicates import DialTimes
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.identity import short_key


class PeerStatus(Enum):
    """Whether a peer is ready, and why not."""

    UNCONFIRMED = "its handshake is not confirmed yet"
    READY = "ready"
    CLOSED = "closed"


class CloseReason(Enum):
    """Why a connection to a peer ended."""

    SHUTDOWN = "this node stopped"
    REMOVED = "the operator removed it"
    DISCONNECTED_BY_PEER = "the peer said goodbye"
    LOST = "the connection was lost"
    DROPPED_BY_PEER = "the peer dropped it"
    REPLACED = "another connection to the same peer took its place"
    UNCONFIRMED = "its handshake was never confirmed"
    SILENT = "it did not answer a health check"
    VIOLATION = "it broke the protocol"
    ABNORMAL = "it served a wrong block, or is on a wrong chain"
    INVALID_TRANSACTIONS = "too many invalid transactions came from its host"
    FRUITLESS = "it announced blocks that it did not give"
    BANNED = "it was banned"
    GUEST = "this node is full, and had taken it in for a moment only"

    @property
    def is_loss(self) -> bool:
        """Whether the peer may come back: nobody decided that it should go."""
        return self in (CloseReason.LOST, CloseReason.DROPPED_BY_PEER, CloseReason.SILENT)


@dataclass(frozen=True, kw_only=True)
class PeerInfo:
    """One connection's peer.

    The public key is proved by its signature; the rest is what it says.
    """

    public_key: bytes
    endpoint: Endpoint
    """Where it can be dialed: the host that we see, and the port that it says it listens on."""
    inbound: bool
    node_version: str
    protocol_version: int
    connected_at_ns: int
    """Unix nanoseconds, of our clock."""
    dial_times: DialTimes
    """Of the dial that made this connection, whichever side dialed, by the dialer's clock."""
    uses_stream: bool
    """Whether it is on a RequestByStream. Where either node is before 1.4, it is not."""
    revision: int
    """The peer's ``aelf_p2p_revision``; 0 for a C# node."""

    @property
    def is_csharp(self) -> bool:
        """Whether it is another implementation than ours."""
        return self.revision == 0

    def __str__(self) -> str:
        return f"{short_key(self.public_key)} at {self.endpoint}"


@dataclass(frozen=True, kw_only=True)
class PeerStatistics:
    """A snapshot of one peer's counters."""

    queued_blocks: int
    queued_announcements: int
    queued_transactions: int
    queued_bytes: int
    unacknowledged: int
    sent: Mapping[BroadcastKind, int]
    acknowledged: Mapping[BroadcastKind, int]
    dropped: Mapping[tuple[BroadcastKind, DropReason], int]
    ignored: Mapping[str, int]
    """Messages of the peer that were not acted on, by why."""
