"""The walk over plain fields: however it is done, it finds the same, and what protobuf finds."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

from google.protobuf.message import DecodeError

from aelf_p2p import wire
from aelf_p2p.core.encoders import encode_bytes_field, encode_message_field, encode_varint_field
from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.fields import (
    cut_field_untrusted,
    field_untrusted,
    repeated_runs_untrusted,
    repeated_untrusted,
)
from tests.fuzz.mutation import mutate_message

T = TypeVar("T")

mutate = mutate_message
MAX_BYTES = 16_384


def seeds() -> Iterator[bytes]:
    yield encode_message_field(1, b"header") + encode_message_field(2, b"one") * 5
    yield encode_message_field(2, bytes(200)) * 3 + encode_message_field(1, b"") * 2
    yield (
        encode_varint_field(3, 2**63)
        + encode_bytes_field(2, b"x" * 70)
        + b"\x1d1234"
        + b"\x2112345678"
    )
    yield b"\x12\x05shor"


def target(data: bytes) -> bool:
    one_by_one = _or_none(lambda: [(n, bytes(body)) for n, body in repeated_untrusted(data, 1, 2)])
    in_runs = _or_none(lambda: list(_of_runs(repeated_runs_untrusted(data, 1, 2, most=7))))
    assert one_by_one == in_runs, "runs hold something else"
    with suppress(MalformedError):
        around, content = cut_field_untrusted(data, 4)
        _check_cut(data, around, bytes(content))
    with suppress(MalformedError):
        found = field_untrusted(data, 2)
        if found is not None:
            assert one_by_one is not None
            assert [body for number, body in one_by_one if number == 2] == [found]
    return one_by_one is not None


def _of_runs(runs: Iterable[tuple[int, list[bytes], bytes]]) -> Iterator[tuple[int, bytes]]:
    for number, bodies, fields in runs:
        assert 1 <= len(bodies) <= 7
        if len(bodies) > 1:
            assert fields == b"".join(encode_message_field(number, body) for body in bodies)
        yield from ((number, body) for body in bodies)


def _check_cut(data: bytes, around: bytes, content: bytes) -> None:
    """As protobuf has it, of a StreamMessage."""
    whole = wire.StreamMessage()
    rest = wire.StreamMessage()
    try:
        whole.ParseFromString(data)
    except DecodeError:  # then the rest may be anything
        return
    rest.ParseFromString(around)
    assert rest.message == b""
    rest.message = content
    rest.DiscardUnknownFields()
    whole.DiscardUnknownFields()
    assert rest == whole


def _or_none(find: Callable[[], T]) -> T | None:
    try:
        return find()
    except MalformedError:
        return None
