"""The limit of a message is 100 MiB: one byte below passes, one above is an error of its call.

Our transport is used without a node, since a node drops a peer whose message is too large.
"""

import network_types_pb2 as types
import peer_service_pb2 as service
import pytest
import trio

from aelf_p2p import CallFailedError, Endpoint, RpcChannel, StatusCode
from aelf_p2p.contracts import MessageStream
from aelf_p2p.transports.grpc import GrpcTransport
from aelf_p2p.wire import methods as m
from tests.wire_foreign.foreign_handshake import make_handshake
from tests.wire_foreign.foreign_key import ForeignKey
from tests.wire_foreign.foreign_node import MAX_MESSAGE_BYTES, ForeignNode
from tests.wire_foreign.support import threaded

SEND_LIMIT_BYTES = MAX_MESSAGE_BYTES + 1024
TIMEOUT_S = 60
REQUEST_ID = "1700000000000_1"


def opaque(size: int) -> bytes:
    """Bytes whose period is a prime, so that no frame or buffer fits it."""
    period = bytes(range(251))
    return (period * (size // len(period) + 1))[:size]


def stream_reply_overhead(session_id: bytes) -> int:
    """What the envelope of a reply of some 100 MiB weighs beside it."""
    envelope = service.StreamMessage(
        stream_type=service.REPLY,
        message_type=service.REQUEST_BLOCK,
        request_id=REQUEST_ID,
        meta={"session-id-bin": session_id.hex()},
    )
    return envelope.ByteSize() + 1 + 4  # the tag and the length, a varint, of ``message``


class HeavyNode(ForeignNode):
    """It answers every request with ``reply``."""

    reply = b""

    def answer(self, message_type: int, request: bytes) -> bytes:
        return self.reply


class Visitor:
    """A peer of the foreign node over our own channel: no more than the session that it needs."""

    def __init__(self, channel: RpcChannel, stream: MessageStream, key: ForeignKey) -> None:
        self.channel = channel
        self.stream = stream
        self.key = key
        self.session_out = b""

    async def ask(self, message_type: int, payload: bytes = b"") -> bytes:
        """A request on the stream; all of its reply's envelope."""
        message = service.StreamMessage(
            stream_type=service.REQUEST,
            message_type=message_type,  # type: ignore[arg-type]
            request_id=REQUEST_ID,
            message=payload,
            meta={"public-key": self.key.hex, "session-id-bin": self.session_out.hex()},
        )
        await self.stream.send_many([message.SerializeToString()])
        [reply] = await self.stream.receive_many()
        return reply

    async def call(self) -> bytes:
        """RequestBlock."""
        metadata: dict[str, str | bytes] = {
            "public-key": self.key.hex,
            "session-id-bin": self.session_out,
        }
        return await self.channel.call(m.REQUEST_BLOCK, b"", metadata=metadata, timeout_s=TIMEOUT_S)

    async def shake_hands(self) -> None:
        handshake = make_handshake(
            self.key, listening_port=6800, session_id=b"12345", tip=(bytes(32), 0)
        )
        request = types.HandshakeRequest(handshake=handshake)
        message = await self.ask(service.HAND_SHAKE, request.SerializeToString())
        reply = service.StreamMessage.FromString(message)
        agreed = types.HandshakeReply.FromString(reply.message)
        assert agreed.error == types.HANDSHAKE_OK
        self.session_out = agreed.handshake.session_id
        self.stream.trust()
        self.stream.limit_messages(MAX_MESSAGE_BYTES)


@pytest.mark.fault(33)
async def test_a_byte_decides() -> None:
    key = ForeignKey()
    metadata = {"public-key": key.hex}
    async with (
        threaded(lambda: HeavyNode(max_message_bytes=SEND_LIMIT_BYTES)) as foreign,
        GrpcTransport().dial(Endpoint("127.0.0.1", foreign.port), timeout_s=3) as channel,
        channel.open_stream(m.REQUEST_BY_STREAM, metadata=metadata) as stream,
    ):
        with trio.fail_after(TIMEOUT_S):
            visitor = Visitor(channel, stream, key)
            await visitor.shake_hands()

            foreign.reply = opaque(MAX_MESSAGE_BYTES - 1)
            assert await visitor.call() == foreign.reply

            foreign.reply = opaque(MAX_MESSAGE_BYTES + 1)
            with pytest.raises(CallFailedError) as caught:
                await visitor.call()
            assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
            foreign.reply = b"still there"
            assert await visitor.call() == b"still there"

            payload_size = MAX_MESSAGE_BYTES - stream_reply_overhead(b"12345")
            foreign.reply = opaque(payload_size - 1)
            message = await visitor.ask(service.REQUEST_BLOCK)
            assert len(message) == MAX_MESSAGE_BYTES - 1
            assert service.StreamMessage.FromString(message).message == foreign.reply
            del message

            foreign.reply = opaque(payload_size + 1)
            with pytest.raises(CallFailedError) as caught:
                await visitor.ask(service.REQUEST_BLOCK)
            assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
            foreign.reply = b"still there"
            assert await visitor.call() == b"still there"
