"""The sinks' answers, to messages as our nodes make them."""

import pytest

from aelf_p2p.core.envelope import envelope_body, reply_prefix, request_prefix
from aelf_p2p.core.identity import Identity
from aelf_p2p.transports.net.messages import frame_messages
from aelf_p2p.wire import MessageType, StreamMessage, StreamType
from benchmarks.acknowledger import Acknowledger, cut_messages
from benchmarks.greeter import Greeter
from benchmarks.workload import TransactionSource

KEY = Identity.generate().public_key
REQUESTS = request_prefix(KEY, bytes(16))
REPLIES = reply_prefix(bytes(range(16)))
GREETER = Greeter()


def broadcasts(count: int, payload_bytes: int = 300) -> list[bytes]:
    return [
        REQUESTS
        + envelope_body(
            MessageType.TRANSACTION_BROADCAST, GREETER.new_request_id(), transaction.raw
        )
        for transaction in TransactionSource(payload_bytes).take(count)
    ]


def parsed_answers(messages: list[bytes]) -> bytes:
    """What a peer that parses each message answers."""
    parsed = [StreamMessage.FromString(data) for data in messages]
    return frame_messages(
        [
            REPLIES + envelope_body(message.message_type, message.request_id)
            for message in parsed
            if message.stream_type == StreamType.REQUEST
        ]
    )


@pytest.mark.parametrize("payload_bytes", [182, 300, 65_536])
def test_broadcasts_are_answered_as_if_each_were_parsed(payload_bytes: int) -> None:
    messages = broadcasts(100, payload_bytes)
    acknowledger = Acknowledger(REPLIES)
    answers = b""
    for begin in range(0, 100, 10):
        unread = bytearray(frame_messages(messages[begin : begin + 10]))
        answers += acknowledger.answer(unread)
        assert not unread
    assert answers == parsed_answers(messages)
    assert acknowledger.transactions == 100


@pytest.mark.parametrize("piece_bytes", [1, 7, 449, 1000])
def test_messages_may_come_in_any_pieces(piece_bytes: int) -> None:
    messages = broadcasts(8)
    data = frame_messages(messages)
    acknowledger = Acknowledger(REPLIES)
    unread = bytearray()
    answers = b""
    for at in range(0, len(data), piece_bytes):
        unread += data[at : at + piece_bytes]
        answers += acknowledger.answer(unread)
    assert answers == parsed_answers(messages)


def test_other_messages_between_are_parsed_and_nothing_is_lost() -> None:
    health = REQUESTS + envelope_body(MessageType.HEALTH_CHECK, GREETER.new_request_id())
    reply = REPLIES + envelope_body(MessageType.HEALTH_CHECK, GREETER.new_request_id())
    messages = [*broadcasts(3), health, *broadcasts(3, 450), reply, *broadcasts(3)]
    acknowledger = Acknowledger(REPLIES)
    answers = acknowledger.answer(bytearray(frame_messages(broadcasts(2))))
    answers = acknowledger.answer(bytearray(frame_messages(messages)))
    assert answers == parsed_answers(messages)
    assert acknowledger.transactions == 2 + 9


def test_what_only_looks_like_a_broadcast_is_parsed() -> None:
    """The same size, and a payload in which the bytes of a whole message occur."""
    first, second = broadcasts(2)
    other_type = second.replace(
        envelope_body(MessageType.TRANSACTION_BROADCAST, "")[:2],
        envelope_body(MessageType.BLOCK_BROADCAST, "")[:2],
        1,
    )
    assert len(other_type) == len(second) != 0
    assert other_type != second
    acknowledger = Acknowledger(REPLIES)
    acknowledger.answer(bytearray(frame_messages([first])))
    answers = acknowledger.answer(bytearray(frame_messages([other_type])))
    assert answers == parsed_answers([other_type])
    assert acknowledger.transactions == 1


def test_a_broadcast_whose_fields_are_laid_otherwise_is_parsed_each_time() -> None:
    """Another sender may put the request id last; its messages are no shape to learn."""
    messages = [StreamMessage.FromString(data).message for data in broadcasts(4)]
    odd = [
        REQUESTS
        + StreamMessage(message=each).SerializeToString()
        + StreamMessage(
            message_type=MessageType.TRANSACTION_BROADCAST, request_id=GREETER.new_request_id()
        ).SerializeToString()
        for each in messages
    ]
    acknowledger = Acknowledger(REPLIES)
    for each in odd:
        assert acknowledger.answer(bytearray(frame_messages([each]))) == parsed_answers([each])
    assert acknowledger.transactions == 4


def test_a_part_of_a_message_waits() -> None:
    data = frame_messages(broadcasts(1))
    unread = bytearray(data[:-1])
    assert cut_messages(unread) == []
    assert Acknowledger(REPLIES).answer(unread) == b""
    assert unread == data[:-1]
