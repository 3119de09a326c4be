import gzip
import random
import struct
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aelf_p2p.core.budgets import ByteBudget
from aelf_p2p.core.errors import CallFailedError, StatusCode
from aelf_p2p.transports.net.messages import (
    MessageBuffer,
    compress,
    frame_messages,
    message_prefix,
)

KIB = 1024
MIB = 1024 * KIB
LIMIT = 4 * MIB


def framed(body: bytes, flag: int = 0) -> bytes:
    """A message by gRPC's document: flag, big-endian length, bytes."""
    return bytes([flag]) + struct.pack(">I", len(body)) + body


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def cut(row: bytes, places: Iterable[int]) -> list[bytes]:
    """A row in chunks, cut at these places, wherever they fall."""
    ends = sorted({place % (len(row) + 1) for place in places} | {0, len(row)})
    return [row[start:end] for start, end in pairwise(ends)]


def take_all(buffer: MessageBuffer, limit: int = LIMIT) -> tuple[list[bytes], int]:
    """Everything there is, and the credit that came back."""
    messages: list[bytes] = []
    credit = 0
    while buffer.has_work:
        some, freed = buffer.take_untrusted(limit)
        messages += some
        credit += freed
    return messages, credit


def made(*, gzipped: bool = False, budget: int = 1024 * MIB) -> tuple[MessageBuffer, ByteBudget]:
    held = ByteBudget(budget)
    buffer = MessageBuffer(held)
    buffer.encoding = "gzip" if gzipped else "identity"
    return buffer, held


def failure(
    row: bytes, *, gzipped: bool = True, limit: int = LIMIT, budget: int = 1024 * MIB
) -> CallFailedError:
    """How a row of bytes fails; the buffer must then be empty, and fail for good."""
    buffer, held = made(gzipped=gzipped, budget=budget)
    buffer.append(row, len(row))
    with pytest.raises(CallFailedError) as first:
        take_all(buffer, limit)
    assert (buffer.unread_bytes, held.held_bytes) == (0, 0)
    buffer.append(framed(b"more"), 9)
    assert buffer.has_work
    with pytest.raises(CallFailedError) as second:
        buffer.take_untrusted(limit)
    assert (first.value.code, first.value.details) == (second.value.code, second.value.details)
    assert buffer.unread_bytes == 0
    return first.value


# --- sending --------------------------------------------------------------------------------------


def test_a_message_stands_behind_its_flag_and_length() -> None:
    assert frame_messages([b"abc", b"", b"\xff" * 258]) == (
        b"\0\0\0\0\x03abc" + b"\0\0\0\0\0" + b"\0\0\0\x01\x02" + b"\xff" * 258
    )
    assert frame_messages([]) == b""
    assert message_prefix(0x01020304) == b"\0\x01\x02\x03\x04"
    assert message_prefix(7, compressed=True) == b"\x01\0\0\0\x07"


@given(st.binary(max_size=2000))
def test_compressed_is_gzip_without_a_time(message: bytes) -> None:
    body = compress(message)
    assert gzip.decompress(body) == message
    assert body[4:8] == bytes(4)  # RFC 1952 §2.3.1: MTIME
    assert body == compress(message)


# --- cutting --------------------------------------------------------------------------------------

MESSAGES = st.lists(st.tuples(st.binary(max_size=3000), st.booleans()), max_size=12)
PLACES = st.lists(st.integers(0, 2**20), max_size=20)


@given(MESSAGES, PLACES, st.lists(st.booleans()))
def test_messages_do_not_depend_on_the_chunks(
    messages: list[tuple[bytes, bool]], places: list[int], reads: list[bool]
) -> None:
    row = b"".join(
        framed(gzip.compress(message), 1) if zipped else framed(message)
        for message, zipped in messages
    )
    buffer, held = made(gzipped=True)
    found: list[bytes] = []
    credit = 0
    for number, chunk in enumerate(cut(row, places)):
        buffer.append(chunk, len(chunk))
        if number >= len(reads) or reads[number]:
            some, freed = take_all(buffer)
            found += some
            credit += freed
    some, freed = take_all(buffer)
    assert found + some == [message for message, _ in messages]
    assert credit + freed == len(row)
    assert (buffer.unread_bytes, buffer.in_message, held.held_bytes) == (0, False, 0)


@given(st.lists(st.binary(max_size=300), max_size=20), PLACES)
def test_what_was_framed_comes_back(messages: list[bytes], places: list[int]) -> None:
    buffer, _ = made()
    for chunk in cut(frame_messages(messages), places):
        buffer.append(chunk, len(chunk))
    assert take_all(buffer)[0] == messages


@given(st.binary(max_size=400), st.binary(max_size=40), PLACES)
def test_any_bytes_give_messages_or_a_failed_call(
    row: bytes, body: bytes, places: list[int]
) -> None:
    for bytes_in in (row, framed(row, 1), framed(gzip.compress(row) + body, 1)):
        buffer, held = made(gzipped=True)
        try:
            for chunk in cut(bytes_in, places):
                buffer.append(chunk, len(chunk))
                take_all(buffer, 200)
        except CallFailedError:
            assert held.held_bytes == 0


@given(st.integers(0, 60))
def test_a_half_that_ends_inside_a_message_is_seen(length: int) -> None:
    row = framed(b"first") + framed(b"") + framed(noise(40))
    buffer, _ = made()
    buffer.append(row[:length], length)
    take_all(buffer)
    whole = {0, 10, 15, 60}
    assert len(row) == 60
    assert buffer.in_message is (length not in whole)


def test_a_compressed_half_that_ends_inside_a_message_is_seen() -> None:
    row = framed(gzip.compress(b"something"), 1)
    buffer, _ = made(gzipped=True)
    buffer.append(row[:-1], len(row) - 1)
    assert take_all(buffer) == ([], len(row) - 1)
    assert buffer.in_message
    buffer.append(row[-1:], 1)
    assert take_all(buffer) == ([b"something"], 1)
    assert not buffer.in_message


# --- credit and memory ----------------------------------------------------------------------------


def test_unread_messages_keep_their_credit() -> None:
    buffer, held = made()
    buffer.append(framed(b"12345") * 2, 20)
    assert (buffer.unread_bytes, buffer.has_work) == (20, True)
    assert buffer.take_untrusted(LIMIT) == ([b"12345", b"12345"], 20)
    assert (buffer.unread_bytes, buffer.has_work, held.held_bytes) == (0, False, 0)


def test_padding_is_credit_as_well() -> None:
    buffer, _ = made()
    buffer.append(framed(b"12345"), 10 + 256)
    assert take_all(buffer) == ([b"12345"], 266)
    buffer.append(b"", 256)
    assert buffer.has_work
    assert take_all(buffer) == ([], 256)


def test_bytes_of_an_incomplete_message_free_their_credit_and_are_held() -> None:
    buffer, held = made()
    row = framed(noise(3 * MIB))
    buffer.append(row[:3], 3)
    assert not buffer.has_work
    assert buffer.in_message
    buffer.append(row[3:MIB], MIB - 3)
    assert take_all(buffer) == ([], MIB)
    assert (buffer.unread_bytes, held.held_bytes) == (0, MIB - 5)
    buffer.append(row[MIB:] + framed(b"next"), len(row) - MIB + 9)
    assert take_all(buffer) == ([row[5:], b"next"], len(row) - MIB + 9)
    assert held.held_bytes == 0


def test_closing_gives_back_what_is_held_and_the_credit_of_what_is_unread() -> None:
    buffer, held = made()
    buffer.append(framed(noise(1000))[:500], 500)
    take_all(buffer)
    buffer.append(b"unread", 6 + 256)
    assert held.held_bytes == 495
    assert buffer.close() == 262
    assert (buffer.unread_bytes, held.held_bytes, buffer.has_work) == (0, 0, False)
    assert buffer.close() == 0


def test_closing_a_failed_buffer_gives_back_the_credit_of_everything() -> None:
    buffer, _ = made()
    buffer.append(framed(b"good"), 9)
    assert take_all(buffer) == ([b"good"], 9)
    buffer.append(b"\x02" + bytes(10), 20)
    with pytest.raises(CallFailedError):
        take_all(buffer)
    buffer.append(b"more", 4)
    assert buffer.close() == 24


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_full_budget_fails_the_call(gzipped: bool) -> None:
    body = noise(5000)
    row = framed(gzip.compress(body, 1), 1) if gzipped else framed(body)
    # the last byte is missing, so that the message must be kept
    error = failure(row[:-1], gzipped=gzipped, budget=4000)
    assert error.code is StatusCode.RESOURCE_EXHAUSTED


@contextmanager
def peak_of_memory(most: int) -> Iterator[None]:
    """The block may allocate so many bytes at its peak, beyond what there was."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before <= most


@pytest.mark.parametrize("read", [False, True])
def test_single_bytes_weigh_little_more_than_one_byte(read: bool) -> None:
    row = framed(noise(100_000))[:-1]
    buffer, _ = made()
    pieces = [row[place : place + 1] for place in range(len(row))]
    with peak_of_memory(150_000):
        for piece in pieces:
            buffer.append(piece, 1)
            if read:
                take_all(buffer)


def test_a_large_message_costs_twice_its_size() -> None:
    size = 8 * MIB
    row = framed(bytes(size))
    buffer, held = made()
    found: list[bytes] = []
    with peak_of_memory(2 * size + MIB):
        for place in range(0, len(row), 16 * KIB):
            chunk = row[place : place + 16 * KIB]
            buffer.append(chunk, len(chunk))
            found += take_all(buffer, size)[0]
    assert [len(message) for message in found] == [size]
    assert held.held_bytes == 0


# --- bounds on work -------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=40))
def test_one_take_gives_a_bounded_share(sizes: list[int]) -> None:
    messages = [bytes([number]) * size for number, size in enumerate(sizes)]
    buffer, _ = made()
    row = frame_messages(messages)
    buffer.append(row, len(row))
    found: list[bytes] = []
    while buffer.has_work:
        some, _ = buffer.take_untrusted(LIMIT)
        assert some
        assert sum(map(len, some[:-1])) < 64 * KIB
        found += some
    assert found == messages


def test_empty_messages_count_too() -> None:
    buffer, _ = made()
    buffer.append(framed(b"") * 100_000, 500_000)
    some, freed = buffer.take_untrusted(LIMIT)
    assert 100 <= len(some) <= 2000
    assert freed == 5 * len(some)
    assert len(take_all(buffer)[0]) == 100_000 - len(some)


def test_one_take_decompresses_a_bounded_share() -> None:
    message = bytes(1 + 3 * MIB)
    # two members, so that the steps do not fill the share evenly
    row = framed(gzip.compress(bytes(1)) + gzip.compress(bytes(3 * MIB)), 1)
    buffer, held = made(gzipped=True)
    buffer.append(row, len(row))
    shares = []
    found: list[bytes] = []
    while not found:
        before = held.held_bytes
        assert buffer.has_work
        found, _ = buffer.take_untrusted(LIMIT)
        shares.append((0 if found else held.held_bytes) - before)
    assert found == [message]
    assert max(shares) <= 256 * KIB
    assert len(shares) >= 12


def test_one_take_opens_a_bounded_number_of_gzip_members() -> None:
    member = gzip.compress(b"")
    row = framed(member * 20_000 + gzip.compress(b"end"), 1)
    buffer, _ = made(gzipped=True)
    buffer.append(row, len(row))
    takes = 0
    found: list[bytes] = []
    while buffer.has_work:
        found += buffer.take_untrusted(LIMIT)[0]
        takes += 1
    assert found == [b"end"]
    assert takes >= 20


# --- limits ---------------------------------------------------------------------------------------


@given(st.integers(0, 3000), st.integers(0, 3000), st.booleans())
@example(1001, 1000, False)
@example(1001, 1000, True)
@example(1000, 1000, False)
@example(1000, 1000, True)
def test_a_message_may_weigh_its_limit_and_not_a_byte_more(
    size: int, limit: int, gzipped: bool
) -> None:
    body = bytes(size)
    row = framed(gzip.compress(body), 1) if gzipped else framed(body)
    buffer, held = made(gzipped=True)
    buffer.append(row, len(row))
    if max(size, len(row) - 5) <= limit:
        assert take_all(buffer, limit)[0] == [body]
    else:
        with pytest.raises(CallFailedError, match=str(limit)) as caught:
            take_all(buffer, limit)
        assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
        assert held.held_bytes == 0


@pytest.mark.parametrize("flag", [0, 1])
def test_a_length_over_the_limit_fails_before_its_body(flag: int) -> None:
    error = failure(bytes([flag]) + b"\xff\xff\xff\xff", limit=100 * MIB)
    assert error.code is StatusCode.RESOURCE_EXHAUSTED
    assert "4294967295" in error.details
    assert str(100 * MIB) in error.details


def test_a_message_keeps_the_limit_that_it_began_with() -> None:
    row = framed(gzip.compress(noise(1000)), 1)
    buffer, _ = made(gzipped=True)
    buffer.append(row[:20], 20)
    take_all(buffer, 2000)
    buffer.append(row[20:], len(row) - 20)
    assert take_all(buffer, 10)[0] == [noise(1000)]


def test_messages_before_the_fault_come_first() -> None:
    buffer, _ = made()
    row = framed(b"one") + framed(b"two") + b"\x07\0\0\0\0" + framed(b"never")
    buffer.append(row, len(row))
    messages, _ = buffer.take_untrusted(LIMIT)
    assert messages == [b"one", b"two"]
    assert buffer.has_work
    with pytest.raises(CallFailedError, match="7") as caught:
        buffer.take_untrusted(LIMIT)
    assert caught.value.code is StatusCode.INTERNAL


@given(st.integers(2, 255))
def test_a_flag_is_0_or_1(flag: int) -> None:
    error = failure(bytes([flag, 0, 0, 0, 0]))
    assert error.code is StatusCode.INTERNAL
    assert str(flag) in error.details


def test_a_compressed_message_needs_an_encoding() -> None:
    error = failure(framed(gzip.compress(b"x"), 1), gzipped=False)
    assert error.code is StatusCode.INTERNAL
    assert "identity" in error.details


# --- gzip -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 256 * KIB, MIB])
@pytest.mark.parametrize("level", [0, 9])
@pytest.mark.parametrize("make", [bytes, noise])
def test_sizes_around_the_steps(size: int, level: int, make: type[bytes]) -> None:
    body = make(size)
    buffer, held = made(gzipped=True)
    row = framed(gzip.compress(body, level), 1) + framed(b"next")
    buffer.append(row, len(row))
    assert take_all(buffer) == ([body, b"next"], len(row))
    assert held.held_bytes == 0


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=5), PLACES)
def test_several_members_are_one_message(parts: list[bytes], places: list[int]) -> None:
    row = framed(b"".join(map(gzip.compress, parts)), 1)
    buffer, _ = made(gzipped=True)
    for chunk in cut(row, places):
        buffer.append(chunk, len(chunk))
    assert take_all(buffer)[0] == [b"".join(parts)]


@pytest.mark.parametrize("behind", [b"x", noise(5000)])
def test_a_member_of_several_steps_is_not_read_again_with_the_next(behind: bytes) -> None:
    first = bytes(70_000)  # more than one step gives
    row = framed(gzip.compress(first) + gzip.compress(behind), 1) + framed(b"next")
    buffer, held = made(gzipped=True)
    buffer.append(row, len(row))
    assert take_all(buffer) == ([first + behind, b"next"], len(row))
    assert held.held_bytes == 0


BODY = gzip.compress(noise(300))


@pytest.mark.fault(36)
@given(st.integers(0, len(BODY) - 1))
def test_truncated_gzip_fails(length: int) -> None:
    assert failure(framed(BODY[:length], 1)).code is StatusCode.INTERNAL


@pytest.mark.parametrize("garbage", [b"\0", b"garbage", bytes(40)])
def test_garbage_after_gzip_fails(garbage: bytes) -> None:
    assert failure(framed(BODY + garbage, 1)).code is StatusCode.INTERNAL


@pytest.mark.parametrize(
    "place",
    [0, 2, 20, len(BODY) - 8, len(BODY) - 4],
    ids=["magic", "method", "data", "crc", "size"],
)
def test_corrupt_gzip_fails(place: int) -> None:
    body = bytearray(BODY)
    body[place] ^= 0xFF
    assert failure(framed(bytes(body), 1)).code is StatusCode.INTERNAL


def test_zlib_and_raw_deflate_are_not_gzip() -> None:
    import zlib

    for wbits in (15, -15):
        body = zlib.compress(b"something", wbits=wbits)
        assert failure(framed(body, 1)).code is StatusCode.INTERNAL


@pytest.mark.fault(35)
def test_a_bomb_stops_at_the_limit() -> None:
    bomb = gzip.compress(bytes(100 * MIB))
    assert len(bomb) < 110 * KIB
    buffer, held = made(gzipped=True)
    row = framed(bomb, 1)
    with peak_of_memory(2 * MIB):
        buffer.append(row, len(row))
        with pytest.raises(CallFailedError, match=str(MIB)) as caught:
            take_all(buffer, MIB)
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    assert (held.held_bytes, buffer.unread_bytes) == (0, 0)


@pytest.mark.fault(35)
def test_a_bomb_stops_at_the_budget() -> None:
    bomb = gzip.compress(bytes(100 * MIB))
    with peak_of_memory(2 * MIB):
        error = failure(framed(bomb, 1), limit=100 * MIB, budget=MIB)
    assert error.code is StatusCode.RESOURCE_EXHAUSTED
