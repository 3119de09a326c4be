from aelf import core_pb2 as _core_pb2
import network_types_pb2 as _network_types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StreamType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN: _ClassVar[StreamType]
    REQUEST: _ClassVar[StreamType]
    REPLY: _ClassVar[StreamType]

class MessageType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ANY: _ClassVar[MessageType]
    HAND_SHAKE: _ClassVar[MessageType]
    PING: _ClassVar[MessageType]
    CONFIRM_HAND_SHAKE: _ClassVar[MessageType]
    HEALTH_CHECK: _ClassVar[MessageType]
    REQUEST_BLOCK: _ClassVar[MessageType]
    REQUEST_BLOCKS: _ClassVar[MessageType]
    GET_NODES: _ClassVar[MessageType]
    BLOCK_BROADCAST: _ClassVar[MessageType]
    TRANSACTION_BROADCAST: _ClassVar[MessageType]
    ANNOUNCEMENT_BROADCAST: _ClassVar[MessageType]
    LIB_ANNOUNCEMENT_BROADCAST: _ClassVar[MessageType]
    DISCONNECT: _ClassVar[MessageType]
UNKNOWN: StreamType
REQUEST: StreamType
REPLY: StreamType
ANY: MessageType
HAND_SHAKE: MessageType
PING: MessageType
CONFIRM_HAND_SHAKE: MessageType
HEALTH_CHECK: MessageType
REQUEST_BLOCK: MessageType
REQUEST_BLOCKS: MessageType
GET_NODES: MessageType
BLOCK_BROADCAST: MessageType
TRANSACTION_BROADCAST: MessageType
ANNOUNCEMENT_BROADCAST: MessageType
LIB_ANNOUNCEMENT_BROADCAST: MessageType
DISCONNECT: MessageType

class PingRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PongReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthCheckRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthCheckReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class VoidReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamMessage(_message.Message):
    __slots__ = ("stream_type", "message_type", "request_id", "message", "meta")
    class MetaEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STREAM_TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_TYPE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    stream_type: StreamType
    message_type: MessageType
    request_id: str
    message: bytes
    meta: _containers.ScalarMap[str, str]
    def __init__(self, stream_type: _Optional[_Union[StreamType, str]] = ..., message_type: _Optional[_Union[MessageType, str]] = ..., request_id: _Optional[str] = ..., message: _Optional[bytes] = ..., meta: _Optional[_Mapping[str, str]] = ...) -> None: ...
