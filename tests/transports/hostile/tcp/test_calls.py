"""Calls to our server that end in unusual ways, and what holds them back."""

from dataclasses import replace
from functools import partial

import pytest
import trio

from aelf_p2p.core.errors import StatusCode
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from tests.transports.hostile.raw_connection import PATIENCE_S, message
from tests.transports.hostile.target import HURRIED
from tests.transports.hostile.tcp.raw_tcp import open_target, request
from tests.transports.tcp.by_hand import (
    GOAWAY,
    REPLY,
    RESET,
    STATUS,
    credit,
    data,
    end,
    goaway,
    greeting,
    opening,
    reset,
)

OK = (0, "")
LARGEST_WINDOW = 2**31 - 1

# --- calls that fail alone ------------------------------------------------------------------------


@pytest.mark.fault(32, 37)
@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"\0\xff\xff\xff\xffxyz", 8, id="a message of 4 GiB announced"),
        pytest.param(b"\0\0\1\0\1xyz", 8, id="a message just over 64 KiB announced"),
        pytest.param(b"\2\0\0\0\0", 13, id="a flag that is none"),
        pytest.param(b"\0\0\0\0\5abc", 13, id="an end inside a message"),
        pytest.param(b"\0\0\0", 13, id="an end inside a prefix"),
        pytest.param(message(b"x", 1), 13, id="a compressed message, and callers compress none"),
    ],
)
async def test_a_bad_message_fails_its_call(body: bytes, code: int) -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        await peer.send(request(1), data(1, body), end(1))
        assert (await peer.read_status(1))[0] == code
        # and the connection is none the worse for it
        await peer.send(request(2), data(2, message(b"ping")), end(2))
        assert await peer.read_status(2) == OK
        assert target.handlers.received == [b"ping"]


@pytest.mark.fault(40)
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(b"/PeerService/Nothing", id="unknown method"),
        pytest.param(b"/aelf.PeerService/Ping", id="another service"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"x" * 255, id="the longest"),
    ],
)
async def test_an_unknown_method_is_unimplemented(path: bytes) -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        await peer.send(opening(1, path), data(1, message(b"ping")), end(1))
        assert await peer.read_status(1) == (12, f"no method {path.decode()}")
        assert target.handlers.most_running == 0
        await peer.send(request(2), end(2))
        assert await peer.read_status(2) == OK


@pytest.mark.fault(41)
async def test_a_timeout_cancels_the_handler() -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        await peer.send(request(1, "sleep", timeout_ms=50))
        assert await peer.read_status(1) == (StatusCode.DEADLINE_EXCEEDED.value, "")
        assert (target.handlers.running, target.handlers.cancelled) == (0, 1)


@pytest.mark.fault(45)
async def test_nothing_of_a_handlers_exception_is_told(expected_logs: set[str]) -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        await peer.send(request(1, "fail"), end(1))
        assert await peer.read_status(1) == (StatusCode.UNKNOWN.value, "")
    expected_logs.add("the handler of Ping failed")


@pytest.mark.fault(39)
@pytest.mark.parametrize("messages", [[], [b"one", b"two"]])
async def test_messages_of_a_unary_call_reach_the_handler_as_many(messages: list[bytes]) -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        await peer.send(request(1), data(1, b"".join(map(message, messages))), end(1))
        assert await peer.read_status(1) == OK
        assert target.handlers.received == messages


async def test_the_end_of_a_refused_call_is_awaited_by_nobody() -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        await peer.send(request(1, "refuse"))
        assert await peer.read_status(1) == (StatusCode.PERMISSION_DENIED.value, "no")
        await peer.send(*[data(1, message(bytes(1_000)))] * 200, end(1))  # no offence
        await peer.send(request(2), end(2))
        assert await peer.read_status(2) == OK


async def test_a_handler_that_outlives_its_call_ends_with_the_connection() -> None:
    async with open_target() as target:
        async with target.greeted_attacker() as peer:
            await peer.send(request(1, "end and sleep"))
            assert await peer.read_status(1) == OK
        await target.wait_no_handlers()


@pytest.mark.fault(28)
@pytest.mark.parametrize("cause", [0, 1])
async def test_a_reset_of_any_cause_cancels_the_handler(cause: int) -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        await peer.send(request(1, "sleep"))
        await target.handlers.wait_until(lambda: target.handlers.running)
        await peer.send(reset(1, cause))
        await target.handlers.wait_until(lambda: target.handlers.cancelled)
        await peer.send(request(2), end(2))
        assert await peer.read_status(2) == OK
        assert not peer.has(GOAWAY, 0)


async def test_a_reset_of_an_unknown_call_and_another_in_one_flight() -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        await peer.send(opening(1, b"/nothing") + reset(1) + request(2) + end(2))
        assert await peer.read_status(2) == OK


# --- windows --------------------------------------------------------------------------------------


@pytest.mark.fault(24)
async def test_without_a_window_a_reply_waits_for_credit() -> None:
    async with open_target() as target, target.greeted_attacker(window=0) as peer:
        await peer.send(request(1), end(1))
        await peer.read_until(lambda: peer.has(REPLY, 1))
        pong = message(b"pong")
        while (came := peer.body(1)) != pong:
            assert pong.startswith(came)
            assert not peer.has(STATUS, 1)
            await peer.send(credit(1, 1))
            await peer.read_until(partial(peer.has_body, 1, len(came) + 1))
        assert await peer.read_status(1) == OK


@pytest.mark.fault(24)
async def test_a_reply_that_is_given_no_credit_is_given_up() -> None:
    limits = replace(HURRIED, write_timeout_s=0.3)
    async with open_target(limits) as target, target.greeted_attacker(window=0) as peer:
        await peer.send(request(1), end(1))
        await peer.read_until(lambda: peer.has(RESET, 1))
        assert not peer.has(STATUS, 1)
        await peer.send(request(2), end(2), credit(2, 100))
        assert await peer.read_status(2) == OK
        await target.wait_no_handlers()


@pytest.mark.fault(24)
async def test_a_handler_that_is_given_no_credit_is_held_back() -> None:
    async with open_target() as target, target.greeted_attacker(window=0) as peer:
        await peer.send(request(1, "pour", REQUEST_BY_STREAM))
        await peer.read_until(lambda: peer.has(REPLY, 1))
        for _ in range(20):
            await target.ask_neighbour()
        assert target.handlers.sent_bytes == HURRIED.send_buffer_bytes
        await peer.send(reset(1))
        await target.handlers.wait_until(lambda: target.handlers.cancelled)


@pytest.mark.fault(25)
async def test_who_never_reads_holds_a_handler_back() -> None:
    """With the largest window there is, the socket alone is what fills up."""
    async with open_target() as target, target.attacker() as peer:
        peer.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await peer.send(greeting(LARGEST_WINDOW, 0), request(1, "pour", REQUEST_BY_STREAM))
        with trio.fail_after(PATIENCE_S):
            sent_bytes = -1  # until nothing more is taken
            while sent_bytes != target.handlers.sent_bytes:
                sent_bytes = target.handlers.sent_bytes
                await trio.sleep(0.1)
        # What Linux takes into a socket's buffer (4 MiB by default), and our 64 KiB twice.
        assert 0 < sent_bytes < 5 * 1024 * 1024


@pytest.mark.fault(25)
async def test_who_never_reads_is_dropped() -> None:
    limits = replace(HURRIED, write_timeout_s=0.3)
    async with open_target(limits) as target, target.greeted_attacker(LARGEST_WINDOW) as peer:
        await peer.send(request(1, "pour", REQUEST_BY_STREAM))
        await target.handlers.wait_until(lambda: target.handlers.cancelled)


# --- GOAWAY ---------------------------------------------------------------------------------------


@pytest.mark.fault(26)
async def test_what_is_in_flight_at_a_callers_goaway_ends_well() -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        await peer.send(request(1, "wait"), data(1, message(b"ping")), end(1))
        await target.handlers.wait_until(lambda: target.handlers.running)
        await peer.send(goaway(0, "bye"), credit(1, 1), request(2), end(2))
        assert await peer.read_status(2) == OK
        target.handlers.release.set()
        assert await peer.read_status(1) == OK
        assert peer.body(1) == message(b"pong")


@pytest.mark.fault(26)
async def test_what_is_in_flight_at_our_goaway_ends_well() -> None:
    limits = replace(HURRIED, drain_timeout_s=2.0)
    async with open_target(limits) as target, target.greeted_attacker() as peer:
        await peer.send(request(1, "wait"), end(1))
        await target.handlers.wait_until(lambda: target.handlers.running)
        target.stop_serving()
        await peer.read_until(lambda: peer.has(GOAWAY, 0))
        await peer.send(request(2), data(2, message(b"ping")), end(2))
        await peer.read_until(lambda: peer.has(RESET, 2))
        assert peer.payloads(RESET, 2) == [b"\x01"]  # never started: it may be made elsewhere
        target.handlers.release.set()
        assert await peer.read_status(1) == OK
        assert peer.body(1) == message(b"pong")
        ending = await peer.read_to_end()
        assert ending.goaway == (1, "")
        assert target.handlers.received == []


@pytest.mark.fault(27)
async def test_our_goaway_ends_what_takes_too_long() -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        await peer.send(request(1, "sleep"), request(2, "echo", REQUEST_BY_STREAM))
        await target.handlers.wait_until(lambda: target.handlers.running == 2)
        target.stop_serving()
        ending = await peer.read_to_end()
        assert ending.goaway == (2, "")
        assert target.handlers.cancelled == 2
