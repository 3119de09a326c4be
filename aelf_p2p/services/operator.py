"""What the node's operator sees of the network, and does with it (protocol §4 and §5)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from aelf_p2p.contracts import LivePeer, Peer
from aelf_p2p.core.bans import Ban, BanReason, ban_subject
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.misbehaviour import Score
from aelf_p2p.core.peer_info import CloseReason, PeerInfo, PeerStatistics, PeerStatus
from aelf_p2p.core.round_trips import RoundTrip
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.dialer import DialedPeers

REMOVAL_BAN_S = 2.0**31 - 1
"""How long whoever is removed stays out, as at C#'s operator interface; some 68 years."""


@dataclass(frozen=True)
class PeerReport:
    """One peer as it is now. Heights are what it says of its chain."""

    info: PeerInfo
    status: PeerStatus
    best_height: int
    lib_height: int
    statistics: PeerStatistics
    round_trips: Sequence[RoundTrip]
    """The last 100 requests for one block, and for several, that it answered; none unless asked
    for."""


class Operator:
    """Adds, removes, lists and bans peers. Endpoints may be text: ``host``, ``host:port``."""

    def __init__(self, context: NetworkContext, dialer: DialedPeers) -> None:
        self._context = context
        self._dialer = dialer

    # --- peers ---

    async def add(self, endpoint: Endpoint | str) -> Peer:
        """Dial a node; its ready peer, also when it was there already. A ban keeps it out.

        Raises MalformedError for a bad endpoint text, TransportError, HandshakeRefusedError,
        ProtocolViolationError, NetworkError.
        """
        return await self._dialer.connect(_endpoint(endpoint))

    async def add_trusted(self, endpoint: Endpoint | str) -> Peer:
        """The same, and bans of its host and its key are lifted."""
        return await self._dialer.connect(_endpoint(endpoint), trusted=True)

    async def remove(
        self, subject: Endpoint | str | bytes, *, ban_s: float = REMOVAL_BAN_S
    ) -> bool:
        """Say goodbye to a peer, by its endpoint or public key, and wait until it is gone; it is
        not dialed again. False when there was none.

        Its host is banned for ``ban_s``, loopback excepted, where every local neighbour is, and its
        key; 0 bans neither. Raises MalformedError, MisuseError.
        """
        peer = self._find(subject)
        was_there = peer is not None
        if peer is None:
            if isinstance(subject, bytes):
                was_there = self._dialer.give_up(subject)
                self._context.lost_peers.cancel(subject)
                subjects = {subject.hex()}
            else:
                endpoint = _endpoint(subject)
                was_there = self._dialer.give_up(endpoint)
                self._context.lost_peers.cancel_endpoint(endpoint)
                subjects = set() if endpoint.is_loopback else {endpoint.host}
        else:
            info = peer.info
            self._context.lost_peers.cancel(info.public_key)
            self._context.lost_peers.cancel_endpoint(info.endpoint)
            subjects = {info.public_key.hex()}
            if not info.endpoint.is_loopback:
                subjects.add(info.endpoint.host)
            peer.close(CloseReason.REMOVED)
        if ban_s:
            for each in sorted(subjects):
                self.ban(each, for_s=ban_s)
        if peer is not None:
            await peer.wait_closed()
        return was_there

    def peers(self, *, with_metrics: bool = False) -> list[PeerReport]:
        """All peers, those that are not confirmed yet among them, oldest first."""
        return [
            PeerReport(
                info=peer.info,
                status=peer.status,
                best_height=peer.chain.best_height,
                lib_height=peer.chain.lib_height,
                statistics=peer.statistics(),
                round_trips=peer.round_trips() if with_metrics else (),
            )
            for peer in self._context.pool
        ]

    def _find(self, subject: Endpoint | str | bytes) -> LivePeer | None:
        if isinstance(subject, bytes):
            return self._context.pool.get(subject)
        return self._context.pool.find(_endpoint(subject))

    # --- misbehaviour and bans ---

    def scores(self) -> dict[str, Score]:
        """Who misbehaved of late, how often and how, by host, or on loopback by public key in hex;
        beyond ``max_misbehaviour`` points there is a ban."""
        return self._context.scores.all(trio.current_time())

    def bans(self) -> list[Ban]:
        """Who is kept out, why and until when; those whose ban ends first come first."""
        return self._context.bans.active(self._context.environment.wall_s())

    def ban(self, subject: Endpoint | bytes | str, *, for_s: float) -> Ban:
        """Keep out a host, or a public key (bytes or hex), for so many seconds, or for longer when
        it was banned for longer. With an IPv6 address its whole /64 is. Its peers are told goodbye.

        Raises MisuseError for text that is neither, and for a time that is none.
        """
        if not 0 < for_s < math.inf:
            raise MisuseError(f"a ban for {for_s} s")
        name = ban_subject(subject)
        until = self._context.environment.wall_s() + for_s
        ban = self._context.bans.ban(name, BanReason.OPERATOR, until)
        for peer in self._context.pool:
            if name in {ban_subject(peer.info.endpoint), ban_subject(peer.info.public_key)}:
                peer.close(CloseReason.BANNED)
        return ban

    def lift(self, subject: Endpoint | bytes | str) -> bool:
        """End the ban of a host or a key. False when there was none. Raises MisuseError."""
        return self._context.bans.lift(ban_subject(subject))


def _endpoint(given: Endpoint | str) -> Endpoint:
    return given if isinstance(given, Endpoint) else Endpoint.parse_untrusted(given)
