"""What an accepted connection owes its caller, its handlers, and those that wait for its end."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
import trio
import trio.testing

from aelf_p2p.contracts import IncomingCall
from aelf_p2p.core.errors import (
    CallFailedError,
    ConnectionLostError,
    StatusCode,
    TransportError,
)
from aelf_p2p.core.options import KIB, MIB
from aelf_p2p.testing.cancellation import cancel_at_every_step
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.net.server import Strangers
from aelf_p2p.wire.methods import (
    CHECK_HEALTH,
    PING,
    REQUEST_BLOCK,
    REQUEST_BLOCKS,
    REQUEST_BY_STREAM,
)
from tests.transports.net.pairs import (
    CALLER,
    Pair,
    never_end,
    open_pair,
    serving,
    trusting_echo,
)

pytestmark = pytest.mark.usefixtures("each_kind_of_wire")

LIMITS = WireLimits(
    stranger_timeout_s=10,
    write_timeout_s=30,
    goodbye_timeout_s=1.5,
    drain_timeout_s=0.5,
)


# --- strangers ------------------------------------------------------------------------------------


async def test_the_oldest_stranger_goes_when_there_are_too_many() -> None:
    strangers = Strangers(2)
    scopes = [trio.CancelScope() for _ in range(4)]
    for scope in scopes[:3]:
        strangers.add(scope)
    assert [scope.cancel_called for scope in scopes] == [True, False, False, False]
    strangers.discard(scopes[1])
    strangers.discard(scopes[1])  # without effect when repeated
    strangers.add(scopes[3])
    assert [scope.cancel_called for scope in scopes] == [True, False, False, False]
    strangers.add(scopes[1])
    assert [scope.cancel_called for scope in scopes] == [True, False, True, False]


async def test_one_host_has_a_few_and_its_oldest_goes() -> None:
    idlers = Strangers(5, 2)
    hosts = ["192.0.2.1", "2001:db8::1", "2001:db8::2", "127.0.0.1", "192.0.2.2"]
    scopes = [trio.CancelScope() for _ in range(8)]
    for scope, host in zip(scopes, hosts, strict=False):
        idlers.add(scope, host)
    assert not any(scope.cancel_called for scope in scopes)
    idlers.add(scopes[5], "2001:db8::3")
    assert [scope.cancel_called for scope in scopes] == [False, True] + [False] * 6
    idlers.add(scopes[6], "127.0.0.1")  # beyond the most of all
    assert [scope.cancel_called for scope in scopes] == [True, True] + [False] * 6
    idlers.discard(scopes[2])
    idlers.add(scopes[7], "2001:db8::4")
    assert [scope.cancel_called for scope in scopes] == [True, True] + [False] * 6


async def test_on_loopback_all_are_on_one_host() -> None:
    idlers = Strangers(5, 2)
    scopes = [trio.CancelScope() for _ in range(5)]
    for scope, host in zip(scopes, ["127.0.0.1"] * 3 + ["::1"] * 2, strict=True):
        idlers.add(scope, host)
    assert not any(scope.cancel_called for scope in scopes)


async def test_a_crowd_of_one_host_pushes_out_nobody_else() -> None:
    limits = WireLimits()
    idlers = Strangers(limits.max_strangers, limits.max_idle_per_host)
    honest = trio.CancelScope()
    idlers.add(honest, "192.0.2.1")
    for number in range(1000):
        idlers.add(trio.CancelScope(), f"2001:db8::{number:x}")
    assert not honest.cancel_called


# --- time -----------------------------------------------------------------------------------------


async def test_a_stranger_that_stays_one_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(never_end, limits=LIMITS) as (_, served, _):
        # The transport sets the deadline when it accepts.
        served.scope.deadline = trio.current_time() + LIMITS.stranger_timeout_s
        await served.ended.wait()
    assert served.ended_at == pytest.approx(10, abs=1.5)


async def test_a_stranger_with_a_call_under_way_is_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_pair(never_end, limits=LIMITS) as pair:
        pair.served.scope.deadline = 10
        async with pair.channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
            with pytest.raises(ConnectionLostError):
                await stream.receive_many()
            assert 10 <= trio.current_time() <= 11.5


async def test_a_caller_is_trusted_while_a_call_of_it_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_pair(trusting_echo, limits=LIMITS) as pair:
        pair.served.scope.deadline = 10
        async with pair.channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
            await stream.send_many([b"1"])
            assert await stream.receive_many() == [b"1"]
            await trio.sleep(5000)
            await stream.send_many([b"2"])
            assert await stream.receive_many() == [b"2"]
        # A stranger again, with a stranger's time; a new call that is trusted ends that.
        await trio.sleep(9)
        assert not pair.served.trusted
        async with pair.channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
            await stream.send_many([b"3"])
            assert await stream.receive_many() == [b"3"]
            await trio.sleep(5000)
        await pair.connection.ended.wait()
        assert trio.current_time() == pytest.approx(5000 + 9 + 5000 + 10, abs=2)


async def test_a_caller_that_was_trusted_has_longer_between_calls(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def trust_and_answer(call: IncomingCall) -> None:
        call.stream.trust()
        await call.stream.send_many([b""])

    async with open_pair(trust_and_answer, limits=LIMITS) as pair:
        pair.served.scope.deadline = 10
        for _ in range(3):
            await pair.channel.call(CHECK_HEALTH, b"", metadata={}, timeout_s=5)
            await trio.sleep(149)
            assert pair.served.counted_for == CALLER.host
        await pair.connection.ended.wait()
        assert trio.current_time() == pytest.approx(3 * 149 + 1, abs=2)


async def test_a_second_call_ends_no_trust(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with (
        open_pair(trusting_echo, limits=LIMITS) as pair,
        pair.channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
    ):
        await stream.send_many([b"1"])
        await stream.receive_many()
        await pair.channel.call(PING, b"", metadata={}, timeout_s=5)
        await trio.sleep(1000)
        assert pair.channel.is_open


async def test_a_handler_has_as_long_as_its_caller_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cancelled_at = []

    async def handle(call: IncomingCall) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled_at.append(trio.current_time())

    async with open_pair(handle, limits=LIMITS) as pair:
        # A caller whose own clock is late: the server's answer is what ends its call.
        call = pair.connection.open_call(PING, {}, 2.5)
        with pytest.raises(CallFailedError) as caught:
            await call.receive_many()
        assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
        assert cancelled_at == [2.5]
        with pytest.raises(TransportError):
            await pair.channel.call(PING, b"", metadata={}, timeout_s=3)
        await trio.testing.wait_all_tasks_blocked()
        assert cancelled_at == [2.5, 5.5]


# --- how a handler ends ---------------------------------------------------------------------------


async def fails(call: IncomingCall) -> None:
    raise ValueError("a secret of ours")


async def fails_in_two_tasks(call: IncomingCall) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails, call)
        nursery.start_soon(fails, call)


async def misuses(call: IncomingCall) -> None:
    await call.stream.send_eof()
    await call.stream.send_many([b"after the end"])


@pytest.mark.parametrize("handler", [fails, fails_in_two_tasks])
async def test_a_handlers_exception_is_unknown_and_nothing_of_it_is_told(
    handler: Callable[[IncomingCall], Awaitable[None]],
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_pair(handler, limits=LIMITS) as pair:
        with pytest.raises(CallFailedError) as caught:
            await pair.channel.call(PING, b"", metadata={}, timeout_s=5)
        assert (caught.value.code, caught.value.details) == (StatusCode.UNKNOWN, "")
        assert not any(b"secret" in data for data in pair.server_wire.sent)
        # Its neighbours live on.
        assert pair.channel.is_open
    assert [record.getMessage() for record in caplog.records] == ["the handler of Ping failed"]


async def test_a_handlers_status_is_its_callers(autojump_clock: trio.testing.MockClock) -> None:
    async def refuse(call: IncomingCall) -> None:
        await call.stream.send_many([b"one", b"two"])
        raise CallFailedError(StatusCode.NOT_FOUND, "no such block")

    async with (
        open_pair(refuse, limits=LIMITS) as pair,
        pair.channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
    ):
        assert await stream.receive_many() == [b"one", b"two"]
        with pytest.raises(CallFailedError, match="no such block") as caught:
            await stream.receive_many()
        assert caught.value.code is StatusCode.NOT_FOUND


async def test_a_handler_that_ended_its_half_and_lingers_is_cancelled_with_the_server(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def end_and_linger(call: IncomingCall) -> None:
        await call.stream.send_eof()
        await trio.sleep_forever()

    async with open_pair(end_and_linger, limits=LIMITS) as pair:
        async with pair.channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
            assert await stream.receive_many() == []
        stopped_at = trio.current_time()
        pair.served.scope.cancel()
        with trio.fail_after(60):
            await pair.served.ended.wait()
        assert trio.current_time() <= stopped_at + LIMITS.goodbye_timeout_s


async def test_a_handler_is_cancelled_when_its_caller_is_gone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    began, gone = trio.Event(), trio.Event()

    async def handle(call: IncomingCall) -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            gone.set()

    async with open_pair(handle, limits=LIMITS) as pair:
        async with pair.channel.open_stream(REQUEST_BY_STREAM, metadata={}):
            await began.wait()
        await gone.wait()
        assert trio.current_time() == 0
        assert pair.channel.is_open


async def test_a_reply_that_is_not_read_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async def handle(call: IncomingCall) -> None:
        call.stream.trust()
        await call.stream.send_many([bytes(MIB)])  # over a caller's window of 64 KiB

    async with open_pair(handle, limits=LIMITS) as pair:
        call = pair.connection.open_call(REQUEST_BLOCK, {}, None)
        await trio.sleep(29)
        assert call.call_id in pair.connection.calls
        await trio.sleep(2)
        assert isinstance(call.error, ConnectionLostError)
        assert pair.channel.is_open


# --- the end --------------------------------------------------------------------------------------


async def test_a_server_that_stops_lets_unary_calls_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def handle(call: IncomingCall) -> None:
        [message] = await call.stream.receive_many()
        await trio.sleep(float(message))
        await call.stream.send_many([b"done"])

    outcomes: dict[str, object] = {}

    async with open_pair(handle, limits=LIMITS) as pair:

        async def ask(seconds: str) -> None:
            try:
                outcomes[seconds] = await pair.channel.call(
                    PING, seconds.encode(), metadata={}, timeout_s=60
                )
            except TransportError as exc:
                outcomes[seconds] = type(exc)

        async with trio.open_nursery() as nursery:
            for seconds in ("0.4", "0.6", "40"):
                nursery.start_soon(ask, seconds)
            await trio.testing.wait_all_tasks_blocked()
            pair.served.scope.cancel()
    assert outcomes == {"0.4": b"done", "0.6": ConnectionLostError, "40": ConnectionLostError}
    assert pair.served.ended_at is not None
    assert pair.served.ended_at <= LIMITS.drain_timeout_s + LIMITS.goodbye_timeout_s


async def test_a_stream_is_cancelled_at_once_and_says_goodbye(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def handle(call: IncomingCall) -> None:
        call.stream.trust()
        await call.stream.send_many([b"hello"])
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await call.stream.send_many([b"goodbye"])

    async with (
        open_pair(handle, limits=LIMITS) as pair,
        pair.channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
    ):
        assert await stream.receive_many() == [b"hello"]
        pair.served.scope.cancel()
        assert await stream.receive_many() == [b"goodbye"]
        assert trio.current_time() == 0
        with pytest.raises(ConnectionLostError):
            await stream.receive_many()


async def test_a_handlers_answer_in_its_cleanup_arrives(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def handle(call: IncomingCall) -> None:
        call.stream.trust()
        await call.stream.send_many([b"hello"])
        try:
            await trio.sleep_forever()
        except trio.Cancelled as exc:
            raise CallFailedError(StatusCode.UNAVAILABLE, "we stop") from exc

    async with (
        open_pair(handle, limits=LIMITS) as pair,
        pair.channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
    ):
        assert await stream.receive_many() == [b"hello"]
        pair.served.scope.cancel()
        with pytest.raises(CallFailedError, match="we stop"):
            await stream.receive_many()


async def test_a_server_that_stops_takes_no_new_calls(
    autojump_clock: trio.testing.MockClock,
) -> None:
    calls = 0

    async def handle(call: IncomingCall) -> None:
        nonlocal calls
        calls += 1
        await trio.sleep_forever()

    async with (
        open_pair(handle, limits=LIMITS) as pair,
        trio.open_nursery() as nursery,
    ):

        async def ask() -> None:
            with pytest.raises(ConnectionLostError):
                await pair.channel.call(PING, b"", metadata={}, timeout_s=60)

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        pair.served.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert not pair.channel.is_open
        await ask()
        assert trio.current_time() == 0  # it was told at once
    assert calls == 1


async def unread(call: IncomingCall) -> None:
    """Sends more than anybody reads."""
    call.stream.trust()
    await call.stream.send_many([bytes(MIB)] * 20)


@pytest.mark.parametrize("handler", [never_end, unread])
async def test_a_server_stops_in_time_though_nothing_is_read(
    handler: Callable[[IncomingCall], Awaitable[None]], autojump_clock: trio.testing.MockClock
) -> None:
    async with open_pair(handler, limits=LIMITS) as pair:
        call = pair.connection.open_call(REQUEST_BY_STREAM, {}, None)
        await trio.testing.wait_all_tasks_blocked()
        pair.server_wire.stall()
        await trio.sleep(5)
        pair.served.scope.cancel()
        await pair.served.ended.wait()
        assert trio.current_time() <= 5 + LIMITS.drain_timeout_s + LIMITS.goodbye_timeout_s
        assert call.error is None or isinstance(call.error, ConnectionLostError)


async def test_a_caller_that_reads_drop_by_drop_does_not_hold_a_server_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def handle(call: IncomingCall) -> None:
        call.stream.trust()
        await call.stream.send_many([b"hello"])
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await call.stream.send_many([bytes(4 * MIB)])
            raise CallFailedError(StatusCode.UNAVAILABLE)

    async with (
        open_pair(handle, limits=LIMITS) as pair,
        pair.channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
    ):
        stream.limit_messages(8 * MIB)
        assert await stream.receive_many() == [b"hello"]
        pair.server_wire.pause_s = 0.9  # something always moves
        pair.served.scope.cancel()
        with pytest.raises(ConnectionLostError):
            await stream.receive_many()
        await pair.served.ended.wait()
        # The goodbye of the call, then that of the connection.
        assert trio.current_time() <= 2 * LIMITS.goodbye_timeout_s + LIMITS.drain_timeout_s


# --- what is held ---------------------------------------------------------------------------------


@pytest.mark.parametrize("lingers", [False, True])
async def test_what_a_refused_message_took_is_given_back(
    lingers: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """Also what comes behind it, while its handler is not done yet. ``serving`` looks at the end,
    and this test while the connection lives."""
    refused = trio.Event()

    async def handle(call: IncomingCall) -> None:
        try:
            await call.stream.receive_many()
        finally:
            refused.set()
            if lingers:
                await trio.sleep(1)

    async with open_pair(handle, limits=LIMITS) as pair:
        for _ in range(5):
            async with pair.channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
                await stream.send_many([bytes(64 * KIB + 1)])
                await refused.wait()
                with suppress(ConnectionLostError):
                    await stream.send_many([bytes(20 * KIB)])
                with pytest.raises(CallFailedError) as caught:
                    await stream.receive_many()
                assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
        await trio.testing.wait_all_tasks_blocked()
        assert pair.channel.is_open
        assert pair.served.settings.held.held_bytes == 0


async def test_a_caller_is_dropped_when_strangers_hold_too_much(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """And its share is free for the next one."""
    limits = replace(LIMITS, all_strangers_bytes=100)
    for size, error in ((90, None), (101, ConnectionLostError), (90, None)):
        async with (
            open_pair(never_end, limits=limits) as pair,
            pair.channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
        ):
            await stream.send_many([bytes(size)])
            await trio.testing.wait_all_tasks_blocked()
            assert pair.served.ended.is_set() is (error is not None)


async def test_trust_needs_room_among_all(autojump_clock: trio.testing.MockClock) -> None:
    trust = trio.Event()

    async def handle(call: IncomingCall) -> None:
        await trust.wait()
        call.stream.trust()
        await trio.sleep_forever()

    async with open_pair(handle, limits=LIMITS) as pair:
        pair.served.scope.deadline = 10
        call = pair.connection.open_call(REQUEST_BY_STREAM, {}, None)
        await call.send_many([bytes(1000)])
        await trio.testing.wait_all_tasks_blocked()
        settings = pair.served.settings
        assert settings.held_for_strangers.held_bytes == 1005  # with gRPC's prefix
        assert settings.held.held_bytes == 1005
        trust.set()
        await trio.testing.wait_all_tasks_blocked()
        assert pair.served.trusted
        assert settings.held_for_strangers.held_bytes == 0
        assert settings.held.held_bytes == 1005


async def test_a_connection_that_leaves_too_much_unread_is_dropped(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def handle(call: IncomingCall) -> None:
        call.stream.trust()
        await trio.sleep_forever()

    limits = replace(LIMITS, max_unread_bytes=100 * KIB)
    async with open_pair(handle, limits=limits) as pair:
        one = pair.connection.open_call(REQUEST_BY_STREAM, {}, None)
        await one.send_many([bytes(60 * KIB)])
        await trio.testing.wait_all_tasks_blocked()
        assert not pair.served.ended.is_set()
        other = pair.connection.open_call(REQUEST_BY_STREAM, {}, None)
        await other.send_many([bytes(60 * KIB)])
        await pair.served.ended.wait()
        # It is told why.
        assert any(b"more bytes than can be held" in data for data in pair.server_wire.sent)


async def test_a_large_reply_of_a_unary_call(autojump_clock: trio.testing.MockClock) -> None:
    """100 MiB holds for a block that was asked for, of a server that nobody trusts."""

    async def handle(call: IncomingCall) -> None:
        await call.stream.receive_many()
        await call.stream.send_many([bytes(3000)])

    limits = replace(LIMITS, all_strangers_bytes=1000, stranger_bytes=1000)
    async with open_pair(handle, limits=LIMITS, client_limits=limits) as pair:
        reply = await pair.channel.call(REQUEST_BLOCK, b"", metadata={}, timeout_s=5)
        assert reply == bytes(3000)


async def test_a_compressed_reply_is_what_the_handler_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def handle(call: IncomingCall) -> None:
        await call.stream.receive_many()
        await call.stream.send_many([b"block " * 4000])

    async with open_pair(handle, limits=LIMITS) as pair:
        reply = await pair.channel.call(REQUEST_BLOCKS, b"", metadata={}, timeout_s=5)
        assert reply == b"block " * 4000
        assert sum(map(len, pair.server_wire.sent)) < 2000  # AElf's servers compress this one
        reply = await pair.channel.call(REQUEST_BLOCK, b"", metadata={}, timeout_s=5)
        assert reply == b"block " * 4000
        assert sum(map(len, pair.server_wire.sent)) > 24_000  # and not that one


# --- cancellation ---------------------------------------------------------------------------------


@asynccontextmanager
async def at_work() -> AsyncIterator[Pair]:
    """A pair with a stream under way, which is not what is cancelled."""
    async with (
        open_pair(trusting_echo, limits=LIMITS) as pair,
        pair.channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
    ):
        await stream.send_many([b"begin"])
        assert await stream.receive_many() == [b"begin"]
        yield pair
        await stream.send_many([b"end"])
        assert await stream.receive_many() == [b"end"]


async def make_calls(pair: Pair) -> None:
    """Unary calls and a stream, small and large messages, both halves ended."""
    assert await pair.channel.call(PING, b"ping", metadata={}, timeout_s=5) == b"ping"
    async with pair.channel.open_stream(REQUEST_BY_STREAM, metadata={"k": "v"}) as stream:
        stream.trust()
        await stream.send_many([b"1", b"2", bytes(200 * KIB), b"3"])
        await stream.send_eof()
        received: list[bytes] = []
        while messages := await stream.receive_many():
            received += messages
        assert received == [b"1", b"2", bytes(200 * KIB), b"3"]
    assert await pair.channel.call(CHECK_HEALTH, b"", metadata={}, timeout_s=5) == b""


async def check_nothing_left(pair: Pair) -> None:
    await trio.testing.wait_all_tasks_blocked()
    assert len(pair.connection.calls) == 1
    assert pair.served.settings.held.held_bytes == 0
    assert pair.channel.is_open
    assert await pair.channel.call(PING, b"whole", metadata={}, timeout_s=5) == b"whole"


def test_cancelling_calls_at_any_step_leaves_the_connection_whole() -> None:
    report = cancel_at_every_step(
        make_calls, around=at_work, check=check_nothing_left, sample=60, seed=3
    )
    assert report.steps > 60


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield


async def live(_: None) -> None:
    """The whole life of a connection; ``open_pair`` itself looks at what it leaves."""
    async with open_pair(trusting_echo, limits=LIMITS) as pair:
        await make_calls(pair)


async def in_time(_: None) -> None:
    assert trio.current_time() <= 2 * (LIMITS.goodbye_timeout_s + LIMITS.drain_timeout_s)


def test_cancelling_a_connection_at_any_step_leaves_nothing_behind() -> None:
    report = cancel_at_every_step(live, around=nothing, check=in_time, sample=60, seed=4)
    assert report.steps > 60


@asynccontextmanager
async def hoarding() -> AsyncIterator[Pair]:
    """A pair whose handler is late with reading, so that a server that stops finds much unread."""

    async def handle(call: IncomingCall) -> None:
        call.stream.trust()
        await trio.sleep(0.01)
        await call.stream.receive_many()
        await trio.sleep_forever()

    async with open_pair(handle, limits=LIMITS) as pair:
        yield pair


async def send_and_stop(pair: Pair) -> None:
    with suppress(TransportError):
        async with pair.channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
            await stream.send_many([bytes(30 * KIB)] * 10)
            await trio.sleep(0.03)
            pair.served.scope.cancel()
            await stream.receive_many()


async def stop_and_check(pair: Pair) -> None:
    pair.served.scope.cancel()
    await pair.served.ended.wait()
    assert pair.connection.calls == {}


def test_a_server_that_stops_at_any_step_leaves_nothing_behind() -> None:
    report = cancel_at_every_step(
        send_and_stop, around=hoarding, check=stop_and_check, sample=40, seed=5
    )
    assert report.steps > 40
