"""Who may take a place in the pool: limits of peers and hosts, bans, handshakes under way."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aelf_p2p.core.bans import BanList
from aelf_p2p.core.budgets import EventBudget, Rate
from aelf_p2p.core.endpoint import counted_host, is_loopback_host
from aelf_p2p.core.errors import HandshakeRefusedError, RefusalReason
from aelf_p2p.core.host_rates import HostRates
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.wire import HandshakeError

_CODES = {
    RefusalReason.BANNED: HandshakeError.CONNECTION_REFUSED,
    RefusalReason.POOL_FULL: HandshakeError.CONNECTION_REFUSED,
    RefusalReason.HOST_FULL: HandshakeError.CONNECTION_REFUSED,
    RefusalReason.HANDSHAKING: HandshakeError.CONNECTION_REFUSED,
    RefusalReason.CLOSING: HandshakeError.CONNECTION_REFUSED,
    RefusalReason.TOO_OFTEN: HandshakeError.CONNECTION_REFUSED,
    RefusalReason.REPEATED: HandshakeError.REPEATED_CONNECTION,
    RefusalReason.PRIVATE: HandshakeError.INVALID_CONNECTION,
    RefusalReason.UNREACHABLE: HandshakeError.INVALID_CONNECTION,
}


def refused(why: RefusalReason) -> HandshakeRefusedError:
    """What a dialer is told of it."""
    return HandshakeRefusedError(_CODES[why], why.value, why)


@dataclass(frozen=True)
class PoolCount:
    """What the pool holds beside the newcomer: valid peers, and of these those on the newcomer's
    host, and those that dialed us."""

    peers: int
    on_host: int
    inbound: int = 0


class Admission:
    """Decides who comes in; holds the marks of handshakes under way, which count for their host.

    What one host is, ``counted_host`` says.

    Half of the places are for peers that dial us, so that a crowd of them does not cut us off from
    those that we choose. Beside them a full pool has ``max_guests`` places from which a peer is
    sent off after ``guest_s``: so a newcomer can ask even a full node for others.
    """

    def __init__(self, options: NetworkOptions, bans: BanList) -> None:
        self._max_peers = options.max_peers
        self._max_inbound = (options.max_peers + 1) // 2
        self._discovery_target = options.discovery_target
        self._max_guests = options.max_guests
        self._max_per_host = options.max_peers_per_host
        self._bans = bans
        self._handshaking: set[tuple[str, bytes]] = set()
        self._handshakes = EventBudget(
            Rate(options.max_handshakes_at_once, options.handshakes_per_s)
        )
        self._handshakes_of_hosts = HostRates(
            Rate(options.max_handshakes_at_once_per_host, options.handshakes_per_host_per_s)
        )

    @property
    def handshaking(self) -> int:
        """How many handshakes are under way."""
        return len(self._handshaking)

    def refuse_handshake(self, host: str, now: float) -> RefusalReason | None:
        """Why a dialer's handshake is not looked at, at monotonic time ``now``. Each costs us two
        signatures, one checked and one made, and a stranger nothing."""
        if self._handshakes_of_hosts.spend(host, now) and self._handshakes.spend(now):
            return None
        return RefusalReason.TOO_OFTEN

    @contextmanager
    def mark_handshaking(self, host: str, public_key: bytes) -> Iterator[bool]:
        """Mark a handshake under way; the mark goes however the block ends.

        Yields False, and marks nothing, when the same handshake is under way already.
        """
        mark = (counted_host(host), public_key)
        if mark in self._handshaking:
            yield False
            return
        self._handshaking.add(mark)
        try:
            yield True
        finally:
            self._handshaking.discard(mark)

    def refuse_inbound(
        self, host: str, public_key: bytes, count: PoolCount, now: float
    ) -> RefusalReason | None:
        """Why an inbound peer gets no place at wall time ``now``; None when it does.

        Its own mark is left out of the count, so call it inside ``mark_handshaking``.
        """
        if self._bans.find(host, public_key, now) is not None:
            return RefusalReason.BANNED
        counted = counted_host(host)
        others = [mark for mark in self._handshaking if mark != (counted, public_key)]
        if self._beyond_room(count, len(others)) >= self._max_guests:
            return RefusalReason.POOL_FULL
        if self._max_per_host and not is_loopback_host(host):
            marked = sum(1 for other_host, _ in others if other_host == counted)
            if count.on_host + marked >= self._max_per_host:
                return RefusalReason.HOST_FULL
        return None

    def is_guest(self, count: PoolCount) -> bool:
        """Whether an inbound peer has no place of its own beside those counted."""
        return self._beyond_room(count, 0) >= 0

    def has_room(self, count: PoolCount, dialing: int) -> bool:
        """Whether discovery may dial one more, beside those that it is ``dialing``."""
        outbound = count.peers - count.inbound + dialing
        inbound = count.inbound + len(self._handshaking)
        if self._max_peers:
            inbound = min(inbound, self._max_inbound)  # beyond are guests, who leave
        is_full = self._max_peers and inbound + outbound >= self._max_peers
        return outbound < self._discovery_target and not is_full

    def _beyond_room(self, count: PoolCount, handshaking: int) -> int:
        """Which guest an inbound newcomer would be, 0 the first; below zero when it has a place."""
        if not self._max_peers:
            return -1
        beyond = max(count.peers - self._max_peers, count.inbound - self._max_inbound)
        return beyond + handshaking

    def refuse_dial(self, host: str, public_key: bytes, now: float) -> RefusalReason | None:
        """Why a peer that we dialed is not kept: only a ban keeps it out (protocol §4)."""
        return RefusalReason.BANNED if self._bans.find(host, public_key, now) else None
