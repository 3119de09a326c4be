"""The walk over the fields of messages that are not hashed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.encoders import (
    encode_message_field,
)
from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.fields import (
    MAX_UNKNOWN_FIELDS,
    cut_field_untrusted,
    field_untrusted,
    field_view_untrusted,
    repeated_runs_untrusted,
    repeated_untrusted,
)


def test_a_field_is_taken_as_it_was_received() -> None:
    data = b"\x10\x01\x08\x01"  # out of order: neither judged nor put right here
    handshake = encode_message_field(1, data) + b"\x12\x01s"
    request = b"\x3d" + bytes(4) + encode_message_field(1, handshake)
    assert field_untrusted(request, 1) == handshake
    assert field_untrusted(memoryview(handshake), 1) == data
    assert field_untrusted(handshake, 3) is None
    assert field_untrusted(b"\x08\x01", 1) is None
    assert field_untrusted(b"\x0a\x00", 1) == b""


def test_a_view_of_a_field_copies_nothing() -> None:
    raw = b"\x12\x01s\x0a\x03abc"
    view = field_view_untrusted(raw, 1)
    assert view is not None
    assert (view.obj, bytes(view)) == (raw, b"abc")
    assert field_view_untrusted(raw, 3) is None


def cut(raw: bytes, number: int) -> tuple[bytes, bytes]:
    around, content = cut_field_untrusted(raw, number)
    assert content.obj is raw
    return around, bytes(content)


def test_a_field_is_cut_out_of_what_stands_around_it() -> None:
    before, behind = b"\x10\x01\x1d1234", b"\x0a\x01b\x20\x05"
    # A number 4 of another wire type is another field.
    assert cut(before + b"\x22\x03abc" + behind, 4) == (before + behind, b"abc")
    assert cut(before, 4) == (before, b"")
    assert cut(b"", 4) == (b"", b"")


def test_of_a_field_that_comes_several_times_the_last_is_cut() -> None:
    assert cut(b"\x22\x01a\x10\x01\x22\x02bc\x22\x00", 4) == (b"\x10\x01", b"")
    others = b"\x10\x01" * (MAX_UNKNOWN_FIELDS - 2)
    assert cut(b"\x22\x01a" * 2 + others, 4) == (others, b"a")
    for one_more in b"\x10\x01", b"\x22\x01a":  # whichever they are, each is a step of the walk
        with pytest.raises(MalformedError, match="nobody asked for"):
            cut(b"\x22\x01a" * 2 + others + one_more, 4)


def test_repeated_fields_are_slices_of_the_input_and_come_lazily() -> None:
    raw = bytearray(b"\x12\x01a\x08\x05\x0a\x02bc\x12\x00\x0a\x05d")
    walk = repeated_untrusted(memoryview(raw), 1, 2)
    number, first = next(walk)
    assert (number, bytes(first)) == (2, b"a")
    raw[2:3] = b"z"
    assert bytes(first) == b"z"
    assert [(number, bytes(next_)) for number, next_ in (next(walk), next(walk))] == [
        (1, b"bc"),
        (2, b""),
    ]
    with pytest.raises(MalformedError, match="field 1 is cut short"):
        next(walk)


LENGTHS = st.integers(0, 300) | st.sampled_from([0x3FFF, 0x4000, 0x4001, 32_765, 32_766, 70_000])
FIELDS = st.one_of(
    st.tuples(st.sampled_from([1, 2, 2, 2, 3]), LENGTHS.map(bytes)).map(
        lambda field: encode_message_field(*field)
    ),
    st.sampled_from([b"\x08\x05", b"\x12\x80\x00", b"\x12\x81\x80\x00", b"\x12\xff", b"\x13"]),
)


@given(
    st.lists(FIELDS, max_size=30) | st.lists(FIELDS, max_size=3).map(lambda part: part * 100),
    st.binary(max_size=2),
    st.integers(1, 40),
)
def test_runs_are_the_same_fields_with_neighbours_together(
    fields: list[bytes], tail: bytes, most: int
) -> None:
    raw = b"".join(fields) + tail
    singly: list[tuple[int, bytes]] = []
    together: list[tuple[int, bytes]] = []

    def walk_singly() -> None:
        singly.extend((number, bytes(body)) for number, body in repeated_untrusted(raw, 1, 2))

    def walk_together() -> None:
        for number, bodies, run in repeated_runs_untrusted(raw, 1, 2, most=most):
            assert len(bodies) <= most
            if len(bodies) > 1:
                assert b"".join(encode_message_field(number, body) for body in bodies) == run
                assert len(run) <= 32 * 1024
            together.extend((number, body) for body in bodies)

    try:
        walk_singly()
    except MalformedError as exc:
        with pytest.raises(MalformedError, match=re.escape(str(exc))):
            walk_together()
    else:
        walk_together()
    assert together == singly


def test_neighbours_come_together() -> None:
    raw = b"".join(encode_message_field(2, bytes(size)) for size in (3, 0, 200, 1, 2))
    runs = list(repeated_runs_untrusted(raw, 1, 2, most=3))
    assert [len(bodies) for _, bodies, _ in runs] == [3, 2]
    assert b"".join(run for _, _, run in runs) == raw
