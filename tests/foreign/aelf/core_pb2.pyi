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
