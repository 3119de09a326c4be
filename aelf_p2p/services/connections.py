"""What dialing and accepting have in common: one connection a key, places, who comes and goes.

Source: protocol §3.1 to §3.3.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import trio

from aelf_p2p.contracts import (
    LivePeer,
    MessageStream,
    RpcChannel,
    StreamPeerFactory,
    UnaryPeerFactory,
)
from aelf_p2p.core.chain_status import PeerChain
from aelf_p2p.core.duplicates import Dialer, DialTimes, keep_own_dial, overlap
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import (
    AelfP2PError,
    FullBufferError,
    HandlerError,
    NetworkError,
    RefusalReason,
    RpcError,
)
from aelf_p2p.core.handshake import ReceivedHandshake, SentHandshake
from aelf_p2p.core.misbehaviour import Misbehaviour
from aelf_p2p.core.network_events import PeerConnected, PeerDisconnected
from aelf_p2p.core.peer_info import CloseReason, PeerInfo, PeerStatus
from aelf_p2p.core.sessions import Sessions
from aelf_p2p.core.single_error import each_error, single_error_as_itself
from aelf_p2p.services.block_sync import BlockSync
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.handshakes import Handshakes

log = logging.getLogger(__name__)

V = TypeVar("V")

REMEMBERED_DIALS = 1024

_FAULTS = {
    CloseReason.VIOLATION: Misbehaviour.BROKE_PROTOCOL,
    CloseReason.FRUITLESS: Misbehaviour.FRUITLESS,
}


@dataclass(eq=False)
class OwnDial:
    """A dial of ours whose other end is known by key and which is no peer yet."""

    handshake_ns: int
    stream_handshake_ns: int | None = None
    answered: trio.Event = field(default_factory=trio.Event)
    """The handshake on its stream was answered, or the dial is over."""
    gives_way: bool = False
    """A dial of the other node stays in its place."""


_Dialer = tuple[bytes, Endpoint]
"""Another node on one connection of its own: its public key, and host and source port."""


class Connections:
    """Makes peers of handshakes, keeps one connection a key, and tells who comes and goes."""

    def __init__(
        self,
        context: NetworkContext,
        sync: BlockSync,
        *,
        make_stream_peer: StreamPeerFactory,
        make_unary_peer: UnaryPeerFactory,
    ) -> None:
        self.context = context
        self.handshakes = Handshakes(context)
        self._sync = sync
        self._make_stream_peer = make_stream_peer
        self._make_unary_peer = make_unary_peer
        self._own_dials: dict[bytes, OwnDial] = {}
        # When the DoHandshake of each was made; forgetting one loses a tie-break.
        self._their_dials: OrderedDict[_Dialer, int] = OrderedDict()
        # Apart from those, which strangers can fill: forgetting one loses a stream that is rebuilt.
        self._confirmed: OrderedDict[_Dialer, None] = OrderedDict()

    # --- whose dial is whose ---

    def note_their_dial(self, remote: ReceivedHandshake, caller: Endpoint) -> None:
        """A DoHandshake came: should our own dial cross it, this is when theirs began."""
        dialer = remote.public_key, caller
        _remember(self._their_dials, dialer, remote.time_ns)
        self._confirmed.pop(dialer, None)

    def times_of_their_dial(self, remote: ReceivedHandshake, caller: Endpoint) -> DialTimes:
        """The times of an inbound dial whose HAND_SHAKE on the stream is ``remote``."""
        began = self._their_dials.get((remote.public_key, caller), remote.time_ns)
        return DialTimes(began, remote.time_ns)

    def was_confirmed(self, public_key: bytes, caller: Endpoint) -> bool:
        """Whether the last dial of this key on this connection was confirmed already.

        A stream that comes without a new DoHandshake is then one that is rebuilt on a channel that
        lives; no confirmation follows it (protocol §3.1, step 4).
        """
        return (public_key, caller) in self._confirmed

    @contextmanager
    def own_dial(self, public_key: bytes, sent: SentHandshake) -> Iterator[OwnDial]:
        """Mark a dial of ours under way, from the moment its other end's key is known."""
        dial = self._own_dials[public_key] = OwnDial(sent.time_ns)
        try:
            yield dial
        finally:
            dial.answered.set()
            if self._own_dials.get(public_key) is dial:
                del self._own_dials[public_key]

    async def own_dial_stays(self, times: DialTimes, remote: ReceivedHandshake) -> bool:
        """Whether our dial goes on: the pool holds no connection to the key, or the lesser one, or
        one that is dead."""
        held = self.context.pool.get(remote.public_key)
        if held is None:
            return True
        if not held.info.inbound:
            return False  # two dials of ours to one node: the first stays
        if self._overlap(times, held.info.dial_times, remote):
            return self._keep_own(times, held.info.dial_times, remote)
        if held.status is PeerStatus.UNCONFIRMED:
            return False  # it is being made
        return not await self._is_held(held)

    async def refuse_inbound(
        self, host: str, remote: ReceivedHandshake, times: DialTimes
    ) -> RefusalReason | None:
        """Why an inbound stream gets no place; None when it does, and the older peer may go.

        An older connection to the same key goes only when both sides agree on it (two dials that
        crossed), or when it does not answer a probe.
        """
        context, key = self.context, remote.public_key
        refusal = self.refuse_place(host, key)
        if refusal is not None:
            return refusal
        own = self._own_dials.get(key)
        if own is not None:
            if self._keep_own(self.times_of(own), times, remote):
                return RefusalReason.REPEATED
            await self._give_way(own, remote)
        held = context.pool.get(key)
        if held is None:
            return None
        if not held.info.inbound and self._overlap(held.info.dial_times, times, remote):
            kept = self._keep_own(held.info.dial_times, times, remote)
            return RefusalReason.REPEATED if kept else None
        if await self._is_held(held):
            return RefusalReason.REPEATED
        return self.refuse_place(host, key)  # again: it may have been banned meanwhile

    async def _give_way(self, own: OwnDial, remote: ReceivedHandshake) -> None:
        """See that a C# node has taken our handshake in before its own dial ends.

        It compares the two only then. Were ours to come later, it would put our stream in the place
        of its own, just when we leave it.
        """
        if remote.revision == 0 and own.stream_handshake_ns is not None:
            own.gives_way = True
            with trio.move_on_after(self.context.options.replace_probe_timeout_s):
                await own.answered.wait()

    async def refuse_unary(self, host: str, remote: ReceivedHandshake) -> RefusalReason | None:
        """Why an inbound node of the old kind gets no place; None when it is to be dialed back.

        Of two such dials that crossed, each side finds at the end of its own which one stays.
        """
        refusal = self.refuse_place(host, remote.public_key)
        held = self.context.pool.get(remote.public_key)
        if refusal is not None or held is None:
            return refusal
        if await self._is_held(held):
            return RefusalReason.REPEATED
        held.close(CloseReason.SILENT)
        return self.refuse_place(host, remote.public_key)  # again, as above

    def refuse_place(self, host: str, public_key: bytes) -> RefusalReason | None:
        """Why an inbound node gets no place now, whatever it holds already."""
        context = self.context
        count = context.pool.count_beside(public_key, host)
        now = context.environment.wall_s()
        return context.admission.refuse_inbound(host, public_key, count, now)

    def times_of(self, own: OwnDial) -> DialTimes:
        """Of a dial under way; one whose stream handshake is still to come makes it now."""
        now_ns = self.context.environment.wall_ns()
        return DialTimes(own.handshake_ns, own.stream_handshake_ns or now_ns)

    def _overlap(self, own: DialTimes, theirs: DialTimes, remote: ReceivedHandshake) -> bool:
        # Without a stream a dial lasts until DoHandshake is answered.
        unary_s = (
            0.0
            if self.handshakes.use_stream_with(remote)
            else self.context.options.handshake_timeout_s
        )
        return overlap(own, theirs, lasting_ns=round(unary_s * 1e9))

    def _keep_own(self, own: DialTimes, theirs: DialTimes, remote: ReceivedHandshake) -> bool:
        return keep_own_dial(
            Dialer(self.context.public_key, own),
            Dialer(remote.public_key, theirs),
            other_is_csharp=remote.revision == 0,
        )

    async def _is_held(self, peer: LivePeer) -> bool:
        """Whether the place of a peer is taken: it answers, or another one came in its place."""
        try:
            await peer.check_health(timeout_s=self.context.options.replace_probe_timeout_s)
        except FullBufferError:
            return True  # we could not even ask; its watchdog will
        except (HandlerError, RpcError):
            return True  # an answer all the same
        except NetworkError as exc:
            log.info("%s is dead, its place goes to a newcomer: %s", peer.info, exc)
            return self.context.pool.get(peer.info.public_key) not in (peer, None)
        return True

    # --- peers ---

    def add_stream_peer(
        self,
        stream: MessageStream,
        remote: ReceivedHandshake,
        sent: SentHandshake,
        *,
        endpoint: Endpoint,
        inbound: bool,
        times: DialTimes,
        early: list[bytes],
        greeting: bytes | None = None,
    ) -> LivePeer:
        """Make the peer of a stream whose handshake is exchanged, in place of an older one."""
        make = partial(self._make_stream_peer, stream, early=early, greeting=greeting)
        return self._add_peer(make, remote, sent, self._info(remote, endpoint, inbound, times))

    def add_unary_peer(
        self,
        channel: RpcChannel,
        remote: ReceivedHandshake,
        sent: SentHandshake,
        *,
        endpoint: Endpoint,
        inbound: bool,
    ) -> LivePeer:
        """Make the peer at the other end of a channel, in place of an older one."""
        times = DialTimes.without_stream(remote.time_ns if inbound else sent.time_ns)
        make = partial(self._make_unary_peer, channel)
        return self._add_peer(make, remote, sent, self._info(remote, endpoint, inbound, times))

    def _info(
        self, remote: ReceivedHandshake, endpoint: Endpoint, inbound: bool, times: DialTimes
    ) -> PeerInfo:
        return PeerInfo(
            public_key=remote.public_key,
            endpoint=endpoint,
            inbound=inbound,
            node_version=remote.node_version,
            protocol_version=remote.protocol_version,
            connected_at_ns=self.context.environment.wall_ns(),
            dial_times=times,
            uses_stream=self.handshakes.use_stream_with(remote),
            revision=remote.revision,
        )

    def _add_peer(
        self,
        make: Callable[..., LivePeer],
        remote: ReceivedHandshake,
        sent: SentHandshake,
        info: PeerInfo,
    ) -> LivePeer:
        context = self.context
        held = context.pool.get(remote.public_key)
        if held is not None:
            held.close(CloseReason.REPLACED)
        peer = make(
            info=info,
            chain=PeerChain(
                remote.best_hash, remote.best_height, remote.lib_hash, remote.lib_height
            ),
            bit=context.known.bits.acquire(trio.current_time()),
            sessions=Sessions(ours=sent.session_id, theirs=remote.session_id),
        )
        context.pool.add(peer)
        if not info.inbound:
            # From now on the peer's own dial times speak for it, while it is alive.
            self._own_dials.pop(remote.public_key, None)
        return peer

    async def run_inbound(self, peer: LivePeer, caller: Endpoint) -> None:
        """Live with a peer that dialed us, from its place in the pool to its end."""
        is_guest = self._is_guest(peer)  # now: others may come while it lives
        connected = False
        try:
            with single_error_as_itself():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(peer.run)
                    if is_guest:
                        nursery.start_soon(self._send_off, peer)
                    if await peer.wait_confirmed():
                        connected = True
                        _remember(self._confirmed, (peer.info.public_key, caller), None)
                        self.peer_connected(peer)
        finally:
            self.peer_gone(peer, was_connected=connected)

    async def _send_off(self, guest: LivePeer) -> None:
        """Let a guest go in a while, unless there is a place for it then."""
        with trio.move_on_after(self.context.options.guest_s):
            await guest.wait_closed()
            return
        if self._is_guest(guest):
            guest.close(CloseReason.GUEST)

    def _is_guest(self, peer: LivePeer) -> bool:
        """Whether the pool has no place for an inbound peer beside all others that it holds."""
        info = peer.info
        count = self.context.pool.count_beside(info.public_key, info.endpoint.host)
        return self.context.admission.is_guest(count)

    def peer_connected(self, peer: LivePeer) -> None:
        """The peer's handshake is confirmed; its best chain counts as announced."""
        log.info("connected to %s", peer.info)
        chain = peer.chain
        self.context.lost_peers.peer_connected(peer.info)
        self.context.events.publish(PeerConnected(peer.info, chain.best_hash, chain.best_height))
        self._sync.announced(peer, chain.best_hash, chain.best_height)

    def peer_gone(self, peer: LivePeer, *, was_connected: bool) -> None:
        """The peer's tasks are over."""
        self.context.pool.remove(peer)
        self._sync.gone(peer)
        self.context.known.release(peer.bit, trio.current_time())
        reason = peer.close_reason or CloseReason.LOST
        if reason in _FAULTS:
            self.context.misbehaved(peer, _FAULTS[reason])
        log.info("disconnected from %s: %s", peer.info, reason.value)
        if was_connected:
            if self.context.pool.get(peer.info.public_key) is None:
                self.context.lost_peers.peer_gone(peer.info, reason)
            self.context.events.publish(PeerDisconnected(peer.info, reason, peer.statistics()))


def _remember(table: OrderedDict[_Dialer, V], dialer: _Dialer, value: V) -> None:
    """Put an entry last; beyond REMEMBERED_DIALS the first goes."""
    table[dialer] = value
    table.move_to_end(dialer)
    if len(table) > REMEMBERED_DIALS:
        table.popitem(last=False)


def log_end(endpoint: Endpoint, error: Exception) -> None:
    """What ended a connection whose starter is not there any more. The node lives on."""
    ours = all(isinstance(each, AelfP2PError) for each in each_error(error))
    log.log(
        logging.INFO if ours else logging.ERROR,
        "the connection to %s ended: %s",
        endpoint,
        error,
        exc_info=None if ours else error,
    )
