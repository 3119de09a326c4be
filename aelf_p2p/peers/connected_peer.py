"""What the two kinds of peers have in common: who it is, what it is asked, and its life.

A kind says how a request is asked, which tasks a connection takes, and how one says goodbye on it.
"""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import trio

from aelf_p2p.core.block import Block, parse_block_list_untrusted
from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind, DropReason
from aelf_p2p.core.chain_status import PeerChain
from aelf_p2p.core.environment import Environment
from aelf_p2p.core.errors import (
    FullBufferError,
    HandlerError,
    MalformedError,
    NetworkError,
    RpcError,
    UnrecoverableError,
)
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.payloads import (
    NodeRecord,
    encode_block_request,
    encode_blocks_request,
    encode_nodes_request,
    parse_block_reply_in_steps_untrusted,
    parse_node_list_untrusted,
)
from aelf_p2p.core.peer_info import CloseReason, PeerInfo, PeerStatistics, PeerStatus
from aelf_p2p.core.round_trips import RoundTrip, RoundTrips
from aelf_p2p.core.send_queues import SendQueues
from aelf_p2p.core.sessions import Sessions
from aelf_p2p.core.single_error import single_error_as_itself
from aelf_p2p.core.steps import in_turns
from aelf_p2p.wire import MessageType

log = logging.getLogger(__name__)

_READY = PeerStatus.READY  # looking it up in its enum takes as long as comparing it
_POLITE = {
    CloseReason.SHUTDOWN,
    CloseReason.REMOVED,
    CloseReason.REPLACED,
    CloseReason.UNCONFIRMED,
    CloseReason.ABNORMAL,
    CloseReason.FRUITLESS,
    CloseReason.INVALID_TRANSACTIONS,
    CloseReason.BANNED,
    CloseReason.GUEST,
}


class Outgoing(Protocol):
    """What waits to be sent to a peer, and what came of it."""

    queues: SendQueues
    sent: Counter[BroadcastKind]

    def enqueue_nowait(self, item: BroadcastItem) -> DropReason | None:
        """Queue a broadcast; None, or why it was refused."""

    def close(self) -> None:
        """The connection is gone: what waits is lost, and counted."""


class ConnectedPeer(ABC):
    """A peer whose handshake was exchanged. ``run`` is its life.

    A base class, since a peer is one object with one life to those who hold it, and the kinds
    differ in the middle of that life only.
    """

    def __init__(
        self,
        *,
        info: PeerInfo,
        chain: PeerChain,
        bit: int,
        sessions: Sessions,
        environment: Environment,
        options: NetworkOptions,
        outgoing: Outgoing,
    ) -> None:
        self.info = info
        self.chain = chain
        self.bit = bit
        self.close_reason: CloseReason | None = None
        self.status = PeerStatus.UNCONFIRMED
        """Whether it is ready, and why not; looked at for each broadcast."""
        self._status_changed: Callable[[], None] = lambda: None
        self._sessions = sessions
        self._environment = environment
        self._options = options
        self._outgoing = outgoing
        self._round_trips = RoundTrips()
        self._confirmed = trio.Event()
        self._settled = trio.Event()  # confirmed or closed
        self._closing = trio.Event()
        self._closed = trio.Event()
        self._last_heard = trio.current_time()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.info} {self.status.name}>"

    # --- what a kind adds ---

    @abstractmethod
    async def _request(
        self, message_type: int, request: bytes, timeout_s: float
    ) -> bytes | memoryview:
        """One request, of this type on a stream, and its reply. Raises NetworkError."""

    @abstractmethod
    def _tasks(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """What runs until the peer is closed."""

    @abstractmethod
    def _give_up_requests(self) -> None:
        """The peer is closed: whoever waits for a reply waits no more."""

    @abstractmethod
    async def _say_goodbye(self) -> bool:
        """DISCONNECT, for as long as that takes. False when the other side was gone before."""

    @abstractmethod
    def statistics(self) -> PeerStatistics:
        """Its counters now."""

    def _next_probe_at(self) -> float:
        """When it is to be asked whether it lives, unless something happens."""
        return self._last_heard + self._options.silence_probe_s

    # --- what services see ---

    def accepts_session(self, shown: str | bytes) -> bool:
        """Whether this is the session id that we announced to it; hex text or bytes."""
        return self._sessions.authenticate(shown)

    def enqueue(self, item: BroadcastItem) -> DropReason | None:
        """Queue a broadcast; never blocks. Returns None, or why it was not queued (and counted)."""
        if self.status is not _READY:
            self._outgoing.queues.dropped[item.kind, DropReason.NOT_READY] += 1
            return DropReason.NOT_READY
        return self._outgoing.enqueue_nowait(item)

    def round_trips(self) -> Sequence[RoundTrip]:
        """The last requests for blocks that it answered."""
        return self._round_trips.all()

    async def request_block(self, block_hash: bytes) -> Block | None:
        """The block, or None when the peer does not have it. Raises NetworkError."""
        with self._timed("GetBlock", block_hash.hex()):
            reply = await self._request(
                MessageType.REQUEST_BLOCK,
                encode_block_request(block_hash),
                self._options.request_timeout_s,
            )
        with _as_handler_error(self.info):
            return await in_turns(
                parse_block_reply_in_steps_untrusted(reply), trio.lowlevel.checkpoint
            )

    async def request_blocks(self, previous_hash: bytes, count: int) -> list[Block]:
        """At most ``count`` blocks that follow a block. Raises NetworkError."""
        with self._timed("GetBlocks", f"{count} after {previous_hash.hex()}"):
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
        """The dialer's last step: confirm the handshake and wait for the answer.

        Raises NetworkError; the peer is then not ready and should be closed.
        """
        await self._request(
            MessageType.CONFIRM_HAND_SHAKE, b"", self._options.stream_handshake_timeout_s
        )
        self.confirmed_by_peer()

    def confirmed_by_peer(self) -> None:
        """The dialer's confirmation arrived: on the stream, or by the unary call."""
        if self.close_reason is None:
            self.status = PeerStatus.READY
            self._status_changed()
        self._confirmed.set()
        self._settled.set()

    def on_status_change(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called whenever ``status`` has changed."""
        self._status_changed = changed

    async def wait_confirmed(self) -> bool:
        """Wait until it is ready; False when it was closed instead."""
        await self._settled.wait()
        return self.status is PeerStatus.READY

    def heard(self) -> None:
        """A sign of life came."""
        self._last_heard = trio.current_time()

    def close(self, reason: CloseReason) -> None:
        """Begin to end the connection; the first reason stays."""
        if self.close_reason is None:
            self.close_reason = reason
            self.status = PeerStatus.CLOSED
            self._status_changed()
            self._closing.set()
            self._settled.set()

    async def wait_closed(self) -> None:
        """Wait until its tasks are gone."""
        await self._closed.wait()

    @contextmanager
    def _timed(self, method: str, asked_for: str) -> Iterator[None]:
        """Note how long the block takes, unless it raises."""
        began, began_ns = trio.current_time(), self._environment.wall_ns()
        yield
        took_s = trio.current_time() - began
        self._round_trips.add(RoundTrip(method, asked_for, began_ns, took_s))

    # --- its life ---

    async def run(self) -> None:
        """Live until closed, by either side or by cancellation.

        Owns every task of this peer. Says DISCONNECT before it leaves, unless the other side is
        gone or is not worth it, in at most ``goodbye_timeout_s`` even when cancelled.
        """
        try:
            with single_error_as_itself():
                async with trio.open_nursery() as nursery:
                    for task in (*self._tasks(), self._watch):
                        nursery.start_soon(task)
                    await self._closing.wait()
                    nursery.cancel_scope.cancel()
        finally:
            cancelled = self.close_reason is None
            self.close(CloseReason.SHUTDOWN)  # without effect unless we were cancelled
            self._give_up_requests()
            try:
                if self._owes_goodbye() and not await self._part() and cancelled:
                    # An acceptor's peer is cancelled too when the dialer is gone.
                    self.close_reason = CloseReason.LOST
            finally:
                self._outgoing.close()
                self._closed.set()

    def _owes_goodbye(self) -> bool:
        if self.close_reason is CloseReason.REPLACED and self.info.is_csharp:
            return False  # it would remove whatever it holds by our key: the connection that stays
        return self.close_reason in _POLITE

    async def _part(self) -> bool:
        deadline = trio.current_time() + self._options.goodbye_timeout_s
        with trio.CancelScope(deadline=deadline, shield=True):
            return await self._say_goodbye()
        return True  # it does not read, and has until then not been gone

    async def _watch(self) -> None:
        """Close a peer that is never confirmed, and one that is silent and stays so when asked."""
        with trio.move_on_after(self._options.unconfirmed_timeout_s):
            await self._confirmed.wait()
        if not self._confirmed.is_set():
            log.info("%s: never confirmed its handshake", self.info)
            self.close(CloseReason.UNCONFIRMED)
            return
        while True:
            ask_at = self._next_probe_at()
            if trio.current_time() < ask_at:
                await trio.sleep_until(ask_at)
                continue
            try:
                await self._probe(self._options.silence_probe_timeout_s)
            except NetworkError as exc:
                log.info("%s: no sign of life: %s", self.info, exc)
                gone = isinstance(exc, UnrecoverableError)
                self.close(CloseReason.LOST if gone else CloseReason.SILENT)
                return

    async def _probe(self, timeout_s: float) -> None:
        """Ask a silent peer for a sign of life. Raises NetworkError when none comes."""
        asked_at = trio.current_time()
        try:
            await self.check_health(timeout_s=timeout_s)
        except (HandlerError, RpcError) as exc:  # an answer all the same
            log.debug("%s: the health check failed there: %s", self.info, exc)
        except FullBufferError:
            # No room to ask: what waits for it asks it already, and it has as long to answer.
            await trio.sleep(timeout_s)
            if self._last_heard < asked_at:
                raise


@contextmanager
def _as_handler_error(info: PeerInfo) -> Iterator[None]:
    """An answer that cannot be parsed is an answer that the peer got wrong."""
    try:
        yield
    except MalformedError as exc:
        raise HandlerError(f"{info} gave a malformed answer: {exc}") from exc
