"""A peer of the old kind: unary calls, and a client stream for each kind of broadcast.

Source: protocol §3.2. Each side has a channel of its own to the other; what the peer asks and
broadcasts comes to our listener, and the acceptor serves it there.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from aelf_p2p.contracts import Metadata, RpcChannel
from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind, DropReason
from aelf_p2p.core.chain_status import PeerChain
from aelf_p2p.core.envelope import META_PUBLIC_KEY, META_SESSION_ID
from aelf_p2p.core.environment import Environment
from aelf_p2p.core.errors import (
    CallFailedError,
    ConnectionLostError,
    DeadlineExceededError,
    FullBufferError,
    HandlerError,
    NetworkError,
    NotConnectedError,
    PeerUnstableError,
    RpcError,
    StatusCode,
    TransportError,
    UnrecoverableError,
)
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason, PeerInfo, PeerStatistics, PeerStatus
from aelf_p2p.core.sessions import Sessions
from aelf_p2p.peers.broadcast_streams import BroadcastStreams
from aelf_p2p.peers.connected_peer import ConnectedPeer
from aelf_p2p.wire import DisconnectReason, MessageType
from aelf_p2p.wire import methods as m

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""A call is made once more, at once, after any fault (protocol §3)."""

_METHODS: dict[int, m.Method] = {
    MessageType.REQUEST_BLOCK: m.REQUEST_BLOCK,
    MessageType.REQUEST_BLOCKS: m.REQUEST_BLOCKS,
    MessageType.GET_NODES: m.GET_NODES,
    MessageType.HEALTH_CHECK: m.CHECK_HEALTH,
    MessageType.CONFIRM_HAND_SHAKE: m.CONFIRM_HANDSHAKE,
}
_GONE = {StatusCode.CANCELLED, StatusCode.UNAVAILABLE}


class UnaryPeer(ConnectedPeer):
    """A ``Peer`` at the other end of a channel, where either node is before 1.4."""

    def __init__(
        self,
        channel: RpcChannel,
        *,
        info: PeerInfo,
        chain: PeerChain,
        bit: int,
        sessions: Sessions,
        environment: Environment,
        options: NetworkOptions,
        own_public_key: bytes,
    ) -> None:
        super().__init__(
            info=info,
            chain=chain,
            bit=bit,
            sessions=sessions,
            environment=environment,
            options=options,
        )
        self._channel = channel
        self._metadata: Metadata = {
            META_PUBLIC_KEY: own_public_key.hex(),
            META_SESSION_ID: sessions.theirs,
        }
        self._streams = BroadcastStreams(channel, self._metadata, options, bit)
        self._calls: dict[trio.CancelScope, None] = {}  # under way

    # --- what services see ---

    def statistics(self) -> PeerStatistics:
        """Its counters now. What it sends is not acknowledged, and counts nothing here."""
        queues = self._streams.queues
        return PeerStatistics(
            queued_blocks=queues.blocks,
            queued_announcements=queues.announcements,
            queued_transactions=queues.transactions,
            queued_bytes=queues.queued_bytes,
            unacknowledged=0,
            sent=dict(self._streams.sent),
            acknowledged={},
            dropped=dict(queues.dropped),
            ignored={},
        )

    def enqueue(self, item: BroadcastItem) -> DropReason | None:
        """Queue a broadcast; never blocks. Returns None, or why it was not queued (and counted)."""
        if self.status is not PeerStatus.READY:
            self._streams.queues.dropped[item.kind, DropReason.NOT_READY] += 1
            return DropReason.NOT_READY
        return self._streams.enqueue_nowait(item)

    # --- its life ---

    def _tasks(self) -> Sequence[Callable[[], Awaitable[None]]]:
        return [self._watch_channel, *(partial(self._broadcast, kind) for kind in BroadcastKind)]

    async def _watch_channel(self) -> None:
        try:
            await self._channel.wait_draining()
        except TransportError as exc:
            log.debug("%s: the channel broke: %s", self.info, exc)
            self.close(CloseReason.LOST)
        else:
            self.close(CloseReason.DISCONNECTED_BY_PEER)

    async def _broadcast(self, kind: BroadcastKind) -> None:
        try:
            await self._streams.send(kind)
        except UnrecoverableError as exc:
            log.debug("%s: %s", self.info, exc)
            self.close(CloseReason.LOST)

    async def _say_goodbye(self) -> bool:
        reason = DisconnectReason(why=DisconnectReason.SHUTDOWN).SerializeToString()
        try:
            await self._channel.call(
                m.DISCONNECT,
                reason,
                metadata=self._metadata,
                timeout_s=self._options.goodbye_timeout_s,
            )
        except ConnectionLostError as exc:
            log.debug("%s: gone before our goodbye: %s", self.info, exc)
            return False
        except TransportError as exc:
            log.debug("%s: our goodbye failed: %s", self.info, exc)
        return True

    def _drop_queued(self) -> None:
        self._streams.close()

    # --- requests ---

    async def _request(self, message_type: int, request: bytes, timeout_s: float) -> bytes:
        """One call and its reply; each attempt has the whole time. Raises NetworkError."""
        if self.close_reason is not None:
            raise NotConnectedError(f"{self.info} is closed: {self.close_reason.value}")
        if len(self._calls) >= self._options.max_pending_requests:
            raise FullBufferError(f"{len(self._calls)} requests are unanswered already")
        method = _METHODS[message_type]
        scope = trio.CancelScope()
        self._calls[scope] = None
        try:
            with scope:
                return await self._call(method, request, timeout_s)
        except TransportError as exc:
            raise self._what_to_do(method, exc) from exc
        finally:
            del self._calls[scope]
        raise UnrecoverableError(f"{self.info} was closed before it answered {method.name}")

    async def _call(self, method: m.Method, request: bytes, timeout_s: float) -> bytes:
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                reply = await self._channel.call(
                    method, request, metadata=self._metadata, timeout_s=timeout_s
                )
            except TransportError as exc:
                if not (attempts_left and self._channel.is_open):
                    raise
                log.debug("%s: %s once more: %s", self.info, method.name, exc)
            else:
                self.heard()
                return reply
        raise AssertionError("the last attempt returns or raises")

    def _what_to_do(self, method: m.Method, error: TransportError) -> NetworkError:
        """What a failed call means for the peer (protocol §3.4: an old node's reading)."""
        told = f"{self.info}: {method.name}: {error}"
        if isinstance(error, DeadlineExceededError):
            return PeerUnstableError(told)
        if isinstance(error, CallFailedError) and error.code not in _GONE:
            if error.code is StatusCode.DEADLINE_EXCEEDED:
                return PeerUnstableError(told)
            return HandlerError(told) if error.code is StatusCode.UNKNOWN else RpcError(told)
        return UnrecoverableError(told)

    def _give_up_requests(self) -> None:
        for scope in self._calls:
            scope.cancel()
