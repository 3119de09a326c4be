"""AElf's peer messages, generated from proto/aelf_p2p/wire by ``make proto``.

They are wire-identical to AElf's own. Only the names in the descriptor pool differ, so that an
embedder's copy of AElf's protos fits beside them in one process.
"""

from .core_pb2 import Address, BlockHeader, Hash, Transaction
from .network_types_pb2 import (
    BlockAnnouncement,
    BlockList,
    BlockReply,
    BlockRequest,
    BlocksRequest,
    BlockWithTransactions,
    ConfirmHandshakeRequest,
    DisconnectReason,
    Handshake,
    HandshakeData,
    HandshakeError,
    HandshakeReply,
    HandshakeRequest,
    LibAnnouncement,
    NodeInfo,
    NodeList,
    NodesRequest,
)
from .peer_service_pb2 import (
    HealthCheckReply,
    HealthCheckRequest,
    MessageType,
    PingRequest,
    PongReply,
    StreamMessage,
    StreamType,
    VoidReply,
)

__all__ = [
    "Address",
    "BlockAnnouncement",
    "BlockHeader",
    "BlockList",
    "BlockReply",
    "BlockRequest",
    "BlockWithTransactions",
    "BlocksRequest",
    "ConfirmHandshakeRequest",
    "DisconnectReason",
    "Handshake",
    "HandshakeData",
    "HandshakeError",
    "HandshakeReply",
    "HandshakeRequest",
    "Hash",
    "HealthCheckReply",
    "HealthCheckRequest",
    "LibAnnouncement",
    "MessageType",
    "NodeInfo",
    "NodeList",
    "NodesRequest",
    "PingRequest",
    "PongReply",
    "StreamMessage",
    "StreamType",
    "Transaction",
    "VoidReply",
]
