"""Every error the project raises, grouped by whose fault it is.

Foreign exceptions (trio, ssl, h2, protobuf, sqlite3) are translated once, at the edge where they
appear, with ``from``; what crosses a public boundary is always an :class:`AelfP2PError`.
"""

from enum import Enum


class AelfP2PError(Exception):
    """The root of the hierarchy."""


# --- the caller's fault ---------------------------------------------------------------------------


class MisuseError(AelfP2PError):
    """A call that cannot be right, whatever the network does; the message says what is bad."""


class KeyFileError(AelfP2PError):
    """A key file is missing, damaged, or was opened with the wrong password."""


class StoreError(AelfP2PError):
    """A store cannot be opened or used: in use by another process, damaged, of another chain."""


# --- bytes that came from outside -----------------------------------------------------------------


class MalformedError(AelfP2PError):
    """Bytes or text from outside break a rule of their format.

    The only error that functions named ``*_untrusted`` raise.
    """


class InvalidReason(Enum):
    """Why the kernel refuses a well-formed block or transaction."""

    WRONG_CHAIN = "its chain id is another chain's"
    BAD_SIGNATURE = "its signature does not recover its signer"
    WRONG_SENDER = "its signer's address is not its sender"
    BAD_MERKLE_ROOT = "its transactions do not have the merkle root of its header"
    BAD_HEIGHT = "its height is not one above the previous block's"
    BELOW_LIB = "it forks off below the last irreversible block"
    TOO_FAR_AHEAD = "its ref_block_number is too far above the longest chain"
    POOL_FULL = "the transaction pool is full"


class InvalidItemError(AelfP2PError):
    """The kernel refused a block or a transaction; ``reason`` says which rule it breaks."""

    def __init__(self, reason: InvalidReason, what: str) -> None:
        super().__init__(f"{what}: {reason.value}")
        self.reason = reason


class UnknownParentError(AelfP2PError):
    """A block cannot be attached yet: its previous block is not in the store."""


# --- the connection -------------------------------------------------------------------------------


class TransportError(AelfP2PError):
    """A wait on a connection, a call or a stream ended without what it waited for."""


class ClosedByUsError(TransportError):
    """The channel, stream or node was closed on this side."""


class ConnectionLostError(TransportError):
    """The connection broke under us: refused, reset, GOAWAY, end of file, or silence."""


class RulesBrokenError(ConnectionLostError):
    """The other side broke the rules of the connection, or flooded it, and was dropped."""


class DeadlineExceededError(TransportError):
    """Nothing came within the time given."""


class StatusCode(Enum):
    """gRPC status codes, which every transport uses (grpc/doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class CallFailedError(TransportError):
    """The other side ended a call with a status that is not OK.

    Raised by a handler, it ends the call with that status; nothing else of a handler's exception
    ever reaches the wire.
    """

    def __init__(self, code: StatusCode, details: str = "") -> None:
        # The details are the other side's own: no line of a log is to be forged with them.
        told = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in details)
        super().__init__(f"{code.name}: {told}" if told else code.name)
        self.code = code
        self.details = details


# --- the peer -------------------------------------------------------------------------------------


class ProtocolViolationError(AelfP2PError):
    """A peer did what the protocol forbids; it is dropped for it."""


class RefusalReason(Enum):
    """Why a handshake that is correct in itself is refused a place."""

    BANNED = "the host or key is banned"
    POOL_FULL = "the pool is full"
    HOST_FULL = "its host has as many connections as one may"
    HANDSHAKING = "a handshake with this key and host is under way"
    REPEATED = "the key is connected, and its connection is alive"
    CLOSING = "this node is shutting down"
    TOO_OFTEN = "there are too many handshakes, of its host or of all"
    PRIVATE = "its host is private, and such are dialed back only with dial_private"
    UNREACHABLE = "it does not answer where it says that it listens"


class HandshakeRefusedError(AelfP2PError):
    """Either side refused a handshake; ``code`` is the wire's HandshakeError.

    ``reason`` is there when we refused it for want of a place; the other side's is not told.
    """

    def __init__(self, code: int, why: str, reason: RefusalReason | None = None) -> None:
        super().__init__(why)
        self.code = code
        self.reason = reason


class OwnHandshakeError(HandshakeRefusedError):
    """A handshake came back to the node that made it, as when it dials itself."""

    def __init__(self, code: int, why: str, session_id: bytes) -> None:
        super().__init__(code, why)
        self.session_id = session_id


class NetworkError(AelfP2PError):
    """A request to a peer failed; the subclass says what to do about the peer."""


class RpcError(NetworkError):
    """This request failed; the peer stays."""


class PeerUnstableError(NetworkError):
    """The stream broke or stays silent; the peer may recover."""


class UnrecoverableError(NetworkError):
    """The connection is gone; the peer is dropped and, when dialed, scheduled for reconnection."""


class FullBufferError(NetworkError):
    """The peer's send queue is full; the item was not queued."""


class NotConnectedError(NetworkError):
    """The peer is not ready: its handshake is not confirmed, or it was closed."""


class HandlerError(NetworkError):
    """The peer answered with an error of its own; keep it."""
