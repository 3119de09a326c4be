"""The connected peers, by public key."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import trio

from aelf_p2p.contracts import LivePeer
from aelf_p2p.core.admission import PoolCount
from aelf_p2p.core.endpoint import Endpoint, counted_host
from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.peer_info import PeerStatus


class ReadyPeers(NamedTuple):
    """The peers that are ready now."""

    peers: tuple[LivePeer, ...]
    mask: int
    """All of their bits."""


class PeerPool:
    """At most one peer a key. Peers that are closed, or going, are not looked at any more."""

    def __init__(self) -> None:
        self._peers: dict[bytes, LivePeer] = {}
        self._added = trio.Event()  # replaced whenever a peer is added
        self._ready: ReadyPeers | None = None  # None when that may have changed

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[LivePeer]:
        """All peers, oldest first; safe against changes meanwhile."""
        return iter(list(self._peers.values()))

    def add(self, peer: LivePeer) -> None:
        """Take a peer in. The caller has closed the one it replaces."""
        held = self._peers.get(peer.info.public_key)
        if held is not None and held.status is not PeerStatus.CLOSED:
            raise MisuseError(f"{held.info} is still connected")
        self._peers.pop(peer.info.public_key, None)  # the newcomer is the youngest
        self._peers[peer.info.public_key] = peer
        self._look_again()
        peer.on_status_change(self._look_again)
        self._added.set()
        self._added = trio.Event()

    def remove(self, peer: LivePeer) -> None:
        """Let a peer go, unless another one took its place already."""
        if self._peers.get(peer.info.public_key) is peer:
            del self._peers[peer.info.public_key]
            self._look_again()

    def get(self, public_key: bytes) -> LivePeer | None:
        """The open peer of a key, whether confirmed or not."""
        peer = self._peers.get(public_key)
        return None if peer is None or peer.status is PeerStatus.CLOSED else peer

    def find(self, endpoint: Endpoint) -> LivePeer | None:
        """The open peer that listens at an endpoint, as far as its handshake tells."""
        for peer in self._peers.values():
            if peer.info.endpoint == endpoint and peer.status is not PeerStatus.CLOSED:
                return peer
        return None

    async def wait_ready(self, public_key: bytes) -> LivePeer:
        """Wait until the key has a ready peer. For ever if need be: the caller has the deadline."""
        while True:
            peer = self.get(public_key)
            if peer is None:
                await self._added.wait()
            elif await peer.wait_confirmed():
                return peer

    def ready(self) -> Sequence[LivePeer]:
        """The peers that requests and broadcasts go to, oldest first."""
        return self.ready_peers().peers

    def ready_peers(self) -> ReadyPeers:
        """The same, with their bits."""
        if self._ready is None:
            peers = tuple(peer for peer in self if peer.status is PeerStatus.READY)
            self._ready = ReadyPeers(peers, sum(peer.bit for peer in peers))
        return self._ready

    def _look_again(self) -> None:
        self._ready = None

    def count_beside(self, public_key: bytes, host: str) -> PoolCount:
        """What the pool holds for the admission of a newcomer, its own older entry left out."""
        others = [
            peer
            for key, peer in self._peers.items()
            if key != public_key and peer.status is not PeerStatus.CLOSED
        ]
        counted = counted_host(host)
        return PoolCount(
            peers=len(others),
            on_host=sum(counted_host(peer.info.endpoint.host) == counted for peer in others),
            inbound=sum(peer.info.inbound for peer in others),
        )
