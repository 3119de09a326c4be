"""What a node remembers of its network over a restart."""

from dataclasses import dataclass

from aelf_p2p.core.bans import Ban
from aelf_p2p.core.endpoint import Endpoint


@dataclass(frozen=True, kw_only=True)
class KnownNode:
    """A node that answered a ping once."""

    endpoint: Endpoint
    public_key: bytes | None
    """What a handshake of ours proved; None before one. What peers tell of keys is hearsay."""
    seen_at: float
    """When it last answered, unix seconds."""
    available: bool
    """Whether it answered when it was last tried."""


@dataclass(frozen=True, kw_only=True)
class Reconnection:
    """A node that waits to be dialed again."""

    endpoint: Endpoint
    public_key: bytes | None
    """None when it was never connected, as a boot node that is down from the start."""
    lost_at: float
    """Unix seconds."""
    retries: int
    """Attempts that failed."""


@dataclass(frozen=True)
class NetworkState:
    """A snapshot of what a ``StateStore`` keeps."""

    bans: tuple[Ban, ...] = ()
    nodes: tuple[KnownNode, ...] = ()
    reconnections: tuple[Reconnection, ...] = ()
