"""The first exchange on a stream, from both sides. The input is a list of messages."""

from collections.abc import Iterator
from contextlib import suppress

from aelf_p2p.core.envelope import MAX_OVERHEAD_BYTES, decode_envelope_untrusted
from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.stream_handshake import (
    encode_opening,
    parse_answer_untrusted,
    parse_opening_untrusted,
)
from tests.fuzz.inputs import join_list, mutate_messages, split_list

mutate = mutate_messages
MAX_BYTES = 16_384
ID = "1700000000000_1"
LIMIT_BYTES = 2000


def seeds() -> Iterator[bytes]:
    opening = encode_opening(b"\4" * 65, ID, b"a handshake")
    answer = parse_opening_untrusted([opening], LIMIT_BYTES).reply(b"its answer")
    yield join_list(opening)
    yield join_list(opening, b"early", b"")
    yield join_list(answer, bytes(MAX_OVERHEAD_BYTES))
    yield b""


def target(data: bytes) -> bool:
    messages = split_list(data)
    with suppress(MalformedError):
        reply, behind = parse_answer_untrusted(messages, ID, LIMIT_BYTES)
        assert behind == messages[1:]
        assert len(reply) <= LIMIT_BYTES
    try:
        opening = parse_opening_untrusted(messages, LIMIT_BYTES)
    except MalformedError:
        return False
    assert opening.early == messages[1:]
    answered = opening.reply(b"its answer")
    assert decode_envelope_untrusted(answered).request_id == opening.request_id
    told, _ = parse_answer_untrusted([answered], opening.request_id, len(answered))
    assert told == b"its answer"
    return True
