"""Dialing a node: DoHandshake, the stream and its handshake, the confirmation (protocol §3.1).

Where either node is before 1.4 there is no stream, and the channel itself is the peer (§3.2).
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import trio

from aelf_p2p.contracts import LivePeer, MessageStream, RpcChannel, Transport
from aelf_p2p.core.admission import refused
from aelf_p2p.core.duplicates import DialTimes
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.envelope import META_PUBLIC_KEY
from aelf_p2p.core.errors import (
    AelfP2PError,
    ClosedByUsError,
    DeadlineExceededError,
    HandshakeRefusedError,
    MalformedError,
    NetworkError,
    OwnHandshakeError,
    ProtocolViolationError,
    RefusalReason,
    TransportError,
)
from aelf_p2p.core.handshake import ReceivedHandshake, SentHandshake
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.core.single_error import single_error_as_itself
from aelf_p2p.core.stream_handshake import encode_opening, parse_answer_untrusted
from aelf_p2p.services.connections import Connections, OwnDial, log_end
from aelf_p2p.wire import HandshakeError
from aelf_p2p.wire.methods import DO_HANDSHAKE, REQUEST_BY_STREAM

log = logging.getLogger(__name__)

MAX_LEAST_AGE_S = 3600.0
"""A stream has to live for longer before it is rebuilt each time, up to an hour."""


@dataclass(eq=False)
class _Order:
    """One call of ``connect``: whom to dial, and telling the caller its peer, once."""

    endpoint: Endpoint
    trusted: bool
    task_status: trio.TaskStatus[LivePeer]
    public_key: bytes | None = None
    """The node's, once it is known."""
    done: bool = False
    rebuilding: bool = False
    """Its stream broke, and another one is on the way."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Of the dial, and of the connection."""

    def report(self, peer: LivePeer) -> None:
        self.done = True
        self.task_status.started(peer)


class DialedPeers:
    """Dials nodes; each connection lives in a task of the nursery given."""

    def __init__(
        self, connections: Connections, transport: Transport, nursery: trio.Nursery
    ) -> None:
        self._connections = connections
        self._transport = transport
        self._nursery = nursery
        self._closed = False
        self._under_way: dict[Endpoint, trio.Event] = {}
        self._orders: dict[_Order, None] = {}  # those whose dial or connection is there

    async def connect(self, endpoint: Endpoint, *, trusted: bool = False) -> LivePeer:
        """Dial a node and wait until it is a ready peer. When it is ``trusted``, bans of its host
        and of its key are lifted.

        Returns the peer that is there already when the node turns out to be connected. Raises
        TransportError when it cannot be reached or goes away, HandshakeRefusedError when either
        side refuses, ProtocolViolationError when it answers nonsense, NetworkError when the
        confirmation fails.
        """
        while endpoint in self._under_way:  # then the pool holds it, or it failed
            await self._under_way[endpoint].wait()
        if self._closed:
            raise ClosedByUsError("the node is closed")
        if trusted:
            self._connections.context.bans.lift(endpoint.host)
        ended = self._under_way[endpoint] = trio.Event()
        try:
            peer: LivePeer = await self._nursery.start(self._run, endpoint, trusted)
        finally:
            del self._under_way[endpoint]
            ended.set()
        return peer

    def close(self) -> None:
        """Give up the dials that are under way; their callers get ClosedByUsError."""
        self._closed = True
        for order in list(self._orders):
            if not order.done:
                order.scope.cancel()

    def give_up(self, subject: Endpoint | bytes) -> bool:
        """End a connection, to an endpoint or a key, whose stream is being rebuilt. False when
        there is none."""
        orders = [
            order
            for order in self._orders
            if order.rebuilding and subject in (order.endpoint, order.public_key)
        ]
        for order in orders:
            order.scope.cancel()
        return bool(orders)

    async def _run(
        self, endpoint: Endpoint, trusted: bool, *, task_status: trio.TaskStatus[LivePeer]
    ) -> None:
        """A dialed connection, from its first byte to its last."""
        options = self._connections.context.options
        order = _Order(endpoint, trusted, task_status)
        self._orders[order] = None
        try:
            with order.scope:
                async with self._transport.dial(
                    endpoint, timeout_s=options.dial_timeout_s
                ) as channel:
                    await self._run_channel(channel, order)
            if order.scope.cancelled_caught and not order.done:
                raise ClosedByUsError(f"the node was closed while it dialed {endpoint}")
        except Exception as exc:
            if order.done:
                log_end(endpoint, exc)
            elif isinstance(exc, MalformedError):
                raise ProtocolViolationError(f"{endpoint}: {exc}") from exc
            else:
                raise
        finally:
            del self._orders[order]

    async def _run_channel(self, channel: RpcChannel, order: _Order) -> None:
        connections = self._connections
        context = connections.context
        metadata = {META_PUBLIC_KEY: context.public_key.hex()}
        sent = connections.handshakes.make(channel)
        with connections.handshakes.unanswered(sent):
            reply = await channel.call(
                DO_HANDSHAKE,
                sent.as_request(),
                metadata=metadata,
                timeout_s=context.options.handshake_timeout_s,
            )
        try:
            remote = self._check_reply(reply, channel, order)
        except HandshakeRefusedError as exc:
            if connections.handshakes.came_back(sent):  # the reply says but that it is refused
                raise OwnHandshakeError(
                    exc.code, f"{order.endpoint} is this node itself", sent.session_id
                ) from exc
            held = context.pool.find(order.endpoint)
            if exc.code != HandshakeError.REPEATED_CONNECTION or held is None:
                raise
            await self._report_other(held.info.public_key, order)
            return
        if connections.handshakes.use_stream_with(remote):
            await self._run_stream(channel, order, sent, remote)
        elif await connections.own_dial_stays(DialTimes.without_stream(sent.time_ns), remote):
            self._raise_if_banned(order, remote)
            peer = connections.add_unary_peer(
                channel, remote, sent, endpoint=order.endpoint, inbound=False
            )
            await self._run_peer(peer, peer.run, order)
        if not order.done:
            await self._report_other(remote.public_key, order)

    async def _run_stream(
        self,
        channel: RpcChannel,
        order: _Order,
        sent: SentHandshake,
        remote: ReceivedHandshake,
    ) -> None:
        """From the answer to DoHandshake to the end of the stream, which is made anew when it broke
        and the channel did not (protocol §3.1, step 4)."""
        connections = self._connections
        metadata = {META_PUBLIC_KEY: connections.context.public_key.hex()}
        least_age_s = connections.context.options.rebuild_after_s
        while True:
            with connections.own_dial(remote.public_key, sent) as dial:
                if not await connections.own_dial_stays(connections.times_of(dial), remote):
                    return
                async with channel.open_stream(REQUEST_BY_STREAM, metadata=metadata) as stream:
                    peer = await self._shake_hands(channel, stream, order, dial, remote)
                    if peer is None:
                        return
                    began = trio.current_time()
                    life = partial(_run_on, channel, peer)
                    await self._run_peer(peer, life, order)
            # What breaks at once again would break for ever; the reconnection backs off.
            if trio.current_time() - began < least_age_s or not channel.is_open or self._closed:
                return
            if peer.close_reason is not CloseReason.LOST:
                return
            log.info("rebuilding the stream to %s", peer.info)
            least_age_s = min(2 * least_age_s, MAX_LEAST_AGE_S)
            order.rebuilding = True

    async def _shake_hands(
        self,
        channel: RpcChannel,
        stream: MessageStream,
        order: _Order,
        dial: OwnDial,
        known: ReceivedHandshake,
    ) -> LivePeer | None:
        """The handshake on the stream. None when another connection to the node stays instead."""
        connections = self._connections
        context = connections.context
        options = context.options
        if not await connections.own_dial_stays(connections.times_of(dial), known):
            return None  # again: another one came while the stream was opened
        sent = connections.handshakes.make(channel)
        dial.stream_handshake_ns = sent.time_ns
        request_id = context.environment.new_request_id()
        opening = encode_opening(context.public_key, request_id, sent.as_request())
        messages: list[bytes] = []
        with trio.move_on_after(options.stream_handshake_timeout_s) as scope:
            await stream.send_many([opening])
            messages = await stream.receive_many()
        dial.answered.set()
        if scope.cancelled_caught and dial.gives_way:
            return None
        if scope.cancelled_caught:
            raise DeadlineExceededError(
                f"{order.endpoint} did not answer the handshake on the stream"
            )
        reply, early = parse_answer_untrusted(
            messages, request_id, options.max_message_before_handshake_bytes
        )
        try:
            remote = self._check_reply(reply, channel, order)
        except HandshakeRefusedError as exc:
            if exc.code == HandshakeError.REPEATED_CONNECTION:
                return None  # two dials crossed, and the node keeps its own, which may still come
            raise
        if remote.public_key != known.public_key:
            raise ProtocolViolationError(f"{order.endpoint} changed its key between two handshakes")
        stream.trust()
        times = connections.times_of(dial)
        if dial.gives_way or not await connections.own_dial_stays(times, remote):
            return None
        self._raise_if_banned(order, remote)
        return connections.add_stream_peer(
            stream,
            remote,
            sent,
            endpoint=order.endpoint,
            inbound=False,
            times=times,
            early=early,
        )

    def _check_reply(self, reply: bytes, channel: RpcChannel, order: _Order) -> ReceivedHandshake:
        context = self._connections.context
        remote = self._connections.handshakes.check_reply_untrusted(reply, channel)
        order.public_key = remote.public_key
        if order.trusted:
            context.bans.lift(remote.public_key.hex())
        self._raise_if_banned(order, remote)
        return remote

    def _raise_if_banned(self, order: _Order, remote: ReceivedHandshake) -> None:
        """A node may be banned at any moment of its dial."""
        context = self._connections.context
        now = context.environment.wall_s()
        if context.admission.refuse_dial(order.endpoint.host, remote.public_key, now) is not None:
            raise refused(RefusalReason.BANNED)

    async def _report_other(self, key: bytes, order: _Order) -> None:
        """Report the connection that stays instead of this dial, once it is ready."""
        context = self._connections.context
        with trio.move_on_after(context.options.stream_handshake_timeout_s):
            order.report(await context.pool.wait_ready(key))
            return
        raise HandshakeRefusedError(
            HandshakeError.REPEATED_CONNECTION,
            f"the connection to {order.endpoint} that was to stay instead of this one did not come",
        )

    async def _run_peer(
        self, peer: LivePeer, life: Callable[[], Awaitable[None]], order: _Order
    ) -> None:
        """Confirm, report, and live with the peer until it is closed. A stream that was rebuilt is
        confirmed already.

        Reports nothing when the other side's dial took its place before the confirmation.
        """
        rebuilt, order.rebuilding = order.rebuilding, False
        connected = False
        failure: AelfP2PError | None = None
        try:
            with single_error_as_itself():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(life)
                    try:
                        if rebuilt:
                            peer.confirmed_by_peer()
                        else:
                            await peer.confirm()
                    except NetworkError as exc:
                        if peer.close_reason is not CloseReason.REPLACED:
                            failure = exc
                            peer.close(CloseReason.UNCONFIRMED)
                    else:
                        connected = True
                        self._connections.peer_connected(peer)
                        if not rebuilt:
                            order.report(peer)
        finally:
            self._connections.peer_gone(peer, was_connected=connected)
        if failure is not None:
            raise failure


async def _run_on(channel: RpcChannel, peer: LivePeer) -> None:
    """A peer's life on a stream. A C# node that stops drains its connections, and then waits for
    their streams to end (protocol §3.4): so ours does."""

    async def leave_with_the_channel() -> None:
        with suppress(TransportError):  # of a loss the stream tells
            await channel.wait_draining()
            peer.close(CloseReason.DISCONNECTED_BY_PEER)

    with single_error_as_itself():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave_with_the_channel)
            await peer.run()
            nursery.cancel_scope.cancel()
