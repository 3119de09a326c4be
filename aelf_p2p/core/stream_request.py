"""A request of a stream, and how one peer lays out its requests.

A peer's requests differ in type, id and message only: what stands before and behind these is the
same for a session, key and session id among it. So once one of them was parsed and found authentic,
the next is cut where that one was, and what is the same needs no look.
"""

from typing import NamedTuple, Self

from google.protobuf.message import DecodeError

from aelf_p2p.core.envelope import MAX_OVERHEAD_BYTES, envelope_body, message_field
from aelf_p2p.core.options import KIB
from aelf_p2p.wire import MessageType, StreamMessage

MAX_CUT_BYTES = 16 * KIB
"""A request of this size or more is not cut by a layout: parsing it is no more work."""

_MESSAGE_TYPE, _REQUEST_ID, _MESSAGE = 0x10, 0x1A, 0x22  # the tags of fields 2, 3 and 4
_ONE_BYTE = 0x80  # varints below it take one
_MAX_HEAD_BYTES = 4 + _ONE_BYTE


class StreamRequest(NamedTuple):
    """What a request says."""

    message_type: int
    head: bytes
    """Its type and id as they are laid out, with which the reply begins too."""
    message: bytes

    @classmethod
    def of(cls, envelope: StreamMessage, message: bytes) -> Self:
        """That of a parsed envelope, with the message that was inside."""
        head = envelope_body(envelope.message_type, envelope.request_id)
        return cls(envelope.message_type, head, message)

    def reply_body(self, reply: bytes) -> bytes:
        """The part of the reply's envelope that its session does not fix."""
        return self.head + message_field(reply)


class RequestLayout:
    """What stands before and behind type, id and message in the requests of a session."""

    def __init__(self, before: bytes, behind: bytes) -> None:
        self._before = before
        self._behind = behind

    @classmethod
    def learn(cls, data: bytes, message: StreamMessage) -> Self | None:
        """The layout of a request of these bytes, which was parsed as this message; None when the
        three do not stand together, or anything else depends on them."""
        body = envelope_body(message.message_type, message.request_id, message.message)
        at = data.find(body) if body else -1
        before, behind = data[:at], data[at + len(body) :]
        if at < 0 or len(before) + len(behind) + _MAX_HEAD_BYTES > MAX_OVERHEAD_BYTES:
            return None
        # Tried on another request, since it may have been found in the midst of something.
        other = StreamMessage()
        other.CopyFrom(message)
        is_ping = message.message_type == MessageType.PING
        other.message_type = MessageType.HEALTH_CHECK if is_ping else MessageType.PING
        other.request_id += "?"
        other.message += b"?"
        body = envelope_body(other.message_type, other.request_id, other.message)
        try:
            parsed = StreamMessage.FromString(before + body + behind)
        except DecodeError:
            return None
        return cls(before, behind) if parsed == other else None

    def cut(self, data: bytes) -> StreamRequest | None:
        """A request that is laid out so; None for any other message, whatever it is.

        Says just what a parser would, of messages below 16 KiB and ids of 1 to 127 ASCII letters.
        """
        before, behind = self._before, self._behind
        if not (data.startswith(before) and data.endswith(behind)):
            return None
        at = len(before)
        end = len(data) - len(behind)
        if end - at < 6 or data[at] != _MESSAGE_TYPE or data[at + 2] != _REQUEST_ID:
            return None
        message_type, id_size = data[at + 1], data[at + 3]
        head_end = at + 4 + id_size
        message_at = head_end + 2
        if message_at > end or data[head_end] != _MESSAGE:
            return None
        size = data[head_end + 1]
        if size >= _ONE_BYTE:
            high = data[message_at] if message_at < end else 0
            if not 0 < high < _ONE_BYTE:
                return None
            size = size - _ONE_BYTE | high << 7
            message_at += 1
        head = data[at:head_end]
        if message_at + size != end or not (size and 0 < id_size < _ONE_BYTE):
            return None
        if not (0 < message_type < _ONE_BYTE and head.isascii()):
            return None
        return StreamRequest(message_type, head, data[message_at:end])
