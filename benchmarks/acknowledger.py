"""Answers broadcasts without parsing each: it learns how a session's messages are laid out.

All broadcasts of one size differ, within a session, only in the request id and the payload. So one
of them is parsed; those that follow are recognised by every byte around the two, and their
acknowledgements are laid around the ids. What looks otherwise is parsed. No I/O.
"""

import re
import struct
from typing import NamedTuple

from aelf_p2p.core.encoders import encode_bytes_field
from aelf_p2p.core.envelope import envelope_body
from aelf_p2p.transports.net.messages import PREFIX_BYTES, frame_messages
from aelf_p2p.wire import MessageType, StreamMessage, StreamType

_REQUEST = int(StreamType.REQUEST)  # once, not for every message
_TRANSACTION = int(MessageType.TRANSACTION_BROADCAST)
_MESSAGE_FIELD = 4

_prefix = struct.Struct(">xI")


def cut_messages(unread: bytearray) -> list[bytes]:
    """Take the messages that are whole from the front, without their prefixes."""
    messages = []
    at = 0
    while len(unread) - at >= PREFIX_BYTES:
        begin = at + PREFIX_BYTES
        end = begin + _prefix.unpack_from(unread, at)[0]
        if end > len(unread):
            break
        messages.append(bytes(unread[begin:end]))
        at = end
    del unread[:at]
    return messages


class _Layout(NamedTuple):
    """How broadcasts of one size look in a session, and their acknowledgements."""

    broadcast: re.Pattern[bytes]
    """Matches exactly one, prefix included; its group is the request id."""
    broadcast_bytes: int
    before_id: bytes
    """Of an acknowledgement, prefix included."""
    after_id: bytes

    def acknowledge(self, request_ids: list[bytes]) -> bytes:
        """All acknowledgements, one behind the other."""
        between = self.after_id + self.before_id
        return self.before_id + between.join(request_ids) + self.after_id


class Acknowledger:
    """The answering half of one peer. ``replies`` is what our replies in its session begin with."""

    def __init__(self, replies: bytes) -> None:
        self.transactions = 0
        """Acknowledged so far."""
        self._replies = replies
        self._layout: _Layout | None = None

    def answer(self, unread: bytearray) -> bytes:
        """Take the messages that are whole from the front; the answers, with their prefixes."""
        answers = self._answer_known(unread, self._layout) if self._layout is not None else b""
        if len(unread) >= PREFIX_BYTES:
            answers += self._answer_parsed(unread)
        return answers

    def _answer_known(self, unread: bytearray, layout: _Layout) -> bytes:
        """Answer what is laid out as expected, if all that is there is."""
        count = len(unread) // layout.broadcast_bytes
        end = count * layout.broadcast_bytes
        request_ids = layout.broadcast.findall(unread, 0, end)
        # Matches do not overlap: so many of that size leave no byte between them.
        if not count or len(request_ids) != count:
            return b""
        del unread[:end]
        self.transactions += count
        return layout.acknowledge(request_ids)

    def _answer_parsed(self, unread: bytearray) -> bytes:
        answers = []
        for data in cut_messages(unread):
            message = StreamMessage.FromString(data)
            if message.stream_type != _REQUEST:
                continue
            body = envelope_body(message.message_type, message.request_id)
            answers.append(self._replies + body)
            if message.message_type == _TRANSACTION:
                self.transactions += 1
                self._layout = _learn(data, message, answers[-1])
        return frame_messages(answers)


def _learn(data: bytes, message: StreamMessage, answer: bytes) -> _Layout | None:
    """The layout of a broadcast, if it ends with request id and payload as senders lay them."""
    request_id = message.request_id.encode()
    payload_bytes = len(message.message)
    field = encode_bytes_field(_MESSAGE_FIELD, message.message)
    id_at = len(data) - len(field) - len(request_id)
    between = field[: len(field) - payload_bytes]
    if not data.endswith(request_id + field) or answer.count(request_id) != 1:
        return None
    before, after = answer.split(request_id)
    pattern = b"%b(.{%d})%b.{%d}" % (
        re.escape(_prefix.pack(len(data)) + data[:id_at]),
        len(request_id),
        re.escape(between),
        payload_bytes,
    )
    return _Layout(
        re.compile(pattern, re.DOTALL),
        PREFIX_BYTES + len(data),
        _prefix.pack(len(answer)) + before,
        after,
    )
