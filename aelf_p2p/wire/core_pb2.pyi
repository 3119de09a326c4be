import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hash(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    def __init__(self, value: _Optional[bytes] = ...) -> None: ...

class Address(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    def __init__(self, value: _Optional[bytes] = ...) -> None: ...

class Transaction(_message.Message):
    __slots__ = ("to", "ref_block_number", "ref_block_prefix", "method_name", "params", "signature")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    REF_BLOCK_NUMBER_FIELD_NUMBER: _ClassVar[int]
    REF_BLOCK_PREFIX_FIELD_NUMBER: _ClassVar[int]
    METHOD_NAME_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    to: Address
    ref_block_number: int
    ref_block_prefix: bytes
    method_name: str
    params: bytes
    signature: bytes
    def __init__(self, to: _Optional[_Union[Address, _Mapping]] = ..., ref_block_number: _Optional[int] = ..., ref_block_prefix: _Optional[bytes] = ..., method_name: _Optional[str] = ..., params: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., **kwargs) -> None: ...

class BlockHeader(_message.Message):
    __slots__ = ("version", "chain_id", "previous_block_hash", "merkle_tree_root_of_transactions", "merkle_tree_root_of_world_state", "bloom", "height", "extra_data", "time", "merkle_tree_root_of_transaction_status", "signer_pubkey", "signature")
    class ExtraDataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_BLOCK_HASH_FIELD_NUMBER: _ClassVar[int]
    MERKLE_TREE_ROOT_OF_TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    MERKLE_TREE_ROOT_OF_WORLD_STATE_FIELD_NUMBER: _ClassVar[int]
    BLOOM_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    EXTRA_DATA_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    MERKLE_TREE_ROOT_OF_TRANSACTION_STATUS_FIELD_NUMBER: _ClassVar[int]
    SIGNER_PUBKEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    version: int
    chain_id: int
    previous_block_hash: Hash
    merkle_tree_root_of_transactions: Hash
    merkle_tree_root_of_world_state: Hash
    bloom: bytes
    height: int
    extra_data: _containers.ScalarMap[str, bytes]
    time: _timestamp_pb2.Timestamp
    merkle_tree_root_of_transaction_status: Hash
    signer_pubkey: bytes
    signature: bytes
    def __init__(self, version: _Optional[int] = ..., chain_id: _Optional[int] = ..., previous_block_hash: _Optional[_Union[Hash, _Mapping]] = ..., merkle_tree_root_of_transactions: _Optional[_Union[Hash, _Mapping]] = ..., merkle_tree_root_of_world_state: _Optional[_Union[Hash, _Mapping]] = ..., bloom: _Optional[bytes] = ..., height: _Optional[int] = ..., extra_data: _Optional[_Mapping[str, bytes]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., merkle_tree_root_of_transaction_status: _Optional[_Union[Hash, _Mapping]] = ..., signer_pubkey: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...
