"""A foreign node's peers, of both kinds: one of each key (protocol §3.2 and §3.3)."""

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock
from typing import Protocol

from tests.wire_foreign.journal import Journal


class ForeignPeer(Protocol):
    """What the pool needs of a peer, whatever carries its messages."""

    peer_key: str
    """Hex."""
    session_in: bytes | None
    """What we announced to it."""
    inbound: bool
    handshake_ns: int
    """When the handshake was made that it sent us: unix nanoseconds."""
    confirmed: Event
    disconnected: Event

    def confirm(self) -> None:
        """Tell it that we are done shaking hands."""

    def disconnect(self) -> None:
        """Say goodbye."""

    def release(self) -> None:
        """It is no peer any more: let go what was made for it."""


class ForeignPool:
    """Any thread may use it."""

    def __init__(self) -> None:
        self.accepted: Journal[ForeignPeer] = Journal()
        """Those that others dialed, from when each was made a peer."""
        self._lock = Lock()
        self._peers: dict[str, ForeignPeer] = {}
        self._handshaking: set[str] = set()

    def peers(self) -> list[ForeignPeer]:
        with self._lock:
            return list(self._peers.values())

    def get(self, public_key: str) -> ForeignPeer | None:
        with self._lock:
            return self._peers.get(public_key)

    def of_session(self, public_key: object, session_id: object) -> ForeignPeer | None:
        """The peer that a call speaks for; None when its key and session are not a peer's."""
        peer = self.get(public_key) if isinstance(public_key, str) else None
        if peer is None or peer.session_in is None or not isinstance(session_id, bytes):
            return None
        return peer if hmac.compare_digest(peer.session_in, session_id) else None

    @contextmanager
    def handshaking(self, public_key: str) -> Iterator[bool]:
        """Mark a key meanwhile; whether it was not marked already."""
        with self._lock:
            fresh = public_key not in self._handshaking
            self._handshaking.add(public_key)
        try:
            yield fresh
        finally:
            if fresh:
                with self._lock:
                    self._handshaking.remove(public_key)

    def add(self, peer: ForeignPeer) -> bool:
        """Add a peer that dialed. False when its key is there already."""
        with self._lock:
            added = self._peers.setdefault(peer.peer_key, peer) is peer
        if added:
            self.accepted.append(peer)
        return added

    def put(self, peer: ForeignPeer) -> None:
        """Add a peer that dialed, in place of an older one of its key."""
        with self._lock:
            self._peers[peer.peer_key] = peer
        self.accepted.append(peer)

    def settle(self, dialed: ForeignPeer, sent_ns: int) -> ForeignPeer:
        """The one that stays when a dial of ours ends whose DoHandshake was sent at ``sent_ns``:
        C#'s rule (protocol §3.3). The other one is let go."""
        with self._lock:
            held = self._peers.get(dialed.peer_key)
            if held is None or (held.inbound and held.handshake_ns > sent_ns):
                self._peers[dialed.peer_key] = kept = dialed
            else:
                kept, held = held, dialed
        if held is not None:
            held.release()
        return kept

    def remove(self, peer: ForeignPeer) -> None:
        """Without effect when another has its place."""
        with self._lock:
            if self._peers.get(peer.peer_key) is peer:
                del self._peers[peer.peer_key]
