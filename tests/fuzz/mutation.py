"""Mutations that know how an input is built, so that what comes out gets past the first check.

They are given libFuzzer's own mutation for the bytes inside, and need no atheris themselves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from aelf_p2p.core.encoders import encode_varint
from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.fields import LENGTH, VARINT, each_field_untrusted, read_varint

AnyMutation = Callable[[bytes, int], bytes]
"""libFuzzer's: some bytes, and how many may come out at most."""

_RAW_ONE_IN = 6  # so often the bytes are changed without looking at them
_MANY = 4000  # pieces, when one is repeated to see what many of them cost
_INTERESTING = (0, 1, 2, 127, 128, 2**14, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
_MAX_DEPTH = 5


class Mutation(Protocol):
    """Another input, made of one; at most ``most`` bytes."""

    def __call__(self, data: bytes, most: int, rng: Random, change: AnyMutation) -> bytes: ...


def _rearranged(pieces: list[bytes], most: int, rng: Random) -> list[bytes]:
    """One piece taken out, given twice, moved, or now and then repeated very often."""
    at, to = rng.randrange(len(pieces)), rng.randrange(len(pieces))
    kind = rng.randrange(40)
    if kind == 0:
        room = most - sum(map(len, pieces))
        pieces[at:at] = [pieces[at]] * min(_MANY, room // max(1, len(pieces[at])))
    elif kind % 3 == 0:
        del pieces[at]
    elif kind % 3 == 1:
        pieces.insert(to, pieces[at])
    else:
        pieces[at], pieces[to] = pieces[to], pieces[at]
    return pieces


# --- protobuf -------------------------------------------------------------------------------------


def mutate_message(
    data: bytes, most: int, rng: Random, change: AnyMutation, depth: int = 0
) -> bytes:
    """Mutate bytes as a protobuf message, field by field, into submessages too."""
    fields = _fields(data)
    if not fields or rng.randrange(_RAW_ONE_IN) == 0:
        return change(data, most)
    if rng.randrange(3) == 0:
        return b"".join(_rearranged(fields, most, rng))[:most]
    at = rng.randrange(len(fields))
    field = fields[at]
    room = max(1, most - len(data) + len(field) - 8)
    fields[at] = _mutated_field(field, room, rng, change, depth)
    return b"".join(fields)[:most]


def _fields(data: bytes) -> list[bytes]:
    """Each with its tag; none when it is no message."""
    fields: list[bytes] = []
    at = 0
    try:
        for _, _, _, end in each_field_untrusted(data):
            fields.append(data[at:end])
            at = end
    except MalformedError:
        return []
    return fields


def _mutated_field(field: bytes, room: int, rng: Random, change: AnyMutation, depth: int) -> bytes:
    tag, begin = read_varint(field, 0)
    number, wire = tag >> 3, tag & 7
    if rng.randrange(12) == 0:
        number = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1000, 1001, 9999, 10_000, 2**29 - 1))
    head = encode_varint(number << 3 | wire)
    if wire == VARINT:
        if rng.randrange(2):
            return head + encode_varint(rng.choice(_INTERESTING))
        return head + change(field[begin:], room)
    if wire != LENGTH:
        return head + change(field[begin:], room)
    _, begin = read_varint(field, begin)
    body = field[begin:]
    if depth < _MAX_DEPTH and rng.randrange(4):
        body = mutate_message(body, room, rng, change, depth + 1)
    else:
        body = change(body, room)
    length = len(body) if rng.randrange(30) else rng.choice(_INTERESTING)  # a lie, now and then
    return head + encode_varint(length) + body


# --- what comes behind heads that tell its length -------------------------------------------------


@dataclass(frozen=True)
class Framing:
    """How an input falls into frames."""

    head_bytes: int
    length_of: Callable[[bytes], int]
    """What a head says."""
    with_length: Callable[[bytes, int], bytes]
    """A head that says something else."""
    mutate_payload: Callable[[bytes, bytes, int, Random, AnyMutation], bytes] | None = None
    """Of a head and its payload, another payload."""
    make: Sequence[Callable[[Random], bytes]] = ()
    """New frames, some of which are put between the others."""

    def split(self, data: bytes) -> list[bytes]:
        """The frames, each with its head; the last may be cut short."""
        frames: list[bytes] = []
        at = 0
        while at < len(data):
            head = data[at : at + self.head_bytes]
            whole = len(head) == self.head_bytes
            end = at + self.head_bytes + (self.length_of(head) if whole else 0)
            frames.append(data[at:end])
            at = end
        return frames

    def __call__(self, data: bytes, most: int, rng: Random, change: AnyMutation) -> bytes:
        """Mutate one frame, or their order. See ``Mutation``."""
        frames = self.split(data)
        if not frames or rng.randrange(_RAW_ONE_IN) == 0:
            return change(data, most)
        if self.make and rng.randrange(4) == 0:
            frames.insert(rng.randrange(len(frames) + 1), rng.choice(self.make)(rng))
        elif rng.randrange(3) == 0:
            frames = _rearranged(frames, most, rng)
        else:
            at = rng.randrange(len(frames))
            room = max(1, most - len(data) + len(frames[at]) - self.head_bytes)
            frames[at] = self._mutated_frame(frames[at], room, rng, change)
        return b"".join(frames)[:most]

    def _mutated_frame(self, frame: bytes, room: int, rng: Random, change: AnyMutation) -> bytes:
        head, payload = frame[: self.head_bytes], frame[self.head_bytes :]
        if len(head) < self.head_bytes:
            return change(frame, room)
        if rng.randrange(4) == 0:
            head = change(head, self.head_bytes).ljust(self.head_bytes, b"\0")
        elif self.mutate_payload is not None:
            payload = self.mutate_payload(head, payload, room, rng, change)
        else:
            payload = change(payload, room)
        return self.with_length(head, len(payload)) + payload
