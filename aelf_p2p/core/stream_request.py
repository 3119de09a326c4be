"""A request of a stream, and how one peer lays out its requests.

A peer's requests differ in type, id and message only: what stands before and behind these is the
same for a session, key and session id among it. So once one of them was parsed and found authentic,
the next is cut where that one was, and what is the same needs no look.
"""

from collections.abc import Sequence
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


class RequestRun(NamedTuple):
    """Requests of one type that came one after another; at least one."""

    message_type: int
    heads: list[bytes]
    messages: list[bytes]

    def requests(self) -> list[StreamRequest]:
        """Each by itself."""
        pairs = zip(self.heads, self.messages, strict=True)
        return [StreamRequest(self.message_type, head, message) for head, message in pairs]


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

    def cut_run(
        self, messages: Sequence[bytes], begin: int, most: int, most_bytes: int
    ) -> RequestRun | None:
        """The requests from ``begin`` on that are laid out so, have one type, and ids of one
        length, at most ``most`` of ``most_bytes`` together, unless the first is larger; None for a
        message that is another, whatever it is.

        Says just what a parser would, of messages below 16 KiB and ids of 1 to 127 ASCII letters.
        """
        first, behind, at = messages[begin], self._behind, len(self._before)
        if len(first) < at + 4 or first[at] != _MESSAGE_TYPE or first[at + 2] != _REQUEST_ID:
            return None
        start = self._before + first[at : at + 4]
        message_type, id_size = first[at + 1], first[at + 3]
        if not (0 < message_type < _ONE_BYTE and 0 < id_size < _ONE_BYTE):
            return None
        head_end = at + 4 + id_size
        heads: list[bytes] = []
        bodies: list[bytes] = []
        for position in range(begin, min(begin + most, len(messages))):
            data = messages[position]
            if not (data.startswith(start) and data.endswith(behind)):
                break
            most_bytes -= len(data)
            if most_bytes < 0 and heads:
                break
            message_at, end = head_end + 2, len(data) - len(behind)
            if message_at > end or data[head_end] != _MESSAGE:
                break
            size = data[head_end + 1]
            if size >= _ONE_BYTE:
                high = data[message_at] if message_at < end else 0
                if not 0 < high < _ONE_BYTE:
                    break
                size = size - _ONE_BYTE | high << 7
                message_at += 1
            head = data[at:head_end]
            if message_at + size != end or not size or not head.isascii():
                break
            heads.append(head)
            bodies.append(data[message_at:end])
        return RequestRun(message_type, heads, bodies) if heads else None
