"""The learned layout of a peer's requests: what it cuts, a parser reads the same.

The input is a list. The first element is the request that is learned from, the others are requests,
and each also stands in the first one's place of type, id and message.
"""

from collections.abc import Iterator

from aelf_p2p.core.envelope import decode_envelope_untrusted, envelope_body, request_prefix
from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.stream_request import MAX_CUT_BYTES, RequestLayout, StreamRequest
from aelf_p2p.wire import StreamMessage
from tests.fuzz.inputs import join_list, mutate_messages, split_list

mutate = mutate_messages
MAX_BYTES = 16_384


def seeds() -> Iterator[bytes]:
    prefix = request_prefix(b"\4" * 65, bytes(16))
    first = prefix + envelope_body(9, "1700000000000_1", b"a transaction")
    bodies = [envelope_body(9, f"1700000000000_{n}", bytes(n)) for n in (2, 3, 130, 300)]
    yield join_list(first, *bodies, envelope_body(10, "x" * 126, b"?"))
    yield join_list(first, *(prefix + body for body in bodies))
    # The layout of a C# node, whose meta comes behind, in fields of its own order.
    meta = StreamMessage(meta={"public-key": "04ab", "session-id-bin": "01"}).SerializeToString()
    behind = [b"\x08\x01" + body + meta for body in bodies]
    yield join_list(behind[0], *behind, *bodies)
    yield join_list(b"", b"\x1a\x01a")
    yield b""


def target(data: bytes) -> bool:
    elements = split_list(data)
    if not elements:
        return False
    first, *others = elements
    try:
        learned = decode_envelope_untrusted(first)
    except MalformedError:
        return False
    layout = RequestLayout.learn(first, learned)
    if layout is None:
        return False
    body = envelope_body(learned.message_type, learned.request_id, learned.message)
    placed = [first.replace(body, other, 1) for other in others]
    cut = sum(_check_cut(layout, learned, each) for each in ([first], others, placed))
    return cut > 1


def _check_cut(layout: RequestLayout, learned: StreamMessage, messages: list[bytes]) -> int:
    """How many of them were cut."""
    at = cut = 0
    while at < len(messages):
        run = layout.cut_run(messages, at, 4, MAX_CUT_BYTES)
        if run is None:
            at += 1
            continue
        requests = run.requests()
        assert 1 <= len(requests) <= 4
        for request in requests:
            parsed = StreamMessage.FromString(messages[at])
            assert request == StreamRequest.of(parsed, parsed.message)
            assert parsed.stream_type == learned.stream_type
            assert parsed.meta == learned.meta
            at += 1
        cut += len(requests)
    return cut
