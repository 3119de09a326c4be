import datetime

from aelf_p2p.wire import core_pb2 as _core_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HandshakeError(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HANDSHAKE_OK: _ClassVar[HandshakeError]
    CHAIN_MISMATCH: _ClassVar[HandshakeError]
    PROTOCOL_MISMATCH: _ClassVar[HandshakeError]
    WRONG_SIGNATURE: _ClassVar[HandshakeError]
    REPEATED_CONNECTION: _ClassVar[HandshakeError]
    CONNECTION_REFUSED: _ClassVar[HandshakeError]
    INVALID_CONNECTION: _ClassVar[HandshakeError]
    SIGNATURE_TIMEOUT: _ClassVar[HandshakeError]
HANDSHAKE_OK: HandshakeError
CHAIN_MISMATCH: HandshakeError
PROTOCOL_MISMATCH: HandshakeError
WRONG_SIGNATURE: HandshakeError
REPEATED_CONNECTION: HandshakeError
CONNECTION_REFUSED: HandshakeError
INVALID_CONNECTION: HandshakeError
SIGNATURE_TIMEOUT: HandshakeError

class BlockAnnouncement(_message.Message):
    __slots__ = ("block_hash", "block_height")
    BLOCK_HASH_FIELD_NUMBER: _ClassVar[int]
    BLOCK_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    block_hash: _core_pb2.Hash
    block_height: int
    def __init__(self, block_hash: _Optional[_Union[_core_pb2.Hash, _Mapping]] = ..., block_height: _Optional[int] = ...) -> None: ...

class LibAnnouncement(_message.Message):
    __slots__ = ("lib_hash", "lib_height")
    LIB_HASH_FIELD_NUMBER: _ClassVar[int]
    LIB_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    lib_hash: _core_pb2.Hash
    lib_height: int
    def __init__(self, lib_hash: _Optional[_Union[_core_pb2.Hash, _Mapping]] = ..., lib_height: _Optional[int] = ...) -> None: ...

class BlockWithTransactions(_message.Message):
    __slots__ = ("header", "transactions")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    header: _core_pb2.BlockHeader
    transactions: _containers.RepeatedCompositeFieldContainer[_core_pb2.Transaction]
    def __init__(self, header: _Optional[_Union[_core_pb2.BlockHeader, _Mapping]] = ..., transactions: _Optional[_Iterable[_Union[_core_pb2.Transaction, _Mapping]]] = ...) -> None: ...

class BlockRequest(_message.Message):
    __slots__ = ("hash",)
    HASH_FIELD_NUMBER: _ClassVar[int]
    hash: _core_pb2.Hash
    def __init__(self, hash: _Optional[_Union[_core_pb2.Hash, _Mapping]] = ...) -> None: ...

class BlockReply(_message.Message):
    __slots__ = ("error", "block")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    error: str
    block: BlockWithTransactions
    def __init__(self, error: _Optional[str] = ..., block: _Optional[_Union[BlockWithTransactions, _Mapping]] = ...) -> None: ...

class BlocksRequest(_message.Message):
    __slots__ = ("previous_block_hash", "count")
    PREVIOUS_BLOCK_HASH_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    previous_block_hash: _core_pb2.Hash
    count: int
    def __init__(self, previous_block_hash: _Optional[_Union[_core_pb2.Hash, _Mapping]] = ..., count: _Optional[int] = ...) -> None: ...

class BlockList(_message.Message):
    __slots__ = ("blocks",)
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[BlockWithTransactions]
    def __init__(self, blocks: _Optional[_Iterable[_Union[BlockWithTransactions, _Mapping]]] = ...) -> None: ...

class HandshakeData(_message.Message):
    __slots__ = ("chain_id", "version", "listening_port", "pubkey", "best_chain_hash", "best_chain_height", "last_irreversible_block_hash", "last_irreversible_block_height", "time", "node_version", "aelf_p2p_revision", "certificate_hash")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LISTENING_PORT_FIELD_NUMBER: _ClassVar[int]
    PUBKEY_FIELD_NUMBER: _ClassVar[int]
    BEST_CHAIN_HASH_FIELD_NUMBER: _ClassVar[int]
    BEST_CHAIN_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    LAST_IRREVERSIBLE_BLOCK_HASH_FIELD_NUMBER: _ClassVar[int]
    LAST_IRREVERSIBLE_BLOCK_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    NODE_VERSION_FIELD_NUMBER: _ClassVar[int]
    AELF_P2P_REVISION_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_HASH_FIELD_NUMBER: _ClassVar[int]
    chain_id: int
    version: int
    listening_port: int
    pubkey: bytes
    best_chain_hash: _core_pb2.Hash
    best_chain_height: int
    last_irreversible_block_hash: _core_pb2.Hash
    last_irreversible_block_height: int
    time: _timestamp_pb2.Timestamp
    node_version: str
    aelf_p2p_revision: int
    certificate_hash: bytes
    def __init__(self, chain_id: _Optional[int] = ..., version: _Optional[int] = ..., listening_port: _Optional[int] = ..., pubkey: _Optional[bytes] = ..., best_chain_hash: _Optional[_Union[_core_pb2.Hash, _Mapping]] = ..., best_chain_height: _Optional[int] = ..., last_irreversible_block_hash: _Optional[_Union[_core_pb2.Hash, _Mapping]] = ..., last_irreversible_block_height: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., node_version: _Optional[str] = ..., aelf_p2p_revision: _Optional[int] = ..., certificate_hash: _Optional[bytes] = ...) -> None: ...

class Handshake(_message.Message):
    __slots__ = ("handshake_data", "signature", "session_id")
    HANDSHAKE_DATA_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    handshake_data: HandshakeData
    signature: bytes
    session_id: bytes
    def __init__(self, handshake_data: _Optional[_Union[HandshakeData, _Mapping]] = ..., signature: _Optional[bytes] = ..., session_id: _Optional[bytes] = ...) -> None: ...

class HandshakeRequest(_message.Message):
    __slots__ = ("handshake",)
    HANDSHAKE_FIELD_NUMBER: _ClassVar[int]
    handshake: Handshake
    def __init__(self, handshake: _Optional[_Union[Handshake, _Mapping]] = ...) -> None: ...

class HandshakeReply(_message.Message):
    __slots__ = ("handshake", "error")
    HANDSHAKE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    handshake: Handshake
    error: HandshakeError
    def __init__(self, handshake: _Optional[_Union[Handshake, _Mapping]] = ..., error: _Optional[_Union[HandshakeError, str]] = ...) -> None: ...

class ConfirmHandshakeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DisconnectReason(_message.Message):
    __slots__ = ("why",)
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SHUTDOWN: _ClassVar[DisconnectReason.Reason]
    SHUTDOWN: DisconnectReason.Reason
    WHY_FIELD_NUMBER: _ClassVar[int]
    why: DisconnectReason.Reason
    def __init__(self, why: _Optional[_Union[DisconnectReason.Reason, str]] = ...) -> None: ...

class NodeInfo(_message.Message):
    __slots__ = ("endpoint", "pubkey")
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    PUBKEY_FIELD_NUMBER: _ClassVar[int]
    endpoint: str
    pubkey: bytes
    def __init__(self, endpoint: _Optional[str] = ..., pubkey: _Optional[bytes] = ...) -> None: ...

class NodesRequest(_message.Message):
    __slots__ = ("max_count",)
    MAX_COUNT_FIELD_NUMBER: _ClassVar[int]
    max_count: int
    def __init__(self, max_count: _Optional[int] = ...) -> None: ...

class NodeList(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeInfo]
    def __init__(self, nodes: _Optional[_Iterable[_Union[NodeInfo, _Mapping]]] = ...) -> None: ...
