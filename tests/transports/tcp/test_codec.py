"""The rules of the tcp transport: two codecs back to back, and one against frames made by hand."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aelf_p2p.core.budgets import Rate
from aelf_p2p.core.errors import (
    CallFailedError,
    ConnectionLostError,
    MalformedError,
    MisuseError,
    ProtocolViolationError,
    StatusCode,
)
from aelf_p2p.transports.net.codec import (
    BytesReceived,
    CallOpened,
    CallReset,
    Draining,
    Event,
    ReplyBegan,
    RequestEnded,
    StatusReceived,
    WindowOpened,
)
from aelf_p2p.transports.net.connection import READ_BYTES
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.tcp import frames
from aelf_p2p.transports.tcp.codec import FrameCodec
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM
from tests.transports.tcp.by_hand import (
    BYTES,
    CREDIT,
    END,
    GOAWAY,
    OPEN,
    REPLY,
    RESET,
    SETTINGS,
    STATUS,
    frame,
    goaway,
    greeting,
    opening,
    u32,
)

LIMITS = WireLimits(call_window_bytes=1000, trusted_call_window_bytes=5000, stranger_bytes=2500)
NOW = 50.0


def feed(codec: FrameCodec, data: bytes, now: float = NOW) -> list[Event]:
    events: list[Event] = []
    for at in range(0, len(data), READ_BYTES):
        received = codec.receive_untrusted(data[at : at + READ_BYTES], now)
        events += [event for event in received if event is not None]
    return events


def new_server(limits: WireLimits = LIMITS) -> FrameCodec:
    """A server that a client with a window of 1000 bytes has greeted."""
    server = FrameCodec(is_client=False, limits=limits)
    assert feed(server, greeting(1000, 0)) == []
    server.data_to_send()
    return server


def new_client(limits: WireLimits = LIMITS) -> FrameCodec:
    """A client that a server with a window of 1000 bytes, for 3 calls, has greeted."""
    client = FrameCodec(is_client=True, limits=limits)
    assert feed(client, greeting(1000, 3)) == [WindowOpened(None)]
    client.data_to_send()
    return client


def serving(limits: WireLimits = LIMITS) -> FrameCodec:
    """A server with call 1 open."""
    server = new_server(limits)
    assert len(feed(server, opening(1))) == 1
    return server


def calling(limits: WireLimits = LIMITS) -> FrameCodec:
    """A client with call 1 open, whose server has begun its half."""
    client = new_client(limits)
    assert client.open_call(PING, {}, None) == 1
    client.data_to_send()
    assert feed(client, frame(REPLY, 1, b"\x00")) == [ReplyBegan(1, "identity")]
    return client


# --- a call ---------------------------------------------------------------------------------------


def test_a_call_as_bytes_and_events() -> None:
    client = FrameCodec(is_client=True, limits=LIMITS)
    server = FrameCodec(is_client=False, limits=replace(LIMITS, max_calls=7))
    assert client.data_to_send() == greeting(1000, 0)
    assert server.data_to_send() == greeting(1000, 7)
    feed(client, greeting(1000, 7))
    feed(server, greeting(1000, 0))

    assert client.open_call(REQUEST_BY_STREAM, {"k": "v", "k-bin": b"\x00"}, 2.5) == 1
    client.send(1, b"hello")
    client.end_request(1)
    wire = client.data_to_send()
    opened = b"\x01\x00\x00\x09\xc4\x1c/PeerService/RequestByStream" + (
        b"\x01k\x00\x01v" + b"\x05k-bin\x00\x01\x00"
    )
    assert wire == frame(OPEN, 1, opened) + frame(BYTES, 1, b"hello") + frame(END, 1)
    assert feed(server, wire) == [
        CallOpened(1, REQUEST_BY_STREAM, {"k": "v", "k-bin": b"\x00"}, 2.5, "identity", True),
        BytesReceived(1, b"hello", 5),
        RequestEnded(1),
    ]

    server.begin_reply(1, gzip=True)
    server.send(1, memoryview(b"world"))
    server.end_reply(1, StatusCode.NOT_FOUND, "no")
    wire = server.data_to_send()
    ended = frame(STATUS, 1, b"\x05no")
    assert wire == frame(REPLY, 1, b"\x01") + frame(BYTES, 1, b"world") + ended
    assert feed(client, wire) == [
        ReplyBegan(1, "gzip"),
        BytesReceived(1, b"world", 5),
        StatusReceived(1, StatusCode.NOT_FOUND, "no"),
    ]
    assert client.data_to_send() == server.data_to_send() == b""


def test_a_caller_may_refuse_gzip() -> None:
    path = b"/PeerService/Ping"
    opened = frame(OPEN, 1, b"\x00" + u32(0) + bytes([len(path)]) + path)
    assert feed(new_server(), opened) == [CallOpened(1, PING, {}, None, "identity", False)]


def test_large_data_is_sent_in_frames_of_32_kib() -> None:
    limits = WireLimits()
    server = FrameCodec(is_client=False, limits=limits)
    feed(server, greeting(200_000, 0) + opening(1))
    server.begin_reply(1, gzip=False)
    server.data_to_send()
    data = bytes(range(256)) * 257  # 65,792 bytes
    server.send(1, memoryview(data))
    assert server.data_to_send() == (
        frame(BYTES, 1, data[:32768])
        + frame(BYTES, 1, data[32768:65536])
        + frame(BYTES, 1, data[65536:])
    )


def test_what_was_sent_is_ours_no_more_than_its_owners() -> None:
    client = calling()
    buffer = bytearray(b"before")
    client.send(1, memoryview(buffer))
    buffer[:] = b"after, and longer"
    assert client.data_to_send() == frame(BYTES, 1, b"before")


def test_nothing_is_sent_of_nothing() -> None:
    client = calling()
    client.send(1, b"")
    assert client.data_to_send() == b""


def test_repeated_commands_have_no_effect() -> None:
    client, server = calling(), serving()
    for _ in range(2):
        client.end_request(1)
        server.begin_reply(1, gzip=False)
    assert client.data_to_send() == frame(END, 1)
    assert server.data_to_send() == frame(REPLY, 1, b"\x00")


def test_metadata_that_cannot_be_sent_open_no_call() -> None:
    client = new_client()
    with pytest.raises(MisuseError, match="key 'Key'"):
        client.open_call(PING, {"Key": "v"}, None)
    assert client.data_to_send() == b""
    assert client.open_call(PING, {}, None) == 1


# --- the end of a call ----------------------------------------------------------------------------


def test_a_call_that_is_over_takes_no_commands() -> None:
    server, client = serving(), calling()
    server.end_reply(1, StatusCode.OK, "")
    client.reset(1)
    assert server.data_to_send() == frame(STATUS, 1, b"\x00")
    assert client.data_to_send() == frame(RESET, 1, b"\x00")
    for codec in (server, client):
        assert codec.send_window(1) == 0
        codec.send(1, b"late")
        codec.end_request(1)
        codec.begin_reply(1, gzip=False)
        codec.end_reply(1, StatusCode.OK, "")
        codec.reset(1)
        codec.trust(1)
        assert codec.data_to_send() == b""


def test_what_crosses_the_end_of_a_call_is_ignored() -> None:
    server = serving()
    server.end_reply(1, StatusCode.CANCELLED, "early")
    in_flight = frame(BYTES, 1, b"x" * 1000) + frame(CREDIT, 1, u32(5)) + frame(END, 1)
    assert feed(server, in_flight + frame(RESET, 1, b"\x00")) == []
    client = calling()
    client.reset(1)
    in_flight = frame(REPLY, 1, b"\x00") + frame(BYTES, 1, b"x" * 1000)
    assert feed(client, in_flight + frame(CREDIT, 1, u32(5)) + frame(STATUS, 1, b"\x00")) == []


def test_a_call_ends_within_a_frame_of_its_bytes() -> None:
    server = serving()
    wire = frame(BYTES, 1, b"abcdef")
    assert feed(server, wire[:-3]) == [BytesReceived(1, b"abc", 3)]
    server.reset(1)
    assert feed(server, wire[-3:] + opening(2))[0] == CallOpened(
        2, PING, {}, None, "identity", True
    )


@pytest.mark.parametrize(
    ("cause", "why"),
    [(b"\x00", "reset by the other side"), (b"\x01", "refused before it was started")],
)
def test_a_reset_says_why(cause: bytes, why: str) -> None:
    for codec in (serving(), calling()):
        assert feed(codec, frame(RESET, 1, cause)) == [CallReset(1, why)]
        assert codec.send_window(1) == 0


def test_a_status_needs_no_half() -> None:
    client = new_client()
    client.open_call(PING, {}, None)
    assert feed(client, frame(STATUS, 1, b"\x10who")) == [
        StatusReceived(1, StatusCode.UNAUTHENTICATED, "who")
    ]


# --- windows --------------------------------------------------------------------------------------


def test_a_client_sends_once_it_knows_the_window() -> None:
    client = FrameCodec(is_client=True, limits=LIMITS)
    call_id = client.open_call(PING, {}, None)
    assert client.send_window(call_id) == 0
    assert feed(client, greeting(321, 3)) == [WindowOpened(None)]
    assert client.send_window(call_id) == 321
    assert client.send_window(client.open_call(PING, {}, None)) == 321


def test_sending_takes_of_the_window_and_credit_gives_back() -> None:
    server, client = serving(), calling()
    server.begin_reply(1, gzip=False)
    for codec in (server, client):
        assert codec.send_window(1) == 1000
        codec.send(1, b"x" * 999)
        assert codec.send_window(1) == 1
        with pytest.raises(MisuseError, match="2 bytes cannot be sent on call 1 now"):
            codec.send(1, b"xx")
        assert feed(codec, frame(CREDIT, 1, u32(600))) == [WindowOpened(1)]
        assert codec.send_window(1) == 601


def test_bytes_are_sent_within_our_half_only() -> None:
    server = serving()
    with pytest.raises(MisuseError, match="1 bytes cannot be sent on call 1 now"):
        server.send(1, b"x")
    client = calling()
    client.end_request(1)
    with pytest.raises(MisuseError, match="1 bytes cannot be sent on call 1 now"):
        client.send(1, b"x")


@pytest.mark.parametrize("make", [serving, calling])
def test_credit_is_told_once_half_of_the_window_is_free(make: Callable[[], FrameCodec]) -> None:
    codec = make()
    feed(codec, frame(BYTES, 1, b"x" * 1000))
    assert not codec.consumed(1, 499)
    assert codec.data_to_send() == b""
    assert codec.consumed(1, 1)
    assert codec.data_to_send() == frame(CREDIT, 1, u32(500))
    feed(codec, frame(BYTES, 1, b"x" * 500))
    with pytest.raises(ProtocolViolationError, match="more bytes than the window"):
        feed(codec, frame(BYTES, 1, b"x"))


def test_no_credit_is_told_once_their_half_is_complete() -> None:
    server = serving()
    feed(server, frame(BYTES, 1, b"x" * 1000) + frame(END, 1))
    assert not server.consumed(1, 1000)
    server.trust(1)
    assert server.data_to_send() == b""


@pytest.mark.parametrize("make", [serving, calling])
def test_a_trusted_call_has_a_large_window(make: Callable[[], FrameCodec]) -> None:
    codec = make()
    feed(codec, frame(BYTES, 1, b"x" * 1000))
    codec.consumed(1, 100)
    codec.trust(1)
    assert codec.data_to_send() == frame(CREDIT, 1, u32(4000 + 100))
    codec.trust(1)
    assert codec.data_to_send() == b""
    feed(codec, frame(BYTES, 1, b"x" * 4100))
    codec.consumed(1, 2499)
    assert codec.data_to_send() == b""
    codec.consumed(1, 1)
    assert codec.data_to_send() == frame(CREDIT, 1, u32(2500))
    with pytest.raises(ProtocolViolationError, match="more bytes than the window"):
        feed(codec, frame(BYTES, 1, b"x" * 2501))


def test_trusted_windows_are_together_within_what_a_connection_may_leave_unread() -> None:
    # Beside the first windows of all calls there are 6000 bytes for them to grow by.
    unread = LIMITS.max_calls * LIMITS.call_window_bytes + 6000
    server = new_server(replace(LIMITS, max_unread_bytes=unread))
    feed(server, opening(1) + opening(2))
    server.trust(1)
    server.trust(2)
    assert server.data_to_send() == frame(CREDIT, 1, u32(4000)) + frame(CREDIT, 2, u32(2000))
    feed(server, opening(3))
    server.trust(3)
    assert server.data_to_send() == b""
    server.reset(1)
    server.data_to_send()
    server.trust(3)
    assert server.data_to_send() == frame(CREDIT, 3, u32(4000))


def test_a_window_grows_to_the_largest_at_most() -> None:
    server = serving(replace(LIMITS, trusted_call_window_bytes=2**40, max_unread_bytes=2**40))
    server.trust(1)
    assert server.data_to_send() == frame(CREDIT, 1, u32(2**31 - 1 - 1000))
    with pytest.raises(MisuseError, match="at most 2147483647"):
        FrameCodec(is_client=True, limits=WireLimits(call_window_bytes=2**31))


# --- strangers ------------------------------------------------------------------------------------


def test_a_stranger_leaves_little_unread_on_all_calls_together() -> None:
    server = new_server()
    feed(server, opening(1) + opening(2) + opening(3))
    feed(server, frame(BYTES, 1, b"x" * 1000) + frame(BYTES, 2, b"x" * 1000))
    feed(server, frame(BYTES, 3, b"x" * 500))
    with pytest.raises(ProtocolViolationError, match="a stranger with 2501 unread bytes"):
        feed(server, frame(BYTES, 3, b"x"))


def test_bytes_of_a_call_that_is_over_stay_unread_until_they_are_consumed() -> None:
    server = new_server()
    for call_id in (1, 2):
        feed(server, opening(call_id) + frame(BYTES, call_id, b"x" * 1000))
        server.end_reply(call_id, StatusCode.OK, "")
        feed(server, frame(BYTES, call_id, b"x" * 5000))  # ignored, and not counted
    feed(server, opening(3) + frame(BYTES, 3, b"x" * 500))
    server.data_to_send()
    assert not server.consumed(1, 500)
    assert server.data_to_send() == b""
    feed(server, frame(BYTES, 3, b"x" * 500))
    with pytest.raises(ProtocolViolationError, match="a stranger with 2501 unread bytes"):
        feed(server, opening(4) + frame(BYTES, 4, b"x"))


def test_with_one_trusted_call_nobody_is_a_stranger() -> None:
    server = new_server()
    feed(server, opening(1) + opening(2) + opening(3))
    feed(server, frame(BYTES, 1, b"x" * 1000) + frame(BYTES, 2, b"x" * 1000))
    server.trust(1)
    feed(server, frame(BYTES, 3, b"x" * 1000))


def test_a_call_that_is_over_may_have_brought_the_trust() -> None:
    server = serving()
    server.end_reply(1, StatusCode.OK, "")
    server.trust(1)
    for call_id in (2, 3, 4):
        feed(server, opening(call_id) + frame(BYTES, call_id, b"x" * 1000))


# --- calls that are refused -----------------------------------------------------------------------


def test_an_unknown_method_is_unimplemented() -> None:
    server = new_server()
    assert feed(server, opening(1, b"/PeerService/Nope") + frame(BYTES, 1, b"x" * 5000)) == []
    assert server.data_to_send() == frame(STATUS, 1, b"\x0cno method /PeerService/Nope")
    assert len(feed(server, opening(2))) == 1


def test_calls_over_the_limit_are_refused() -> None:
    server = new_server(replace(LIMITS, max_calls=2))
    assert len(feed(server, opening(1) + opening(2) + opening(3))) == 2
    assert server.data_to_send() == frame(STATUS, 3, b"\x08over 2 calls at once")
    server.reset(1)
    assert len(feed(server, opening(4) + opening(5))) == 1


def test_a_client_opens_no_more_calls_than_the_server_takes() -> None:
    client = new_client()  # of a server that takes 3
    for _ in range(3):
        client.open_call(PING, {}, None)
    with pytest.raises(CallFailedError) as caught:
        client.open_call(PING, {}, None)
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    feed(client, frame(STATUS, 2, b"\x00"))
    assert client.open_call(PING, {}, None) == 4


def test_a_client_that_was_not_greeted_keeps_its_own_limit() -> None:
    client = FrameCodec(is_client=True, limits=replace(LIMITS, max_calls=1))
    client.open_call(PING, {}, None)
    with pytest.raises(CallFailedError, match="over 1 calls at once"):
        client.open_call(PING, {}, None)


def test_a_connection_has_only_so_many_call_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_NUMBER", 1)  # instead of opening 2**32 - 1 calls
    client = calling()
    with pytest.raises(ConnectionLostError, match="no more call ids"):
        client.open_call(PING, {}, None)


# --- going away -----------------------------------------------------------------------------------


def test_a_server_drains() -> None:
    server = serving()
    server.drain("enough")
    server.drain("again")
    assert server.data_to_send() == goaway(1, "enough")
    assert feed(server, opening(2) + frame(BYTES, 2, b"x") + frame(END, 2)) == []
    assert server.data_to_send() == frame(RESET, 2, b"\x01")
    assert feed(server, frame(BYTES, 1, b"x")) == [BytesReceived(1, b"x", 1)]
    server.end_reply(1, StatusCode.OK, "")
    assert server.data_to_send() == frame(STATUS, 1, b"\x00")
    with pytest.raises(MalformedError):
        feed(server, frame(0, 0))
    assert server.data_to_send() == goaway(1, "a frame of the unknown kind 0")


def test_who_breaks_a_rule_is_told_once() -> None:
    """A connection drains whatever it drops, and its codec may have told why already."""
    for codec in (serving(), calling()):
        with pytest.raises(MalformedError):
            feed(codec, frame(0, 0))
        codec.drain("a frame of the unknown kind 0")
        codec.drain()
        last_taken = 0 if codec._is_client else 1
        assert codec.data_to_send() == goaway(last_taken, "a frame of the unknown kind 0")


def test_calls_that_cross_a_goaway_are_no_fault_of_the_client() -> None:
    server = serving()
    server.drain("enough")
    count = int(WireLimits().provoked_resets.burst) + 1
    assert feed(server, b"".join(opening(number) for number in range(2, 2 + count))) == []
    assert server.data_to_send().endswith(frame(RESET, 1 + count, b"\x01"))


def test_a_client_opens_no_calls_on_a_draining_server() -> None:
    client = calling()
    assert feed(client, goaway(1, "enough")) == [Draining(1, "enough")]
    with pytest.raises(ConnectionLostError, match="the server takes no more calls: 'enough'"):
        client.open_call(PING, {}, None)
    assert feed(client, frame(STATUS, 1, b"\x00")) == [StatusReceived(1, StatusCode.OK, "")]


def test_a_client_says_goodbye() -> None:
    client = calling()
    client.drain("bye")
    wire = client.data_to_send()
    assert wire == goaway(0, "bye")
    assert feed(serving(), wire) == [Draining(0, "bye")]


# --- violations -----------------------------------------------------------------------------------

Make = Callable[[], FrameCodec]


@pytest.mark.parametrize(
    ("make", "wire", "why"),
    [
        (new_server, frame(SETTINGS, 0, u32(1) + u32(1)), "SETTINGS twice"),
        (new_server, frame(SETTINGS, 1, u32(1) + u32(1)), "SETTINGS for call 1"),
        (new_server, opening(0), "OPEN of call 0 after call 0"),
        (new_server, opening(2), "OPEN of call 2 after call 0"),
        (serving, opening(1), "OPEN of call 1 after call 1"),
        (new_client, opening(1), "OPEN from the wrong side"),
        (calling, frame(END, 1), "END from the wrong side"),
        (serving, frame(REPLY, 1, b"\x00"), "REPLY from the wrong side"),
        (serving, frame(STATUS, 1, b"\x00"), "STATUS from the wrong side"),
        (serving, frame(BYTES, 2, b"x"), "BYTES for call 2, which was never opened"),
        (serving, frame(BYTES, 0, b"x"), "BYTES for call 0, which was never opened"),
        (serving, frame(END, 2), "END for call 2, which was never opened"),
        (serving, frame(RESET, 2, b"\x00"), "RESET for call 2, which was never opened"),
        (serving, frame(CREDIT, 2, u32(1)), "CREDIT for call 2, which was never opened"),
        (calling, frame(REPLY, 2, b"\x00"), "REPLY for call 2, which was never opened"),
        (calling, frame(STATUS, 2, b"\x00"), "STATUS for call 2, which was never opened"),
        (calling, frame(REPLY, 1, b"\x00"), "REPLY twice"),
        (serving, frame(END, 1) + frame(END, 1), "END twice"),
        (serving, frame(END, 1) + frame(BYTES, 1, b"x"), "bytes before or after their half"),
        (serving, frame(BYTES, 1, b"x" * 1001), "more bytes than the window of a call"),
        (calling, frame(BYTES, 1, b"x" * 1001), "more bytes than the window of a call"),
        (serving, frame(CREDIT, 1, u32(0)), "CREDIT of 0 bytes"),
        (serving, frame(CREDIT, 1, u32(2**31 - 1000)), "CREDIT of 2147482648 bytes overflows"),
        (calling, goaway(1, "") + frame(GOAWAY, 1, u32(1)), "GOAWAY for call 1"),
    ],
)
def test_violations(make: Make, wire: bytes, why: str) -> None:
    codec = make()
    with pytest.raises(ProtocolViolationError, match=why) as caught:
        feed(codec, wire)
    last_taken = 1 if make is serving else 0
    assert codec.data_to_send().endswith(goaway(last_taken, str(caught.value)))


def test_the_largest_credit_is_taken() -> None:
    server = serving()
    assert feed(server, frame(CREDIT, 1, u32(2**31 - 1 - 1000))) == [WindowOpened(1)]
    assert server.send_window(1) == 2**31 - 1


def test_bytes_before_the_servers_half_are_a_violation() -> None:
    client = new_client()
    client.open_call(PING, {}, None)
    with pytest.raises(ProtocolViolationError, match="bytes before or after their half"):
        feed(client, frame(BYTES, 1, b"x"))


def test_settings_come_first_and_hold_a_possible_window() -> None:
    for first in (opening(1), goaway(0, ""), frame(CREDIT, 1, u32(1))):
        server = FrameCodec(is_client=False, limits=LIMITS)
        with pytest.raises(ProtocolViolationError, match="before SETTINGS"):
            feed(server, b"aelf-p2p/1\n" + first)
    client = FrameCodec(is_client=True, limits=LIMITS)
    with pytest.raises(ProtocolViolationError, match="a window of 2147483648 bytes"):
        feed(client, greeting(2**31, 1))


@pytest.mark.parametrize(
    "wire",
    [
        frame(10, 1),
        frame(BYTES, 1, length=65537),
        frame(OPEN, 2, b"\x00" + u32(0) + b"\x02/p" + b"\x01K\x00\x00"),
        frame(OPEN, 2, b"\x00" + u32(0) + b"\x02/\xff"),
        frame(GOAWAY, 0, u32(0) + b"\xff"),
        frame(CREDIT, 1, b"\x00"),
        frame(RESET, 1, b"\x07"),
    ],
)
def test_malformed_frames_end_the_connection(wire: bytes) -> None:
    server = serving()
    with pytest.raises(MalformedError) as caught:
        feed(server, wire)
    assert server.data_to_send() == goaway(1, str(caught.value))


def test_malformed_frames_of_a_server_end_the_connection() -> None:
    for wire in (
        frame(STATUS, 1, b"\x63"),
        frame(STATUS, 1, b"\x00\xff"),
        frame(REPLY, 1, b"\x02"),
    ):
        with pytest.raises(MalformedError):
            feed(calling(), wire)


def test_a_wrong_preface_ends_the_connection() -> None:
    server = FrameCodec(is_client=False, limits=LIMITS)
    with pytest.raises(MalformedError, match="expected"):
        feed(server, b"GET / HTTP/1.1\r\n")
    why = "expected 'aelf-p2p/1\\n', got 'GET / HTTP/1.1'"
    assert server.data_to_send() == greeting(1000, 100) + goaway(0, why)


# --- budgets --------------------------------------------------------------------------------------

FEW = Rate(burst=3, per_s=1)


@dataclass
class Flood:
    """Frames that cost of one budget each, and the codec that is flooded."""

    budget: str
    codec: Callable[[WireLimits], FrameCodec]
    wire: Callable[[int], bytes]
    what: str
    prepare: Callable[[FrameCodec], object] = field(default=lambda codec: None)


FLOODS = [
    Flood("resets", new_server, lambda n: opening(n) + frame(RESET, n, b"\x00"), "resets"),
    Flood(
        "small_frames",
        serving,
        lambda n: frame(RESET, 1, b"\x00"),
        "small frames",
        prepare=lambda codec: feed(codec, frame(RESET, 1, b"\x00")),
    ),
    Flood("small_frames", serving, lambda n: frame(BYTES, 1, b"x"), "small frames"),
    Flood("provoked_resets", new_server, lambda n: opening(n, b"/no"), "calls that had to be"),
    Flood(
        "provoked_resets",
        lambda limits: serving(replace(limits, max_calls=1)),
        lambda n: opening(n + 1),
        "calls that had to be refused",
    ),
    Flood(
        "late_frames",
        new_server,
        opening,
        "calls after a GOAWAY",
        prepare=lambda codec: codec.drain(),
    ),
    Flood("small_frames", serving, lambda n: frame(CREDIT, 1, u32(1)), "small frames"),
    Flood("small_frames", calling, lambda n: goaway(1, ""), "small frames"),
    Flood(
        "small_frames",
        serving,
        lambda n: frame(END, 1),
        "small frames",
        prepare=lambda codec: codec.reset(1),
    ),
    Flood(
        "small_frames",
        calling,
        lambda n: frame(STATUS, 1, b"\x00"),
        "small frames",
        prepare=lambda codec: codec.reset(1),
    ),
    Flood(
        "small_frames",
        calling,
        lambda n: frame(REPLY, 1, b"\x00"),
        "small frames",
        prepare=lambda codec: codec.reset(1),
    ),
    Flood("empty_frames", serving, lambda n: frame(BYTES, 1), "empty frames"),
    Flood(
        "empty_frames",
        calling,
        lambda n: frame(BYTES, 1),
        "empty frames",
        prepare=lambda codec: codec.reset(1),
    ),
]


@pytest.mark.parametrize("flood", FLOODS)
def test_floods_are_dropped(flood: Flood) -> None:
    changes: dict[str, Any] = {flood.budget: FEW}
    codec = flood.codec(replace(LIMITS, **changes))
    flood.prepare(codec)
    for number in (1, 2, 3):
        feed(codec, flood.wire(number), NOW)
    feed(codec, flood.wire(4), NOW + 1)  # one more each second
    codec.data_to_send()
    with pytest.raises(ProtocolViolationError, match=f"too many {flood.what}") as caught:
        feed(codec, flood.wire(5), NOW + 1)
    last_frame = codec.data_to_send()[-(9 + 4 + len(str(caught.value))) :]
    assert last_frame[4] == GOAWAY
    assert last_frame.endswith(str(caught.value).encode())


# --- any bytes ------------------------------------------------------------------------------------

numbers = st.one_of(st.integers(0, 3), st.sampled_from([999, 1000, 2**31 - 1, 2**31, 2**32 - 1]))
payloads = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"", b"\x00", b"\x01", b"x" * 900, opening(1)[9:]]),
    numbers.map(u32),
    st.tuples(numbers, numbers).map(lambda pair: u32(pair[0]) + u32(pair[1])),
)
some_frames = st.builds(frame, st.integers(0, 10), numbers, payloads)


@given(
    st.booleans(),
    st.lists(st.one_of(some_frames, st.binary(max_size=20)), max_size=20),
    st.integers(1, 100),
)
def test_any_bytes_are_taken_or_end_the_connection(
    is_client: bool, pieces: list[bytes], size: int
) -> None:
    codec = calling() if is_client else serving()
    wire = b"".join(pieces)
    with suppress(MalformedError, ProtocolViolationError):
        for at in range(0, len(wire), size):
            for event in codec.receive_untrusted(wire[at : at + size], NOW):
                if isinstance(event, CallOpened):
                    codec.begin_reply(event.call_id, gzip=False)
                if isinstance(event, BytesReceived):
                    codec.consumed(event.call_id, event.credit)
                if isinstance(event, RequestEnded):
                    codec.end_reply(event.call_id, StatusCode.OK, "")


# --- two codecs back to back ----------------------------------------------------------------------

PLENTY = Rate(1e9, 1e9)
SMALL = WireLimits(
    call_window_bytes=40,
    trusted_call_window_bytes=100,
    stranger_bytes=10_000,
    max_calls=4,
    resets=PLENTY,
    provoked_resets=PLENTY,
    small_frames=PLENTY,
)


@dataclass
class Half:
    """One half of a call, as its two ends know it."""

    sent: bytes = b""
    received: bytes = b""
    unread: int = 0
    complete: bool = False  # its sender has ended it


@dataclass
class Model:
    """A call: its halves, and how each side has seen it end."""

    request: Half = field(default_factory=Half)
    reply: Half = field(default_factory=Half)
    taken: bool = False
    began: bool = False
    trusted: bool = False
    reset: bool = False  # by either
    early: bool = False  # ended by its status before the request was complete
    client_end: str = ""
    server_end: str = ""


class BackToBack(RuleBasedStateMachine):
    """Commands and deliveries in any order: nothing raises, and bytes arrive in order."""

    def __init__(self) -> None:
        super().__init__()
        self.client = FrameCodec(is_client=True, limits=SMALL)
        self.server = FrameCodec(is_client=False, limits=SMALL)
        self.to_server = bytearray()
        self.to_client = bytearray()
        self.calls: dict[int, Model] = {}
        self.goodbye = ""
        self.told_goodbye = False

    # Which call a rule is about: of those that it makes sense for, any.

    def pick(self, number: int, fits: Callable[[Model], bool]) -> tuple[int, Model] | None:
        fitting = [(call_id, call) for call_id, call in self.calls.items() if fits(call)]
        return fitting[number % len(fitting)] if fitting else None

    @initialize(greeted=st.booleans())
    def greet(self, greeted: bool) -> None:
        if greeted:
            self.deliver_all()

    @rule()
    def open(self) -> None:
        try:
            call_id = self.client.open_call(REQUEST_BY_STREAM, {"k": "v"}, None)
        except CallFailedError:
            assert sum(not call.client_end for call in self.calls.values()) == SMALL.max_calls
        except ConnectionLostError:
            assert self.told_goodbye
        else:
            assert call_id == len(self.calls) + 1
            self.calls[call_id] = Model()

    @rule(number=st.integers(0, 9), size=st.integers(1, 120))
    def client_sends(self, number: int, size: int) -> None:
        chosen = self.pick(number, lambda c: not c.client_end and not c.request.complete)
        if chosen:
            self.send(self.client, chosen[0], chosen[1].request, size)

    @rule(number=st.integers(0, 9), size=st.integers(1, 120))
    def server_sends(self, number: int, size: int) -> None:
        chosen = self.pick(number, lambda c: c.began and not c.server_end)
        if chosen:
            self.send(self.server, chosen[0], chosen[1].reply, size)

    def send(self, codec: FrameCodec, call_id: int, half: Half, size: int) -> None:
        size = min(size, codec.send_window(call_id))
        data = bytes((len(half.sent) + at) % 251 for at in range(size))
        codec.send(call_id, data)
        half.sent += data

    @rule(number=st.integers(0, 9))
    def client_ends(self, number: int) -> None:
        chosen = self.pick(number, lambda c: not c.client_end and not c.request.complete)
        if chosen:
            self.client.end_request(chosen[0])
            chosen[1].request.complete = True

    @rule(number=st.integers(0, 9))
    def server_begins(self, number: int) -> None:
        chosen = self.pick(number, lambda c: c.taken and not c.began and not c.server_end)
        if chosen:
            self.server.begin_reply(chosen[0], gzip=True)
            chosen[1].began = True

    @rule(number=st.integers(0, 9))
    def server_ends(self, number: int) -> None:
        chosen = self.pick(number, lambda c: c.taken and not c.server_end)
        if chosen:
            call_id, call = chosen
            self.server.end_reply(call_id, StatusCode.OK, f"call {call_id}")
            call.early = not (call.request.complete and call.request.sent == call.request.received)
            call.server_end = "status"
            call.reply.complete = True

    @rule(number=st.integers(0, 9), by_client=st.booleans())
    def reset(self, number: int, by_client: bool) -> None:
        if by_client:
            chosen = self.pick(number, lambda c: not c.client_end)
            if chosen:
                self.client.reset(chosen[0])
                chosen[1].client_end, chosen[1].reset = "own reset", True
        else:
            chosen = self.pick(number, lambda c: c.taken and not c.server_end)
            if chosen:
                self.server.reset(chosen[0])
                chosen[1].server_end, chosen[1].reset = "own reset", True

    @rule(number=st.integers(0, 9), size=st.integers(1, 60), by_client=st.booleans())
    def consume(self, number: int, size: int, by_client: bool) -> None:
        if by_client:
            chosen = self.pick(number, lambda c: c.reply.unread > 0)
        else:
            chosen = self.pick(number, lambda c: c.request.unread > 0)
        if chosen:
            call_id, call = chosen
            half = call.reply if by_client else call.request
            size = min(size, half.unread)
            (self.client if by_client else self.server).consumed(call_id, size)
            half.unread -= size

    @rule(number=st.integers(0, 9))
    def trust(self, number: int) -> None:
        chosen = self.pick(number, lambda c: c.taken)
        if chosen:
            self.client.trust(chosen[0])
            self.server.trust(chosen[0])
            chosen[1].trusted = True

    @precondition(lambda self: len(self.calls) > 3)
    @rule(why=st.text(max_size=5))
    def drain(self, why: str) -> None:
        self.server.drain(why)
        self.goodbye = self.goodbye or f"once {why}"

    @rule(count=st.integers(1, 300))
    def deliver_to_server(self, count: int) -> None:
        self.to_server += self.client.data_to_send()
        data = bytes(self.to_server[:count])
        del self.to_server[:count]
        for event in feed(self.server, data):
            self.server_sees(event)

    @rule(count=st.integers(1, 300))
    def deliver_to_client(self, count: int) -> None:
        self.to_client += self.server.data_to_send()
        data = bytes(self.to_client[:count])
        del self.to_client[:count]
        for event in feed(self.client, data):
            self.client_sees(event)

    def server_sees(self, event: Event) -> None:
        if isinstance(event, CallOpened):
            call = self.calls[event.call_id]
            assert not call.taken
            assert not self.goodbye
            assert event.method == REQUEST_BY_STREAM
            assert event.metadata == {"k": "v"}
            call.taken = True
        elif isinstance(event, BytesReceived):
            self.take_bytes(event, self.calls[event.call_id].request)
            assert not self.calls[event.call_id].server_end
        elif isinstance(event, RequestEnded):
            request = self.calls[event.call_id].request
            assert request.complete
            assert request.received == request.sent
        elif isinstance(event, CallReset):
            call = self.calls[event.call_id]
            assert call.client_end == "own reset"
            assert not call.server_end
            call.server_end = "reset"
        else:
            assert isinstance(event, WindowOpened)

    def client_sees(self, event: Event) -> None:
        if isinstance(event, ReplyBegan):
            assert self.calls[event.call_id].began
            assert event.encoding == "gzip"
        elif isinstance(event, BytesReceived):
            self.take_bytes(event, self.calls[event.call_id].reply)
            assert not self.calls[event.call_id].client_end
        elif isinstance(event, StatusReceived):
            call = self.calls[event.call_id]
            assert call.server_end == "status"
            assert not call.client_end
            assert (event.code, event.details) == (StatusCode.OK, f"call {event.call_id}")
            assert call.reply.received == call.reply.sent
            call.client_end = "status"
        elif isinstance(event, CallReset):
            call = self.calls[event.call_id]
            assert not call.client_end
            refused = event.why == "refused before it was started"
            assert refused == (not call.taken)
            assert refused or call.server_end == "own reset"
            call.client_end = "reset"
        elif isinstance(event, Draining):
            assert self.goodbye == f"once {event.why}"
            assert not self.told_goodbye
            self.told_goodbye = True
            for call_id, call in self.calls.items():
                assert call.taken == (call_id <= event.last_call_id)
        else:
            assert isinstance(event, WindowOpened)

    def take_bytes(self, event: BytesReceived, half: Half) -> None:
        assert len(event.data) == event.credit > 0
        half.received += event.data
        half.unread += event.credit
        call = self.calls[event.call_id]
        assert half.unread <= (100 if call.trusted else 40)

    @invariant()
    def bytes_are_in_order(self) -> None:
        for call in self.calls.values():
            for half in (call.request, call.reply):
                assert half.sent.startswith(half.received)

    def deliver_all(self) -> None:
        while True:
            self.deliver_to_server(READ_BYTES)
            self.deliver_to_client(READ_BYTES)
            if not (self.to_server or self.to_client):
                break

    def teardown(self) -> None:
        """Everything arrives in the end, and what is read gives the windows back."""
        for _ in range(3):
            self.deliver_all()
        for call_id, call in self.calls.items():
            if not call.reset and call.taken:
                assert call.reply.received == call.reply.sent
                if not call.early:
                    assert call.request.received == call.request.sent
            for codec, half in ((self.server, call.request), (self.client, call.reply)):
                codec.consumed(call_id, half.unread)
        for _ in range(3):
            self.deliver_all()
        for call_id, call in self.calls.items():
            if call.taken and not (call.client_end or call.server_end):
                least = (100 if call.trusted else 40) / 2
                assert self.server.send_window(call_id) > least
                if not call.request.complete:
                    assert self.client.send_window(call_id) > least


BackToBack.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestBackToBack = BackToBack.TestCase
