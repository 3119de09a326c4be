"""What comes in on an authenticated stream: who may say what, and what is done with it.

Source: protocol §3.4. A connection has one identity, proved by its handshake; whatever a message's
meta says, the peer speaks for itself only.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence

import trio

from aelf_p2p.contracts import Peer, SessionHandler
from aelf_p2p.core.canonical import STEP_BYTES
from aelf_p2p.core.envelope import (
    META_PUBLIC_KEY,
    META_SESSION_ID,
    split_envelope_untrusted,
)
from aelf_p2p.core.errors import (
    AelfP2PError,
    FullBufferError,
    MalformedError,
    ProtocolViolationError,
)
from aelf_p2p.core.misbehaviour import Misbehaviour
from aelf_p2p.core.options import KIB, NetworkOptions
from aelf_p2p.core.payloads import (
    BROADCAST_TYPES,
    parse_broadcast_in_steps_untrusted,
    parse_broadcast_untrusted,
)
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.core.sessions import Sessions
from aelf_p2p.core.steps import in_turns
from aelf_p2p.core.stream_request import (
    MAX_CUT_BYTES,
    RequestLayout,
    RequestRun,
    StreamRequest,
)
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.wire import MessageType, StreamMessage, StreamType

log = logging.getLogger(__name__)

MAX_WRONG_SESSIONS = 3
"""The wrong session id that ends the connection; one mistake is forgiven, guessing is not."""

MESSAGES_A_TURN = 128
"""After so many messages of one read the other tasks get their turn; a read's acknowledgements,
one after another, are as cheap together as one of these."""
BYTES_A_TURN = 64 * KIB
"""Or after so many bytes of them: if they are laid out to cost much, some ten milliseconds."""

# Looking an enum's member up by name costs a Python call, and these are compared for each message.
_REQUEST, _REPLY = int(StreamType.REQUEST), int(StreamType.REPLY)
_TRANSACTION_BROADCAST = int(MessageType.TRANSACTION_BROADCAST)
_NO_SESSION: set[int] = {MessageType.PING, MessageType.HAND_SHAKE, MessageType.HEALTH_CHECK}
_WORK: set[int] = {MessageType.REQUEST_BLOCK, MessageType.REQUEST_BLOCKS, MessageType.GET_NODES}


class StreamSession:
    """Checks, sorts and answers the messages of one stream.

    At most ``max_serving_requests`` of the peer's requests, 8 KiB and an envelope each, wait for
    the workers; those beyond are ignored, counted, and so run into the peer's own timeout.
    """

    def __init__(
        self,
        *,
        peer: Peer,
        sessions: Sessions,
        handler: SessionHandler,
        options: NetworkOptions,
        reply_prefix: bytes,
        post_nowait: Callable[[bytes], None],
        send_nowait: Callable[[bytes], None],
        is_full: Callable[[], bool],
        acknowledge_many: Callable[[Sequence[bytes], int], int],
        match_reply: Callable[[StreamMessage, bytes | memoryview, bytes], bool],
        confirm: Callable[[], None],
    ) -> None:
        self.ignored: Counter[str] = Counter()
        self._peer = peer
        self._key_hex = peer.info.public_key.hex()
        self._sessions = sessions
        self._handler = handler
        self._reply_prefix = reply_prefix
        self._post_nowait = post_nowait
        self._send_nowait = send_nowait
        self._say = post_nowait  # how what is taken now is answered
        self._is_full = is_full
        self._acknowledge_many = acknowledge_many
        self._match_reply = match_reply
        self._confirm = confirm
        self._wrong_sessions = 0
        self._layout: RequestLayout | None = None  # of its authentic requests
        self._options = options
        self._max_bytes = {kind: options.max_broadcast_bytes(kind) for kind in BROADCAST_TYPES}
        self._max_transaction_bytes = options.max_transaction_bytes
        # A memory channel would do the same, and weigh 2 KiB more for each peer.
        self._work: list[StreamRequest] = []
        self._idle_workers = trio.lowlevel.ParkingLot()

    async def take_untrusted(self, messages: list[bytes]) -> None:
        """Act on messages in their order; closes the peer when it breaks the protocol."""
        self._say = self._send_nowait if len(messages) == 1 else self._post_nowait
        at = taken = taken_bytes = 0
        while at < len(messages):
            if self._peer.close_reason is not None:
                return  # whoever closed it: nothing that it says counts any more
            acknowledged = self._acknowledge_many(messages, at)
            if acknowledged:
                at += acknowledged
                continue
            if taken >= MESSAGES_A_TURN or taken_bytes >= BYTES_A_TURN:
                taken = taken_bytes = 0
                await trio.lowlevel.checkpoint()
                continue
            run = self._layout and self._layout.cut_run(
                messages, at, MESSAGES_A_TURN - taken, BYTES_A_TURN - taken_bytes
            )
            count = len(run.heads) if run else 1
            try:
                if run:
                    await self._take_run(run)
                else:
                    await self._take_parsed_untrusted(messages[at])
            except (MalformedError, ProtocolViolationError) as exc:
                log.info("%s: dropped for breaking the protocol: %s", self._peer.info, exc)
                self._peer.close(CloseReason.VIOLATION)
            taken += count
            taken_bytes += sum(map(len, messages[at : at + count]))
            at += count

    async def work(self) -> None:
        """Answer requests that need the chain or the node's state, one after another."""
        while True:
            await trio.lowlevel.checkpoint()
            while not self._work:
                await self._idle_workers.park()
            request = self._work.pop(0)
            if self._is_full():  # before the work, which may be a hundred megabytes
                self._ignore("our answers are not read")
                continue
            try:
                reply = await self._handler.answer(
                    self._peer, request.message_type, request.message
                )
            except MalformedError:
                self._ignore_fault("malformed request", Misbehaviour.MALFORMED_MESSAGE)
            except AelfP2PError:
                if not self.ignored["request failed here"]:  # a peer may ask a thousand times
                    log.exception("%s: a request could not be answered", self._peer.info)
                self._ignore("request failed here")
            else:
                self._reply(request, reply, self._send_nowait)

    async def _take_parsed_untrusted(self, data: bytes) -> None:
        """Act on any message. Raises MalformedError, ProtocolViolationError."""
        envelope, message = split_envelope_untrusted(data)
        stream_type = envelope.stream_type
        if stream_type == _REPLY:
            if not self._match_reply(envelope, message, data):
                self._ignore("reply to nothing")
        elif stream_type != _REQUEST:
            self._ignore("unknown stream type")
        elif self._is_authentic(envelope):
            if isinstance(message, memoryview):
                message = bytes(message)
            # What is learned has shown its session, and can be of use.
            elif envelope.message_type not in _NO_SESSION and len(data) < MAX_CUT_BYTES:
                self._layout = RequestLayout.learn(data, envelope)
            await self._take_request(StreamRequest.of(envelope, message))

    def _is_authentic(self, message: StreamMessage) -> bool:
        """Whether a request carries the right key and session. False: it gets no answer."""
        key = message.meta.get(META_PUBLIC_KEY)
        session = message.meta.get(META_SESSION_ID)
        if key is None:
            self._ignore("no public key")
            return False
        if key != self._key_hex:
            raise ProtocolViolationError("a message in the name of another key")
        if message.message_type in _NO_SESSION:
            return True
        if session is not None and self._sessions.authenticate(session):
            return True
        self._ignore("no session" if session is None else "wrong session")
        self._wrong_sessions += session is not None
        if self._wrong_sessions >= MAX_WRONG_SESSIONS:
            raise ProtocolViolationError(f"{MAX_WRONG_SESSIONS} wrong session ids")
        return False

    async def _take_run(self, run: RequestRun) -> None:
        """Act on authentic requests. Raises ProtocolViolationError."""
        if run.message_type == _TRANSACTION_BROADCAST:
            await self._take_transactions(run)
            return
        for request in run.requests():
            if self._peer.close_reason is not None:
                return
            await self._take_request(request)

    async def _take_transactions(self, run: RequestRun) -> None:
        heads, transactions = run.heads, Transaction.parse_each_untrusted(run.messages)
        if not all(transactions) or max(map(len, run.messages)) > self._max_transaction_bytes:
            heads, transactions = self._without_faults(run, transactions)
        left = [transaction for transaction in transactions if transaction]
        while left and self._peer.close_reason is None:
            taken = self._handler.received_transactions(self._peer, left)
            for head in heads[: taken.looked_at]:
                self._say_reply(head, self._say)
            heads, left = heads[taken.looked_at :], left[taken.looked_at :]
            if taken.relayed:
                await trio.lowlevel.checkpoint()

    def _without_faults(
        self, run: RequestRun, transactions: Sequence[Transaction | None]
    ) -> tuple[list[bytes], list[Transaction | None]]:
        """Heads and transactions of those that are taken; the others are ignored and counted."""
        heads: list[bytes] = []
        kept: list[Transaction | None] = []
        for head, message, transaction in zip(run.heads, run.messages, transactions, strict=True):
            if len(message) > self._max_transaction_bytes:
                self._ignore_fault("oversized message", Misbehaviour.OVERSIZED_MESSAGE)
            elif transaction is None:
                self._ignore_fault("malformed broadcast", Misbehaviour.MALFORMED_MESSAGE)
            else:
                heads.append(head)
                kept.append(transaction)
        return heads, kept

    async def _take_request(self, request: StreamRequest) -> None:
        """Act on an authentic request. Raises ProtocolViolationError."""
        kind = request.message_type
        if len(request.message) > self._max_bytes.get(kind, self._options.max_request_bytes):
            self._ignore_fault("oversized message", Misbehaviour.OVERSIZED_MESSAGE)
        elif kind in BROADCAST_TYPES:
            await self._take_broadcast(request)
        elif kind in _WORK:
            self._take_work_request(request)
        elif kind == MessageType.DISCONNECT:
            self._peer.close(CloseReason.DISCONNECTED_BY_PEER)  # not answered
        elif kind == MessageType.HAND_SHAKE:
            raise ProtocolViolationError("a second handshake on one stream")
        else:
            # PING, HEALTH_CHECK and CONFIRM_HAND_SHAKE have empty replies, and whatever we do not
            # know is answered with an empty VoidReply.
            if kind == MessageType.CONFIRM_HAND_SHAKE:
                self._confirm()
            self._reply(request, b"", self._say)

    def _take_work_request(self, request: StreamRequest) -> None:
        if len(self._work) >= self._options.max_serving_requests:
            self._ignore("too many requests")
        else:
            self._work.append(request)
            self._idle_workers.unpark()

    async def _take_broadcast(self, request: StreamRequest) -> None:
        kind, message = request.message_type, request.message
        try:
            if len(message) <= STEP_BYTES:
                content = parse_broadcast_untrusted(kind, message)
            else:
                steps = parse_broadcast_in_steps_untrusted(kind, message)
                content = await in_turns(steps, trio.lowlevel.checkpoint)
        except MalformedError as exc:
            log.debug("%s: a malformed broadcast: %s", self._peer.info, exc)
            self._ignore_fault("malformed broadcast", Misbehaviour.MALFORMED_MESSAGE)
        else:
            if self._peer.close_reason is None:
                self._handler.received(self._peer, content)
                self._reply(request, b"", self._say)

    def _reply(self, request: StreamRequest, reply: bytes, say: Callable[[bytes], None]) -> None:
        self._say_reply(request.reply_body(reply), say)

    def _say_reply(self, body: bytes, say: Callable[[bytes], None]) -> None:
        try:
            say(self._reply_prefix + body)
        except FullBufferError:
            self._ignore("our answers are not read")

    def _ignore_fault(self, why: str, fault: Misbehaviour) -> None:
        """C# answers nothing either."""
        self._ignore(why)
        self._handler.misbehaved(self._peer, fault)

    def _ignore(self, why: str) -> None:
        self.ignored[why] += 1
