"""Whether the node is synced, and the height that it must reach first.

Source: protocol §4, "Sync state".
"""

from collections.abc import Sequence
from enum import Enum


class SyncState(Enum):
    """Where the node stands. Only FINISHED answers block requests and broadcasts more than
    transactions."""

    NOT_STARTED = "not started"
    SYNCING = "syncing"
    FINISHED = "finished"


def choose_target(own_lib: int, peer_libs: Sequence[int], distance: int) -> int | None:
    """The height to sync to, or None when the node is close enough to its peers.

    Peers whose LIB is ``distance`` or more above ours call for syncing when they are at least
    ⌈2/3⌉ of all; the target is the lowest of their LIBs.
    """
    ahead = [lib for lib in peer_libs if lib >= own_lib + distance]
    quorum = -(-2 * len(peer_libs) // 3)
    return min(ahead) if ahead and len(ahead) >= quorum else None
