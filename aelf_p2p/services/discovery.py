"""Discovery: finding nodes that nobody named to us (protocol §4, "Discovery")."""

import logging
import math
from dataclasses import dataclass

import trio

from aelf_p2p.contracts import Peer, Transport
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.envelope import META_PUBLIC_KEY
from aelf_p2p.core.errors import (
    AelfP2PError,
    CallFailedError,
    ClosedByUsError,
    HandshakeRefusedError,
    NetworkError,
    OwnHandshakeError,
    StatusCode,
    TransportError,
)
from aelf_p2p.core.network_events import PeerConnected
from aelf_p2p.core.network_state import KnownNode
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.dialer import DialedPeers
from aelf_p2p.services.parallel import for_each
from aelf_p2p.services.worker import jittered
from aelf_p2p.wire import HandshakeError
from aelf_p2p.wire.methods import PING

log = logging.getLogger(__name__)

HURRY_S = 1.0
"""Between two rounds of a node that has few peers and finds new ones."""

# Answers of a node that is not of this network, whatever it said to the ping.
_FOREIGN = {
    HandshakeError.CHAIN_MISMATCH,
    HandshakeError.PROTOCOL_MISMATCH,
    HandshakeError.WRONG_SIGNATURE,
}


@dataclass
class DiscoveryRound:
    """What came of one step, in endpoints."""

    told: int = 0
    """Different ones that peers told."""
    skipped: int = 0
    """Of these, names and addresses that are not global, which ``dial_private`` would allow."""
    verified: int = 0
    """Of these, those that were new, answered a ping and found a place."""
    connected: int = 0
    """Known nodes that were dialed and are peers now."""


class Discovery:
    """Asks peers for nodes, keeps those that answer a ping, and dials some of them.

    A peer may tell anything: what it costs is one ping of each new endpoint, of
    ``discovery_candidates`` a round at most and few of one host. An endpoint that is dead is left
    alone for ``discovery_rest_s``, and with it a host that has several such. A peer's word on a
    node's key counts for nothing.
    """

    def __init__(self, context: NetworkContext, dialer: DialedPeers, transport: Transport) -> None:
        self._context = context
        self._dialer = dialer
        self._transport = transport
        self._dialing = 0
        self._connected_last = 0

    async def wait(self) -> None:
        """A period; a moment while the node has few peers and finds new ones. Some of these may be
        full and have let it in for a moment only, so that they must be asked at once."""
        options, rng = self._context.options, self._context.environment.rng
        few = len(self._context.pool.ready()) < options.discovery_peers
        if few and self._connected_last:
            await trio.sleep(HURRY_S)
            return
        with trio.move_on_after(jittered(options.discovery_period_s, options.worker_jitter, rng)):
            if not few:
                await trio.sleep_forever()
            with self._context.events.subscribe() as events:
                async for event in events:
                    if isinstance(event, PeerConnected) and not event.peer.inbound:
                        return  # whoever dials us must not say how often we look for others

    async def step(self) -> DiscoveryRound:
        """One round: probe a known node, ask, verify, dial."""
        options = self._context.options
        done = DiscoveryRound()
        await self._probe_one()
        told = await self._ask_peers()
        done.told = len(told)
        allowed = [endpoint for endpoint in told if self._may_dial(endpoint)]
        done.skipped = done.told - len(allowed)
        news = [endpoint for endpoint in allowed if self._is_news(endpoint)]

        async def verify(endpoint: Endpoint) -> None:
            if await self._verify(endpoint):
                done.verified += 1

        async def dial(node: KnownNode) -> None:
            if await self._dial(node):
                done.connected += 1

        candidates = self._context.known_nodes.spare_hosts(
            news,
            trio.current_time(),
            most_of_a_host=options.discovery_candidates_per_host,
            most_avoided=options.discovery_avoided_per_host,
        )[: options.discovery_candidates]
        await for_each(candidates, verify, at_once=options.max_discovery_pings)
        await for_each(self._choose(), dial, at_once=options.max_worker_dials)
        self._connected_last = done.connected
        return done

    # --- what is known ---

    async def _probe_one(self) -> None:
        """See whether the node that was tried longest ago is still there."""
        node = self._context.known_nodes.next_to_probe()
        if node is None:
            return
        if self._may_dial(node.endpoint) and await self._ping(node.endpoint) is None:
            self._answered(node.endpoint)
        else:
            self._context.known_nodes.failed(node.endpoint)

    # --- what is told ---

    async def _ask_peers(self) -> list[Endpoint]:
        """What some random peers tell, in random order, so that none of them goes first."""
        options = self._context.options
        told: dict[Endpoint, None] = {}  # a dict: a set would have an order of its own

        async def ask(peer: Peer) -> None:
            try:
                records = await peer.request_nodes(options.max_nodes_per_reply)
            except NetworkError as exc:
                log.debug("%s told no nodes: %s", peer.info, exc)  # whether it lives, others ask
            else:
                told.update((record.endpoint, None) for record in records)

        peers = self._context.shuffled_ready_peers()[: options.discovery_peers]
        await for_each(peers, ask, at_once=options.discovery_peers)
        endpoints = list(told)
        self._context.environment.rng.shuffle(endpoints)
        return endpoints

    def _may_dial(self, endpoint: Endpoint) -> bool:
        """Strangers must not make us knock at our own network's doors."""
        return endpoint.is_global or self._context.options.dial_private

    def _is_news(self, endpoint: Endpoint) -> bool:
        context = self._context
        return not (
            endpoint in context.known_nodes
            or context.known_nodes.is_avoided(endpoint, trio.current_time())
            or self._is_banned(endpoint, None)
        )

    async def _verify(self, endpoint: Endpoint) -> bool:
        """Keep a node if it answers a ping."""
        error = await self._ping(endpoint)
        if error is None:
            return self._answered(endpoint)
        # That is what the acceptor says to a ping by its own key.
        itself = isinstance(error, CallFailedError) and error.code is StatusCode.FAILED_PRECONDITION
        self._context.known_nodes.avoid(endpoint, math.inf if itself else self._rested_at())
        return False

    # --- whom it dials ---

    def _choose(self) -> list[KnownNode]:
        """Random known nodes that can be dialed."""
        context = self._context
        connected = {peer.info.endpoint for peer in context.pool}
        keys = {peer.info.public_key for peer in context.pool}
        nodes = [
            node
            for node in context.known_nodes.dialable(trio.current_time())
            if node.endpoint not in connected
            and node.public_key not in keys
            and node.endpoint not in context.lost_peers.table
            and self._may_dial(node.endpoint)
            and not self._is_banned(node.endpoint, node.public_key)
        ]
        most = min(context.options.discovery_dials, len(nodes))
        return context.environment.rng.sample(nodes, most)

    async def _dial(self, node: KnownNode) -> bool:
        """Connect to a node while there is room; False when it is no peer."""
        context, endpoint = self._context, node.endpoint
        count = context.pool.count_beside(node.public_key or b"", endpoint.host)
        if not context.admission.has_room(count, self._dialing):
            return False
        self._dialing += 1
        try:
            peer = await self._dialer.connect(endpoint)
        except OwnHandshakeError:
            context.known_nodes.avoid(endpoint, math.inf)
        except HandshakeRefusedError as exc:
            if exc.code in _FOREIGN:
                context.known_nodes.avoid(endpoint, self._rested_at())
            else:
                context.known_nodes.rest(endpoint, self._rested_at())  # full, most likely
        except ClosedByUsError:
            pass  # which says nothing about the other node
        except AelfP2PError as exc:
            log.debug("discovered node %s: %s", endpoint, exc)
            context.known_nodes.failed(endpoint)
        else:
            self._answered(endpoint, peer.info.public_key)
            # One that soon goes again is full. A loss is the reconnection's.
            context.known_nodes.rest(endpoint, self._rested_at())
            return True
        finally:
            self._dialing -= 1
        return False

    # --- all of them ---

    async def _ping(self, endpoint: Endpoint) -> TransportError | None:
        """None when it answers, else why it does not."""
        options = self._context.options
        metadata = {META_PUBLIC_KEY: self._context.public_key.hex()}
        try:
            async with self._transport.dial(endpoint, timeout_s=options.dial_timeout_s) as channel:
                await channel.call(PING, b"", metadata=metadata, timeout_s=options.ping_timeout_s)
        except TransportError as exc:
            log.debug("%s does not answer a ping: %s", endpoint, exc)
            return exc
        return None

    def _answered(self, endpoint: Endpoint, public_key: bytes | None = None) -> bool:
        wall_s = self._context.environment.wall_s()
        return self._context.known_nodes.answered(endpoint, wall_s, public_key)

    def _rested_at(self) -> float:
        return trio.current_time() + self._context.options.discovery_rest_s

    def _is_banned(self, endpoint: Endpoint, public_key: bytes | None) -> bool:
        wall_s = self._context.environment.wall_s()
        return self._context.bans.find(endpoint.host, public_key, wall_s) is not None
