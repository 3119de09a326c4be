"""Below the frames: connections that say nothing, too little or nonsense, and silent ends."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest
import trio

from aelf_p2p.core.errors import ConnectionLostError
from aelf_p2p.transports.grpc import GrpcTransport
from aelf_p2p.transports.tcp import TcpTransport
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM
from tests.transports.hostile.raw_connection import (
    PATIENCE_S,
    close_with_reset,
    connect_with_tls,
    message,
)
from tests.transports.hostile.target import HURRIED, Handlers, open_descriptors
from tests.transports.hostile.tcp.raw_tcp import (
    WINDOW,
    RawPeer,
    dial_hostile_server,
    open_target,
    request,
    take_call,
)
from tests.transports.tcp.by_hand import (
    BYTES,
    END,
    PREFACE,
    credit,
    data,
    end,
    frame,
    greeting,
    reply,
    settings,
)

IMPATIENT = replace(HURRIED, stranger_timeout_s=0.3, idle_timeout_s=0.4)
PREPARED_S = 0.2  # of those 0.3 s, what preparing a test may have taken
ALPN = "aelf-p2p"
GREETED = greeting(WINDOW, 0)


# --- ends without a word --------------------------------------------------------------------------


@pytest.mark.fault(1, 2)
@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_caller_that_is_gone_leaves_no_handler(how: str) -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        for call_id in (1, 2, 3):
            await peer.send(request(call_id, "echo", REQUEST_BY_STREAM))
        await peer.send(data(2, message(b"half a message")[:-3]))
        await peer.send(data(3, bytes(100))[:-50])
        await target.handlers.wait_until(lambda: target.handlers.running == 3)
        if how == "RST":
            close_with_reset(peer.socket)
        else:
            await peer.stream.aclose()
        await target.wait_no_handlers()
        # Which of the two meets a handler first is left to chance.
        assert len(target.handlers.errors) + target.handlers.cancelled == 3
        assert {type(error) for error in target.handlers.errors} <= {ConnectionLostError}
        assert target.faults == []


@pytest.mark.fault(1, 2, 29)
@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="before the answer"),
        pytest.param(reply(1) + data(1, message(b"pong")[:-2]), id="within the answer"),
        pytest.param(reply(1) + data(1, message(b"pong"))[:-2], id="within a frame"),
        pytest.param(reply(1) + data(1, message(b"pong")), id="before the status"),
    ],
)
async def test_a_server_that_is_gone_fails_the_call(how: str, said: bytes) -> None:
    async def script(peer: RawPeer) -> None:
        await take_call(peer)
        await peer.read_until(lambda: peer.has(END, 1))  # else closing would always reset
        await peer.send(said)
        if how == "RST":
            close_with_reset(peer.socket)
        else:
            await peer.stream.aclose()

    async with dial_hostile_server(script) as channel:
        with trio.fail_after(PATIENCE_S), pytest.raises(ConnectionLostError):
            await channel.call(PING, b"", metadata={}, timeout_s=2 * PATIENCE_S)
        assert not channel.is_open


# --- strangers who take their time ----------------------------------------------------------------


async def nothing(peer: RawPeer) -> None:
    """Say nothing at all."""


async def half_a_preface(peer: RawPeer) -> None:
    await peer.send(PREFACE[:5])


async def a_greeting(peer: RawPeer) -> None:
    await peer.send(GREETED)


async def half_a_frame(peer: RawPeer) -> None:
    await peer.send(GREETED, request(1)[:20])


async def calls_without_trust(peer: RawPeer) -> None:
    await peer.send(GREETED, request(1, "sleep"))


async def a_request_that_does_not_end(peer: RawPeer) -> None:
    await peer.send(GREETED, request(1), frame(BYTES, 1, b"\0\0", length=1_000))


@pytest.mark.fault(6)
@pytest.mark.parametrize(
    "say",
    [
        nothing,
        half_a_preface,
        a_greeting,
        half_a_frame,
        calls_without_trust,
        a_request_that_does_not_end,
    ],
)
async def test_a_stranger_has_its_time_and_no_more(
    say: Callable[[RawPeer], Awaitable[None]],
) -> None:
    async with open_target(IMPATIENT) as target, target.attacker() as peer:
        began = trio.current_time()
        await say(peer)
        ending = await peer.read_to_end()
        assert trio.current_time() - began > IMPATIENT.stranger_timeout_s - PREPARED_S
        assert ending.goaway[1] == ""
        await target.wait_no_handlers()
        assert target.faults == []


def byte_by_byte(what: bytes) -> list[bytes]:
    return [what[at : at + 1] for at in range(len(what))]


CALLED = GREETED + request(1, "echo")
SLOWLY: dict[str, tuple[bytes, list[bytes]]] = {
    "a greeting": (b"", byte_by_byte(GREETED)),
    "the beginning of a call": (GREETED, byte_by_byte(request(1))),
    "a frame": (CALLED, byte_by_byte(data(1, bytes(1_000)))),
    "a message": (CALLED, [data(1, each) for each in byte_by_byte(message(bytes(1_000)))]),
    "calls": (GREETED, [request(at) + end(at) for at in range(1, 100)]),
    "credit": (CALLED, [credit(1, 1)] * 100),
}
"""What is said at once, and what then comes bit by bit."""


@pytest.mark.fault(7)
@pytest.mark.parametrize("what", SLOWLY)
async def test_a_slow_loris_gains_no_time(what: str) -> None:
    at_once, slowly = SLOWLY[what]
    said_all = False
    async with open_target(IMPATIENT) as target, target.attacker() as peer:
        began = trio.current_time()

        async def trickle() -> None:
            nonlocal said_all
            with suppress(trio.BrokenResourceError):
                await peer.send(at_once)
                for piece in slowly:
                    await peer.send(piece)
                    await trio.sleep(0.02)
                said_all = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            ending = await peer.read_to_end()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began > IMPATIENT.stranger_timeout_s - PREPARED_S
        assert not said_all
        assert ending.goaway[1] == ""
        assert target.faults == []


async def test_one_who_proved_who_it_is_goes_when_it_is_idle() -> None:
    async with open_target(IMPATIENT) as target, target.greeted_attacker() as peer:
        await peer.send(request(1, "trust"), end(1))
        assert await peer.read_status(1) == (0, "")
        began = trio.current_time()
        ending = await peer.read_to_end()
        assert trio.current_time() - began > IMPATIENT.idle_timeout_s - PREPARED_S
        assert ending.goaway == (1, "")
        assert not ending.was_reset


# --- TLS ------------------------------------------------------------------------------------------


@pytest.mark.fault(8)
async def test_a_handshake_that_stalls_is_dropped() -> None:
    async with open_target(IMPATIENT, tls=True) as target, target.attacker() as peer:
        await peer.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # a hello's beginning
        ending = await peer.read_to_end()
        assert ending.frames == []


@pytest.mark.fault(9)
@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), GREETED])
async def test_what_is_no_tls_is_dropped_at_once(garbage: bytes) -> None:
    async with open_target(tls=True) as target, target.attacker() as peer:
        await peer.send(garbage)
        with trio.fail_after(PATIENCE_S):
            said = b""
            with suppress(trio.BrokenResourceError):
                while received := await peer.stream.receive_some():
                    said += received
        assert said[:1] in (b"", b"\x15")  # nothing, or a TLS alert


@pytest.mark.parametrize("alpn", [(), (ALPN,), ("h2",)])
async def test_a_caller_needs_no_alpn(alpn: tuple[str, ...]) -> None:
    async with (
        open_target(tls=True) as target,
        connect_with_tls(target.endpoint, *alpn) as stream,
    ):
        peer = RawPeer(stream)
        await peer.send(GREETED, request(1), end(1))
        assert await peer.read_status(1) == (0, "")


async def test_a_broken_frame_within_tls_ends_the_connection() -> None:
    async with (
        open_target(tls=True) as target,
        connect_with_tls(target.endpoint, ALPN) as stream,
    ):
        ending = await RawPeer(stream).attack([GREETED, settings(WINDOW, 0)])
        assert ending.goaway == (0, "SETTINGS twice")


@pytest.mark.fault(12)
async def test_a_hundred_probes_leave_nothing() -> None:
    """TLS, and gone."""
    async with open_target(tls=True) as target:
        async with connect_with_tls(target.endpoint):
            pass
        before = open_descriptors()
        for at in range(100):
            async with connect_with_tls(target.endpoint) as stream:
                if at % 2:
                    close_with_reset(stream.transport_stream.socket)
        with trio.fail_after(PATIENCE_S):
            while open_descriptors() > before:
                await target.ask_neighbour()
        assert target.faults == []


@pytest.mark.fault(10)
async def test_a_server_of_another_protocol_is_none_of_ours() -> None:
    """Within TLS it would get no further than our preface."""
    async with trio.open_nursery() as nursery:
        endpoint = await nursery.start(GrpcTransport().serve, "127.0.0.1", 0, Handlers())
        with pytest.raises(ConnectionLostError, match="did not agree on the protocol aelf-p2p"):
            async with TcpTransport().dial(endpoint, timeout_s=PATIENCE_S):
                pass
        nursery.cancel_scope.cancel()
