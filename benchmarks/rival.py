"""What every rival's sender does with a peer, whatever it sends with. No I/O.

It does what the measured path needs and nothing else: no limits, no known items, no priorities.
Each broadcast's body is encoded once; what is in flight to a peer is a dictionary in which its
acknowledgements are matched.
"""

import time
from collections.abc import Callable

from aelf_p2p import Transaction
from aelf_p2p.core.envelope import envelope_body, reply_prefix, request_prefix
from aelf_p2p.core.stream_handshake import parse_opening_untrusted
from aelf_p2p.wire import MessageType, StreamMessage, StreamType
from benchmarks.greeter import Greeter

TURN = 64
"""So many broadcasts at a time, then the other tasks have their turn."""

TRANSACTION = int(MessageType.TRANSACTION_BROADCAST)  # once, not for every message
_REPLY = int(StreamType.REPLY)


class Peer:
    """One connected peer, from its handshake on."""

    def __init__(self, greeter: Greeter, opening: bytes) -> None:
        """``opening`` is the first message of its stream. Raises MalformedError, and whatever a
        wrong handshake raises."""
        opened = parse_opening_untrusted([opening], greeter.max_opening_bytes)
        remote = greeter.rules.check_request_untrusted(opened.handshake, time.time_ns())
        self.greeting = opened.reply(greeter.new_handshake().as_reply())
        """The answer to its opening, to be sent first."""
        self.unacknowledged: dict[str, int] = {}
        """The message type of each broadcast in flight, by request id."""
        self.on_all_acknowledged: Callable[[], None] = lambda: None
        """Called when the last one in flight was acknowledged."""
        self._requests = request_prefix(greeter.public_key, remote.session_id)
        self._replies = reply_prefix(remote.session_id)

    def envelope(self, request_id: str, body: bytes) -> bytes:
        """The message that takes a broadcast to it, which now is in flight."""
        self.unacknowledged[request_id] = TRANSACTION
        return self._requests + body

    def take(self, data: bytes) -> bytes | None:
        """Take a message of its; the answer, if it wants one. Raises RuntimeError."""
        message = StreamMessage.FromString(data)
        if message.stream_type != _REPLY:  # CONFIRM_HAND_SHAKE
            return self._replies + envelope_body(message.message_type, message.request_id)
        if self.unacknowledged.pop(message.request_id, None) != message.message_type:
            raise RuntimeError(f"a reply to nothing: {message.request_id}")
        if not self.unacknowledged:
            self.on_all_acknowledged()
        return None


def encode(greeter: Greeter, transaction: Transaction) -> tuple[str, bytes]:
    """A broadcast's request id and body, the same for every peer."""
    request_id = greeter.new_request_id()
    return request_id, envelope_body(TRANSACTION, request_id, transaction.raw)


def check_count(peers: int, expected: int) -> None:
    """Raises RuntimeError when not all peers are there."""
    if peers != expected:
        raise RuntimeError(f"{peers} of {expected} peers are connected")
