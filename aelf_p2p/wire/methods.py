"""The peer service's methods and their paths.

On the wire the service has no package, unlike in our descriptors (proto/aelf_p2p/wire), so the
paths are spelled out here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from aelf_p2p.wire import MessageType


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the peer service; which sides stream says how many messages each may send."""

    path: str
    name: str
    client_streaming: bool = False
    server_streaming: bool = False
    compressed_reply: bool = False
    """AElf's servers compress the reply with gzip (protocol §3.4)."""


PING: Final = Method("/PeerService/Ping", "Ping")
CHECK_HEALTH: Final = Method("/PeerService/CheckHealth", "CheckHealth")
DO_HANDSHAKE: Final = Method("/PeerService/DoHandshake", "DoHandshake")
CONFIRM_HANDSHAKE: Final = Method("/PeerService/ConfirmHandshake", "ConfirmHandshake")
REQUEST_BLOCK: Final = Method("/PeerService/RequestBlock", "RequestBlock")
REQUEST_BLOCKS: Final = Method("/PeerService/RequestBlocks", "RequestBlocks", compressed_reply=True)
GET_NODES: Final = Method("/PeerService/GetNodes", "GetNodes")
DISCONNECT: Final = Method("/PeerService/Disconnect", "Disconnect")
BLOCK_BROADCAST_STREAM: Final = Method(
    "/PeerService/BlockBroadcastStream", "BlockBroadcastStream", client_streaming=True
)
TRANSACTION_BROADCAST_STREAM: Final = Method(
    "/PeerService/TransactionBroadcastStream", "TransactionBroadcastStream", client_streaming=True
)
ANNOUNCEMENT_BROADCAST_STREAM: Final = Method(
    "/PeerService/AnnouncementBroadcastStream", "AnnouncementBroadcastStream", client_streaming=True
)
LIB_ANNOUNCEMENT_BROADCAST_STREAM: Final = Method(
    "/PeerService/LibAnnouncementBroadcastStream",
    "LibAnnouncementBroadcastStream",
    client_streaming=True,
)
REQUEST_BY_STREAM: Final = Method(
    "/PeerService/RequestByStream", "RequestByStream", client_streaming=True, server_streaming=True
)

METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {
        method.path: method
        for method in (
            PING,
            CHECK_HEALTH,
            DO_HANDSHAKE,
            CONFIRM_HANDSHAKE,
            REQUEST_BLOCK,
            REQUEST_BLOCKS,
            GET_NODES,
            DISCONNECT,
            BLOCK_BROADCAST_STREAM,
            TRANSACTION_BROADCAST_STREAM,
            ANNOUNCEMENT_BROADCAST_STREAM,
            LIB_ANNOUNCEMENT_BROADCAST_STREAM,
            REQUEST_BY_STREAM,
        )
    }
)
"""Every method by its path."""

BROADCAST_STREAMS: Final[Mapping[Method, int]] = MappingProxyType(
    {
        BLOCK_BROADCAST_STREAM: MessageType.BLOCK_BROADCAST,
        TRANSACTION_BROADCAST_STREAM: MessageType.TRANSACTION_BROADCAST,
        ANNOUNCEMENT_BROADCAST_STREAM: MessageType.ANNOUNCEMENT_BROADCAST,
        LIB_ANNOUNCEMENT_BROADCAST_STREAM: MessageType.LIB_ANNOUNCEMENT_BROADCAST,
    }
)
"""The client streams that carry one kind of broadcast each, and its type on RequestByStream."""
