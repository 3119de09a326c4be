"""gRPC's message framing, gzip included: the messages do not depend on how the bytes were cut."""

import struct
from collections.abc import Iterable, Iterator
from random import Random

from aelf_p2p.core.budgets import ByteBudget
from aelf_p2p.core.errors import CallFailedError
from aelf_p2p.core.options import KIB
from aelf_p2p.transports.net.messages import (
    PREFIX_BYTES,
    MessageBuffer,
    compress,
    frame_messages,
    message_prefix,
)
from tests.fuzz.inputs import random_cuts
from tests.fuzz.mutation import AnyMutation, Framing

LIMIT_BYTES = 150 * KIB
HELD_BYTES = LIMIT_BYTES  # with less it would matter how the bytes are cut
MAX_BYTES = 16_384
_prefix = struct.Struct(">BI")


def _compressed(rng: Random) -> bytes:
    body = compress(bytes(rng.choice((0, 1, 100, 70_000, LIMIT_BYTES, LIMIT_BYTES + 1))))
    return message_prefix(len(body), compressed=True) + body


def _plain(rng: Random) -> bytes:
    return frame_messages([bytes(rng.choice((0, 1, 100, 300, 5000)))] * rng.randrange(1, 70))


def _payload(head: bytes, payload: bytes, most: int, rng: Random, change: AnyMutation) -> bytes:
    if head[0] == 1 and rng.randrange(2):
        return payload + compress(rng.randbytes(rng.randrange(40)))  # one more gzip member
    return change(payload, most)


mutate = Framing(
    head_bytes=PREFIX_BYTES,
    length_of=lambda head: int.from_bytes(head[1:]),
    with_length=lambda head, length: _prefix.pack(head[0], length),
    mutate_payload=_payload,
    make=(_compressed, _plain),
)


def seeds() -> Iterator[bytes]:
    rng = Random(1)
    yield frame_messages([b"one", b"", b"three" * 30])
    yield frame_messages([b"alike"] * 100)
    for size in (10, 70_000):
        body = compress(b"gzip" * size)
        yield message_prefix(len(body), compressed=True) + body + frame_messages([b"behind"])
    two = compress(b"two ") + compress(b"members")
    yield message_prefix(len(two), compressed=True) + two
    yield message_prefix(3, compressed=True) + b"not"
    yield message_prefix(LIMIT_BYTES + 1)
    yield _compressed(rng)
    yield b"\2" + frame_messages([b"flag"])


def target(data: bytes) -> bool:
    messages, ended_well = _received([data])
    assert (messages, ended_well) == _received(random_cuts(data)), "it matters how they were cut"
    assert all(len(message) <= LIMIT_BYTES for message in messages)
    return ended_well


def _received(reads: Iterable[bytes]) -> tuple[list[bytes], bool]:
    """The messages, and whether the bytes end behind the last of them.

    Which error a message has that has two, too long and no gzip, depends on the cuts.
    """
    budget = ByteBudget(HELD_BYTES)
    buffer = MessageBuffer(budget)
    buffer.encoding = "gzip"
    messages: list[bytes] = []
    failed = False
    owed = 0
    for data in reads:
        buffer.append(data, len(data))
        owed += len(data)
        while buffer.has_work and not failed:
            try:
                taken, freed = buffer.take_untrusted(LIMIT_BYTES)
            except CallFailedError:
                failed = True
            else:
                messages += taken
                owed -= freed
                assert owed >= buffer.unread_bytes, "more credit was given back than was taken"
    assert budget.held_bytes <= HELD_BYTES
    ended_well = not (failed or buffer.in_message)
    owed -= buffer.close()
    assert owed == 0, "credit is lost"
    assert budget.held_bytes == 0, "bytes are held for nobody"
    return messages, ended_well
