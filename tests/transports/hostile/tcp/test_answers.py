"""Servers that answer badly, late or never, and those that go: calls fail with their errors."""

import gzip
from dataclasses import replace

import pytest
import trio

from aelf_p2p.contracts import MessageStream
from aelf_p2p.core.errors import (
    CallFailedError,
    ConnectionLostError,
    DeadlineExceededError,
    StatusCode,
)
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from tests.transports.hostile.raw_connection import PATIENCE_S, message
from tests.transports.hostile.target import HURRIED
from tests.transports.hostile.tcp.raw_tcp import (
    WINDOW,
    Endings,
    RawPeer,
    answered,
    ask,
    dial,
    dial_hostile_server,
    open_hostile_server,
    take_call,
)
from tests.transports.tcp.by_hand import (
    BYTES,
    END,
    OPEN,
    PREFACE,
    RESET,
    credit,
    data,
    frame,
    goaway,
    greeting,
    reply,
    reset,
    status,
)

BOMB = gzip.compress(bytes(10 * 1024 * 1024))
"""10 KiB that become 10 MiB."""

# --- the call fails -------------------------------------------------------------------------------


@pytest.mark.fault(29, 32, 35, 36, 37, 39)
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(status(1), StatusCode.INTERNAL, id="nothing but a status"),
        pytest.param(reply(1) + status(1), StatusCode.INTERNAL, id="no reply"),
        pytest.param(answered(message(b"a") * 2), StatusCode.INTERNAL, id="two replies"),
        pytest.param(answered(b"\0\0\0\0\2a"), StatusCode.INTERNAL, id="half a reply"),
        pytest.param(answered(b"\0\0"), StatusCode.INTERNAL, id="half a prefix"),
        pytest.param(answered(b"\7\0\0\0\1a"), StatusCode.INTERNAL, id="a flag that is none"),
        pytest.param(
            answered(b"\0\xff\xff\xff\xff"), StatusCode.RESOURCE_EXHAUSTED, id="4 GiB announced"
        ),
        pytest.param(
            answered(message(gzip.compress(b"a"), 1)),
            StatusCode.INTERNAL,
            id="gzip that was not announced",
        ),
        pytest.param(
            answered(message(gzip.compress(b"a")[:-1], 1), gzip=True),
            StatusCode.INTERNAL,
            id="truncated gzip",
        ),
        pytest.param(
            answered(message(b"no gzip", 1), gzip=True), StatusCode.INTERNAL, id="what is no gzip"
        ),
        pytest.param(
            answered(message(b"", 1), gzip=True), StatusCode.INTERNAL, id="gzip of no bytes at all"
        ),
        pytest.param(
            answered(message(BOMB, 1), gzip=True), StatusCode.RESOURCE_EXHAUSTED, id="gzip bomb"
        ),
        pytest.param(status(1, 7, b"no"), StatusCode.PERMISSION_DENIED, id="status 7"),
        pytest.param(status(1, 16), StatusCode.UNAUTHENTICATED, id="status 16"),
        pytest.param(
            answered(message(b"pong"))[:-1] + b"\x0d", StatusCode.INTERNAL, id="a reply, and 13"
        ),
    ],
)
async def test_a_bad_answer_fails_its_call(answer: bytes, code: StatusCode) -> None:
    async def script(peer: RawPeer) -> None:
        await take_call(peer)
        await peer.send(answer)
        await peer.read_until(lambda: peer.has(OPEN, 2))
        await peer.send(answered(message(b"pong"), 2))

    async with dial_hostile_server(script) as channel:
        with pytest.raises(CallFailedError) as failed:
            await ask(channel)
        assert failed.value.code is code
        assert channel.is_open
        assert await ask(channel) == b"pong"


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    ("cause", "why"), [(0, "reset by the other side"), (1, "refused before it was started")]
)
async def test_a_reset_of_any_cause_fails_its_call(cause: int, why: str) -> None:
    async def script(peer: RawPeer) -> None:
        await take_call(peer)
        await peer.send(reset(1, cause))

    async with dial_hostile_server(script) as channel:
        with pytest.raises(ConnectionLostError, match=f"^Ping was {why}$"):
            await ask(channel)
        assert channel.is_open


# --- servers that keep us waiting -----------------------------------------------------------------


@pytest.mark.fault(7, 42)
@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(reply(1) + data(1, message(b"pong")[:-1]), id="no end of a message"),
        pytest.param(reply(1) + data(1, message(b"pong")), id="no status"),
        pytest.param(reply(1) + frame(BYTES, 1, b"\0", length=9), id="no end of a frame"),
    ],
)
async def test_a_server_that_never_answers_is_told_of_the_end(said: bytes) -> None:
    told: list[bytes] = []

    async def script(peer: RawPeer) -> None:
        await take_call(peer)
        await peer.send(said)
        await peer.read_until(lambda: peer.has(RESET, 1))
        told.extend(peer.payloads(RESET, 1))

    async with dial_hostile_server(script) as channel:
        with pytest.raises(DeadlineExceededError):
            await ask(channel, 0.2)
        assert channel.is_open
    assert told == [b"\0"]


@pytest.mark.parametrize("said", [b"", PREFACE[:5], PREFACE, greeting(WINDOW, 1)[:-1]])
async def test_a_server_that_does_not_even_greet(said: bytes) -> None:
    async with dial_hostile_server(lambda peer: peer.send(said)) as channel:
        with pytest.raises(DeadlineExceededError):
            await ask(channel, 0.2)


@pytest.mark.fault(24)
async def test_a_server_that_opens_no_window() -> None:
    """A request that is never taken ends by its deadline; other calls are refused by its limit."""
    async with dial_hostile_server(lambda peer: take_call(peer, window=0, calls=1)) as channel:
        with pytest.raises(DeadlineExceededError):
            await ask(channel, 0.2)
        async with channel.open_stream(REQUEST_BY_STREAM, metadata={}):
            with pytest.raises(CallFailedError) as failed:
                await ask(channel, 0.2)
            assert failed.value.code is StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.fault(23)
async def test_a_server_that_takes_no_calls() -> None:
    """What it was asked before it said so is there; its answer counts."""

    async def script(peer: RawPeer) -> None:
        await peer.read_until(lambda: peer.has(OPEN, 1))
        await peer.send(greeting(WINDOW, 0))
        await peer.read_until(lambda: peer.has(END, 1))
        await peer.send(answered(message(b"pong")))

    async with dial_hostile_server(script) as channel:
        assert await ask(channel) == b"pong"
        with pytest.raises(CallFailedError, match="over 0 calls at once"):
            await ask(channel)
        assert channel.is_open


async def send_for_ever(stream: MessageStream) -> None:
    with trio.fail_after(PATIENCE_S):
        while True:
            await stream.send_many([bytes(64 * 1024)])


@pytest.mark.fault(25)
async def test_a_server_that_never_reads_is_left() -> None:
    async def script(peer: RawPeer) -> None:
        await take_call(peer, window=2**31 - 1)
        await trio.sleep_forever()

    async with (
        dial_hostile_server(script, replace(HURRIED, write_timeout_s=0.3)) as channel,
        channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
    ):
        with pytest.raises(ConnectionLostError, match=r"nothing was taken for 0\.3 s"):
            await send_for_ever(stream)
        assert not channel.is_open


@pytest.mark.fault(42, 44)
async def test_a_stream_left_early_is_reset() -> None:
    endings = Endings()

    async def script(peer: RawPeer) -> None:
        await take_call(peer)
        await peer.send(reply(1) + data(1, message(b"x")))
        await peer.read_until(lambda: peer.has(RESET, 1))
        await peer.send(data(1, bytes(60_000)) + credit(1, 9) + status(1))  # they crossed
        await peer.read_until(lambda: peer.has(OPEN, 2))
        await peer.send(answered(message(b"pong"), 2))
        endings.came(await peer.read_to_end())

    async with open_hostile_server(script) as endpoint:
        async with dial(endpoint) as channel:
            async with channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
                await stream.send_many([b"ping"])
                assert await stream.receive_many() == [b"x"]
            assert await ask(channel) == b"pong"
            assert channel.is_open
        ending = await endings.next()
    of_stream = [each.kind for each in ending.frames if each.call_id == 1]
    assert of_stream == [OPEN, BYTES, RESET]  # no credit for what nobody reads


# --- GOAWAY of a server ---------------------------------------------------------------------------


@pytest.mark.fault(26)
async def test_a_graceful_goaway_lets_what_is_in_flight_end() -> None:
    async def script(peer: RawPeer) -> None:
        await take_call(peer)
        await peer.send(goaway(1, "bye") + answered(message(b"pong")))

    async with dial_hostile_server(script) as channel:
        assert await ask(channel) == b"pong"
        assert not channel.is_open
        await channel.wait_draining()
        with pytest.raises(ConnectionLostError, match="the server takes no more calls: 'bye'"):
            await ask(channel)


@pytest.mark.fault(27)
async def test_a_goaway_fails_the_calls_that_the_server_never_saw() -> None:
    async def script(peer: RawPeer) -> None:
        await take_call(peer)
        await peer.send(goaway(0, "enough\r\n"))

    async with dial_hostile_server(script) as channel:
        with pytest.raises(ConnectionLostError, match=r"takes no more calls: 'enough\\r\\n'$"):
            await ask(channel)
        assert not channel.is_open


@pytest.mark.fault(27)
async def test_a_goaway_and_an_end_fail_what_is_in_flight() -> None:
    async def script(peer: RawPeer) -> None:
        await take_call(peer)
        await peer.read_until(lambda: peer.has(END, 1))  # else closing would reset
        await peer.send(goaway(1, "") + reply(1))
        await peer.stream.aclose()

    async with dial_hostile_server(script) as channel:
        with pytest.raises(ConnectionLostError, match="closed the connection"):
            await ask(channel)
        assert not channel.is_open


@pytest.mark.fault(26)
async def test_a_server_is_told_when_we_leave() -> None:
    endings = Endings()

    async def script(peer: RawPeer) -> None:
        await take_call(peer)
        await peer.send(reply(1) + data(1, message(b"x")))
        endings.came(await peer.read_to_end())

    async with open_hostile_server(script) as endpoint:
        async with (
            dial(endpoint) as channel,
            channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
        ):
            await stream.send_many([b"ping"])
            assert await stream.receive_many() == [b"x"]
        ending = await endings.next()
    assert ending.goaway == (0, "")
    assert not ending.was_reset
