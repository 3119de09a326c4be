"""How targets read their input, and what they share."""

import struct
import zlib
from collections.abc import Iterator
from random import Random

from tests.fuzz.mutation import Framing, Mutation, mutate_message

_LENGTH = struct.Struct(">H")


def random_cuts(data: bytes) -> Iterator[bytes]:
    """The data in pieces, as reads may bring them; the same data always in the same ones."""
    rng = Random(zlib.crc32(data))
    at = 0
    while at < len(data):
        size = rng.choice((1, 5, 9, 40, 300, 5000))
        yield data[at : at + size]
        at += size


def split_list(data: bytes) -> list[bytes]:
    """The elements of an input that is a list: each behind its length in two bytes, big-endian.
    The last is what there is of it."""
    elements: list[bytes] = []
    at = 0
    while at + _LENGTH.size <= len(data):
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        elements.append(data[at : at + size])
        at += size
    return elements


def join_list(*elements: bytes) -> bytes:
    """The input that ``split_list`` splits."""
    return b"".join(_LENGTH.pack(len(each)) + each for each in elements)


def list_of(mutate_element: Mutation) -> Framing:
    """Mutate such an input, one element or their order."""
    return Framing(
        head_bytes=_LENGTH.size,
        length_of=int.from_bytes,
        with_length=lambda _, length: _LENGTH.pack(min(length, 0xFFFF)),
        mutate_payload=lambda _, payload, most, rng, change: mutate_element(
            payload, most, rng, change
        ),
    )


mutate_messages = list_of(mutate_message)
"""A list of protobuf messages."""


class Choices:
    """Decisions read off an input, one after another; zeros behind its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there are more."""
        return self._at < len(self._data)

    def below(self, bound: int) -> int:
        """A number from 0 to ``bound`` - 1, which is at most 65535."""
        size = 1 if bound <= 0x100 else 2
        taken = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(taken) % bound

    def text(self, most: int) -> bytes:
        """Up to ``most`` bytes."""
        size = self.below(most + 1)
        self._at += size
        return self._data[self._at - size : self._at]
