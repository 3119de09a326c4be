"""A call on a row of bytes: frames, openings and ends, and sends that are cancelled anywhere."""

import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from aelf_p2p import (
    CallFailedError,
    ClosedByUsError,
    ConnectionLostError,
    DeadlineExceededError,
    MalformedError,
    MisuseError,
    NetworkOptions,
    StatusCode,
)
from aelf_p2p.testing.cancellation import cancel_at_every_step
from aelf_p2p.transports.byte_call import MAX_OPENING_BYTES, ByteCall
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM

ROOM_BYTES = 100
"""What the row holds one way, so that longer messages are cut."""


class Row:
    """One way of a row of bytes in memory."""

    def __init__(self) -> None:
        self.held = bytearray()
        self.closed = False
        self.changed = trio.lowlevel.ParkingLot()

    async def wait(self) -> None:
        await self.changed.park()


class RowCall(ByteCall):
    """An end of a pair of rows."""

    def __init__(self, outgoing: Row, incoming: Row) -> None:
        super().__init__("the row", NetworkOptions())
        self.outgoing, self.incoming = outgoing, incoming

    async def send_some(self, data: bytearray) -> int:
        await trio.lowlevel.checkpoint()
        while len(self.outgoing.held) == ROOM_BYTES and not self.outgoing.closed:
            await self.outgoing.wait()
        if self.outgoing.closed:
            raise trio.BrokenResourceError
        sent = data[: ROOM_BYTES - len(self.outgoing.held)]
        self.outgoing.held += sent
        self.outgoing.changed.unpark_all()
        return len(sent)

    async def receive_some(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self.incoming.held and not self.incoming.closed:
            await self.incoming.wait()
        received = bytes(self.incoming.held)
        self.incoming.held.clear()
        self.incoming.changed.unpark_all()
        return received

    async def wait_left(self) -> None:
        while not self.incoming.closed:
            await self.incoming.wait()

    def close(self) -> None:
        for row in self.outgoing, self.incoming:
            row.closed = True
            row.changed.unpark_all()


def pair() -> tuple[RowCall, RowCall]:
    """A caller's end and a server's."""
    one, other = Row(), Row()
    return RowCall(one, other), RowCall(other, one)


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BI", kind, len(payload)) + payload


async def test_an_opening_brings_method_and_metadata() -> None:
    caller, server = pair()
    metadata: dict[str, str | bytes] = {"public-key": "04aa", "session-id-bin": bytes(range(256))}
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            assert await server.receive_opening() == (PING, metadata)

        nursery.start_soon(receive)
        async with caller.opened(PING, metadata):
            await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(ConnectionLostError, match="the row is lost"):
        await server.send_many([b"x"])
    with pytest.raises(ConnectionLostError, match="the row was left by the other side"):
        await server.receive_many()


@pytest.mark.parametrize(
    "metadata",
    [
        {"key": "nö"},
        {"key": b"bytes"},
        {"key-bin": "text"},
        {"key": "x" * MAX_OPENING_BYTES},
    ],
)
async def test_metadata_that_cannot_be_sent_are_misuse(metadata: dict[str, str | bytes]) -> None:
    caller, _ = pair()
    with pytest.raises(MisuseError, match="metadata"):
        async with caller.opened(PING, metadata):
            raise AssertionError("it was opened")
    assert caller.outgoing.held == b""


@pytest.mark.parametrize(
    "opening",
    [
        b"",
        b"\xff",
        b"null",
        b"[null]",
        b"[null, null]",
        b"[null, []]",
        b'["/PeerService/Nothing", {}]',
        b"[[], {}]",
        b'[null, {"key": 1}]',
        b'[null, {"key-bin": "0"}]',
        '[null, {"key": "ö"}]'.encode(),
        b"[" * 5000,
    ],
)
async def test_what_is_no_opening_is_malformed(opening: bytes) -> None:
    _, server = pair()
    server.incoming.held += frame(255, opening)
    with pytest.raises(MalformedError, match="no opening of a call"):
        await server.receive_opening()


async def test_an_opening_is_bounded_in_size_and_time(autojump_clock: object) -> None:
    _, server = pair()
    with pytest.raises(DeadlineExceededError, match="within 3 s"):
        await server.receive_opening(timeout_s=3)
    server.incoming.held += frame(255, bytes(MAX_OPENING_BYTES + 1))[:10]
    with pytest.raises(CallFailedError) as caught:
        await server.receive_opening()
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED


async def test_a_half_without_an_opening_is_malformed() -> None:
    _, server = pair()
    server.incoming.held += frame(0, b"")
    with pytest.raises(MalformedError, match="without an opening"):
        await server.receive_opening()


async def test_messages_in_one_read_with_the_opening_are_held_to_the_methods_limit() -> None:
    _, server = pair()
    large = bytes(MAX_OPENING_BYTES + 1)
    opening = json.dumps([REQUEST_BY_STREAM.path, {}]).encode()
    server.incoming.held += (
        frame(255, opening) + frame(255, large) + frame(255, b"") + frame(0, b"")
    )
    await server.receive_opening()
    assert await server.receive_many() == [large, b""]
    assert await server.receive_many() == []


@pytest.mark.parametrize(
    ("end", "code", "details"),
    [
        (frame(5, "nö".encode()), StatusCode.NOT_FOUND, "nö"),
        (frame(5, b"\xff"), StatusCode.NOT_FOUND, "\ufffd"),
        (frame(17, b""), StatusCode.UNKNOWN, ""),
        (frame(254, b"?"), StatusCode.UNKNOWN, "?"),
    ],
)
async def test_a_status_ends_a_half(end: bytes, code: StatusCode, details: str) -> None:
    caller, _ = pair()
    caller.incoming.held += frame(255, b"before") + end + frame(255, b"behind")
    assert await caller.receive_many() == [b"before"]
    for _ in range(2):
        with pytest.raises(CallFailedError) as caught:
            await caller.receive_many()
        assert (caught.value.code, caught.value.details) == (code, details)


async def test_details_are_shortened_and_bounded() -> None:
    caller, server = pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.end, StatusCode.ABORTED, "x" * 2000)
        with pytest.raises(CallFailedError) as caught:
            await caller.receive_many()
    assert caught.value.details == "x" * 1024
    _, hostile = pair()
    hostile.incoming.held += struct.pack(">BI", 5, 1025)
    with pytest.raises(CallFailedError) as refused:
        await hostile.receive_many()
    assert refused.value.code is StatusCode.RESOURCE_EXHAUSTED


async def test_bytes_that_end_inside_a_message_are_a_loss() -> None:
    caller, server = pair()
    server.incoming.held += frame(255, b"whole") + frame(255, b"half")[:-1]
    caller.close()
    assert await server.receive_many() == [b"whole"]
    with pytest.raises(ConnectionLostError):
        await server.receive_many()


async def test_a_refusal_stays_whatever_the_limit_becomes() -> None:
    _, server = pair()
    server.limit_messages(3)
    server.incoming.held += frame(255, b"four")
    for limit in 3, 100:
        server.limit_messages(limit)
        with pytest.raises(CallFailedError, match="4 bytes, over 3"):
            await server.receive_many()


async def test_sending_behind_the_end_is_misuse() -> None:
    caller, _ = pair()
    await caller.send_eof()
    with pytest.raises(MisuseError):
        await caller.send_many([b"x"])
    await caller.send_eof()  # which ends nothing a second time
    assert caller.outgoing.held == frame(0, b"")


async def test_what_we_closed_is_told_from_what_was_lost() -> None:
    class Closed(RowCall):
        async def receive_some(self) -> bytes:
            raise trio.ClosedResourceError

        async def send_some(self, data: bytearray) -> int:
            raise OSError(9, "bad file descriptor")

    call = Closed(Row(), Row())
    with pytest.raises(ClosedByUsError):
        await call.receive_many()
    with pytest.raises(ClosedByUsError):
        await call.send_many([b"x"])


def test_a_send_that_is_cancelled_anywhere_leaves_whole_messages() -> None:
    messages = [b"%d" % number * number for number in range(0, 60, 7)]

    @asynccontextmanager
    async def around() -> AsyncIterator[tuple[RowCall, list[bytes]]]:
        caller, server = pair()
        received: list[bytes] = []

        async def read() -> None:
            while batch := await server.receive_many():
                received.extend(batch)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            yield caller, received

    async def scenario(state: tuple[RowCall, list[bytes]]) -> None:
        await state[0].send_many(messages)

    async def check(state: tuple[RowCall, list[bytes]]) -> None:
        caller, received = state
        await caller.send_many([b"next"])
        await caller.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert received[-1] == b"next"
        assert received[:-1] == messages[: len(received) - 1]

    report = cancel_at_every_step(scenario, around=around, check=check)
    assert report.steps > 10
