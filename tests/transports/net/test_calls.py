"""One call, with an owner that writes down what it is asked."""

import gzip

import pytest
import trio
import trio.testing

from aelf_p2p.core.budgets import ByteBudget
from aelf_p2p.core.errors import (
    CallFailedError,
    ClosedByUsError,
    ConnectionLostError,
    MisuseError,
    StatusCode,
)
from aelf_p2p.core.options import KIB
from aelf_p2p.transports.net.calls import TURN_BYTES, Call
from aelf_p2p.transports.net.messages import MessageBuffer
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM, Method

SEND_BUFFER_BYTES = 1000
LIMIT_BYTES = 100
TRUSTED_LIMIT_BYTES = 500


class Owner:
    def __init__(self) -> None:
        self.woken = 0
        self.consumed_bytes = 0
        self.credit = 0
        self.trusted = 0
        self.refusals: list[CallFailedError] = []

    def send_soon(self, call: Call) -> None:
        self.woken += 1

    def consumed(self, call: Call, count: int, credit: int) -> None:
        assert count >= 0
        self.consumed_bytes += count
        self.credit += credit

    def refused(self, call: Call, error: CallFailedError) -> None:
        self.refusals.append(error)

    def trust(self, call: Call) -> None:
        self.trusted += 1


class Made:
    def __init__(self, method: Method = REQUEST_BY_STREAM) -> None:
        self.owner = Owner()
        self.budget = ByteBudget(1 << 30)
        self.call = Call(
            self.owner,
            1,
            method,
            MessageBuffer(self.budget),
            send_buffer_bytes=SEND_BUFFER_BYTES,
            limit_bytes=LIMIT_BYTES,
            trusted_limit_bytes=TRUSTED_LIMIT_BYTES,
        )

    def receive(self, data: bytes) -> None:
        self.call.received(data, len(data))

    def write(self) -> bytes:
        """What the writer takes now."""
        data = b""
        while self.call.queue:
            piece = bytes(self.call.queue.popleft())
            data += piece
            self.call.sent(len(piece))
        return data


def message(body: bytes) -> bytes:
    """As it travels."""
    return b"\x00" + len(body).to_bytes(4, "big") + body


# --- sending --------------------------------------------------------------------------------------


async def test_a_sender_waits_while_its_buffer_is_full() -> None:
    made = Made()
    bodies = [bytes([number]) * 300 for number in range(10)]
    done = False

    async def send() -> None:
        nonlocal done
        await made.call.send_many(bodies)
        done = True

    written = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while not done:
            await trio.testing.wait_all_tasks_blocked()
            # Nearly full, then as much again, and at most one message over that.
            assert made.call.queued_bytes <= 2 * SEND_BUFFER_BYTES + 300 + 5 * len(bodies)
            assert made.owner.woken
            written += made.write()
    assert written + made.write() == b"".join(map(message, bodies))
    assert made.call.queued_bytes == 0


async def test_a_sender_that_never_waits_lets_others_have_their_turn() -> None:
    made = Made()
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        for _ in range(10 * TURN_BYTES // (30 * KIB)):
            await made.call.send_many([bytes(30 * KIB)])
            made.write()
        nursery.cancel_scope.cancel()
    assert turns >= 5


@pytest.mark.parametrize("size", [0, 1, 32 * KIB - 1, 32 * KIB, 100 * KIB])
async def test_messages_of_any_size_are_framed_alike(size: int) -> None:
    made = Made()
    await made.call.send_many([bytes(size)])
    assert made.write() == message(bytes(size))
    await made.call.send_many([b"a", bytes(size)] if size < 500 else [b"a"])
    assert made.write().startswith(message(b"a"))


@pytest.mark.parametrize("size", [10, 100 * KIB])
async def test_a_compressed_message_is_gzip_and_flagged(size: int) -> None:
    made = Made()
    made.call.compresses = True
    await made.call.send_many([b"x" * size])
    wire = made.write()
    assert wire[0] == 1
    assert len(wire) == 5 + int.from_bytes(wire[1:5], "big")
    assert gzip.decompress(wire[5:]) == b"x" * size


async def test_nothing_is_sent_after_our_end() -> None:
    made = Made()
    await made.call.send_many([b"a"])
    await made.call.send_eof()
    await made.call.send_eof()  # without effect
    assert made.call.our_end == (StatusCode.OK, "")
    with pytest.raises(MisuseError):
        await made.call.send_many([b"b"])
    assert made.write() == message(b"a")


async def test_the_first_end_counts() -> None:
    made = Made()
    made.call.end(StatusCode.NOT_FOUND, "first")
    made.call.end(StatusCode.OK, "second")
    assert made.call.our_end == (StatusCode.NOT_FOUND, "first")


async def test_a_waiting_sender_learns_of_the_end() -> None:
    for error in ConnectionLostError("gone"), None:
        made = Made()
        await made.call.send_many([bytes(SEND_BUFFER_BYTES)])
        async with trio.open_nursery() as nursery:

            async def send(made: Made = made) -> None:
                with pytest.raises(ConnectionLostError, match=r"gone|ended by the other side"):
                    await made.call.send_many([b"late"])

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            if error is not None:
                made.call.fail(error)
            else:
                made.call.end_sent()
        assert made.write() == b""


async def test_waiting_for_what_is_queued(autojump_clock: trio.testing.MockClock) -> None:
    made = Made()
    await made.call.send_many([b"abc"])
    made.call.end(StatusCode.OK, "")
    assert not await made.call.wait_sent(3)
    assert trio.current_time() == 3
    async with trio.open_nursery() as nursery:

        async def write_slowly() -> None:
            await trio.sleep(2)
            made.write()
            await trio.sleep(2)
            made.call.end_sent()

        nursery.start_soon(write_slowly)
        assert await made.call.wait_sent(3)  # each time that something moves it begins anew
    assert trio.current_time() == 7
    assert await made.call.wait_sent(3)


# --- receiving ------------------------------------------------------------------------------------


async def test_messages_are_read_to_their_end() -> None:
    made = Made()
    made.receive(message(b"a") + message(b"b")[:3])
    assert await made.call.receive_many() == [b"a"]
    made.receive(message(b"b")[3:])
    made.call.they_ended(StatusCode.OK, "")
    assert await made.call.receive_many() == [b"b"]
    for _ in range(2):
        assert await made.call.receive_many() == []
    assert made.owner.credit == made.owner.consumed_bytes == 12


async def test_a_status_is_read_after_the_messages() -> None:
    made = Made()
    made.receive(message(b"a"))
    made.call.they_ended(StatusCode.ABORTED, "why")
    made.call.they_ended(StatusCode.OK, "not this one")
    assert await made.call.receive_many() == [b"a"]
    for _ in range(2):
        with pytest.raises(CallFailedError, match="ABORTED: why"):
            await made.call.receive_many()


async def test_an_end_inside_a_message() -> None:
    made = Made()
    made.receive(message(b"abc")[:-1])
    made.call.they_ended(StatusCode.OK, "")
    with pytest.raises(CallFailedError) as caught:
        await made.call.receive_many()
    assert caught.value.code is StatusCode.INTERNAL


async def test_an_error_drops_what_is_unread_and_stays() -> None:
    made = Made()
    made.receive(message(b"a") + b"more")
    made.call.fail(ConnectionLostError("first"))
    made.call.fail(ClosedByUsError("second"))
    assert made.owner.credit == made.owner.consumed_bytes == 10
    assert made.call.scope.cancel_called
    for _ in range(2):
        with pytest.raises(ConnectionLostError, match="first"):
            await made.call.receive_many()


async def test_limits_before_and_after_trust() -> None:
    made = Made()
    made.receive(message(bytes(LIMIT_BYTES)))
    assert await made.call.receive_many() == [bytes(LIMIT_BYTES)]
    made.call.trust()
    assert made.owner.trusted == 1
    made.receive(message(bytes(TRUSTED_LIMIT_BYTES)))
    assert await made.call.receive_many() == [bytes(TRUSTED_LIMIT_BYTES)]
    made.call.limit_messages(2)
    made.call.trust()  # what was set since stays
    made.receive(message(b"ab") + message(b"abc"))
    assert await made.call.receive_many() == [b"ab"]
    with pytest.raises(CallFailedError, match="3 bytes, and at most 2"):
        await made.call.receive_many()


@pytest.mark.parametrize("method", [REQUEST_BY_STREAM, PING])
async def test_what_a_refused_message_took_is_given_back(method: Method) -> None:
    """Also what comes after it."""
    made = Made(method)
    first = message(b"ok") + message(bytes(LIMIT_BYTES + 1))
    made.receive(first)
    assert await made.call.receive_many() == [b"ok"]
    made.receive(b"some more")
    with pytest.raises(CallFailedError) as caught:
        await made.call.receive_many()
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    assert [each.code for each in made.owner.refusals] == [StatusCode.RESOURCE_EXHAUSTED]
    made.receive(b"and more")
    made.call.fail(ConnectionLostError("gone"))
    assert made.owner.consumed_bytes == len(first) + 17
    assert made.owner.credit == len(first) + 17
    assert made.budget.held_bytes == 0


async def test_what_is_held_of_a_message_is_given_back() -> None:
    made = Made()
    made.receive(message(bytes(90))[:50])
    with trio.move_on_after(0):
        await made.call.receive_many()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.call.receive_many)
            await trio.testing.wait_all_tasks_blocked()
            assert made.budget.held_bytes == 45
            assert made.owner.consumed_bytes == 50
            scope.cancel()
    made.call.fail(ConnectionLostError("gone"))
    assert made.budget.held_bytes == 0


async def test_a_cancelled_receive_loses_nothing() -> None:
    made = Made()
    made.receive(message(b"a"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await made.call.receive_many()
    assert await made.call.receive_many() == [b"a"]
