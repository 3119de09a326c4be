"""The network layer of the AElf blockchain, for trio applications.

async with open_node(identity=..., transport=..., boot_nodes=["10.0.0.7:6800"]) as node:
    with node.subscribe() as events:
        async for event in events: ...
"""

from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.chain.memory_state import MemoryStateStore
from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.chain.sqlite_state import SqliteStateStore, open_sqlite_state
from aelf_p2p.chain.sqlite_store import SqliteChainStore, open_sqlite_store
from aelf_p2p.contracts import (
    ChainStore,
    Kernel,
    Peer,
    RpcChannel,
    StateStore,
    Transport,
)
from aelf_p2p.core.bans import Ban, BanReason
from aelf_p2p.core.block import Block, BlockHeader
from aelf_p2p.core.broadcast import BroadcastKind, DropReason
from aelf_p2p.core.budgets import Rate
from aelf_p2p.core.chain_status import ChainRoot, ChainStatus, PeerChain
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import (
    AelfP2PError,
    CallFailedError,
    ClosedByUsError,
    ConnectionLostError,
    DeadlineExceededError,
    FullBufferError,
    HandlerError,
    HandshakeRefusedError,
    InvalidItemError,
    InvalidReason,
    KeyFileError,
    MalformedError,
    MisuseError,
    NetworkError,
    NotConnectedError,
    PeerUnstableError,
    ProtocolViolationError,
    RefusalReason,
    RpcError,
    StatusCode,
    StoreError,
    TransportError,
    UnknownParentError,
    UnrecoverableError,
)
from aelf_p2p.core.identity import Identity, Scheme
from aelf_p2p.core.kernel_events import (
    BlockAccepted,
    BlockMined,
    KernelEvent,
    NewIrreversibleBlockFound,
    TransactionAccepted,
)
from aelf_p2p.core.keyfile import read_key_file, seal_key, write_key_file
from aelf_p2p.core.network_events import (
    AbnormalPeerFound,
    AnnouncementReceived,
    BlockReceived,
    ClockDrift,
    EventsMissed,
    NetworkEvent,
    NetworkInitialized,
    PeerConnected,
    PeerDisconnected,
    TransactionsReceived,
)
from aelf_p2p.core.network_state import KnownNode, NetworkState, Reconnection
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason, PeerInfo, PeerStatistics, PeerStatus
from aelf_p2p.core.round_trips import RoundTrip
from aelf_p2p.core.sync_target import SyncState
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.node import Node, open_node
from aelf_p2p.services.discovery import DiscoveryRound
from aelf_p2p.services.events import Event, Subscription
from aelf_p2p.services.network import BroadcastReport
from aelf_p2p.services.operator import Operator, PeerReport
from aelf_p2p.services.receipts import Delivery, DeliveryState, Receipt, ReceiptBook
from aelf_p2p.services.sync_jobs import JobDrop
from aelf_p2p.services.worker import Worker
from aelf_p2p.services.workers import Workers
from aelf_p2p.transports.grpc import GrpcTransport
from aelf_p2p.transports.memory import MemoryHub
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.purerpc import PureRpcTransport
from aelf_p2p.transports.tcp import TcpTransport

__all__ = [
    "AbnormalPeerFound",
    "AelfP2PError",
    "AnnouncementReceived",
    "Ban",
    "BanReason",
    "Block",
    "BlockAccepted",
    "BlockHeader",
    "BlockMined",
    "BlockReceived",
    "BroadcastKind",
    "BroadcastReport",
    "CallFailedError",
    "ChainRoot",
    "ChainStatus",
    "ChainStore",
    "ClockDrift",
    "CloseReason",
    "ClosedByUsError",
    "ConnectionLostError",
    "DeadlineExceededError",
    "Delivery",
    "DeliveryState",
    "DiscoveryRound",
    "DropReason",
    "Endpoint",
    "Event",
    "EventsMissed",
    "FullBufferError",
    "GrpcTransport",
    "HandlerError",
    "HandshakeRefusedError",
    "Identity",
    "InvalidItemError",
    "InvalidReason",
    "JobDrop",
    "Kernel",
    "KernelEvent",
    "KeyFileError",
    "KnownNode",
    "MalformedError",
    "MemoryChainStore",
    "MemoryHub",
    "MemoryStateStore",
    "MinimalKernel",
    "MisuseError",
    "NetworkError",
    "NetworkEvent",
    "NetworkInitialized",
    "NetworkOptions",
    "NetworkState",
    "NewIrreversibleBlockFound",
    "Node",
    "NotConnectedError",
    "Operator",
    "Peer",
    "PeerChain",
    "PeerConnected",
    "PeerDisconnected",
    "PeerInfo",
    "PeerReport",
    "PeerStatistics",
    "PeerStatus",
    "PeerUnstableError",
    "ProtocolViolationError",
    "PureRpcTransport",
    "Rate",
    "Receipt",
    "ReceiptBook",
    "Reconnection",
    "RefusalReason",
    "RoundTrip",
    "RpcChannel",
    "RpcError",
    "Scheme",
    "SqliteChainStore",
    "SqliteStateStore",
    "StateStore",
    "StatusCode",
    "StoreError",
    "Subscription",
    "SyncState",
    "TcpTransport",
    "Transaction",
    "TransactionAccepted",
    "TransactionsReceived",
    "Transport",
    "TransportError",
    "UnknownParentError",
    "UnrecoverableError",
    "WireLimits",
    "Worker",
    "Workers",
    "open_node",
    "open_sqlite_state",
    "open_sqlite_store",
    "read_key_file",
    "seal_key",
    "write_key_file",
]
