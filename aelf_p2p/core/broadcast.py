"""What is broadcast: encoded and hashed once, however many peers receive it."""

from enum import Enum
from typing import Final, Protocol

from aelf_p2p.core.envelope import envelope_body, message_field
from aelf_p2p.wire import MessageType


class BroadcastKind(Enum):
    """The four broadcasts; the value is the message type that carries it on a stream."""

    BLOCK = int(MessageType.BLOCK_BROADCAST)
    ANNOUNCEMENT = int(MessageType.ANNOUNCEMENT_BROADCAST)
    LIB_ANNOUNCEMENT = int(MessageType.LIB_ANNOUNCEMENT_BROADCAST)
    TRANSACTION = int(MessageType.TRANSACTION_BROADCAST)

    # Enum's own hash is a Python function over the name; kinds index counters on the hot path.
    __hash__ = object.__hash__


_MESSAGE_TYPES = {kind: kind.value for kind in BroadcastKind}  # an enum is slow to tell it


class DropReason(Enum):
    """Why a broadcast did not reach a peer."""

    NOT_READY = "the peer is not ready"
    QUEUE_FULL = "the peer's queue for its kind is full"
    BYTES_FULL = "the peer's queues hold as many bytes as they may"
    SUPERSEDED = "a newer LIB announcement took its place"
    UNACKNOWLEDGED = "the peer did not answer it in time"
    CLOSED = "the connection ended before it was sent or answered"
    REFUSED = "the peer ended the stream for its kind each time that it was sent"

    __hash__ = object.__hash__


class DeliveryWatcher(Protocol):
    """Is told what becomes of one broadcast at the peers in whose queues it stands, by their bits.
    Never blocks."""

    def sent(self, bit: int) -> None:
        """It was given to the connection."""

    def acknowledged(self, bit: int) -> None:
        """The peer answered it."""

    def dropped(self, bit: int, reason: DropReason) -> None:
        """It was queued, and given up."""


class BroadcastItem:
    """One broadcast, shared by all the queues it stands in.

    One request id serves every peer: a reply is matched within its own connection, so the id needs
    to be unique only there.
    """

    __slots__ = (
        "acknowledgement",
        "body",
        "hash",
        "kind",
        "message_type",
        "payload_size",
        "request_id",
        "size",
        "watcher",
    )

    def __init__(
        self,
        kind: BroadcastKind,
        hash_: bytes,
        payload: bytes,
        request_id: str,
        watcher: DeliveryWatcher | None = None,
    ) -> None:
        self.kind: Final = kind
        self.message_type: Final = _MESSAGE_TYPES[kind]
        self.hash: Final = hash_
        """The id under which peers know it: of the transaction, of the block."""
        self.payload_size: Final = len(payload)
        self.request_id: Final = request_id
        self.acknowledgement: Final = envelope_body(self.message_type, request_id)
        """The body of the empty reply to it."""
        self.body: Final = self.acknowledgement + message_field(payload)
        self.size: Final = len(self.body)
        """Bytes it takes in a queue; the prefix of a session (about 300) comes on top."""
        self.watcher: Final = watcher

    @property
    def payload(self) -> bytes:
        """The message's own bytes, which end the body: for peers that are not on a stream."""
        return self.body[self.size - self.payload_size :]

    def __repr__(self) -> str:
        return f"<BroadcastItem {self.kind.name} {self.hash.hex()[:12]} {self.size} bytes>"
