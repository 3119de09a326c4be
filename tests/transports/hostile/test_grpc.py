"""gRPC against its rules, to our server and to our client: each call fails with its own error."""

import gzip
from collections.abc import Callable

import pytest
import trio
from hyperframe.frame import GoAwayFrame, PushPromiseFrame, RstStreamFrame

from aelf_p2p.core.errors import (
    CallFailedError,
    ConnectionLostError,
    DeadlineExceededError,
    StatusCode,
)
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM
from tests.transports.hostile.raw_connection import PATIENCE_S, for_ever, message
from tests.transports.hostile.raw_http2 import (
    Pairs,
    RawPeer,
    answer_with,
    data,
    dial_hostile_server,
    frame,
    open_target,
    ping,
    reply_pairs,
    request_pairs,
    reset,
    settings,
)

CANCEL = 8  # RFC 9113 §7
GZIP: Pairs = [("grpc-encoding", "gzip")]
BOMB = gzip.compress(bytes(10 * 1024 * 1024))
"""10 KiB that become 10 MiB."""

# --- to our server --------------------------------------------------------------------------------


@pytest.mark.fault(32, 35, 36, 37)
@pytest.mark.parametrize(
    ("pairs", "body", "status"),
    [
        pytest.param([], b"\0\xff\xff\xff\xffxyz", 8, id="a message of 4 GiB announced"),
        pytest.param([], b"\0\0\1\0\1xyz", 8, id="a message just over 64 KiB announced"),
        pytest.param([], b"\2\0\0\0\0", 13, id="a flag that is none"),
        pytest.param([], b"\0\0\0\0\5abc", 13, id="an end inside a message"),
        pytest.param([], b"\0\0\0", 13, id="an end inside a prefix"),
        pytest.param([], message(gzip.compress(b"x"), 1), 13, id="gzip without an encoding"),
        pytest.param(
            [("grpc-encoding", "identity")],
            message(gzip.compress(b"x"), 1),
            13,
            id="gzip in the encoding identity",
        ),
        pytest.param(GZIP, message(gzip.compress(b"xyz")[:-3], 1), 13, id="truncated gzip"),
        pytest.param(GZIP, message(b"no gzip", 1), 13, id="what is no gzip"),
        pytest.param(GZIP, message(b"", 1), 13, id="gzip of no bytes at all"),
        pytest.param(GZIP, message(BOMB, 1), 8, id="gzip bomb"),
        pytest.param([("grpc-encoding", "br")], message(b""), 12, id="another encoding"),
        pytest.param([("grpc-timeout", "soon")], message(b""), 13, id="a timeout that is none"),
        pytest.param([("grpc-timeout", "0S")], message(b""), 4, id="a timeout of nothing"),
        pytest.param([("x-bin", "!!!")], message(b""), 13, id="a -bin that is not base64"),
        pytest.param([("x-bin", "AAAAA")], message(b""), 13, id="a -bin of the wrong length"),
    ],
)
async def test_a_bad_call_gets_its_status(pairs: Pairs, body: bytes, status: int) -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        await peer.send(peer.headers(1, [*request_pairs(), *pairs]), data(1, body, "END_STREAM"))
        assert await peer.read_status(1) == status
        # and the connection is none the worse for it
        await peer.send(peer.headers(3, request_pairs()), data(3, message(b"ping"), "END_STREAM"))
        assert await peer.read_status(3) == 0
        assert target.handlers.received == [b"ping"]


@pytest.mark.fault(40, 43)
@pytest.mark.parametrize(
    ("pairs", "http_status", "status"),
    [
        pytest.param(request_pairs("/PeerService/Nothing"), "200", 12, id="unknown method"),
        pytest.param(request_pairs("/aelf.PeerService/Ping"), "200", 12, id="another service"),
        pytest.param(request_pairs(content_type="text/html"), "415", 3, id="content type"),
        pytest.param([(":method", "GET"), *request_pairs()[1:]], "405", 13, id="GET"),
    ],
)
async def test_a_call_that_cannot_begin(pairs: Pairs, http_status: str, status: int) -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        await peer.send(peer.headers(1, pairs, end_stream=True))
        assert await peer.read_status(1) == status
        assert peer.last_block(1)[":status"] == http_status
        assert target.handlers.most_running == 0


@pytest.mark.fault(41)
async def test_a_timeout_cancels_the_handler() -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        await peer.send(peer.headers(1, [*request_pairs(do="sleep"), ("grpc-timeout", "50m")]))
        assert await peer.read_status(1) == StatusCode.DEADLINE_EXCEEDED.value
        assert (target.handlers.running, target.handlers.cancelled) == (0, 1)


@pytest.mark.fault(45)
async def test_nothing_of_a_handlers_exception_is_told(expected_logs: set[str]) -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        await peer.send(peer.headers(1, request_pairs(do="fail"), end_stream=True))
        assert await peer.read_status(1) == StatusCode.UNKNOWN.value
        assert "grpc-message" not in peer.last_block(1)
    expected_logs.add("the handler of Ping failed")


@pytest.mark.fault(39)
async def test_two_messages_in_a_unary_call_reach_the_handler_as_two() -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        await peer.send(peer.headers(1, request_pairs()))
        await peer.send(data(1, message(b"one") + message(b"two"), "END_STREAM"))
        assert await peer.read_status(1) == 0
        assert target.handlers.received == [b"one", b"two"]


async def test_the_end_of_a_refused_call_is_awaited_by_nobody() -> None:
    """RFC 9113 §8.1: a status before the request's end, and RST_STREAM with NO_ERROR."""
    async with open_target() as target, target.http2_attacker() as peer:
        await peer.send(peer.headers(1, request_pairs(do="refuse")))
        await peer.read_until(lambda: peer.has(RstStreamFrame, 1))
        assert await peer.read_status(1) == StatusCode.PERMISSION_DENIED.value
        [ended] = [each for each in peer.frames if isinstance(each, RstStreamFrame)]
        assert ended.error_code == 0
        await peer.send(*[data(1, message(b"late"))] * 200)  # still under way: no offence
        await peer.send(peer.headers(3, request_pairs(), end_stream=True))
        assert await peer.read_status(3) == 0


# --- to our client: the call fails ----------------------------------------------------------------

TIMEOUT_S = 5.0
Reply = Callable[[RawPeer], bytes]


def reply(*pairs: tuple[str, str | bytes], body: bytes = b"", status: str = "0") -> Reply:
    """Headers with ``pairs`` more, a body, and trailers with a status."""
    return lambda peer: (
        peer.headers(1, [*reply_pairs(), *pairs])
        + data(1, body)
        + peer.headers(1, [("grpc-status", status)], end_stream=True)
    )


def headers_alone(*pairs: tuple[str, str | bytes]) -> Reply:
    return lambda peer: peer.headers(1, list(pairs), end_stream=True)


OK_TRAILERS_ONLY = headers_alone(*reply_pairs(), ("grpc-status", "0"))  # type: ignore[arg-type]


@pytest.mark.fault(29, 32, 35, 36, 37)
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(headers_alone((":status", "404")), StatusCode.UNIMPLEMENTED, id="HTTP 404"),
        pytest.param(headers_alone((":status", "503")), StatusCode.UNAVAILABLE, id="HTTP 503"),
        pytest.param(headers_alone((":status", "999")), StatusCode.UNKNOWN, id="HTTP 999"),
        pytest.param(headers_alone((":status", "2x0")), StatusCode.INTERNAL, id="HTTP 2x0"),
        pytest.param(
            lambda peer: peer.headers(1, reply_pairs(content_type="text/html")),
            StatusCode.UNKNOWN,
            id="content type",
        ),
        pytest.param(
            lambda peer: peer.headers(1, [*reply_pairs(), ("x", b"\xff")]),
            StatusCode.INTERNAL,
            id="headers that are no text",
        ),
        pytest.param(OK_TRAILERS_ONLY, StatusCode.INTERNAL, id="no reply"),
        pytest.param(reply(body=message(b"a") * 2), StatusCode.INTERNAL, id="two replies"),
        pytest.param(reply(body=b"\0\0\0\0\2a"), StatusCode.INTERNAL, id="half a reply"),
        pytest.param(reply(body=b"\7\0\0\0\1a"), StatusCode.INTERNAL, id="a flag that is none"),
        pytest.param(
            reply(body=b"\0\xff\xff\xff\xff"), StatusCode.RESOURCE_EXHAUSTED, id="4 GiB announced"
        ),
        pytest.param(
            reply(body=message(gzip.compress(b"a"), 1)),
            StatusCode.INTERNAL,
            id="gzip without an encoding",
        ),
        pytest.param(
            reply(("grpc-encoding", "zip"), body=message(b"a", 1)),
            StatusCode.INTERNAL,
            id="an encoding that we do not have",
        ),
        pytest.param(
            reply(("grpc-encoding", "gzip"), body=message(gzip.compress(b"a")[:-1], 1)),
            StatusCode.INTERNAL,
            id="truncated gzip",
        ),
        pytest.param(
            reply(("grpc-encoding", "gzip"), body=message(BOMB, 1)),
            StatusCode.RESOURCE_EXHAUSTED,
            id="gzip bomb",
        ),
        pytest.param(reply(status="99"), StatusCode.UNKNOWN, id="status 99"),
        pytest.param(reply(status="-1"), StatusCode.UNKNOWN, id="status -1"),
        pytest.param(reply(status="x"), StatusCode.UNKNOWN, id="status x"),
        pytest.param(reply(status="7"), StatusCode.PERMISSION_DENIED, id="status 7"),
        pytest.param(
            lambda peer: peer.headers(1, reply_pairs()) + data(1, message(b"a"), "END_STREAM"),
            StatusCode.INTERNAL,
            id="no trailers",
        ),
        pytest.param(
            lambda peer: (
                peer.headers(1, reply_pairs()) + peer.headers(1, [("x", "y")], end_stream=True)
            ),
            StatusCode.INTERNAL,
            id="trailers without a status",
        ),
        pytest.param(
            lambda peer: peer.headers(1, reply_pairs(), end_stream=True),
            StatusCode.INTERNAL,
            id="headers without a status",
        ),
    ],
)
async def test_a_bad_answer_fails_its_call(answer: Reply, code: StatusCode) -> None:
    async def script(peer: RawPeer) -> None:
        await answer_with(peer, answer)
        await peer.read_until(lambda: 3 in peer.blocks)
        await peer.send(peer.headers(3, reply_pairs()), data(3, message(b"pong")))
        await peer.send(peer.headers(3, [("grpc-status", "0")], end_stream=True))

    async with dial_hostile_server(script) as channel:
        with pytest.raises(CallFailedError) as failed:
            await channel.call(PING, b"", metadata={}, timeout_s=TIMEOUT_S)
        assert failed.value.code is code
        assert channel.is_open
        assert await channel.call(PING, b"", metadata={}, timeout_s=TIMEOUT_S) == b"pong"


async def test_informational_headers_are_passed_over() -> None:
    def answer(peer: RawPeer) -> bytes:
        early = peer.headers(1, [(":status", "100")]) + peer.headers(1, [(":status", "103")])
        return early + reply(body=message(b"pong"))(peer)

    async with dial_hostile_server(lambda peer: answer_with(peer, answer)) as channel:
        assert await channel.call(PING, b"", metadata={}, timeout_s=TIMEOUT_S) == b"pong"


@pytest.mark.fault(28)
@pytest.mark.parametrize("code", [*range(14), 0xDEAD])
async def test_a_reset_of_any_code_fails_its_call(code: int) -> None:
    async with dial_hostile_server(
        lambda peer: answer_with(peer, lambda _: reset(1, code))
    ) as channel:
        with pytest.raises(ConnectionLostError, match="reset by the other side"):
            await channel.call(PING, b"", metadata={}, timeout_s=TIMEOUT_S)
        assert channel.is_open


# --- to our client: the connection ends -----------------------------------------------------------


def pushed(peer: RawPeer) -> bytes:
    block = peer.headers.encoder.encode(request_pairs())
    return PushPromiseFrame(1, 2, block, flags=["END_HEADERS"]).serialize()


@pytest.mark.fault(31)
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda peer: bytes(range(256)) * 8, id="garbage"),
        pytest.param(lambda peer: b"HTTP/1.1 400 Bad Request\r\n\r\n", id="HTTP/1.1"),
        pytest.param(pushed, id="a push"),
        pytest.param(lambda peer: peer.headers(2, request_pairs()), id="a call by the server"),
        pytest.param(lambda peer: peer.headers(3, reply_pairs()), id="an answer to no call"),
        pytest.param(lambda peer: data(1, message(b"")), id="DATA before headers"),
        pytest.param(
            lambda peer: peer.headers(1, [*reply_pairs(), ("x", "y" * 17_000)]),
            id="headers over 16 KiB",
        ),
        pytest.param(
            lambda peer: peer.headers(1, [(f"x{at}", "") for at in range(500)]),
            id="many headers",
        ),
        pytest.param(
            lambda peer: peer.headers(1, reply_pairs()) + peer.headers(1, [("grpc-status", "0")]),
            id="trailers that end nothing",
        ),
        pytest.param(
            lambda peer: peer.headers(1, [(":status", "100")], end_stream=True),
            id="an informational end",
        ),
        pytest.param(lambda peer: frame(0, 0, 1, length=0xFFFFFF), id="a frame of 16 MiB"),
        pytest.param(lambda peer: b"".join(ping() for _ in range(200)), id="PINGs"),
        pytest.param(lambda peer: settings() * 200, id="SETTINGS"),
        pytest.param(
            lambda peer: peer.headers(1, reply_pairs()) + data(1, b"") * 200, id="empty DATA"
        ),
        pytest.param(lambda peer: reset(1) * 25_000, id="resets"),
    ],
)
async def test_a_server_that_breaks_a_rule_is_left(answer: Reply) -> None:
    told: list[int] = []

    async def script(peer: RawPeer) -> None:
        await answer_with(peer, answer)
        ending = await peer.read_to_end()
        told.append(ending.goaway.error_code)

    async with dial_hostile_server(script) as channel:
        with pytest.raises(ConnectionLostError):
            await channel.call(PING, b"", metadata={}, timeout_s=TIMEOUT_S)
        with trio.fail_after(PATIENCE_S):
            while channel.is_open:  # the call may be over a moment before its connection
                await trio.lowlevel.checkpoint()
    assert told != [0]


@pytest.mark.fault(42)
async def test_a_server_that_never_answers_is_told_of_the_end() -> None:
    told: list[int] = []

    async def script(peer: RawPeer) -> None:
        await peer.send(settings())
        await peer.read_until(lambda: peer.has(RstStreamFrame, 1))
        told.extend(each.error_code for each in peer.frames if isinstance(each, RstStreamFrame))

    async with dial_hostile_server(script) as channel:
        with trio.fail_after(TIMEOUT_S), pytest.raises(DeadlineExceededError):
            await channel.call(PING, b"", metadata={}, timeout_s=0.2)
    assert told == [CANCEL]


async def test_a_server_that_does_not_even_greet() -> None:
    async def script(peer: RawPeer) -> None:
        """Say nothing."""

    async with dial_hostile_server(script) as channel:
        with trio.fail_after(TIMEOUT_S), pytest.raises(DeadlineExceededError):
            await channel.call(PING, b"", metadata={}, timeout_s=0.2)


async def test_a_server_that_opens_no_window() -> None:
    """A request that is never taken ends by its deadline; other calls are refused by its limit."""
    async with dial_hostile_server(lambda peer: peer.send(settings((4, 0), (3, 1)))) as channel:
        with trio.fail_after(TIMEOUT_S), pytest.raises(DeadlineExceededError):
            await channel.call(PING, bytes(100_000), metadata={}, timeout_s=0.2)
        async with channel.open_stream(REQUEST_BY_STREAM, metadata={}):
            with pytest.raises(CallFailedError) as failed:
                await channel.call(PING, b"", metadata={}, timeout_s=0.2)
            assert failed.value.code is StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.fault(42, 44)
async def test_a_stream_left_early_is_reset() -> None:
    left = trio.Event()

    async def script(peer: RawPeer) -> None:
        await answer_with(
            peer, lambda peer: peer.headers(1, reply_pairs()) + data(1, message(b"x"))
        )
        await peer.read_until(lambda: peer.has(RstStreamFrame, 1))
        left.set()
        await peer.send_while_taken(for_ever(lambda at: data(1, b"123456789")))

    async with dial_hostile_server(script) as channel:
        async with channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
            await stream.send_many([b"ping"])
            assert await stream.receive_many() == [b"x"]
        with trio.fail_after(PATIENCE_S):
            await left.wait()


# --- GOAWAY of a server ---------------------------------------------------------------------------


@pytest.mark.fault(26)
async def test_a_graceful_goaway_lets_what_is_in_flight_end() -> None:
    async def script(peer: RawPeer) -> None:
        goaway = GoAwayFrame(0, last_stream_id=1, error_code=0).serialize()
        await answer_with(peer, lambda peer: goaway + reply(body=message(b"pong"))(peer))

    async with dial_hostile_server(script) as channel:
        assert await channel.call(PING, b"", metadata={}, timeout_s=TIMEOUT_S) == b"pong"
        assert not channel.is_open
        with pytest.raises(ConnectionLostError):
            await channel.call(PING, b"", metadata={}, timeout_s=TIMEOUT_S)


@pytest.mark.fault(27)
async def test_a_goaway_fails_the_calls_that_the_server_never_saw() -> None:
    goaway = GoAwayFrame(0, last_stream_id=0, error_code=11, additional_data=b"too_many_pings")
    async with dial_hostile_server(
        lambda peer: answer_with(peer, lambda _: goaway.serialize())
    ) as channel:
        with pytest.raises(ConnectionLostError, match="ENHANCE_YOUR_CALM: too_many_pings"):
            await channel.call(PING, b"", metadata={}, timeout_s=TIMEOUT_S)
        assert not channel.is_open


@pytest.mark.fault(27)
async def test_a_goaway_and_an_end_fail_what_is_in_flight() -> None:
    async def script(peer: RawPeer) -> None:
        await answer_with(
            peer, lambda _: GoAwayFrame(0, last_stream_id=1, error_code=2).serialize()
        )
        await peer.stream.aclose()

    async with dial_hostile_server(script) as channel:
        with pytest.raises(ConnectionLostError):
            await channel.call(PING, b"", metadata={}, timeout_s=TIMEOUT_S)
        assert not channel.is_open
