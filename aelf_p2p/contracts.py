"""The async contracts between the layers: peer, transport, stores, kernel.

Services talk to ``Peer`` and know no transport; transports carry encoded messages and know no
service. Anything that goes wrong arrives as an error of ``aelf_p2p.core.errors``.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import trio

from aelf_p2p.core.block import Block, BlockHeader
from aelf_p2p.core.broadcast import BroadcastItem, DropReason
from aelf_p2p.core.chain_status import ChainStatus, PeerChain
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.kernel_events import KernelEvent
from aelf_p2p.core.misbehaviour import Misbehaviour
from aelf_p2p.core.network_state import NetworkState
from aelf_p2p.core.payloads import BroadcastContent, NodeRecord
from aelf_p2p.core.peer_info import CloseReason, PeerInfo, PeerStatistics, PeerStatus
from aelf_p2p.core.round_trips import RoundTrip
from aelf_p2p.core.sessions import Sessions
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.wire.methods import Method

# --- transports -----------------------------------------------------------------------------------

Metadata = Mapping[str, str | bytes]
"""Call metadata: lower-case keys; those that end in ``-bin`` hold bytes, the others ASCII text."""


class MessageStream(Protocol):
    """Encoded messages both ways, each way in order. One task sends and one receives at a time.

    What a message of the other side may weigh, by method and direction, is in
    ``aelf_p2p.core.message_sizes``: ``max_request_bytes`` for a server, ``max_reply_bytes`` for a
    client, and of these what ``before_trust`` leaves until ``trust`` is called.
    """

    async def send_many(self, messages: Sequence[bytes]) -> None:
        """Send messages in one go; returns when the transport has room for more.

        A cancelled send has sent some prefix of the messages, each whole. Raises TransportError;
        of it CallFailedError(RESOURCE_EXHAUSTED) for a message over MAX_MESSAGE_BYTES (100 MiB),
        which is not sent, nor are those behind it. The call goes on.
        """

    def send_nowait(self, message: bytes) -> bool:
        """Send a message if that takes no waiting: then it saves its sender a turn of the loop.

        False, and nothing is sent, when it would have to wait or cannot be sent; a transport may
        always say so. Not while another task is in ``send_many``.
        """

    async def receive_many(self) -> list[bytes]:
        """Messages that have arrived, at least one; waits when there is none.

        An empty list says that the other side has ended its half and all is read. Raises
        CallFailedError when it ended the call with a status that is not OK, else TransportError.

        A message over the limit, in force when it is read, raises
        CallFailedError(RESOURCE_EXHAUSTED) with its size and the limit in the details, after those
        before it were read. A client's call is then over, as after a reset. A server reads no more,
        and the call ends as its handler does: with that status when the handler lets it through.
        Other calls of the connection go on.
        """

    async def send_eof(self) -> None:
        """End our half: the other side reads an empty list after all that was sent."""

    def trust(self) -> None:
        """The other side has proved who it is: by a handshake on this call, or a valid session.

        What the transport limits for strangers ends: for the connection, while this call lasts,
        the bytes that they may leave unread and the time that they have, which is longer behind it
        too; for this call the ``max_message_before_handshake_bytes`` of a message. Never blocks;
        without effect when repeated, or when the call is over.
        """

    def limit_messages(self, max_bytes: int) -> None:
        """What the other side's messages on this call may weigh from now on, trusted or not.

        In place of the method's own limit. Never blocks; without effect when the call is over.
        """


class RpcChannel(Protocol):
    """A dialed connection, open while the block that dialed it runs.

    Leaving the block ends every wait on it, other tasks' too, with ClosedByUsError.
    """

    @property
    def is_open(self) -> bool:
        """Whether new calls can still be made."""

    @property
    def certificate_hash(self) -> bytes | None:
        """SHA-256 of the certificate (DER) that the server showed, 32 bytes; None without TLS."""

    async def wait_draining(self) -> None:
        """Wait until the other side says that it takes no more calls, as before it stops.

        What is under way may still end; whoever holds a long-lived call should leave it. Raises
        TransportError when the connection is lost instead.
        """

    async def call(
        self, method: Method, request: bytes, *, metadata: Metadata, timeout_s: float
    ) -> bytes:
        """One unary call. Raises CallFailedError for their status, else TransportError.

        The reply may weigh ``max_reply_bytes(method)``: a larger one, and a request over
        MAX_MESSAGE_BYTES, are CallFailedError(RESOURCE_EXHAUSTED) too.
        """

    def open_stream(
        self, method: Method, *, metadata: Metadata
    ) -> AbstractAsyncContextManager[MessageStream]:
        """A long-lived call; leaving the block cancels it unless both halves have ended."""


@dataclass(frozen=True)
class IncomingCall:
    """A call that came to our listener. Returning from the handler ends it with OK.

    A handler that raises CallFailedError ends it with that status, any other exception with
    UNKNOWN and no details. When the caller is gone, the handler is cancelled.
    """

    method: Method
    metadata: Metadata = field(repr=False)  # it may hold a session id
    caller: Endpoint
    """The connection's other end as the transport sees it, host and port: the same for all calls of
    a channel, and no other channel's while it lasts. Bans and limits count its host."""
    stream: MessageStream
    certificate_hash: bytes | None = None
    """SHA-256 of our certificate (DER) that the caller was shown; None without TLS."""


CallHandler = Callable[[IncomingCall], Awaitable[None]]


OnFault = Callable[[str, str], None]
"""Is told a caller's host, and what it did. Never blocks."""


def ignore_fault(host: str, why: str) -> None:
    """For whoever does not want to know."""


class Transport(Protocol):
    """How connections are made and accepted."""

    def dial(
        self, endpoint: Endpoint, *, timeout_s: float
    ) -> AbstractAsyncContextManager[RpcChannel]:
        """Connect. Raises ConnectionLostError or DeadlineExceededError on entering."""

    async def serve(
        self,
        host: str,
        port: int,
        handler: CallHandler,
        *,
        on_fault: OnFault = ignore_fault,
        task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen until cancelled; reports where. Port 0 asks for any free one.

        ``on_fault`` is told of each caller that is dropped for breaking the transport's own rules.

        Owns a task for each connection and call; nothing a caller does ends it. Raises
        MisuseError when host and port cannot be listened on.
        """


@dataclass(frozen=True)
class DatagramReply:
    """What came back, when the question left and when the answer came (unix nanoseconds)."""

    payload: bytes
    sent_ns: int
    received_ns: int


class DatagramQuery(Protocol):
    """Asks a server with one datagram. Given to services by the composition root."""

    async def __call__(
        self, endpoint: Endpoint, request: bytes, *, wall_ns: Callable[[], int]
    ) -> DatagramReply:
        """The first answer. Waits as long as it is let; raises TransportError."""


# --- peers ----------------------------------------------------------------------------------------


class Peer(Protocol):
    """One connected peer, whatever carries its messages."""

    @property
    def info(self) -> PeerInfo:
        """Who it is."""

    @property
    def chain(self) -> PeerChain:
        """What it told of its chain."""

    @property
    def bit(self) -> int:
        """Its bit in the masks of known items."""

    @property
    def status(self) -> PeerStatus:
        """Whether it is ready, and why not."""

    @property
    def close_reason(self) -> CloseReason | None:
        """Why it is closed or closing; None while it is open."""

    def accepts_session(self, shown: str | bytes) -> bool:
        """Whether this is the session id that we announced to it; hex text or bytes."""

    def statistics(self) -> PeerStatistics:
        """Its counters now."""

    def round_trips(self) -> Sequence[RoundTrip]:
        """The last 100 requests for one block, and for several, that it answered."""

    def enqueue(self, item: BroadcastItem) -> DropReason | None:
        """Queue a broadcast; never blocks. Returns None, or why it was not queued (and counted)."""

    async def request_block(self, block_hash: bytes) -> Block | None:
        """The block, or None when the peer does not have it. Raises NetworkError."""

    async def request_blocks(self, previous_hash: bytes, count: int) -> list[Block]:
        """At most ``count`` blocks that follow a block. Raises NetworkError."""

    async def request_nodes(self, max_count: int) -> list[NodeRecord]:
        """Nodes that the peer knows, malformed ones left out. Raises NetworkError."""

    async def check_health(self, *, timeout_s: float) -> None:
        """Ask whether it is alive. Raises NetworkError."""

    def close(self, reason: CloseReason) -> None:
        """Begin to end the connection, saying goodbye when that makes sense. Never blocks."""

    async def wait_closed(self) -> None:
        """Wait until its tasks are gone."""


class LivePeer(Peer, Protocol):
    """A peer as its owner sees it: the connection's task, which runs its life."""

    async def run(self) -> None:
        """Live until closed, by either side or by cancellation; owns every task of this peer."""

    async def confirm(self) -> None:
        """The dialer's last step of the handshake. Raises NetworkError; then close the peer."""

    def confirmed_by_peer(self) -> None:
        """The dialer's confirmation arrived."""

    def on_status_change(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called whenever ``status`` has changed, in place of any before it."""

    async def wait_confirmed(self) -> bool:
        """Wait until it is ready; False when it was closed instead."""

    def heard(self) -> None:
        """It showed its session on a call of its own, and so is alive."""


class StreamPeerFactory(Protocol):
    """Makes the peer of a RequestByStream on which the handshake was exchanged."""

    def __call__(
        self,
        stream: MessageStream,
        *,
        info: PeerInfo,
        chain: PeerChain,
        bit: int,
        sessions: Sessions,
        early: list[bytes],
        greeting: bytes | None,
    ) -> LivePeer:
        """``early`` holds the messages that came in one read with the handshake; ``greeting`` is
        the first message to send, the acceptor's answer to it."""


class UnaryPeerFactory(Protocol):
    """Makes the peer at the other end of a channel, where either node is before 1.4."""

    def __call__(
        self,
        channel: RpcChannel,
        *,
        info: PeerInfo,
        chain: PeerChain,
        bit: int,
        sessions: Sessions,
    ) -> LivePeer:
        """What the peer says comes in by calls of its own, beside the channel."""


class Taken(NamedTuple):
    """What became of transactions that arrived together."""

    looked_at: int
    """How many, the first ones."""
    relayed: bool
    """Whether any of them waits for other peers now, whose senders should have their turn."""


class SessionHandler(Protocol):
    """What the node does with what peers send. Given to peers by the composition root."""

    def received(self, peer: Peer, content: BroadcastContent) -> None:
        """A broadcast arrived. Must not block; bookkeeping only."""

    def received_transactions(self, peer: Peer, transactions: Sequence[Transaction]) -> Taken:
        """Several arrived one after another; as ``received`` of each, until the peer is closed, or
        as many wait for other peers as they have room for. At least one is looked at."""

    def misbehaved(self, peer: Peer, fault: Misbehaviour) -> None:
        """It sent what it should not. Never blocks; may close the peer."""

    async def answer(self, peer: Peer, message_type: int, request: bytes) -> bytes:
        """The reply to a request of type REQUEST_BLOCK, REQUEST_BLOCKS or GET_NODES.

        Raises MalformedError when the request cannot be parsed.
        """


# --- the chain ------------------------------------------------------------------------------------


class ChainStore(Protocol):
    """Where blocks live, as the bytes that were received, forks included.

    The best chain is the longest one; of two equally long ones, that which came first. It never
    leaves out the last irreversible block: when that one moves up, every block that does not lead
    to it or come after it is forgotten, so that a stored block above it follows it. A store that
    prunes forgets the oldest blocks of the chain too, and moves the root up.

    ``raw`` blocks are the bytes of a BlockWithTransactions.

    Every method raises StoreError when the store cannot do its work. A peer's request is then not
    answered; while the node follows the chain, the error ends the node and leaves ``open_node``,
    since a node without a chain is none.
    """

    @property
    def status(self) -> ChainStatus:
        """The tips, always at hand."""

    async def has_block(self, block_hash: bytes) -> bool:
        """Whether the block is stored; the root counts as stored."""

    async def get_header(self, block_hash: bytes) -> BlockHeader | None:
        """The header of a stored block, or None."""

    async def get_block(self, block_hash: bytes) -> Block | None:
        """A stored block, or None."""

    async def get_raw_block(self, block_hash: bytes) -> bytes | None:
        """A stored block as its bytes, or None."""

    async def raw_blocks_after(
        self, previous_hash: bytes, count: int, *, max_bytes: int
    ) -> list[bytes]:
        """At most ``count`` blocks of the best chain that follow a block of it, or its root; else
        an empty list. They weigh ``max_bytes`` together at most, the first one by itself excepted.
        """

    async def hash_at(self, height: int) -> bytes | None:
        """The hash of the best chain's block at a height, or None."""

    async def put_block(self, block: Block) -> ChainStatus:
        """Store a block whose parent is stored, and move the tips. Returns the new status.

        Raises UnknownParentError when the parent is not stored, MisuseError for a height that is
        not one above it, or not above the last irreversible block. A block that is stored already
        changes nothing.
        """

    async def set_lib(self, block_hash: bytes) -> ChainStatus:
        """Make a block of the best chain irreversible. Raises MisuseError when it is none."""


# --- what is remembered of the network ------------------------------------------------------------


class StateStore(Protocol):
    """Where bans, discovered nodes and reconnections outlive a restart.

    The node loads once, before it listens, and saves behind what changes: what a killed process had
    not saved is lost, and no more than the last seconds of its memory. It never calls twice at
    once. Both methods raise StoreError when the store cannot do its work: the node does not open
    when nothing can be loaded, and lives on when it cannot save.
    """

    async def load(self) -> NetworkState:
        """What was saved last; an empty state when nothing was."""

    async def save(self, state: NetworkState) -> None:
        """Keep a state in place of the one before, whole or not at all, cancelled or not."""


# --- the kernel -----------------------------------------------------------------------------------


class Kernel(Protocol):
    """What decides on blocks and transactions: the minimal kernel, or the embedder's."""

    def connect(self, emit: Callable[[KernelEvent], None]) -> None:
        """Called once, by the node: where the kernel's events go. ``emit`` never blocks."""

    async def accept_block(self, block: Block) -> bool:
        """Check, store and execute a block. False when it was there already.

        Raises InvalidItemError when it is wrong, UnknownParentError when its parent is not stored.
        """

    def submit_transaction(self, transaction: Transaction) -> bool:
        """Check a transaction and add it to the pool. False when it was there already.

        Raises InvalidItemError.
        """
