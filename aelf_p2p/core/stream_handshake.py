"""The first exchange on a RequestByStream: HAND_SHAKE, from both sides (protocol §3.1, step 2)."""

from collections.abc import Sequence
from dataclasses import dataclass

from aelf_p2p.core.envelope import (
    META_PUBLIC_KEY,
    decode_envelope_untrusted,
    envelope_body,
    reply_prefix,
    request_prefix,
)
from aelf_p2p.core.errors import MalformedError
from aelf_p2p.wire import MessageType, StreamMessage, StreamType


@dataclass(frozen=True)
class Opening:
    """What an accepted stream began with."""

    request_id: str
    claimed_key: str
    """The public key of the message's meta, in hex: a claim until the handshake is checked."""
    handshake: bytes
    """A HandshakeRequest."""
    early: list[bytes]
    """Messages that came behind it in the same read."""

    def reply(self, handshake_reply: bytes) -> bytes:
        """The message that answers it with a HandshakeReply."""
        body = envelope_body(MessageType.HAND_SHAKE, self.request_id, handshake_reply)
        return reply_prefix(None) + body


def encode_opening(public_key: bytes, request_id: str, handshake: bytes) -> bytes:
    """The message that a dialer begins its stream with."""
    body = envelope_body(MessageType.HAND_SHAKE, request_id, handshake)
    return request_prefix(public_key, None) + body


def parse_opening_untrusted(messages: Sequence[bytes], max_bytes: int) -> Opening:
    """What the first read of an accepted stream brought.

    Raises MalformedError when it is not a HAND_SHAKE, or is over ``max_bytes``.
    """
    first = _first_untrusted(messages, max_bytes)
    if first.stream_type != StreamType.REQUEST or first.message_type != MessageType.HAND_SHAKE:
        raise MalformedError("the stream does not begin with a handshake")
    key = first.meta.get(META_PUBLIC_KEY, "")
    return Opening(first.request_id, key, first.message, list(messages[1:]))


def parse_answer_untrusted(
    messages: Sequence[bytes], request_id: str, max_bytes: int
) -> tuple[bytes, list[bytes]]:
    """The HandshakeReply that the first read of a dialed stream brought, and what came behind it.

    Raises MalformedError when it answers something else, or is over ``max_bytes``. What comes
    behind it has no such limit: the dialer has checked the node already, by DoHandshake.
    """
    first = _first_untrusted(messages[:1], max_bytes)
    if (first.stream_type, first.message_type, first.request_id) != (
        StreamType.REPLY,
        MessageType.HAND_SHAKE,
        request_id,
    ):
        raise MalformedError("the handshake on the stream was answered with something else")
    return first.message, list(messages[1:])


def _first_untrusted(messages: Sequence[bytes], max_bytes: int) -> StreamMessage:
    if not messages:
        raise MalformedError("the stream ended before its handshake")
    if sum(map(len, messages)) > max_bytes:
        raise MalformedError(f"over {max_bytes} bytes before the handshake was checked")
    return decode_envelope_untrusted(messages[0])
