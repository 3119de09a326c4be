"""gRPC over HTTP/2: two codecs back to back, and one against h2 used by itself."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import h2.events
import h2.exceptions
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from aelf_p2p.contracts import Metadata
from aelf_p2p.core.budgets import Rate
from aelf_p2p.core.errors import (
    CallFailedError,
    ConnectionLostError,
    MalformedError,
    MisuseError,
    ProtocolViolationError,
    StatusCode,
)
from aelf_p2p.core.options import KIB, MIB
from aelf_p2p.transports.grpc.codec import GrpcCodec
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
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM

LIMITS = WireLimits()
WINDOW = 64 * KIB - 1
NOW = 7.0
Headers = list[tuple[str, str]]


def new_client(limits: WireLimits = LIMITS) -> GrpcCodec:
    return GrpcCodec(is_client=True, limits=limits, authority="10.0.0.1:6800")


def new_server(limits: WireLimits = LIMITS) -> GrpcCodec:
    return GrpcCodec(is_client=False, limits=limits)


def feed(codec: GrpcCodec, data: bytes, now: float = NOW) -> list[Event]:
    events: list[Event] = []
    for at in range(0, len(data), READ_BYTES):
        received = codec.receive_untrusted(data[at : at + READ_BYTES], now)
        events += [event for event in received if event is not None]
    return events


# --- the two sides of a conversation --------------------------------------------------------------


@dataclass
class Duo:
    """Two codecs; ``talk`` carries what they say until neither says more."""

    client: GrpcCodec = field(default_factory=new_client)
    server: GrpcCodec = field(default_factory=new_server)
    slice_bytes: Callable[[], int] = lambda: READ_BYTES

    def __post_init__(self) -> None:
        self.talk()

    def talk(self) -> tuple[list[Event], list[Event]]:
        """What the client and the server are told."""
        to_client: list[Event] = []
        to_server: list[Event] = []
        while True:
            asked, said = self.client.data_to_send(), self.server.data_to_send()
            if not (asked or said):
                return to_client, to_server
            to_server += self._carry(asked, self.server)
            to_client += self._carry(said, self.client)

    def _carry(self, data: bytes, receiver: GrpcCodec) -> list[Event]:
        events: list[Event] = []
        while data:
            count = self.slice_bytes()
            received = receiver.receive_untrusted(data[:count], NOW)
            events += [event for event in received if event is not None]
            data = data[count:]
        return events

    def open(self) -> int:
        """A call that both sides know of."""
        call_id = self.client.open_call(REQUEST_BY_STREAM, {}, None)
        _, [opened] = self.talk()
        assert isinstance(opened, CallOpened)
        assert opened.call_id == call_id
        return call_id


def data_of(events: list[Event], call_id: int) -> bytes:
    return b"".join(
        each.data for each in events if isinstance(each, BytesReceived) and each.call_id == call_id
    )


def test_a_call_from_its_first_to_its_last_event() -> None:
    duo = Duo()
    metadata: Metadata = {"version": "1.4", "session-bin": b"\x00\xff"}
    call_id = duo.client.open_call(REQUEST_BY_STREAM, metadata, 2.5)
    assert duo.talk() == (
        [],
        [CallOpened(call_id, REQUEST_BY_STREAM, metadata, 2.5, "identity", True)],
    )
    duo.client.send(call_id, b"question")
    assert duo.talk() == ([], [BytesReceived(call_id, b"question", 8)])
    duo.server.begin_reply(call_id, gzip=True)
    duo.server.send(call_id, b"answer")
    assert duo.talk() == (
        [ReplyBegan(call_id, "gzip"), BytesReceived(call_id, b"answer", 6)],
        [],
    )
    duo.client.end_request(call_id)
    assert duo.talk() == ([], [RequestEnded(call_id)])
    duo.server.end_reply(call_id, StatusCode.NOT_FOUND, "50% of it: ü\n")
    assert duo.talk() == ([StatusReceived(call_id, StatusCode.NOT_FOUND, "50% of it: ü\n")], [])


def test_a_call_that_ends_before_its_reply_began() -> None:
    duo = Duo()
    call_id = duo.open()
    duo.server.end_reply(call_id, StatusCode.UNAVAILABLE, "busy")
    to_client, to_server = duo.talk()
    assert to_client == [StatusReceived(call_id, StatusCode.UNAVAILABLE, "busy")]
    assert to_server == []  # the caller's half ends with the call


@pytest.mark.parametrize("by_client", [True, False])
def test_a_reset_ends_both_halves(by_client: bool) -> None:
    duo = Duo()
    call_id = duo.open()
    (duo.client if by_client else duo.server).reset(call_id)
    reset = CallReset(call_id, "reset by the other side: CANCEL")
    assert duo.talk() == (([], [reset]) if by_client else ([reset], []))


COMMANDS: dict[str, Callable[[GrpcCodec, int], object]] = {
    "send_window": lambda codec, call_id: codec.send_window(call_id),
    "send": lambda codec, call_id: codec.send(call_id, b"late"),
    "end_request": lambda codec, call_id: codec.end_request(call_id),
    "begin_reply": lambda codec, call_id: codec.begin_reply(call_id, gzip=False),
    "end_reply": lambda codec, call_id: codec.end_reply(call_id, StatusCode.OK, ""),
    "reset": lambda codec, call_id: codec.reset(call_id),
    "consumed": lambda codec, call_id: codec.consumed(call_id, 5),
}
OF_ONE_SIDE = {"end_request": True, "begin_reply": False, "end_reply": False}


def reset_by_client(duo: Duo, call_id: int) -> None:
    duo.client.reset(call_id)


def reset_by_server(duo: Duo, call_id: int) -> None:
    duo.server.reset(call_id)


def ended_well(duo: Duo, call_id: int) -> None:
    duo.client.end_request(call_id)
    duo.talk()
    duo.server.end_reply(call_id, StatusCode.OK, "")


def ended_early(duo: Duo, call_id: int) -> None:
    duo.server.begin_reply(call_id, gzip=False)
    duo.server.end_reply(call_id, StatusCode.OK, "")


@pytest.mark.parametrize("end", [reset_by_client, reset_by_server, ended_well, ended_early])
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("on_client", [True, False])
def test_commands_on_a_call_that_is_over_have_no_effect(
    on_client: bool, name: str, end: Callable[[Duo, int], None]
) -> None:
    if OF_ONE_SIDE.get(name, on_client) is not on_client:
        return
    duo = Duo()
    call_id = duo.open()
    end(duo, call_id)
    duo.talk()
    codec = duo.client if on_client else duo.server
    assert not COMMANDS[name](codec, call_id)
    assert codec.data_to_send() == b""


@pytest.mark.parametrize("name", ["send", "end_request", "reset", "consumed"])
def test_ends_cross_on_the_wire(name: str) -> None:
    """The server has ended the call; the client does not know yet."""
    duo = Duo()
    call_id = duo.open()
    duo.server.end_reply(call_id, StatusCode.OK, "")
    COMMANDS[name](duo.client, call_id)
    to_client, to_server = duo.talk()
    assert to_server == []
    expected = [StatusReceived(call_id, StatusCode.OK, "")]
    assert to_client == ([] if name == "reset" else expected)
    assert duo.open() > call_id  # the connection lives


def test_more_calls_than_the_server_takes() -> None:
    duo = Duo(server=new_server(replace(LIMITS, max_calls=2)))
    first, _ = duo.open(), duo.open()
    with pytest.raises(CallFailedError, match="no more calls at once") as caught:
        duo.client.open_call(PING, {}, None)
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    duo.client.reset(first)
    duo.talk()
    duo.open()


def test_metadata_that_cannot_travel() -> None:
    duo = Duo()
    with pytest.raises(MisuseError):
        duo.client.open_call(PING, {"te": "trailers"}, None)
    duo.open()


def test_a_window_below_http2s_is_refused() -> None:
    with pytest.raises(MisuseError, match="call_window_bytes"):
        new_server(replace(LIMITS, call_window_bytes=WINDOW - 1))


# --- windows --------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_bytes_arrive_in_order_however_they_are_cut_and_read(seed: int) -> None:
    """Three calls, both ways at once; either side reads when it likes. That h2 never saw its
    windows overrun is that no codec raises."""
    random = Random(seed)
    duo = Duo(slice_bytes=lambda: random.choice([1, 9, 100, 5000, READ_BYTES]))
    # Every byte can be told from its neighbours, and where it was from where it should be.
    whole = b"".join(number.to_bytes(4, "big") for number in range(40_000))
    calls = [duo.open() for _ in range(3)]
    for call_id in calls:
        duo.server.begin_reply(call_id, gzip=False)
    strange = [call_id for call_id in calls if random.random() < 0.5]
    sides = [(codec, call_id) for codec in (duo.client, duo.server) for call_id in calls]
    sent = dict.fromkeys(sides, 0)
    received = dict.fromkeys(sides, b"")
    unread: dict[tuple[GrpcCodec, int], list[BytesReceived]] = {side: [] for side in sides}
    for _ in range(2000):
        for codec, call_id in sides:
            at = sent[codec, call_id]
            window = codec.send_window(call_id)
            count = min(window, len(whole) - at, random.choice([1, 700, 40_000]))
            codec.send(call_id, memoryview(whole)[at : at + count])
            sent[codec, call_id] += count
        for codec, events in zip((duo.client, duo.server), duo.talk(), strict=True):
            for event in events:
                if isinstance(event, BytesReceived):
                    unread[codec, event.call_id].append(event)
        if strange and random.random() < 0.3:
            call_id = strange.pop()
            duo.client.trust(call_id)
            duo.server.trust(call_id)
        for side, waiting in unread.items():
            while waiting and random.random() < 0.8:
                read = waiting.pop(0)
                received[side] += read.data
                side[0].consumed(read.call_id, read.credit)
        if all(len(each) == len(whole) for each in received.values()):
            break
    assert all(each == whole for each in received.values())


def fill(codec: GrpcCodec, call_id: int) -> int:
    """Send as much as the window lets out; returns how much that was."""
    count = codec.send_window(call_id)
    codec.send(call_id, bytes(count))
    return count


def test_strangers_calls_share_one_window() -> None:
    duo = Duo()
    one, other = duo.open(), duo.open()
    assert fill(duo.client, one) == WINDOW
    assert duo.client.send_window(other) == 0
    duo.talk()
    # Half of it must be free before the other side is told.
    assert not duo.server.consumed(one, WINDOW // 2 - 1)
    assert duo.server.consumed(one, 1)
    duo.talk()
    assert duo.client.send_window(other) == WINDOW // 2


def test_trust_opens_the_windows() -> None:
    duo = Duo()
    one, other = duo.open(), duo.open()
    fill(duo.client, one)
    duo.talk()
    duo.server.trust(one)
    to_client, _ = duo.talk()
    assert WindowOpened(one) in to_client
    assert WindowOpened(None) in to_client
    assert duo.client.send_window(one) == MIB - WINDOW  # nothing of the first window is read yet
    assert duo.client.send_window(other) == WINDOW  # not shared any more
    fill(duo.client, one)
    duo.talk()
    assert duo.client.send_window(other) == WINDOW
    # Of the large window too, half must be free before the other side is told.
    assert not duo.server.consumed(one, MIB // 2 - 1)
    assert duo.server.consumed(one, 1)
    duo.talk()
    assert duo.client.send_window(one) == MIB // 2


def test_trust_twice_is_trust_once() -> None:
    duo = Duo()
    call_id = duo.open()
    duo.server.trust(call_id)
    duo.talk()
    duo.server.trust(call_id)
    assert duo.talk() == ([], [])
    assert duo.client.send_window(call_id) == MIB


def test_what_was_unread_at_a_calls_end_is_free_again() -> None:
    """Else strangers' calls would use the connection's window up."""
    duo = Duo()
    for _ in range(10):
        call_id = duo.open()
        assert fill(duo.client, call_id) == WINDOW
        _, to_server = duo.talk()
        duo.server.reset(call_id)
        duo.server.consumed(
            call_id, sum(e.credit for e in to_server if isinstance(e, BytesReceived))
        )
        duo.talk()


def test_what_comes_for_a_call_that_is_over_is_free_at_once() -> None:
    duo = Duo()
    for _ in range(10):
        call_id = duo.open()
        duo.server.reset(call_id)
        assert fill(duo.client, call_id) == WINDOW  # they cross
        _, to_server = duo.talk()
        assert to_server == []


# --- draining -------------------------------------------------------------------------------------


def test_a_server_that_drains_ends_what_is_under_way_well() -> None:
    duo = Duo()
    call_id = duo.open()
    duo.server.drain("we stop")
    duo.server.drain("again")  # without effect
    assert duo.talk() == ([Draining(call_id, "NO_ERROR: we stop")], [])
    with pytest.raises(ConnectionLostError, match="we stop"):
        duo.client.open_call(PING, {}, None)
    duo.client.send(call_id, b"question")
    duo.client.end_request(call_id)
    assert duo.talk() == ([], [BytesReceived(call_id, b"question", 8), RequestEnded(call_id)])
    duo.server.begin_reply(call_id, gzip=False)
    duo.server.send(call_id, b"answer")
    duo.server.end_reply(call_id, StatusCode.OK, "")
    assert duo.talk() == (
        [
            ReplyBegan(call_id, "identity"),
            BytesReceived(call_id, b"answer", 6),
            StatusReceived(call_id, StatusCode.OK, ""),
        ],
        [],
    )


def test_a_call_that_crosses_a_goaway_is_refused() -> None:
    duo = Duo()
    first = duo.open()
    duo.server.drain()
    second = duo.client.open_call(PING, {}, None)
    to_client, to_server = duo.talk()
    assert to_server == []
    assert to_client == [
        Draining(first, "NO_ERROR"),
        CallReset(second, "reset by the other side: REFUSED_STREAM"),
    ]


def test_a_client_that_drains_is_answered() -> None:
    duo = Duo()
    call_id = duo.open()
    duo.client.drain()
    assert duo.talk() == ([], [Draining(0, "NO_ERROR")])
    duo.server.begin_reply(call_id, gzip=False)
    duo.server.send(call_id, b"answer")
    duo.server.end_reply(call_id, StatusCode.OK, "")
    to_client, _ = duo.talk()
    assert data_of(to_client, call_id) == b"answer"
    assert to_client[-1] == StatusReceived(call_id, StatusCode.OK, "")


# --- a server, against h2 -------------------------------------------------------------------------

REQUEST: Headers = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/PeerService/RequestByStream"),
    (":authority", "10.0.0.1:6800"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


class RawPeer:
    """h2 on one side, which does what it is told."""

    def __init__(self, codec: GrpcCodec, *, client: bool) -> None:
        config = H2Configuration(
            client_side=client,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = H2Connection(config)
        self.codec = codec
        self.h2.initiate_connection()
        self.told: list[Any] = []
        self.talk()
        self.told.clear()

    def talk(self) -> list[Event]:
        """What the codec makes of what h2 said; ``told`` is what h2 makes of the codec."""
        events: list[Event] = []
        while True:
            asked, said = self.h2.data_to_send(), self.codec.data_to_send()
            if not (asked or said):
                return events
            with suppress(h2.exceptions.ProtocolError):
                self.told += self.h2.receive_data(said)
            events += feed(self.codec, asked)

    def of(self, kind: type[Any]) -> list[Any]:
        """What it was told of one kind."""
        return [event for event in self.told if isinstance(event, kind)]


def raw_client(limits: WireLimits = LIMITS) -> RawPeer:
    return RawPeer(new_server(limits), client=True)


def raw_server() -> RawPeer:
    return RawPeer(new_client(), client=False)


def request(peer: RawPeer, headers: Headers = REQUEST, *, end: bool = False) -> list[Event]:
    peer.h2.send_headers(peer.h2.get_next_available_stream_id(), headers, end_stream=end)
    return peer.talk()


def with_header(name: str, value: str) -> Headers:
    return [each for each in REQUEST if each[0] != name] + [(name, value)]


@pytest.mark.parametrize("client", [True, False])
def test_what_a_side_announces(client: bool) -> None:
    codec = new_client() if client else new_server()
    peer = RawPeer(codec, client=not client)
    announced = peer.h2.remote_settings
    assert announced[SettingCodes.ENABLE_PUSH] == 0
    assert announced[SettingCodes.INITIAL_WINDOW_SIZE] == WINDOW
    assert announced[SettingCodes.MAX_FRAME_SIZE] == 16 * KIB
    assert announced[SettingCodes.MAX_HEADER_LIST_SIZE] == 16 * KIB
    if not client:
        assert announced[SettingCodes.MAX_CONCURRENT_STREAMS] == 100
    # A stranger's window of the connection is HTTP/2's least.
    assert peer.h2.outbound_flow_control_window == WINDOW


def test_a_reply_is_as_grpc_says() -> None:
    peer = raw_client()
    request(peer, end=True)
    peer.codec.begin_reply(1, gzip=True)
    peer.codec.begin_reply(1, gzip=False)  # it has begun
    peer.codec.send(1, b"\x00\x00\x00\x00\x01x")
    peer.codec.end_reply(1, StatusCode.NOT_FOUND, "no such block")
    peer.talk()
    [response] = peer.of(h2.events.ResponseReceived)
    assert response.headers == [
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-encoding", "gzip"),
        ("grpc-accept-encoding", "identity,gzip"),
    ]
    [data] = peer.of(h2.events.DataReceived)
    assert data.data == b"\x00\x00\x00\x00\x01x"
    [trailers] = peer.of(h2.events.TrailersReceived)
    assert trailers.headers == [("grpc-status", "5"), ("grpc-message", "no such block")]
    assert trailers.stream_ended is not None
    assert not peer.of(h2.events.StreamReset)


def test_a_reply_before_the_request_ended_tells_that_no_more_is_read() -> None:
    """RFC 9113 §8.1."""
    peer = raw_client()
    request(peer)
    peer.codec.end_reply(1, StatusCode.OK, "")
    peer.talk()
    [response] = peer.of(h2.events.ResponseReceived)
    assert ("grpc-status", "0") in response.headers
    assert response.stream_ended is not None
    [reset] = peer.of(h2.events.StreamReset)
    assert reset.error_code == ErrorCodes.NO_ERROR


@pytest.mark.parametrize(
    ("headers", "http_status", "grpc_status"),
    [
        (with_header(":path", "/PeerService/NoSuch"), "200", StatusCode.UNIMPLEMENTED),
        (with_header("content-type", "text/html"), "415", StatusCode.INVALID_ARGUMENT),
        (with_header("grpc-timeout", "soon"), "200", StatusCode.INTERNAL),
        (with_header("grpc-encoding", "snappy"), "200", StatusCode.UNIMPLEMENTED),
        (with_header("session-id-bin", "?"), "200", StatusCode.INTERNAL),
    ],
)
def test_a_call_that_cannot_be_is_answered_without_an_event(
    headers: Headers, http_status: str, grpc_status: StatusCode
) -> None:
    peer = raw_client()
    pseudo = [each for each in headers if each[0].startswith(":")]
    assert request(peer, pseudo + [each for each in headers if each not in pseudo], end=True) == []
    [response] = peer.of(h2.events.ResponseReceived)
    answered = dict(response.headers)
    assert answered[":status"] == http_status
    assert answered["grpc-status"] == str(grpc_status.value)
    [opened] = request(peer)
    assert isinstance(opened, CallOpened)


def test_headers_that_are_no_text_reset_their_call_alone() -> None:
    peer = raw_client()
    peer.h2.send_headers(1, [*[(a.encode(), b.encode()) for a, b in REQUEST], (b"k", b"\xff")])
    assert peer.talk() == []
    [reset] = peer.of(h2.events.StreamReset)
    assert reset.error_code == ErrorCodes.PROTOCOL_ERROR
    [opened] = request(peer)
    assert isinstance(opened, CallOpened)


def test_a_caller_that_is_refused_too_often_is_dropped() -> None:
    peer = raw_client(replace(LIMITS, provoked_resets=Rate(3, 1)))
    for _ in range(3):
        request(peer, with_header("content-type", "text/html"))
    with pytest.raises(ProtocolViolationError, match="had to be reset"):
        request(peer, with_header("content-type", "text/html"))
    # It is told why.
    assert b"too many calls that had to be reset" in peer.codec.data_to_send()


def test_calls_that_ended_by_themselves_are_no_flood() -> None:
    peer = raw_client(replace(LIMITS, provoked_resets=Rate(3, 1)))
    for _ in range(20):
        request(peer, with_header("content-type", "text/html"), end=True)


def test_a_call_that_h2_has_forgotten_takes_commands_until_its_end_is_told() -> None:
    """It forgets one that was reset when it sees the next, before either was looked at."""
    peer = raw_client()
    for call_id in (1, 3):
        peer.h2.send_headers(call_id, REQUEST)
        peer.h2.reset_stream(call_id)
    told: list[Event] = []
    for event in peer.codec.receive_untrusted(peer.h2.data_to_send(), NOW):
        if isinstance(event, CallOpened):
            assert peer.codec.send_window(event.call_id) == 0
            peer.codec.begin_reply(event.call_id, gzip=False)
            peer.codec.send(event.call_id, b"")
        if event is not None:
            told.append(event)
    assert [type(each) for each in told] == [CallOpened, CallReset] * 2


def test_padding_counts_as_credit() -> None:
    peer = raw_client()
    request(peer)
    peer.h2.send_data(1, b"abc", pad_length=10)
    peer.h2.send_data(1, b"", pad_length=20)
    # The length of the padding is a byte itself (RFC 9113 §6.1).
    assert peer.talk() == [BytesReceived(1, b"abc", 14), BytesReceived(1, b"", 21)]


def test_a_peer_without_preface() -> None:
    with pytest.raises((MalformedError, ProtocolViolationError)):
        feed(new_server(), b"GET / HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n")


def test_a_violation_is_told_by_goaway() -> None:
    peer = raw_client(replace(LIMITS, pings=Rate(2, 1)))
    for number in range(3):
        peer.h2.ping(bytes([number]) * 8)
    with pytest.raises(ProtocolViolationError, match="too many pings"):
        feed(peer.codec, peer.h2.data_to_send())
    peer.told = peer.h2.receive_data(peer.codec.data_to_send())
    [goaway] = peer.of(h2.events.ConnectionTerminated)
    assert goaway.error_code == ErrorCodes.ENHANCE_YOUR_CALM
    assert goaway.additional_data == b"too many pings"


def test_frames_of_calls_that_are_over_are_counted() -> None:
    """h2 answers each with a reset."""
    peer = raw_client(replace(LIMITS, late_frames=Rate(5, 1)))
    request(peer)
    peer.codec.reset(1)
    peer.codec.data_to_send()  # it gets lost
    for _ in range(5):
        peer.h2.send_data(1, bytes(100))
        feed(peer.codec, peer.h2.data_to_send())
    peer.h2.send_data(1, bytes(100))
    with pytest.raises(ProtocolViolationError, match="calls that are over"):
        feed(peer.codec, peer.h2.data_to_send())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes_raise_nothing_else(data: st.DataObject) -> None:
    """A good conversation, some of its bytes changed, or left out, or put in."""
    client = new_client()
    call_id = client.open_call(REQUEST_BY_STREAM, {"k": "v"}, 1)
    client.send(call_id, bytes(300))
    client.end_request(call_id)
    client.drain()
    wire = bytearray(client.data_to_send())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(wire) - 1))
        wire[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    server = new_server()
    with suppress(MalformedError, ProtocolViolationError):
        feed(server, bytes(wire))
    server.data_to_send()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_raise_nothing_else(noise: bytes, client: bool) -> None:
    codec = new_client() if client else new_server()
    preface = b"" if client else b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with suppress(MalformedError, ProtocolViolationError):
        feed(codec, preface + bytes.fromhex("000000040000000000") + noise)


# --- a client, against h2 -------------------------------------------------------------------------


def test_a_request_is_as_grpc_says() -> None:
    peer = raw_server()
    call_id = peer.codec.open_call(PING, {"k": "v", "k-bin": b"\x00\x01"}, 2.5)
    peer.codec.end_request(call_id)
    peer.talk()
    [received] = peer.of(h2.events.RequestReceived)
    # The order is of gRPC's grammar: Request-Headers, Timeout, then the rest.
    assert [each for each in received.headers if each[0] != "user-agent"] == [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/PeerService/Ping"),
        (":authority", "10.0.0.1:6800"),
        ("grpc-timeout", "2500000u"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-accept-encoding", "identity,gzip"),
        ("k", "v"),
        ("k-bin", "AAE"),
    ]
    assert dict(received.headers)["user-agent"].startswith("aelf-p2p/")
    [ended] = peer.of(h2.events.StreamEnded)
    assert ended.stream_id == call_id


OK_REPLY: Headers = [(":status", "200"), ("content-type", "application/grpc")]


def reply(*answers: tuple[Headers, bool], ended: bool = True) -> tuple[list[Event], RawPeer]:
    """What a client is told when a server answers so."""
    peer = raw_server()
    call_id = peer.codec.open_call(PING, {}, None)
    if ended:
        peer.codec.end_request(call_id)
    peer.talk()
    for headers, end in answers:
        peer.h2.send_headers(call_id, headers, end_stream=end)
    return peer.talk(), peer


@pytest.mark.parametrize(
    ("answers", "events"),
    [
        (
            [(OK_REPLY, False), ([("grpc-status", "5"), ("grpc-message", "a%20b")], True)],
            [ReplyBegan(1, "identity"), StatusReceived(1, StatusCode.NOT_FOUND, "a b")],
        ),
        (
            [([*OK_REPLY, ("grpc-encoding", "gzip")], False)],
            [ReplyBegan(1, "gzip")],
        ),
        (
            [([*OK_REPLY, ("grpc-status", "14")], True)],
            [StatusReceived(1, StatusCode.UNAVAILABLE, "")],
        ),
        (
            [([*OK_REPLY, ("grpc-status", "99")], True)],
            [StatusReceived(1, StatusCode.UNKNOWN, "")],
        ),
        (
            [([(":status", "503"), ("content-type", "text/html")], False)],
            [StatusReceived(1, StatusCode.UNAVAILABLE, "HTTP status 503")],
        ),
        (
            [([(":status", "200"), ("content-type", "text/html")], False)],
            [StatusReceived(1, StatusCode.UNKNOWN, "the answer is not gRPC")],
        ),
        (
            [([(":status", "100")], False), (OK_REPLY, False)],
            [ReplyBegan(1, "identity")],
        ),
        (
            [(OK_REPLY, False), ([("k", "v")], True)],
            [
                ReplyBegan(1, "identity"),
                StatusReceived(1, StatusCode.INTERNAL, "ended without a status"),
            ],
        ),
        (
            [(OK_REPLY, True)],
            [
                ReplyBegan(1, "identity"),
                StatusReceived(1, StatusCode.INTERNAL, "ended without a status"),
            ],
        ),
    ],
)
def test_what_a_client_makes_of_an_answer(
    answers: list[tuple[Headers, bool]], events: list[Event]
) -> None:
    received, peer = reply(*answers)
    assert received == events
    over = isinstance(events[-1], StatusReceived)
    assert bool(peer.codec.send_window(1)) is False
    # What ended otherwise than by the server's own end is reset.
    assert bool(peer.of(h2.events.StreamReset)) is (over and not answers[-1][1])


def test_a_status_before_our_half_ended_ends_it_too() -> None:
    received, peer = reply(([*OK_REPLY, ("grpc-status", "8")], True), ended=False)
    assert received == [StatusReceived(1, StatusCode.RESOURCE_EXHAUSTED, "")]
    [reset] = peer.of(h2.events.StreamReset)
    assert reset.error_code == ErrorCodes.CANCEL
    assert peer.codec.send_window(1) == 0


@pytest.mark.parametrize("code", [*ErrorCodes, 0xDEAD])
def test_a_reset_with_any_code(code: int) -> None:
    peer = raw_server()
    peer.codec.open_call(PING, {}, None)
    peer.talk()
    peer.h2.reset_stream(1, code)
    [event] = peer.talk()
    assert isinstance(event, CallReset)
    name = code.name if isinstance(code, ErrorCodes) else "error 57005"
    assert event.why.endswith(name)


def test_a_hard_goaway_names_its_reason() -> None:
    peer = raw_server()
    peer.codec.open_call(PING, {}, None)
    peer.talk()
    # By hand: h2's own would end its connection.
    payload = (1).to_bytes(4, "big") + (11).to_bytes(4, "big") + b"too_many_pings\xff"
    wire = len(payload).to_bytes(3, "big") + b"\x07\x00\x00\x00\x00\x00" + payload
    [draining] = feed(peer.codec, wire)
    assert draining == Draining(1, "ENHANCE_YOUR_CALM: too_many_pings\\xff")
    # What is under way goes on.
    peer.h2.send_headers(1, [*OK_REPLY, ("grpc-status", "0")], end_stream=True)
    assert peer.talk() == [StatusReceived(1, StatusCode.OK, "")]


def test_a_stream_opened_by_a_server_is_a_violation() -> None:
    peer = raw_server()
    header = b"\x00\x00\x01\x01\x05\x00\x00\x00\x02\x88"  # HEADERS of stream 2, :status 200
    with pytest.raises(ProtocolViolationError):
        feed(peer.codec, header)


def test_a_larger_window_of_the_peer_is_told_to_all_calls() -> None:
    peer = raw_server()
    call_id = peer.codec.open_call(REQUEST_BY_STREAM, {}, None)
    assert fill(peer.codec, call_id) == WINDOW
    peer.talk()
    peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2 * WINDOW})
    peer.h2.increment_flow_control_window(WINDOW)
    assert WindowOpened(None) in peer.talk()
    assert peer.codec.send_window(call_id) == WINDOW


# --- what reviews found ---------------------------------------------------------------------------


def test_spaces_around_a_header_end_no_connection() -> None:
    """The C core sends text as it is; in HTTP they mean nothing (RFC 9113 §8.2.1)."""
    config = H2Configuration(
        client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    client = H2Connection(config)
    client.initiate_connection()
    pairs = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", PING.path),
        (":authority", "x"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("text", " a b\t "),
    ]
    client.send_headers(1, pairs)
    events = feed(new_server(), client.data_to_send())
    [opened] = [event for event in events if isinstance(event, CallOpened)]
    assert opened.metadata == {"text": "a b"}


def test_before_a_server_has_spoken_a_client_opens_no_more_calls_than_any_server_takes() -> None:
    client = new_client()
    for _ in range(100):
        client.open_call(PING, {}, None)
    with pytest.raises(CallFailedError) as caught:
        client.open_call(PING, {}, None)
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    server = H2Connection(H2Configuration(client_side=False))
    server.initiate_connection()
    server.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 101})
    feed(client, server.data_to_send())
    client.open_call(PING, {}, None)


def test_informational_responses_are_counted() -> None:
    client = new_client(replace(LIMITS, empty_frames=Rate(3, 1)))
    client.open_call(PING, {}, None)
    server = H2Connection(H2Configuration(client_side=False))
    server.initiate_connection()
    server.receive_data(client.data_to_send())
    for _ in range(3):
        server.send_headers(1, [(":status", "103")])
    feed(client, server.data_to_send())
    server.send_headers(1, [(":status", "103")])
    with pytest.raises(ProtocolViolationError, match="informational"):
        feed(client, server.data_to_send())


def test_resets_of_calls_that_are_over_are_no_rapid_reset() -> None:
    """As when deadlines cross statuses: it is calls under way that a rapid reset ends."""
    limits = replace(LIMITS, resets=Rate(1, 1))
    duo = Duo(server=new_server(limits))
    for _ in range(5):
        call_id = duo.open()
        duo.server.end_reply(call_id, StatusCode.OK, "")
        crossing = duo.server.data_to_send()
        duo.client.reset(call_id)
        duo.talk()
        feed(duo.client, crossing)
        duo.talk()
    duo.client.reset(duo.open())
    duo.talk()
    duo.client.reset(duo.open())
    with pytest.raises(ProtocolViolationError, match="too many resets"):
        duo.talk()
