"""Below HTTP/2: connections that say nothing, too little or nonsense, and ends without a word."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import count

import pytest
import trio
from hyperframe.frame import GoAwayFrame

from aelf_p2p.core.budgets import Rate
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import ConnectionLostError
from aelf_p2p.transports.grpc import GrpcTransport
from aelf_p2p.transports.net import sockets
from aelf_p2p.transports.net.tls import process_identity
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM
from tests.transports.hostile.raw_connection import (
    PATIENCE_S,
    close_with_reset,
    connect_with_tls,
    message,
)
from tests.transports.hostile.raw_http2 import (
    PREFACE,
    Headers,
    RawPeer,
    Target,
    answer_with,
    data,
    dial_hostile_server,
    open_target,
    ping,
    reply_pairs,
    request_pairs,
    settings,
)
from tests.transports.hostile.target import HURRIED, open_descriptors

IMPATIENT = replace(HURRIED, stranger_timeout_s=0.3, idle_timeout_s=0.4)
PREPARED_S = 0.2  # of those 0.3 s, what preparing a test may have taken


@asynccontextmanager
async def tls_attacker(target: Target, *alpn: str) -> AsyncIterator[RawPeer]:
    """A TLS client that checks nothing."""
    async with connect_with_tls(target.endpoint, *alpn) as stream:
        yield RawPeer(stream)


# --- ends without a word --------------------------------------------------------------------------


@pytest.mark.fault(1, 2)
@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_caller_that_is_gone_leaves_no_handler(how: str) -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        for call_id in (1, 3, 5):
            await peer.send(peer.headers(call_id, request_pairs(REQUEST_BY_STREAM.path, do="echo")))
        await peer.send(data(5, message(b"half a message")[:-3]))
        await target.handlers.wait_until(lambda: target.handlers.running == 3)
        if how == "RST":
            close_with_reset(peer.socket)
        else:
            await peer.stream.aclose()
        await target.wait_no_handlers()
        # Which of the two meets a handler first is left to chance.
        assert len(target.handlers.errors) + target.handlers.cancelled == 3
        assert {type(error) for error in target.handlers.errors} <= {ConnectionLostError}


@pytest.mark.fault(1, 2)
@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("when", ["before the answer", "within the answer"])
async def test_a_server_that_is_gone_fails_the_call(
    how: str, when: str, record_property: Callable[[str, object], None]
) -> None:
    gone_at = math.inf

    async def script(peer: RawPeer) -> None:
        nonlocal gone_at
        half = peer.headers(1, reply_pairs()) + data(1, message(b"pong"))[:-2]
        await answer_with(peer, lambda _: half if when == "within the answer" else b"")
        gone_at = trio.current_time()
        if how == "RST":
            close_with_reset(peer.socket)
        else:
            await peer.stream.aclose()

    async with dial_hostile_server(script) as channel:
        with trio.fail_after(5), pytest.raises(ConnectionLostError):
            await channel.call(PING, b"", metadata={}, timeout_s=5)
        record_property("the call failed after", f"{(trio.current_time() - gone_at) * 1000:.1f} ms")
        assert not channel.is_open


# --- strangers who take their time ----------------------------------------------------------------


async def nothing(peer: RawPeer) -> None:
    """Say nothing at all."""


async def greeting(peer: RawPeer) -> None:
    await peer.send(PREFACE, settings())


async def half_a_frame(peer: RawPeer) -> None:
    await peer.send(PREFACE, settings(), data(1, bytes(1000))[:500])


async def calls_without_trust(peer: RawPeer) -> None:
    await peer.send(PREFACE, settings(), peer.headers(1, request_pairs(do="sleep")))


@pytest.mark.fault(6)
@pytest.mark.parametrize("say", [nothing, greeting, half_a_frame, calls_without_trust])
async def test_a_stranger_has_its_time_and_no_more(
    say: Callable[[RawPeer], Awaitable[None]],
) -> None:
    async with open_target(IMPATIENT) as target, target.attacker() as peer:
        began = trio.current_time()
        await say(peer)
        ending = await peer.read_to_end()
        assert trio.current_time() - began > IMPATIENT.stranger_timeout_s - PREPARED_S
        assert ending.goaway.error_code == 0
        await target.wait_no_handlers()


SLOWLY: dict[str, bytes] = {
    "the preface": PREFACE,
    "a header block": PREFACE + settings() + Headers()(1, request_pairs()),
    "pings": PREFACE + settings() + ping() * 20,
}


@pytest.mark.fault(7)
@pytest.mark.parametrize("what", SLOWLY)
async def test_a_slow_loris_gains_no_time(what: str) -> None:
    said_all = False
    async with open_target(IMPATIENT) as target, target.attacker() as peer:

        async def trickle() -> None:
            nonlocal said_all
            with suppress(trio.BrokenResourceError):
                for at in range(len(SLOWLY[what])):
                    await peer.send(SLOWLY[what][at : at + 1])
                    await trio.sleep(0.02)
                said_all = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            await peer.read_to_end()
            nursery.cancel_scope.cancel()
        assert not said_all


async def test_one_who_proved_who_it_is_goes_when_it_is_idle() -> None:
    async with open_target(IMPATIENT) as target, target.http2_attacker() as peer:
        await peer.send(peer.headers(1, request_pairs(do="trust"), end_stream=True))
        assert await peer.read_status(1) == 0
        began = trio.current_time()
        ending = await peer.read_to_end()
        assert trio.current_time() - began > IMPATIENT.idle_timeout_s - PREPARED_S
        assert ending.goaway.error_code == 0
        assert not ending.was_reset


# --- too many of them -----------------------------------------------------------------------------


async def test_of_too_many_strangers_the_oldest_goes() -> None:
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(open_target(replace(HURRIED, max_strangers=3)))
        peers = [await stack.enter_async_context(target.http2_attacker()) for _ in range(5)]
        for oldest in peers[:2]:
            assert (await oldest.read_to_end()).goaway.error_code == 0
        for each in peers[2:]:
            await each.send(each.headers(1, request_pairs(), end_stream=True))
            assert await each.read_status(1) == 0
            assert not each.has(GoAwayFrame, 0)


async def test_connections_over_the_most_are_closed_at_once() -> None:
    async with open_target(replace(HURRIED, max_connections=2)) as target:
        async with target.http2_attacker(), target.attacker() as refused:
            ending = await refused.read_to_end()
            assert ending.frames == []
        with trio.fail_after(PATIENCE_S):
            while not await is_greeted(target):  # the place is free again a moment later
                pass


async def test_a_host_that_connects_too_often_is_closed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loopback is exempt, so callers are given another host: that of the documentation."""
    elsewhere = count(1)
    monkeypatch.setattr(
        sockets, "caller_of", lambda stream: Endpoint("192.0.2.1", 1000 + next(elsewhere))
    )
    limits = replace(HURRIED, connections_per_host=Rate(4, 0.001))
    async with open_target(limits) as target:  # the neighbour's is the first
        for _ in range(3):
            assert await is_greeted(target)
        for _ in range(3):
            assert not await is_greeted(target)
        assert target.faults == []


async def is_greeted(target: Target) -> bool:
    async with target.attacker() as peer:
        try:
            await peer.send(PREFACE, settings())
            return await peer.read_some()
        except trio.BrokenResourceError:
            return False


# --- TLS ------------------------------------------------------------------------------------------


@pytest.mark.fault(8)
async def test_a_handshake_that_stalls_is_dropped() -> None:
    async with open_target(IMPATIENT, insecure=False) as target, target.attacker() as peer:
        await peer.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # a hello's beginning
        ending = await peer.read_to_end()
        assert ending.frames == []


@pytest.mark.fault(9)
@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), PREFACE + settings()])
async def test_what_is_no_tls_is_dropped_at_once(garbage: bytes) -> None:
    async with open_target(insecure=False) as target, target.attacker() as peer:
        await peer.send(garbage)
        with trio.fail_after(PATIENCE_S):
            said = b""
            with suppress(trio.BrokenResourceError):
                while received := await peer.stream.receive_some():
                    said += received
        assert said[:1] in (b"", b"\x15")  # nothing, or a TLS alert


@pytest.mark.parametrize("alpn", [(), ("h2",), ("http/1.1",)])
async def test_a_caller_needs_no_alpn(alpn: tuple[str, ...]) -> None:
    async with open_target(insecure=False) as target, tls_attacker(target, *alpn) as peer:
        await peer.send(PREFACE, settings(), peer.headers(1, request_pairs(), end_stream=True))
        assert await peer.read_status(1) == 0


async def test_a_broken_frame_within_tls_ends_the_connection() -> None:
    async with open_target(insecure=False) as target, tls_attacker(target, "h2") as peer:
        ending = await peer.attack([PREFACE, settings(), b"\xff" * 9])
        assert ending.goaway.error_code == 11


@pytest.mark.fault(12)
async def test_a_hundred_probes_leave_nothing() -> None:
    """As C# dialers do before each dial: TLS, and gone (protocol §3)."""
    async with open_target(insecure=False) as target:
        async with tls_attacker(target):
            pass
        before = open_descriptors()
        for at in range(100):
            async with tls_attacker(target) as peer:
                if at % 2:
                    close_with_reset(peer.stream.transport_stream.socket)  # type: ignore[attr-defined]
        with trio.fail_after(PATIENCE_S):
            while open_descriptors() > before:
                await target.ask_neighbour()


def listen(
    serve: Callable[[trio.SocketStream], Awaitable[object]],
) -> Callable[..., Awaitable[object]]:
    return partial(trio.serve_tcp, serve, 0, host="127.0.0.1")


async def say_hello(stream: trio.SocketStream) -> None:
    await stream.send_all(b"220 hello\r\n")


@asynccontextmanager
async def tls_server(*alpn: str) -> AsyncIterator[Endpoint]:
    """Shakes hands as TLS, and says no more."""
    context = process_identity().server_context(alpn)

    async def serve(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        with suppress(trio.BrokenResourceError):
            await tls.receive_some()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(listen(serve))
        yield Endpoint("127.0.0.1", listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


@pytest.mark.fault(10)
async def test_a_server_without_alpn_is_no_grpc_server() -> None:
    async with tls_server() as endpoint:
        with pytest.raises(ConnectionLostError, match="did not agree on the protocol h2"):
            async with GrpcTransport().dial(endpoint, timeout_s=PATIENCE_S):
                pass


async def test_a_server_that_is_no_tls_server() -> None:
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(listen(say_hello))
        endpoint = Endpoint("127.0.0.1", listener.socket.getsockname()[1])
        with pytest.raises(ConnectionLostError, match="no TLS with"):
            async with GrpcTransport().dial(endpoint, timeout_s=PATIENCE_S):
                pass
        nursery.cancel_scope.cancel()
