"""A peer of the old kind: unary calls, and a client stream for each kind of broadcast.

Source: protocol §3.2. Each side has a channel of its own to the other; what the peer asks and
broadcasts comes to our listener, and the acceptor serves it there.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from aelf_p2p.contracts import Metadata, RpcChannel
from aelf_p2p.core.broadcast import BroadcastKind
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
from aelf_p2p.core.peer_info import CloseReason, PeerInfo, PeerStatistics
from aelf_p2p.core.sessions import Sessions
from aelf_p2p.peers.broadcast_streams import BroadcastStreams
from aelf_p2p.peers.connected_peer import ConnectedPeer
from aelf_p2p.wire import DisconnectReason, MessageType
from aelf_p2p.wire import methods as m

log = logging.getLogger(__name__)

_METHODS: dict[int, m.Method] = {
    MessageType.REQUEST_BLOCK: m.REQUEST_BLOCK,
    MessageType.REQUEST_BLOCKS: m.REQUEST_BLOCKS,
    MessageType.GET_NODES: m.GET_NODES,
    MessageType.HEALTH_CHECK: m.CHECK_HEALTH,
    MessageType.CONFIRM_HAND_SHAKE: m.CONFIRM_HANDSHAKE,
}
_GONE = {StatusCode.CANCELLED, StatusCode.UNAVAILABLE}
_NO_SIGN_OF_LIFE = {*_GONE, StatusCode.DEADLINE_EXCEEDED}


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
        self._metadata: Metadata = {
            META_PUBLIC_KEY: own_public_key.hex(),
            META_SESSION_ID: sessions.theirs,
        }
        self._streams = BroadcastStreams(channel, self._metadata, options, bit)
        super().__init__(
            info=info,
            chain=chain,
            bit=bit,
            sessions=sessions,
            environment=environment,
            options=options,
            outgoing=self._streams,
        )
        self._channel = channel
        self._calls: dict[trio.CancelScope, None] = {}  # under way
        # When our session was last shown there (monotonic seconds). A dialer's confirmation does.
        self._session_shown_at = -math.inf if info.inbound else trio.current_time()

    # --- what services see ---

    def statistics(self) -> PeerStatistics:
        """Its counters now. What it sends is not acknowledged, and counts nothing here."""
        queues, in_hand = self._streams.queues, self._streams.in_hand
        return PeerStatistics(
            queued_blocks=queues.blocks + in_hand(BroadcastKind.BLOCK),
            queued_announcements=queues.announcements
            + in_hand(BroadcastKind.ANNOUNCEMENT, BroadcastKind.LIB_ANNOUNCEMENT),
            queued_transactions=queues.transactions + in_hand(BroadcastKind.TRANSACTION),
            queued_bytes=queues.queued_bytes,
            unacknowledged=0,
            sent=dict(self._streams.sent),
            acknowledged={},
            dropped=dict(queues.dropped),
            ignored={},
        )

    # --- its life ---

    def _tasks(self) -> Sequence[Callable[[], Awaitable[None]]]:
        return [self._watch_channel, *(partial(self._broadcast, kind) for kind in BroadcastKind)]

    async def _watch_channel(self) -> None:
        try:
            await self._channel.wait_draining()
        except TransportError as exc:
            log.debug("%s: the channel broke: %s", self.info, exc)
        # Drained or broken: a goodbye comes by a call of the peer's.
        self.close(CloseReason.LOST)

    def _next_probe_at(self) -> float:
        """Also so often that its node does not take our connection for an idle stranger's: at once
        where it dialed us, since on ours it has not seen our session yet."""
        shown_until = self._session_shown_at + self._options.unary_call_period_s
        return min(super()._next_probe_at(), shown_until)

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

    # --- requests ---

    async def _request(self, message_type: int, request: bytes, timeout_s: float) -> bytes:
        """One call and its reply, both attempts within the time. Raises NetworkError."""
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
        """Once more at once after any fault (protocol §3), unless the time is over."""
        deadline = trio.current_time() + timeout_s
        try:
            return await self._call_once(method, request, timeout_s)
        except TransportError as exc:
            left_s = deadline - trio.current_time()
            if left_s <= 0 or not self._channel.is_open:
                raise
            log.debug("%s: %s once more: %s", self.info, method.name, exc)
            return await self._call_once(method, request, left_s)

    async def _call_once(self, method: m.Method, request: bytes, timeout_s: float) -> bytes:
        try:
            reply = await self._channel.call(
                method, request, metadata=self._metadata, timeout_s=timeout_s
            )
        except CallFailedError as exc:
            if exc.code not in _NO_SIGN_OF_LIFE:
                self._answered()
            raise
        self._answered()
        return reply

    def _answered(self) -> None:
        self.heard()
        self._session_shown_at = trio.current_time()

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
