"""How calls and connections end: by bad answers, deadlines, and peers that stall or vanish."""

import gzip
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio
from hyperframe.frame import GoAwayFrame, RstStreamFrame

from aelf_p2p import ConnectionLostError, DeadlineExceededError, Endpoint
from aelf_p2p.contracts import IncomingCall, MessageStream, RpcChannel
from aelf_p2p.core.errors import CallFailedError, StatusCode
from aelf_p2p.testing.conformance.harness import Witness
from aelf_p2p.transports.purerpc import PureRpcTransport, connection
from aelf_p2p.transports.purerpc.binding import Link
from aelf_p2p.wire.methods import PING, REQUEST_BLOCKS, REQUEST_BY_STREAM
from tests.transports.hostile.raw_connection import message
from tests.transports.hostile.raw_http2 import (
    RawPeer,
    answer_with,
    data,
    open_hostile_server,
    reply_pairs,
    request_pairs,
)
from tests.transports.purerpc.support import HURRIED, WAIT_S, echo, serving

# --- a server that speaks for itself --------------------------------------------------------------


@asynccontextmanager
async def dialed(answer: Callable[[RawPeer], bytes]) -> AsyncIterator[RpcChannel]:
    """A connection to a server that answers its first call so."""
    async with (
        open_hostile_server(partial(answer_with, answer=answer)) as endpoint,
        PureRpcTransport(limits=HURRIED, insecure=True).dial(endpoint, timeout_s=WAIT_S) as channel,
    ):
        yield channel


def trailers(peer: RawPeer, status: str = "0") -> bytes:
    return peer.headers(1, [("grpc-status", status)], end_stream=True)


def pong(peer: RawPeer) -> bytes:
    return peer.headers(1, reply_pairs()) + data(1, message(b"pong")) + trailers(peer)


async def ask(channel: RpcChannel) -> bytes:
    return await channel.call(PING, b"", metadata={}, timeout_s=WAIT_S)


async def test_a_reply_that_is_gzipped_as_csharp_does() -> None:
    block = bytes(range(256)) * 4096

    def answer(peer: RawPeer) -> bytes:
        headers = peer.headers(1, [*reply_pairs(), ("grpc-encoding", "gzip")])
        return headers + data(1, message(gzip.compress(block), compressed=1)) + trailers(peer)

    async with dialed(answer) as channel:
        reply = await channel.call(REQUEST_BLOCKS, b"", metadata={}, timeout_s=WAIT_S)
    assert reply == block


async def test_a_goaway_lets_what_is_in_flight_end() -> None:
    goaway = GoAwayFrame(0, last_stream_id=1, error_code=0).serialize()
    async with dialed(lambda peer: goaway + pong(peer)) as channel:
        assert await ask(channel) == b"pong"
        await channel.wait_draining()
        assert not channel.is_open
        with pytest.raises(ConnectionLostError, match="takes no more calls: 'NO_ERROR'"):
            await ask(channel)


async def test_a_goaway_fails_the_calls_that_the_server_never_saw() -> None:
    goaway = GoAwayFrame(0, last_stream_id=0, error_code=11, additional_data=b"too_many_pings")
    async with dialed(lambda peer: goaway.serialize()) as channel:
        with pytest.raises(ConnectionLostError, match="ENHANCE_YOUR_CALM: too_many_pings"):
            await ask(channel)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(lambda peer: RstStreamFrame(1, 8).serialize(), "reset by the other", id="RST"),
        pytest.param(
            lambda peer: peer.headers(1, reply_pairs()) + data(1, message(b"x"), "END_STREAM"),
            "ended without a status",
            id="no trailers",
        ),
        pytest.param(
            lambda peer: peer.headers(1, [(":status", "503")], end_stream=True),
            "malformed",
            id="HTTP 503",
        ),
        pytest.param(
            lambda peer: peer.headers(1, reply_pairs()) + trailers(peer, "x"),
            "malformed",
            id="no status",
        ),
        pytest.param(lambda peer: b"HTTP/1.1 400 \r\n\r\n", "broke the protocol", id="HTTP/1.1"),
    ],
)
async def test_a_bad_answer_ends_the_wait(answer: Callable[[RawPeer], bytes], why: str) -> None:
    async with dialed(answer) as channel:
        with pytest.raises(ConnectionLostError, match=why):
            await ask(channel)


async def test_an_unknown_status_is_unknown() -> None:
    def answer(peer: RawPeer) -> bytes:
        return peer.headers(1, reply_pairs()) + trailers(peer, "99")

    async with dialed(answer) as channel:
        with pytest.raises(CallFailedError) as caught:
            await ask(channel)
    assert caught.value.code is StatusCode.UNKNOWN


# --- a caller that speaks for itself --------------------------------------------------------------


@asynccontextmanager
async def calling(endpoint: Endpoint) -> AsyncIterator[RawPeer]:
    async with await trio.open_tcp_stream(endpoint.host, endpoint.port) as stream:
        peer = RawPeer(stream)
        await peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes.fromhex("000000040000000000"))
        yield peer


async def test_a_timeout_cancels_the_handler() -> None:
    witness = Witness()
    async with serving(witness) as endpoint, calling(endpoint) as peer:
        await peer.send(peer.headers(1, [*request_pairs(), ("grpc-timeout", "50m")]))
        assert await peer.read_status(1) == StatusCode.DEADLINE_EXCEEDED.value
        await witness.ended.wait()
        assert witness.cancelled


@pytest.mark.parametrize("path", ["/PeerService/Nothing", "/Other/Ping"])
async def test_an_unknown_method_is_unimplemented(path: str) -> None:
    async with serving(echo) as endpoint, calling(endpoint) as peer:
        await peer.send(peer.headers(1, request_pairs(path)), data(1, message(b"x")))
        assert await peer.read_status(1) == StatusCode.UNIMPLEMENTED.value
        await peer.send(peer.headers(3, request_pairs(), end_stream=True))
        assert await peer.read_status(3) == StatusCode.OK.value


async def test_a_window_of_http2s_own_size_may_be_filled_at_once() -> None:
    """A caller need not have read what window there is."""
    sent = message(bytes(65_535 - 5))
    pieces = [data(1, sent[at : at + 16_384]) for at in range(0, len(sent), 16_384)]
    async with serving(echo) as endpoint, calling(endpoint) as peer:
        await peer.send(peer.headers(1, request_pairs()), *pieces, data(1, b"", "END_STREAM"))
        assert await peer.read_status(1) == StatusCode.OK.value
        assert peer.body(1) == sent


async def test_calls_that_are_over_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    links: list[Link] = []

    def record(*arguments: Any, **settings: Any) -> Link:
        links.append(Link(*arguments, **settings))
        return links[-1]

    monkeypatch.setattr(connection, "Link", record)

    async def handle(call: IncomingCall) -> None:
        match call.metadata["do"]:
            case "refuse":
                raise CallFailedError(StatusCode.NOT_FOUND)
            case "sleep":
                await trio.sleep_forever()
            case "echo":
                await echo(call)

    async with (
        serving(handle) as endpoint,
        PureRpcTransport(insecure=True).dial(endpoint, timeout_s=WAIT_S) as channel,
    ):
        for do in ("refuse", "sleep", "echo", "answer nothing") * 5:
            with suppress(CallFailedError, DeadlineExceededError):
                timeout_s = 0.01 if do == "sleep" else WAIT_S
                await channel.call(PING, b"x", metadata={"do": do}, timeout_s=timeout_s)
            async with channel.open_stream(REQUEST_BY_STREAM, metadata={"do": do}) as stream:
                await stream.send_many([b"left early"])
        await channel.call(PING, b"x", metadata={"do": "echo"}, timeout_s=WAIT_S)
        assert sorted(link.client_side for link in links) == [False, True]
        for link in links:
            assert (link._streams, link._http2.message_read_buffers) == ({}, {})


# --- peers that stall or vanish -------------------------------------------------------------------


async def test_a_server_that_says_nothing() -> None:
    async def say_nothing(peer: RawPeer) -> None:
        await trio.sleep_forever()

    async with open_hostile_server(say_nothing) as endpoint:
        with pytest.raises(DeadlineExceededError):
            async with PureRpcTransport().dial(endpoint, timeout_s=0.1):
                pytest.fail("it connected")
        began_at = trio.current_time()
        async with PureRpcTransport(limits=HURRIED, insecure=True).dial(
            endpoint, timeout_s=WAIT_S
        ) as channel:
            with pytest.raises(DeadlineExceededError):
                await channel.call(PING, b"", metadata={}, timeout_s=0.1)
        assert trio.current_time() - began_at < WAIT_S / 2


async def send_for_ever(stream: MessageStream) -> None:
    while True:
        await stream.send_many([bytes(64 * 1024)])


async def test_a_server_that_reads_nothing_more() -> None:
    """Its window is wide open, but the bytes stay in its socket."""

    async def open_and_stop(peer: RawPeer) -> None:
        large = bytes.fromhex("0000060400000000000004 7fffffff")  # INITIAL_WINDOW_SIZE
        await peer.send(large, bytes.fromhex("000004080000000000 7f000000"))
        await trio.sleep_forever()

    async with open_hostile_server(open_and_stop) as endpoint:
        transport = PureRpcTransport(limits=HURRIED, insecure=True)
        async with (
            transport.dial(endpoint, timeout_s=WAIT_S) as channel,
            channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
        ):
            with pytest.raises(ConnectionLostError, match=r"nothing was taken for 0\.3 s"):
                await send_for_ever(stream)


PROGRAM = """
import sys, trio
from aelf_p2p import Endpoint, PureRpcTransport
from aelf_p2p.wire.methods import PING
async def serve():
    async def handle(call):
        print("called", flush=True)
        await trio.sleep_forever()
    async with trio.open_nursery() as nursery:
        endpoint = await nursery.start(PureRpcTransport().serve, "127.0.0.1", 0, handle)
        print(endpoint.port, flush=True)
async def call(port):
    async with PureRpcTransport().dial(Endpoint("127.0.0.1", port), timeout_s=10) as channel:
        await channel.call(PING, b"", metadata={}, timeout_s=60)
trio.run(serve) if sys.argv[1] == "serve" else trio.run(call, int(sys.argv[2]))
"""


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[trio.Process]:
    """A process of its own that serves, or calls; it is killed at the end."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    other = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    try:
        yield other
    finally:
        other.kill()
        with trio.CancelScope(shield=True):
            await other.wait()
            if other.stdout is not None:
                await other.stdout.aclose()


async def read_line(of: trio.Process) -> str:
    assert of.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        line += await of.stdout.receive_some(1)
    return line.decode().strip()


async def test_a_server_that_is_killed_ends_every_wait() -> None:
    with trio.fail_after(3 * WAIT_S):
        async with process("serve") as server:
            endpoint = Endpoint("127.0.0.1", int(await read_line(server)))
            async with PureRpcTransport().dial(endpoint, timeout_s=WAIT_S) as channel:
                async with (
                    channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
                    trio.open_nursery() as nursery,
                ):

                    async def wait_on(what: Callable[[], Awaitable[object]]) -> None:
                        with pytest.raises(ConnectionLostError):
                            await what()

                    nursery.start_soon(wait_on, stream.receive_many)
                    nursery.start_soon(wait_on, partial(ask, channel))
                    nursery.start_soon(wait_on, channel.wait_draining)
                    await read_line(server)
                    server.send_signal(signal.SIGKILL)
                assert not channel.is_open


async def test_a_caller_that_is_killed_cancels_its_handler() -> None:
    witness = Witness()
    async with (
        serving(witness, insecure=False) as endpoint,
        process("call", str(endpoint.port)) as caller,
    ):
        await witness.began.wait()
        caller.send_signal(signal.SIGKILL)
        await witness.ended.wait()
        assert witness.cancelled
