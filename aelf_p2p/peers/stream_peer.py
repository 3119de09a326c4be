"""A peer on one bidirectional stream: the dialer's side and the acceptor's are the same class.

They differ only in who shook hands first. The peer's nursery owns the stream's reader, its sender
(which owns the broadcast queues), the workers that answer requests, and a watchdog.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

import trio

from aelf_p2p.contracts import MessageStream, PeerStatistics, SessionHandler
from aelf_p2p.core.block import Block, parse_block_list_untrusted
from aelf_p2p.core.broadcast import BroadcastItem
from aelf_p2p.core.chain_status import PeerChain
from aelf_p2p.core.envelope import envelope_body, reply_prefix, request_prefix
from aelf_p2p.core.environment import Environment
from aelf_p2p.core.errors import (
    CallFailedError,
    FullBufferError,
    HandlerError,
    MalformedError,
    NetworkError,
    NotConnectedError,
    PeerUnstableError,
    StatusCode,
    TransportError,
    UnrecoverableError,
)
from aelf_p2p.core.message_sizes import MAX_MESSAGE_BYTES, max_unasked_bytes
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.payloads import (
    NodeRecord,
    encode_block_request,
    encode_blocks_request,
    encode_nodes_request,
    parse_block_reply_in_steps_untrusted,
    parse_node_list_untrusted,
)
from aelf_p2p.core.peer_info import CloseReason, PeerInfo, PeerStatus
from aelf_p2p.core.pending import PendingRequests
from aelf_p2p.core.send_queues import DropReason
from aelf_p2p.core.sessions import Sessions
from aelf_p2p.core.single_error import single_error_as_itself
from aelf_p2p.peers.outbox import Outbox
from aelf_p2p.peers.stream_session import StreamSession
from aelf_p2p.wire import DisconnectReason, MessageType, StreamMessage

log = logging.getLogger(__name__)

_POLITE = {
    CloseReason.SHUTDOWN,
    CloseReason.REMOVED,
    CloseReason.REPLACED,
    CloseReason.UNCONFIRMED,
    CloseReason.ABNORMAL,
    CloseReason.FRUITLESS,
    CloseReason.BANNED,
}
_REQUESTS_FOR_BLOCKS: set[int] = {MessageType.REQUEST_BLOCK, MessageType.REQUEST_BLOCKS}


@dataclass(eq=False)
class _Waiter:
    """What waits for the reply to one of our requests."""

    done: trio.Event = field(default_factory=trio.Event)
    reply: bytes | None = None

    def resolve(self, reply: bytes) -> None:
        self.reply = reply
        self.done.set()


class StreamPeer:
    """A ``Peer`` on a RequestByStream whose handshake was exchanged. ``run`` is its life."""

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
    ) -> None:
        self.info = info
        self.chain = chain
        self.bit = bit
        self.close_reason: CloseReason | None = None
        self.status = PeerStatus.UNCONFIRMED
        """Whether it is ready, and why not; looked at for each broadcast."""
        self._stream = stream
        self._early = early
        self._sessions = sessions
        self._environment = environment
        self._options = options
        self._prefix = request_prefix(own_public_key, sessions.theirs)
        self._outbox = Outbox(self._prefix, options)
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
            is_full=self._outbox.is_full,
            acknowledge=self._outbox.acknowledge_bytes,
            match_reply=self._match_reply,
            confirm=self.confirmed_by_peer,
        )
        self._confirmed = trio.Event()
        self._settled = trio.Event()  # confirmed or closed
        self._closing = trio.Event()
        self._closed = trio.Event()
        self._last_heard = trio.current_time()

    def __repr__(self) -> str:
        return f"<StreamPeer {self.info} {self.status.name}>"

    # --- what services see ---

    def accepts_session(self, shown: str | bytes) -> bool:
        """Whether this is the session id that we announced to it; hex text or bytes."""
        return self._sessions.authenticate(shown)

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

    def enqueue(self, item: BroadcastItem) -> DropReason | None:
        """Queue a broadcast; never blocks. Returns None, or why it was not queued (and counted)."""
        if self.status is not PeerStatus.READY:
            self._outbox.queues.dropped[item.kind, DropReason.NOT_READY] += 1
            return DropReason.NOT_READY
        return self._outbox.enqueue_nowait(item)

    async def request_block(self, block_hash: bytes) -> Block | None:
        """The block, or None when the peer does not have it. Raises NetworkError."""
        reply = await self._request(
            MessageType.REQUEST_BLOCK,
            encode_block_request(block_hash),
            self._options.request_timeout_s,
        )
        block: Block | None = None
        with _as_handler_error(self.info):
            for step in parse_block_reply_in_steps_untrusted(reply):
                block = step
                await trio.lowlevel.checkpoint()
        return block

    async def request_blocks(self, previous_hash: bytes, count: int) -> list[Block]:
        """At most ``count`` blocks that follow a block. Raises NetworkError."""
        reply = await self._request(
            MessageType.REQUEST_BLOCKS,
            encode_blocks_request(previous_hash, count),
            self._options.blocks_timeout_s,
        )
        blocks: list[Block] = []
        with _as_handler_error(self.info):
            for block in parse_block_list_untrusted(reply):
                if block is not None:
                    blocks.append(block)
                if len(blocks) > count:
                    raise MalformedError(f"over {count} blocks in answer to a request for {count}")
                await trio.lowlevel.checkpoint()  # a list may be 100 MiB long
        return blocks

    async def request_nodes(self, max_count: int) -> list[NodeRecord]:
        """Nodes that the peer knows, malformed ones left out. Raises NetworkError."""
        reply = await self._request(
            MessageType.GET_NODES, encode_nodes_request(max_count), self._options.request_timeout_s
        )
        with _as_handler_error(self.info):
            return parse_node_list_untrusted(reply, max_count)

    async def check_health(self, *, timeout_s: float) -> None:
        """Ask whether it is alive. Raises NetworkError."""
        await self._request(MessageType.HEALTH_CHECK, b"", timeout_s)

    async def confirm(self) -> None:
        """The dialer's last step: send CONFIRM_HAND_SHAKE and wait for its answer.

        Raises NetworkError; the peer is then not ready and should be closed.
        """
        await self._request(
            MessageType.CONFIRM_HAND_SHAKE, b"", self._options.stream_handshake_timeout_s
        )
        self.confirmed_by_peer()

    def confirmed_by_peer(self) -> None:
        """CONFIRM_HAND_SHAKE arrived: on the stream, or by the unary call."""
        if self.close_reason is None:
            self.status = PeerStatus.READY
        self._confirmed.set()
        self._settled.set()

    async def wait_confirmed(self) -> bool:
        """Wait until it is ready; False when it was closed instead."""
        await self._settled.wait()
        return self.status is PeerStatus.READY

    def close(self, reason: CloseReason) -> None:
        """Begin to end the connection; the first reason stays."""
        if self.close_reason is None:
            self.close_reason = reason
            self.status = PeerStatus.CLOSED
            self._closing.set()
            self._settled.set()

    async def wait_closed(self) -> None:
        """Wait until its tasks are gone."""
        await self._closed.wait()

    # --- its life ---

    async def run(self) -> None:
        """Live until closed, by either side or by cancellation.

        Owns every task of this peer. Says DISCONNECT before it leaves, unless the other side is
        gone or is not worth it, in at most ``goodbye_timeout_s`` even when cancelled.
        """
        try:
            with single_error_as_itself():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._receive)
                    nursery.start_soon(self._send)
                    nursery.start_soon(self._watch)
                    for _ in range(self._options.workers_per_peer):
                        nursery.start_soon(self._session.work)
                    await self._closing.wait()
                    nursery.cancel_scope.cancel()
        finally:
            cancelled = self.close_reason is None
            self.close(CloseReason.SHUTDOWN)  # without effect unless we were cancelled
            for waiter in self._pending.clear():  # nobody reads replies any more
                waiter.done.set()
            try:
                if self._owes_goodbye() and not await self._say_goodbye() and cancelled:
                    # An acceptor's peer is cancelled too when the dialer is gone.
                    self.close_reason = CloseReason.LOST
            finally:
                self._outbox.close()
                self._closed.set()

    def _owes_goodbye(self) -> bool:
        if self.close_reason is CloseReason.REPLACED and self.info.is_csharp:
            return False  # it would remove whatever it holds by our key: the connection that stays
        return self.close_reason in _POLITE

    async def _receive(self) -> None:
        try:
            messages = self._early or await self._stream.receive_many()
            while messages:
                self._last_heard = trio.current_time()
                await self._session.take_untrusted(messages)
                messages = await self._stream.receive_many()
        except TransportError as exc:
            # A message over the limit: no server has a reason to end a stream with this status.
            if isinstance(exc, CallFailedError) and exc.code is StatusCode.RESOURCE_EXHAUSTED:
                log.info("%s: dropped for breaking the protocol: %s", self.info, exc.details)
                self.close(CloseReason.VIOLATION)
            else:
                log.debug("%s: the stream broke: %s", self.info, exc)
        self.close(CloseReason.LOST)  # without effect on one that is closed

    async def _send(self) -> None:
        try:
            await self._outbox.run(self._stream)
        except TransportError as exc:
            log.debug("%s: the stream broke under a send: %s", self.info, exc)
            self.close(CloseReason.LOST)

    async def _watch(self) -> None:
        """Close a peer that is never confirmed, and one that is silent and stays so when asked."""
        with trio.move_on_after(self._options.unconfirmed_timeout_s):
            await self._confirmed.wait()
        if not self._confirmed.is_set():
            log.info("%s: never confirmed its handshake", self.info)
            self.close(CloseReason.UNCONFIRMED)
            return
        while True:
            ask_at = self._last_heard + self._options.silence_probe_s
            if trio.current_time() < ask_at:
                await trio.sleep_until(ask_at)
                continue
            try:
                await self._probe(self._options.silence_probe_timeout_s)
            except NetworkError as exc:
                log.info("%s: silent: %s", self.info, exc)
                self.close(CloseReason.SILENT)
                return

    async def _probe(self, timeout_s: float) -> None:
        """Ask a silent peer for a sign of life. Raises NetworkError when none comes."""
        asked_at = trio.current_time()
        try:
            await self.check_health(timeout_s=timeout_s)
        except FullBufferError:
            # No room to ask: what waits for it asks it already, and it has as long to answer.
            await trio.sleep(timeout_s)
            if self._last_heard < asked_at:
                raise

    async def _say_goodbye(self) -> bool:
        """DISCONNECT, then the end of our half; an answer of the other side is its own end.

        False when the other side was gone before."""
        payload = DisconnectReason(why=DisconnectReason.SHUTDOWN).SerializeToString()
        body = envelope_body(MessageType.DISCONNECT, self._environment.new_request_id(), payload)
        deadline = trio.current_time() + self._options.goodbye_timeout_s
        with trio.CancelScope(deadline=deadline, shield=True):
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

    async def _request(self, message_type: int, request: bytes, timeout_s: float) -> bytes:
        """One request and its reply. Raises NetworkError."""
        if self.close_reason is not None:
            raise NotConnectedError(f"{self.info} is closed: {self.close_reason.value}")
        request_id = self._environment.new_request_id()
        waiter = _Waiter()
        self._pending.add(request_id, message_type, waiter)
        try:
            self._outbox.post_nowait(
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

    def _match_reply(self, reply: StreamMessage, data: bytes) -> bool:
        """Give a reply, of these bytes, to what waits for it; False when nothing does."""
        request_id, message_type = reply.request_id, reply.message_type
        if self._outbox.acknowledge(request_id, message_type, data):
            return True
        waiter = self._pending.match(request_id, message_type)
        if waiter is None:
            return False
        waiter.resolve(reply.message)
        return True


@contextmanager
def _as_handler_error(info: PeerInfo) -> Iterator[None]:
    """An answer that cannot be parsed is an answer that the peer got wrong."""
    try:
        yield
    except MalformedError as exc:
        raise HandlerError(f"{info} gave a malformed answer: {exc}") from exc
