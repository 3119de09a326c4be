"""Random frames to both sides: every wait ends, and nothing but our own errors comes of it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import trio
from hypothesis import given, settings

from aelf_p2p import Endpoint, PureRpcTransport, WireLimits
from aelf_p2p.contracts import IncomingCall, RpcChannel
from aelf_p2p.core.errors import CallFailedError, TransportError
from aelf_p2p.core.errors import StatusCode as Code
from aelf_p2p.wire.methods import CHECK_HEALTH, PING, REQUEST_BY_STREAM, Method
from tests.transports.hostile.raw_connection import message
from tests.transports.hostile.raw_http2 import PREFACE, Headers, data, request_pairs
from tests.transports.hostile.test_fuzz import frames

CI = settings(max_examples=150, deadline=None)
LIMITS = WireLimits(goodbye_timeout_s=0.2, drain_timeout_s=0.1)
WAIT_S = 10.0


class Faults(logging.Handler):
    """What is logged as an error: a connection that failed by a fault of ours."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


@contextmanager
def no_faults() -> Iterator[None]:
    faults, log = Faults(), logging.getLogger("aelf_p2p")
    log.addHandler(faults)
    try:
        yield
    finally:
        log.removeHandler(faults)
    assert faults.records == []


async def handle(call: IncomingCall) -> None:
    """Reads and answers, trusts or refuses, as the method is."""
    if call.method == CHECK_HEALTH:
        raise CallFailedError(Code.NOT_FOUND, "refused")
    if call.method == REQUEST_BY_STREAM:
        call.stream.trust()
    while messages := await call.stream.receive_many():
        await call.stream.send_many(messages)


def begun() -> list[bytes]:
    """Three good calls: one is done, one goes on, one is refused."""
    headers = Headers()
    paths = [PING.path, REQUEST_BY_STREAM.path, CHECK_HEALTH.path]
    opened = [headers(2 * at + 1, request_pairs(path)) for at, path in enumerate(paths)]
    return [*opened, data(1, message(b"ping"), "END_STREAM"), data(3, message(b"more"))]


async def attack_server(sent: bytes) -> None:
    """Send, end our half, and read to the end of what is said."""
    transport = PureRpcTransport(limits=LIMITS, insecure=True)
    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            endpoint = await nursery.start(transport.serve, "127.0.0.1", 0, handle)
            async with await trio.open_tcp_stream(endpoint.host, endpoint.port) as stream:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(sent)
                    await stream.send_eof()
                    while await stream.receive_some():
                        pass
            nursery.cancel_scope.cancel()


async def attack_client(sent: bytes) -> None:
    """Answer the first bytes of a caller so, and end our half."""

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(trio.BrokenResourceError):
                await stream.receive_some()
                await stream.send_all(sent)
                await stream.send_eof()
                while await stream.receive_some():
                    pass

    async def call(channel: RpcChannel, method: Method) -> None:
        with suppress(TransportError):
            await channel.call(method, b"x", metadata={}, timeout_s=2 * WAIT_S)

    async def read(channel: RpcChannel) -> None:
        with suppress(TransportError):
            async with channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
                stream.trust()
                await stream.send_many([b"x"])
                while await stream.receive_many():
                    pass

    transport = PureRpcTransport(limits=LIMITS, insecure=True)
    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, answer, 0, host="127.0.0.1")
            [listener] = await nursery.start(serve)
            endpoint = Endpoint("127.0.0.1", listener.socket.getsockname()[1])
            async with (
                transport.dial(endpoint, timeout_s=WAIT_S) as channel,
                trio.open_nursery() as calls,
            ):
                calls.start_soon(call, channel, PING)
                calls.start_soon(call, channel, CHECK_HEALTH)
                calls.start_soon(read, channel)
            nursery.cancel_scope.cancel()


@CI
@given(frames())
def test_random_frames_to_a_server(sent: list[bytes]) -> None:
    with no_faults():
        trio.run(attack_server, b"".join([PREFACE, *sent]))


@CI
@given(frames())
def test_random_frames_to_a_server_with_calls(sent: list[bytes]) -> None:
    with no_faults():
        trio.run(attack_server, b"".join([PREFACE, *begun(), *sent]))


@CI
@given(frames())
def test_random_frames_to_a_client(sent: list[bytes]) -> None:
    with no_faults():
        trio.run(attack_client, b"".join(sent))
