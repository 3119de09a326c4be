"""A peer on one bidirectional stream: the dialer's side and the acceptor's are the same class.

They differ only in who shook hands first. The peer's nursery owns the stream's reader, its sender
(which owns the broadcast queues), the workers that answer requests, and a watchdog.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

import trio

from aelf_p2p.contracts import MessageStream, SessionHandler
from aelf_p2p.core.budgets import ByteBudget
from aelf_p2p.core.chain_status import PeerChain
from aelf_p2p.core.envelope import envelope_body, reply_prefix, request_prefix
from aelf_p2p.core.environment import Environment
from aelf_p2p.core.errors import (
    CallFailedError,
    NotConnectedError,
    PeerUnstableError,
    StatusCode,
    TransportError,
    UnrecoverableError,
)
from aelf_p2p.core.message_sizes import MAX_MESSAGE_BYTES, max_unasked_bytes
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason, PeerInfo, PeerStatistics
from aelf_p2p.core.pending import PendingRequests
from aelf_p2p.core.sessions import Sessions
from aelf_p2p.peers.connected_peer import ConnectedPeer
from aelf_p2p.peers.outbox import Outbox
from aelf_p2p.peers.stream_session import StreamSession
from aelf_p2p.wire import DisconnectReason, MessageType, StreamMessage

log = logging.getLogger(__name__)

_DROPPED = {StatusCode.CANCELLED, StatusCode.UNAVAILABLE}
_REQUESTS_FOR_BLOCKS: set[int] = {MessageType.REQUEST_BLOCK, MessageType.REQUEST_BLOCKS}


@dataclass(eq=False)
class _Waiter:
    """What waits for the reply to one of our requests."""

    done: trio.Event = field(default_factory=trio.Event)
    reply: bytes | memoryview | None = None

    def resolve(self, reply: bytes | memoryview) -> None:
        self.reply = reply
        self.done.set()


class StreamPeer(ConnectedPeer):
    """A ``Peer`` on a RequestByStream whose handshake was exchanged."""

    def __init__(
        self,
        stream: MessageStream,
        *,
        info: PeerInfo,
        chain: PeerChain,
        bit: int,
        sessions: Sessions,
        early: list[bytes],
        greeting: bytes | None,
        handler: SessionHandler,
        environment: Environment,
        options: NetworkOptions,
        own_public_key: bytes,
        large_replies: ByteBudget,
    ) -> None:
        self._prefix = request_prefix(own_public_key, sessions.theirs)
        self._outbox = Outbox(self._prefix, options, bit, large_replies=large_replies)
        super().__init__(
            info=info,
            chain=chain,
            bit=bit,
            sessions=sessions,
            environment=environment,
            options=options,
            outgoing=self._outbox,
        )
        self._stream = stream
        self._early = early
        if greeting is not None:
            self._outbox.post_nowait(greeting)
        self._pending: PendingRequests[_Waiter] = PendingRequests(options.max_pending_requests)
        self._awaited_blocks = 0  # unanswered requests for blocks
        self._session = StreamSession(
            peer=self,
            sessions=sessions,
            handler=handler,
            options=options,
            reply_prefix=reply_prefix(sessions.theirs),
            post_nowait=self._outbox.post_nowait,
            send_nowait=self._outbox.send_nowait,
            is_full=self._outbox.is_full,
            acknowledge_many=self._outbox.acknowledge_many,
            match_reply=self._match_reply,
            confirm=self.confirmed_by_peer,
        )

    def statistics(self) -> PeerStatistics:
        """Its counters now."""
        queues = self._outbox.queues
        return PeerStatistics(
            queued_blocks=queues.blocks,
            queued_announcements=queues.announcements,
            queued_transactions=queues.transactions,
            queued_bytes=queues.queued_bytes,
            unacknowledged=len(self._outbox.window),
            sent=dict(self._outbox.sent),
            acknowledged=dict(self._outbox.acknowledged),
            dropped=dict(queues.dropped),
            ignored=dict(self._session.ignored),
        )

    # --- its life ---

    def _tasks(self) -> Sequence[Callable[[], Awaitable[None]]]:
        workers = [self._session.work] * self._options.workers_per_peer
        return [self._receive, self._send, *workers]

    async def _receive(self) -> None:
        try:
            messages = self._early or await self._stream.receive_many()
            self._early = []
            while messages:
                self.heard()
                await self._session.take_untrusted(messages)
                # Else a reply of a hundred megabytes would be kept while it is parsed, or until
                # something else comes.
                del messages
                messages = await self._stream.receive_many()
        except CallFailedError as exc:
            # A message over the limit: no server has a reason to end a stream with this status.
            if exc.code is StatusCode.RESOURCE_EXHAUSTED:
                log.info("%s: dropped for breaking the protocol: %s", self.info, exc.details)
                self.close(CloseReason.VIOLATION)
            elif exc.code in _DROPPED:
                self.close(CloseReason.DROPPED_BY_PEER)
            log.debug("%s: the stream ended: %s", self.info, exc)
        except TransportError as exc:
            log.debug("%s: the stream broke: %s", self.info, exc)
        self.close(CloseReason.LOST)  # without effect on one that is closed

    async def _send(self) -> None:
        try:
            await self._outbox.run(self._stream)
        except TransportError as exc:
            log.debug("%s: the stream broke under a send: %s", self.info, exc)
            self.close(CloseReason.LOST)

    async def _say_goodbye(self) -> bool:
        """DISCONNECT, then the end of our half; an answer of the other side is its own end."""
        payload = DisconnectReason(why=DisconnectReason.SHUTDOWN).SerializeToString()
        body = envelope_body(MessageType.DISCONNECT, self._environment.new_request_id(), payload)
        try:
            await self._stream.send_many([self._prefix + body])
        except TransportError as exc:
            log.debug("%s: gone before our goodbye: %s", self.info, exc)
            return False
        with suppress(TransportError):  # gone, but it has heard
            await self._stream.send_eof()
            while await self._stream.receive_many():
                pass
        return True

    # --- requests ---

    async def _request(
        self, message_type: int, request: bytes, timeout_s: float
    ) -> bytes | memoryview:
        """One request and its reply. Raises NetworkError."""
        if self.close_reason is not None:
            raise NotConnectedError(f"{self.info} is closed: {self.close_reason.value}")
        request_id = self._environment.new_request_id()
        waiter = _Waiter()
        self._pending.add(request_id, message_type, waiter)
        try:
            self._outbox.send_nowait(
                self._prefix + envelope_body(message_type, request_id, request)
            )
            for_blocks = message_type in _REQUESTS_FOR_BLOCKS
            with self._room_for_blocks(waiter) if for_blocks else nullcontext():
                with trio.move_on_after(timeout_s):
                    await waiter.done.wait()
        finally:
            self._pending.discard(request_id)
        if waiter.reply is not None:
            return waiter.reply
        name = MessageType.Name(message_type)
        if self.close_reason is not None:
            raise UnrecoverableError(f"{self.info} was closed before it answered {name}")
        raise PeerUnstableError(f"{self.info} did not answer {name} within {timeout_s:g} s")

    def _give_up_requests(self) -> None:
        for waiter in self._pending.clear():  # nobody reads replies any more
            waiter.done.set()

    @contextmanager
    def _room_for_blocks(self, waiter: _Waiter) -> Iterator[None]:
        """The peer's messages may be as large as any, until it has answered.

        They still may after a timeout, until another such request is answered: the late reply of a
        peer that is honest and slow must not break the stream.
        """
        self._awaited_blocks += 1
        self._stream.limit_messages(MAX_MESSAGE_BYTES)
        try:
            yield
        finally:
            self._awaited_blocks -= 1
            if waiter.reply is not None and not self._awaited_blocks:
                self._stream.limit_messages(max_unasked_bytes(self._options))

    def _match_reply(self, reply: StreamMessage, message: bytes | memoryview, data: bytes) -> bool:
        """Give a reply's message to what waits for it; False when nothing does. All of the reply
        is in ``data``."""
        request_id, message_type = reply.request_id, reply.message_type
        if self._outbox.acknowledge(request_id, message_type, data):
            return True
        waiter = self._pending.match(request_id, message_type)
        if waiter is None:
            return False
        waiter.resolve(message)
        return True
