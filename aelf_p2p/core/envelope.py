"""The StreamMessage envelope, laid so that a broadcast's expensive part is made once.

Protobuf concatenates: the fields of a message may be written one after another in any order. So an
envelope is ``prefix + body``: the prefix (stream type and meta) is fixed for a session, the body
(message type, request id, message) is fixed for an item, whoever and however many receive it.
"""

from google.protobuf.message import DecodeError

from aelf_p2p.core.encoders import encode_bytes_field, encode_varint_field
from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.fields import cut_field_untrusted
from aelf_p2p.wire import StreamMessage, StreamType

META_PUBLIC_KEY = "public-key"
META_PEER_INFO = "peer-info"
META_SESSION_ID = "session-id-bin"  # hex text inside a message's meta, bytes in call metadata

CLIENT_NAME = "aelf-p2p"
"""What we say in the free text that a peer may log."""

MAX_OVERHEAD_BYTES = 8 * 1024
"""What an envelope may weigh beside its message: ids and meta of real nodes take about 300."""

LARGE_BYTES = 64 * 1024
"""From here on a message is not copied out of its envelope."""
MAX_UNUSUAL_BYTES = 1024 * 1024
"""Up to here it may be laid out as no encoder does: protobuf takes 30 ms for the worst of it."""

_MESSAGE_TYPE, _REQUEST_ID, _MESSAGE = 2, 3, 4  # field numbers


def request_prefix(public_key: bytes, session_id: bytes | None) -> bytes:
    """What every REQUEST of a session begins with; without a session for HAND_SHAKE."""
    meta = {META_PUBLIC_KEY: public_key.hex(), META_PEER_INFO: CLIENT_NAME}
    if session_id is not None:
        meta[META_SESSION_ID] = session_id.hex()
    return StreamMessage(stream_type=StreamType.REQUEST, meta=meta).SerializeToString()


def reply_prefix(session_id: bytes | None) -> bytes:
    """What every REPLY of a session begins with; C# does not look at a reply's meta."""
    meta = {} if session_id is None else {META_SESSION_ID: session_id.hex()}
    return StreamMessage(stream_type=StreamType.REPLY, meta=meta).SerializeToString()


def envelope_body(message_type: int, request_id: str, message: bytes = b"") -> bytes:
    """The part of an envelope that does not depend on who receives it.

    Without a message it is also how the same body with one begins.
    """
    return (
        encode_varint_field(_MESSAGE_TYPE, message_type)
        + encode_bytes_field(_REQUEST_ID, request_id.encode())
        + message_field(message)
    )


def message_field(message: bytes) -> bytes:
    """The end of a body: the message itself; nothing at all for an empty one."""
    return encode_bytes_field(_MESSAGE, message)


def decode_envelope_untrusted(data: bytes) -> StreamMessage:
    """Parse one message of a stream.

    Raises MalformedError when it is no StreamMessage, or when ids and meta weigh more than
    ``MAX_OVERHEAD_BYTES``.
    """
    message = _parse_untrusted(data)
    _check_overhead(len(data) - len(message.message))
    return message


def split_envelope_untrusted(data: bytes) -> tuple[StreamMessage, bytes | memoryview]:
    """The same, and the message that is inside.

    That of ``LARGE_BYTES`` or more is a view of ``data``, and is left out of the StreamMessage:
    protobuf would make two copies of it, which may weigh a hundred megabytes each.
    """
    if len(data) >= LARGE_BYTES:
        try:
            around, content = cut_field_untrusted(data, _MESSAGE)
        except MalformedError:
            # To us; protobuf takes more, and has the last word on what it takes milliseconds for.
            if len(data) > MAX_UNUSUAL_BYTES:
                raise
        else:
            _check_overhead(len(data) - len(content))
            return _parse_untrusted(around), content
    message = decode_envelope_untrusted(data)
    return message, message.message


def _parse_untrusted(data: bytes) -> StreamMessage:
    try:
        return StreamMessage.FromString(data)
    except DecodeError as exc:
        raise MalformedError(f"not a StreamMessage: {exc}") from exc


def _check_overhead(size: int) -> None:
    if size > MAX_OVERHEAD_BYTES:
        raise MalformedError("a StreamMessage whose ids and meta are over 8 KiB")
