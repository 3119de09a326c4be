"""Servers that break the rules: we leave them, and tell them why."""

import pytest
import trio

from aelf_p2p.contracts import RpcChannel
from aelf_p2p.core.errors import RulesBrokenError, TransportError
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from tests.transports.hostile.raw_connection import PATIENCE_S, message
from tests.transports.hostile.tcp.raw_tcp import (
    WINDOW,
    Endings,
    RawPeer,
    ask,
    dial_hostile_server,
    random_frames,
    take_call,
)
from tests.transports.tcp.by_hand import (
    BYTES,
    OPEN,
    PREFACE,
    SETTINGS,
    credit,
    data,
    end,
    frame,
    goaway,
    greeting,
    opening,
    reply,
    reset,
    settings,
    status,
    u32,
)


async def ask_until_left(channel: RpcChannel) -> RulesBrokenError:
    """A call may be over before its connection."""
    while True:
        try:
            await ask(channel)
        except RulesBrokenError as exc:
            return exc
        except TransportError:
            continue


async def check_left(first: bytes, answer: bytes, why: str) -> None:
    """A server that begins with ``first``, and answers our first call so, is told why we go."""
    endings = Endings()

    async def script(peer: RawPeer) -> None:
        await peer.send(first)
        await peer.read_until(lambda: peer.has(OPEN, 1))
        endings.came(await peer.attack([answer]))

    async with dial_hostile_server(script) as channel:
        left = await ask_until_left(channel)
        assert why in str(left)
        assert not channel.is_open
        last_call_id, said = (await endings.next()).goaway
    assert last_call_id == 0
    assert why in said


@pytest.mark.fault(14, 15)
@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(bytes(range(256)) * 8, id="garbage"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="HTTP/1.1"),
        pytest.param(bytes(4) + b"\x04" + bytes(5), id="HTTP/2"),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x46", id="a TLS alert"),
        pytest.param(b"220 hello\r\n", id="SMTP"),
        pytest.param(b"aelf-p2p/2\n" + settings(WINDOW, 1), id="another version"),
    ],
)
async def test_a_server_of_another_protocol_is_left(garbage: bytes) -> None:
    await check_left(b"", garbage, "expected 'aelf-p2p/1\\n', got ")


@pytest.mark.parametrize(
    ("first", "why"),
    [
        pytest.param(PREFACE + reply(1), "REPLY before SETTINGS", id="no SETTINGS"),
        pytest.param(PREFACE + goaway(0, ""), "GOAWAY before SETTINGS", id="GOAWAY first"),
        pytest.param(
            greeting(2**31, 1),
            "a window of 2147483648 bytes",
            id="a window beyond the largest",
            marks=pytest.mark.fault(24),
        ),
        pytest.param(
            PREFACE + frame(SETTINGS, 1, u32(1) * 2), "SETTINGS for call 1", id="SETTINGS of a call"
        ),
    ],
)
async def test_a_server_that_greets_wrongly_is_left(first: bytes, why: str) -> None:
    await check_left(b"", first, why)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(
            opening(1),
            "OPEN from the wrong side",
            id="OPEN",
            marks=pytest.mark.fault(31),
        ),
        pytest.param(
            reply(1) + data(1, message(b"pong")) + end(1),
            "END from the wrong side",
            id="END in place of a status",
            marks=pytest.mark.fault(29),
        ),
        pytest.param(reply(2), "REPLY for call 2, which was never opened", id="REPLY to no call"),
        pytest.param(
            status(2), "STATUS for call 2, which was never opened", id="STATUS of no call"
        ),
        pytest.param(reply(1) * 2, "REPLY twice", id="REPLY twice"),
        pytest.param(data(1, b"x"), "bytes before or after their half", id="BYTES before REPLY"),
        pytest.param(frame(3, 1, b"\2"), "unknown flags 0x2", id="REPLY with an unknown flag"),
        pytest.param(status(1, 17), "the unknown status code 17", id="status 17"),
        pytest.param(status(1, 255), "the unknown status code 255", id="status 255"),
        pytest.param(frame(6, 1), "STATUS without a code", id="STATUS without a code"),
        pytest.param(status(1, 7, b"\xff"), "text that is not UTF-8", id="details of no text"),
        pytest.param(
            status(1, 7, bytes(1025)), "STATUS of 1026 bytes, over 1025", id="details too long"
        ),
        pytest.param(
            reset(1, 2),
            "the unknown cause 2 of a reset",
            id="RESET for cause 2",
            marks=pytest.mark.fault(28),
        ),
        pytest.param(
            settings(1, 1), "SETTINGS twice", id="SETTINGS twice", marks=pytest.mark.fault(19)
        ),
        pytest.param(
            credit(1, 0), "CREDIT of 0 bytes", id="CREDIT of 0", marks=pytest.mark.fault(24)
        ),
        pytest.param(
            credit(1, 2**31 - 1),
            "CREDIT of 2147483647 bytes overflows the window",
            id="CREDIT that overflows",
            marks=pytest.mark.fault(24),
        ),
        pytest.param(
            frame(BYTES, 1, length=0xFFFFFFFF),
            "BYTES of 4294967295 bytes, over 65536",
            id="BYTES of 4 GiB announced",
            marks=pytest.mark.fault(32),
        ),
        pytest.param(
            reply(1) + data(1, b"") * 200,
            "too many empty frames",
            id="empty BYTES",
            marks=pytest.mark.fault(20),
        ),
        pytest.param(
            credit(1, 1) * 30_000,
            "too many small frames",
            id="CREDIT, for ever",
            marks=pytest.mark.fault(20),
        ),
        pytest.param(
            reset(1) * 30_000,
            "too many small frames",
            id="RESET, for ever",
            marks=pytest.mark.fault(16),
        ),
        pytest.param(status(1, 7) * 30_000, "too many small frames", id="STATUS, for ever"),
        pytest.param(goaway(1, "") * 30_000, "too many small frames", id="GOAWAY, for ever"),
        pytest.param(
            status(1, 7) + data(1, b"123456789") * 15_000,
            "too many frames of calls that are over",
            id="BYTES of a call that is over",
        ),
    ],
)
async def test_a_server_that_breaks_a_rule_is_left(answer: bytes, why: str) -> None:
    await check_left(greeting(WINDOW, 10), answer, why)


@pytest.mark.fault(14)
@pytest.mark.parametrize("seed", range(20))
async def test_a_server_of_random_frames_is_left(seed: int) -> None:
    endings = Endings()

    async def script(peer: RawPeer) -> None:
        await take_call(peer)
        endings.came(await peer.attack(random_frames(seed)))

    async with dial_hostile_server(script) as channel:
        left = await ask_until_left(channel)
        last_call_id, said = (await endings.next()).goaway
    assert last_call_id == 0
    assert str(left).endswith(f" broke the protocol: {said}")


async def test_a_server_that_sends_more_than_the_window_is_left() -> None:
    """Nobody reads its stream, so that nothing of the window is given back."""
    endings = Endings()

    async def script(peer: RawPeer) -> None:
        await take_call(peer)
        endings.came(await peer.attack([reply(1), *[data(1, bytes(32_768))] * 3]))

    async with (
        dial_hostile_server(script) as channel,
        channel.open_stream(REQUEST_BY_STREAM, metadata={}),
    ):
        with trio.fail_after(PATIENCE_S), pytest.raises(RulesBrokenError, match="the window"):
            await channel.wait_draining()
        ending = await endings.next()
    assert ending.goaway == (0, "more bytes than the window of a call")
