"""The tasks that read and write, with a codec that does as it is told, and with gRPC's."""

import tracemalloc
from contextlib import suppress

import pytest
import trio
import trio.testing

from aelf_p2p.contracts import Metadata
from aelf_p2p.core.errors import (
    CallFailedError,
    ClosedByUsError,
    ConnectionLostError,
    DeadlineExceededError,
    StatusCode,
    TransportError,
)
from aelf_p2p.core.options import KIB, MIB
from aelf_p2p.transports.net.calls import Call
from aelf_p2p.transports.net.channel import SocketChannel
from aelf_p2p.transports.net.codec import (
    BytesReceived,
    CallReset,
    Draining,
    Event,
    StatusReceived,
    WindowOpened,
)
from aelf_p2p.transports.net.connection import SHARE_BYTES, WRITE_BYTES, Connection
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM, Method
from tests.transports.net.pairs import Pair, Wire, dialing, echo, never_end, open_pair

pytestmark = pytest.mark.usefixtures("each_kind_of_wire")

LIMITS = WireLimits(write_timeout_s=30, goodbye_timeout_s=1)


class ScriptedCodec:
    """Each byte that comes stands for some events, or an answer; commands are written down."""

    def __init__(self, script: dict[int, list[Event] | bytes] | None = None) -> None:
        self.script = script or {}
        self.commands: list[tuple[object, ...]] = []
        self.windows: dict[int, int] = {}
        """What ``send`` may take; without limit for a call that is not in it."""
        self.sent_bytes = 0
        self.keeps = True
        """Whether what is sent goes to the wire."""
        self._calls = 0
        self._out: list[bytes] = []

    def receive_untrusted(self, data: bytes, now: float) -> list[Event]:
        events: list[Event] = []
        for byte in data:
            answer = self.script[byte]
            if isinstance(answer, bytes):
                self._out.append(answer)
            else:
                events += answer
        return events

    def open_call(self, method: Method, metadata: Metadata, timeout_s: float | None) -> int:
        self._calls += 1
        return self._calls

    def send_window(self, call_id: int) -> int:
        return self.windows.get(call_id, 1 << 30)

    def send(self, call_id: int, data: bytes | memoryview) -> None:
        assert len(data) <= self.send_window(call_id)
        if call_id in self.windows:
            self.windows[call_id] -= len(data)
        self.sent_bytes += len(data)
        self._out.append(bytes(data) if self.keeps else b".")

    def end_request(self, call_id: int) -> None:
        self.commands.append(("end_request", call_id))

    def begin_reply(self, call_id: int, *, gzip: bool) -> None:
        self.commands.append(("begin_reply", call_id, gzip))

    def end_reply(self, call_id: int, code: StatusCode, details: str) -> None:
        self.commands.append(("end_reply", call_id, code, details))

    def reset(self, call_id: int) -> None:
        self.commands.append(("reset", call_id))
        self._out.append(b"R")

    def consumed(self, call_id: int, credit: int) -> bool:
        self.commands.append(("consumed", call_id, credit))
        return False

    def trust(self, call_id: int) -> None:
        self.commands.append(("trust", call_id))

    def drain(self, why: str = "") -> None:
        self.commands.append(("drain", why))

    def data_to_send(self) -> bytes:
        data = b"".join(self._out)
        self._out.clear()
        return data

    def consumed_credit(self) -> int:
        """Of all calls."""
        return sum(int(str(each[2])) for each in self.commands if each[0] == "consumed")


def message(body: bytes) -> bytes:
    """As it travels."""
    return b"\x00" + len(body).to_bytes(4, "big") + body


# --- writing --------------------------------------------------------------------------------------


async def test_a_huge_queue_lets_a_small_message_out_in_the_next_round(
    autojump_clock: trio.testing.MockClock,
) -> None:
    codec = ScriptedCodec()
    async with dialing(make_codec=lambda limits: codec) as (connection, wire, _):
        await trio.testing.wait_all_tasks_blocked()
        huge, small = (connection.open_call(REQUEST_BY_STREAM, {}, None) for _ in range(2))
        wire.stall()
        await huge.send_many([bytes(10 * MIB)])
        await trio.testing.wait_all_tasks_blocked()
        assert len(wire.sent) == 1  # the first share of the huge one is on its way
        await small.send_many([b"small"])
        wire.flow()
        await trio.testing.wait_all_tasks_blocked()
        # The next round is a share of the huge one, and the small one.
        assert b"small" in b"".join(wire.sent)[: 2 * SHARE_BYTES + len(message(b"small"))]
        assert max(map(len, wire.sent)) <= WRITE_BYTES
        assert sum(map(len, wire.sent)) == 10 * MIB + 5 + len(message(b"small"))


async def test_many_huge_queues_take_turns(autojump_clock: trio.testing.MockClock) -> None:
    """No round grows with the number of calls, and none of the calls is left out."""
    codec = ScriptedCodec()
    async with dialing(make_codec=lambda limits: codec) as (connection, wire, _):
        calls = [connection.open_call(REQUEST_BY_STREAM, {}, None) for _ in range(100)]
        wire.stall()
        for number, call in enumerate(calls):
            await call.send_many([bytes([number]) * MIB])
        wire.flow()
        await trio.testing.wait_all_tasks_blocked()
        assert max(map(len, wire.sent)) <= MIB
        assert sum(map(len, wire.sent)) == 100 * (MIB + 5)
        # Each had a share before any had its second: its own byte is early on the wire.
        early = b"".join(wire.sent)[: 101 * (SHARE_BYTES + 5)]
        assert set(early) == set(range(100))


async def test_the_writer_sends_many_small_messages_in_one_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    codec = ScriptedCodec()
    async with dialing(make_codec=lambda limits: codec) as (connection, wire, _):
        call = connection.open_call(REQUEST_BY_STREAM, {}, None)
        await call.send_many([b"%d" % number for number in range(1000)])
        await trio.testing.wait_all_tasks_blocked()
        assert wire.sent == [b"".join(message(b"%d" % number) for number in range(1000))]


async def test_a_call_without_a_window_stops_no_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    codec = ScriptedCodec({1: [WindowOpened(1)], 2: [WindowOpened(None)]})
    codec.windows[1] = 7
    async with dialing(make_codec=lambda limits: codec) as (connection, wire, theirs):
        stuck, other = (connection.open_call(REQUEST_BY_STREAM, {}, None) for _ in range(2))
        await stuck.send_many([b"abcdef"])
        await stuck.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert b"".join(wire.sent) == message(b"abcdef")[:7]
        await other.send_many([b"x"])
        await trio.testing.wait_all_tasks_blocked()
        assert b"".join(wire.sent) == message(b"abcdef")[:7] + message(b"x")
        for opens in b"\x01", b"\x02":
            codec.windows[1] = 2
            await theirs.send_all(opens)
            await trio.testing.wait_all_tasks_blocked()
        assert b"".join(wire.sent)[-4:] == b"cdef"
        assert codec.commands == [("end_request", 1)]  # after the last byte


async def test_a_stalled_writer_is_found(autojump_clock: trio.testing.MockClock) -> None:
    async with dialing(limits=LIMITS) as (connection, wire, _):
        await trio.testing.wait_all_tasks_blocked()
        wire.stall()
        call = connection.open_call(REQUEST_BY_STREAM, {}, None)
        with pytest.raises(ConnectionLostError, match="nothing was taken for 30 s"):
            await call.receive_many()
        assert trio.current_time() == 30
        assert not connection.is_open


async def test_a_slow_writer_is_not_a_stalled_one(autojump_clock: trio.testing.MockClock) -> None:
    async with dialing(make_codec=lambda limits: ScriptedCodec()) as (connection, wire, _):
        wire.pause_s = 29
        call = connection.open_call(REQUEST_BY_STREAM, {}, None)
        await call.send_many([bytes(MIB)])
        await trio.sleep(16 * 29)
        assert connection.is_open


@pytest.mark.parametrize("stalled", [True, False])
async def test_answers_that_are_not_read_are_bounded(
    stalled: bool, autojump_clock: trio.testing.MockClock
) -> None:
    codec = ScriptedCodec({1: bytes(KIB)})
    async with dialing(limits=LIMITS, make_codec=lambda limits: codec) as (
        connection,
        wire,
        theirs,
    ):
        call = connection.open_call(REQUEST_BY_STREAM, {}, None)
        if stalled:
            wire.stall()
            await call.send_many([b"x"])
            await trio.testing.wait_all_tasks_blocked()
        for _ in range(65):  # each alone, so that a writer has its turn in between
            await theirs.send_all(b"\x01")
            await trio.testing.wait_all_tasks_blocked()
        if stalled:
            assert isinstance(connection.lost, ConnectionLostError)
            assert "does not read" in str(connection.lost)
        else:
            assert connection.lost is None
        wire.flow()


async def test_what_we_say_first_is_no_unread_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A hundred calls with long metadata, while the writer is busy, are nobody's fault."""
    codec = ScriptedCodec({0: []})
    async with dialing(limits=LIMITS, make_codec=lambda limits: codec) as (
        connection,
        wire,
        theirs,
    ):
        call = connection.open_call(REQUEST_BY_STREAM, {}, None)
        wire.stall()
        await call.send_many([b"x"])
        await trio.testing.wait_all_tasks_blocked()
        codec.send(2, bytes(100 * KIB))  # as openings of calls are
        await theirs.send_all(b"\x00")
        await trio.testing.wait_all_tasks_blocked()
        assert connection.lost is None
        wire.flow()


async def test_a_message_is_not_copied_to_send_it(autojump_clock: trio.testing.MockClock) -> None:
    codec = ScriptedCodec()
    codec.keeps = False
    whole = bytes(16 * MIB)
    async with dialing(make_codec=lambda limits: codec) as (connection, _, _):
        call = connection.open_call(REQUEST_BY_STREAM, {}, None)
        tracemalloc.start()
        try:
            await call.send_many([whole])
            await trio.testing.wait_all_tasks_blocked()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert codec.sent_bytes == len(whole) + 5
        assert peak < MIB


async def test_a_cancelled_send_leaves_whole_messages(
    autojump_clock: trio.testing.MockClock,
) -> None:
    codec = ScriptedCodec({1: [WindowOpened(1)]})
    codec.windows[1] = 1000
    messages = [bytes([number]) * 3000 for number in range(100)]
    async with dialing(make_codec=lambda limits: codec) as (connection, wire, theirs):
        call = connection.open_call(REQUEST_BY_STREAM, {}, None)
        with trio.move_on_after(1) as scope:
            await call.send_many(messages)
        assert scope.cancelled_caught
        codec.windows[1] = 1 << 30
        await theirs.send_all(b"\x01")
        await call.send_many([b"after"])
        await trio.testing.wait_all_tasks_blocked()
        wire_bytes = b"".join(wire.sent)
        sent = (len(wire_bytes) - len(message(b"after"))) // 3005
        assert 0 < sent < 100
        assert wire_bytes == b"".join(map(message, messages[:sent])) + message(b"after")


# --- reading --------------------------------------------------------------------------------------


async def test_a_unary_request_goes_out_before_its_end_when_a_reply_is_awaited(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_pair(echo) as pair, pair.channel.open_stream(PING, metadata={}) as stream:
        await stream.send_many([b"ping"])
        with trio.fail_after(1):
            assert await stream.receive_many() == [b"ping"]


async def test_what_was_not_taken_at_once_goes_out_by_itself(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with dialing(make_codec=lambda limits: ScriptedCodec()) as (connection, wire, _):
        call = connection.open_call(REQUEST_BY_STREAM, {}, None)
        await trio.testing.wait_all_tasks_blocked()
        wire.stall()
        await call.send_many([b"waits"])
        await trio.testing.wait_all_tasks_blocked()
        wire.flow()
        await trio.testing.wait_all_tasks_blocked()
        assert message(b"waits") in b"".join(wire.sent)


async def test_a_burst_of_messages_wakes_its_reader_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = message(b"m")
    codec = ScriptedCodec({1: [BytesReceived(1, one, len(one))]})
    batches = []
    async with (
        dialing(make_codec=lambda limits: codec) as (connection, _, theirs),
        trio.open_nursery() as nursery,
    ):
        call = connection.open_call(REQUEST_BY_STREAM, {}, None)

        async def read() -> None:
            while True:
                batches.append(await call.receive_many())

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await theirs.send_all(b"\x01" * 800)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert batches == [[b"m"] * 800]


async def test_a_message_is_copied_once_to_receive_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    size = 16 * MIB
    codec = ScriptedCodec(
        {
            1: [BytesReceived(1, message(bytes(size))[:5], 5)],
            2: [BytesReceived(1, bytes(MIB), MIB)],
        }
    )
    async with (
        dialing(make_codec=lambda limits: codec) as (connection, _, theirs),
        trio.open_nursery() as nursery,
    ):
        call = connection.open_call(REQUEST_BY_STREAM, {}, None)
        call.limit_messages(size)

        async def send() -> None:
            await theirs.send_all(b"\x01")
            for _ in range(16):
                await theirs.send_all(b"\x02")
                await trio.testing.wait_all_tasks_blocked()

        tracemalloc.start()
        try:
            nursery.start_soon(send)
            [received] = await call.receive_many()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(received) == size
        assert codec.consumed_credit() == size + 5
        assert peak < 2.5 * size


async def test_what_comes_for_a_call_that_was_left_is_consumed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    codec = ScriptedCodec({1: [BytesReceived(1, b"unread", 6)]})
    async with dialing(make_codec=lambda limits: codec) as (connection, _, theirs):
        call = connection.open_call(REQUEST_BY_STREAM, {}, None)
        await theirs.send_all(b"\x01\x01")
        await trio.testing.wait_all_tasks_blocked()
        assert codec.consumed_credit() == 0
        connection.leave(call, ClosedByUsError("left"))
        assert codec.consumed_credit() == 12
        await theirs.send_all(b"\x01")
        await trio.testing.wait_all_tasks_blocked()
        assert codec.consumed_credit() == 18
        connection.leave(call, ClosedByUsError("again"))  # without effect
        assert codec.commands.count(("reset", 1)) == 1
        with pytest.raises(ClosedByUsError, match="left"):
            await call.receive_many()


async def test_a_goaway_ends_only_calls_that_were_never_seen(
    autojump_clock: trio.testing.MockClock,
) -> None:
    script: dict[int, list[Event] | bytes] = {
        1: [Draining(2, "we stop")],
        2: [BytesReceived(2, message(b"answer"), 11), StatusReceived(2, StatusCode.OK, "")],
        3: [CallReset(1, "reset by the other side: CANCEL")],
    }
    codec = ScriptedCodec(script)
    async with dialing(make_codec=lambda limits: codec) as (connection, _, theirs):
        one, two, three = (connection.open_call(PING, {}, None) for _ in range(3))
        await theirs.send_all(b"\x01")
        with pytest.raises(ConnectionLostError, match="we stop"):
            await three.receive_many()
        assert not connection.is_open
        await theirs.send_all(b"\x02\x03")
        assert await two.receive_many() == [b"answer"]
        assert await two.receive_many() == []
        with pytest.raises(ConnectionLostError, match="Ping was reset by the other side: CANCEL"):
            await one.receive_many()
        for call in one, two, three:
            connection.leave(call, ClosedByUsError("left"))


# --- the end --------------------------------------------------------------------------------------


async def wait_on(call: Call, outcomes: list[type[BaseException]]) -> None:
    try:
        await call.receive_many()
    except TransportError as exc:
        outcomes.append(type(exc))


@pytest.mark.parametrize("number", range(10))  # the order of tasks is drawn anew each time
async def test_draining_is_known_before_the_end_that_comes_with_it(
    number: int, autojump_clock: trio.testing.MockClock
) -> None:
    ending: list[Event] = [
        Draining(1, "it stops"),
        StatusReceived(1, StatusCode.CANCELLED, "it stops"),
    ]
    codec = ScriptedCodec({1: ending})
    seen = []

    async def drain(connection: Connection) -> None:
        await connection.wait_draining()
        seen.append("draining")

    async with (
        dialing(make_codec=lambda limits: codec) as (connection, _, theirs),
        trio.open_nursery() as nursery,
    ):
        call = connection.open_call(REQUEST_BY_STREAM, {}, None)
        nursery.start_soon(drain, connection)
        await trio.testing.wait_all_tasks_blocked()
        await theirs.send_all(b"\x01")
        with pytest.raises(CallFailedError):
            await call.receive_many()
        seen.append("the end")
    assert seen == ["draining", "the end"]


async def test_an_end_of_file_ends_every_wait(autojump_clock: trio.testing.MockClock) -> None:
    outcomes: list[type[BaseException]] = []
    async with dialing(limits=LIMITS) as (connection, _, theirs):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                call = connection.open_call(REQUEST_BY_STREAM, {}, None)
                nursery.start_soon(wait_on, call, outcomes)
            await trio.testing.wait_all_tasks_blocked()
            await theirs.aclose()
        assert outcomes == [ConnectionLostError] * 3
        assert trio.current_time() == 0
        with pytest.raises(ConnectionLostError):
            connection.open_call(PING, {}, None)


@pytest.mark.parametrize("stalled", [True, False])
async def test_a_shutdown_waits_no_longer_than_its_goodbye(
    stalled: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with dialing(limits=LIMITS) as (connection, wire, _):
        await trio.testing.wait_all_tasks_blocked()
        if stalled:
            wire.stall()
        call = connection.open_call(REQUEST_BY_STREAM, {}, None)
        call.trust()
        await call.send_many([bytes(KIB)])
        began = trio.current_time()
    assert trio.current_time() == began + LIMITS.goodbye_timeout_s
    with pytest.raises(ClosedByUsError):
        await call.receive_many()


async def test_a_shutdown_sends_what_is_queued_and_then_the_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    received = b""

    async def read(theirs: Wire) -> None:
        nonlocal received
        while data := await theirs.receive_some():
            received += data
        await theirs.aclose()

    codec = ScriptedCodec()
    async with (
        trio.open_nursery() as nursery,
        dialing(limits=LIMITS, make_codec=lambda _: codec) as (connection, _, theirs),
    ):
        nursery.start_soon(read, theirs)
        call = connection.open_call(REQUEST_BY_STREAM, {}, None)
        await call.send_many([b"last"])
    assert received == message(b"last")
    assert ("drain", "") in codec.commands
    assert trio.current_time() == 0  # the other side had read all: nothing to wait for


async def test_a_violation_is_told_before_the_end(autojump_clock: trio.testing.MockClock) -> None:
    async with dialing(limits=LIMITS) as (connection, wire, theirs):
        await theirs.send_all(bytes([255] * 9))  # a frame of 16 MiB
        await connection.ended.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(connection.lost, ConnectionLostError)
        assert "over 16384" in str(connection.lost)
        assert any(b"over 16384" in data for data in wire.sent)
        assert wire.closed_at == 0


# --- a whole connection ---------------------------------------------------------------------------


async def test_a_call_that_is_not_answered_ends_at_its_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_pair(never_end, limits=LIMITS) as pair:
        with pytest.raises((DeadlineExceededError, CallFailedError)) as caught:
            await pair.channel.call(PING, b"", metadata={}, timeout_s=2)
        if isinstance(caught.value, CallFailedError):
            assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
        assert trio.current_time() == 2
        assert pair.connection.calls == {}


async def test_calls_at_once_get_their_own_replies(autojump_clock: trio.testing.MockClock) -> None:
    replies = {}

    async def ask(pair: Pair, number: int) -> None:
        request = b"%d" % number
        replies[request] = await pair.channel.call(PING, request, metadata={}, timeout_s=5)

    async with open_pair(echo, limits=LIMITS) as pair, trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(ask, pair, number)
    assert len(replies) == 50
    assert all(request == reply for request, reply in replies.items())


async def test_a_channel_tells_when_its_server_drains(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_pair(echo, limits=LIMITS) as pair, trio.open_nursery() as nursery:
        told = trio.Event()

        async def wait() -> None:
            with suppress(TransportError):
                await SocketChannel(pair.connection).wait_draining()
            told.set()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not told.is_set()
        pair.served.scope.cancel()
        await told.wait()
        assert trio.current_time() == 0
