"""The learned layout of a peer's acknowledgements: what it takes out, a parser would.

The input is a list: the reply that is learned from, and then replies.
"""

from collections.abc import Iterator

from aelf_p2p.core.ack_window import AckWindow
from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind
from aelf_p2p.core.envelope import decode_envelope_untrusted, reply_prefix
from aelf_p2p.core.errors import MalformedError
from aelf_p2p.wire import StreamMessage
from tests.fuzz.inputs import join_list, mutate_messages, split_list

mutate = mutate_messages
MAX_BYTES = 16_384
ITEMS = [
    BroadcastItem(kind, bytes([number] * 32), b"payload", f"1700000000000_{number}")
    for number, kind in enumerate([*BroadcastKind] * 3)
]


def seeds() -> Iterator[bytes]:
    replies = [reply_prefix(bytes(5)) + item.acknowledgement for item in ITEMS]
    yield join_list(replies[0], *replies[1:])
    meta = StreamMessage(meta={"session-id-bin": "01"}).SerializeToString()
    behind = [b"\x08\x02" + item.acknowledgement + meta for item in ITEMS]
    yield join_list(behind[0], *behind[1:5], replies[5], behind[5])
    yield join_list(b"\x1a\x01\xff")
    yield b""


def target(data: bytes) -> bool:
    elements = split_list(data)
    if not elements:
        return False
    window = AckWindow(100, 100_000, 3.0)
    window.push(ITEMS, 0.0)
    first, *messages = elements
    try:
        learned = decode_envelope_untrusted(first)
    except MalformedError:
        return False
    # As a peer does: what it learns from was parsed, and answered something that was sent.
    item = window.acknowledge(learned.request_id, learned.message_type)
    if item is None:
        return False
    window.learn(item, first)
    left = [each for each in ITEMS if each is not item]
    acknowledged = window.acknowledge_many(messages)
    assert acknowledged == left[: len(acknowledged)]
    assert len(window) == len(left) - len(acknowledged)
    for each, message in zip(acknowledged, messages, strict=False):
        parsed = StreamMessage.FromString(message)
        assert (parsed.request_id, parsed.message_type) == (each.request_id, each.message_type)
        assert parsed.stream_type == learned.stream_type
        assert parsed.meta == learned.meta
    assert window.bytes == sum(each.size for each in left[len(acknowledged) :])
    window.expire(10.0)
    assert (len(window), window.bytes) == (0, 0)
    return bool(acknowledged)
