"""Random bytes and random frames into the codec, both sides, in random slices."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hpack import Encoder
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    Padding,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from aelf_p2p.core.errors import (
    CallFailedError,
    ConnectionLostError,
    MalformedError,
    ProtocolViolationError,
    StatusCode,
)
from aelf_p2p.transports.grpc.codec import GrpcCodec
from aelf_p2p.transports.net.codec import BytesReceived, CallOpened, Event
from aelf_p2p.transports.net.connection import READ_BYTES
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.wire.methods import METHODS, PING, REQUEST_BY_STREAM
from tests.transports.hostile.raw_connection import message
from tests.transports.hostile.raw_http2 import PREFACE, frame

LIMITS = WireLimits()
CI = settings(max_examples=200, deadline=None)

# --- what is fed ----------------------------------------------------------------------------------

stream_ids = st.one_of(st.integers(0, 9), st.sampled_from([2**31 - 1, 101]))
int32 = st.one_of(st.integers(0, 70_000), st.integers(0, 2**32 - 1))
flags = st.sets(st.sampled_from(["END_STREAM", "END_HEADERS", "PADDED", "PRIORITY", "ACK"]))
texts = st.one_of(
    st.sampled_from(["", "POST", "GET", "http", "200", "100", "204", "404", "application/grpc"]),
    st.sampled_from(["gzip", "identity", "1S", "0n", "99999999H", "-1", "0", "13", "99"]),
    st.sampled_from(list(METHODS)),
    st.text(max_size=12),
    st.just(5000).map("x".__mul__),
)
names = st.one_of(
    st.sampled_from([":method", ":scheme", ":path", ":authority", ":status", ":protocol"]),
    st.sampled_from(["content-type", "content-length", "te", "grpc-timeout", "grpc-encoding"]),
    st.sampled_from(["grpc-status", "grpc-message", "grpc-accept-encoding", "x-bin", "cookie"]),
    st.text(max_size=8),
)
good_request = st.builds(
    lambda path, more: [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        ("content-type", "application/grpc"),
        *more,
    ],
    st.one_of(st.sampled_from(list(METHODS)), st.just("/PeerService/Nothing")),
    st.lists(st.tuples(names, texts), max_size=2),
)
good_reply = st.builds(
    lambda more: [(":status", "200"), ("content-type", "application/grpc"), *more],
    st.lists(st.tuples(names, texts), max_size=2),
)
good_trailers = st.builds(
    lambda status, more: [("grpc-status", status), *more],
    texts,
    st.lists(st.tuples(names, texts), max_size=2),
)
blocks = st.one_of(
    st.one_of(
        good_request,
        good_reply,
        good_trailers,
        st.lists(st.tuples(names, texts), max_size=6),
    ).map(lambda pairs: Encoder().encode([_encodable(*pair) for pair in pairs])),
    st.binary(max_size=40),
)
bodies = st.one_of(
    st.binary(max_size=300),
    st.builds(message, st.binary(max_size=50), st.integers(0, 2)),
    st.integers(0, 16_000).map(bytes),
)


def _encodable(name: str, value: str) -> tuple[bytes, bytes]:
    return name.encode(errors="replace"), value.encode(errors="replace")


def _flagged(each: Frame, wanted: set[str], pad: int) -> Frame:
    for flag in each.defined_flags:
        if flag.name in wanted:
            each.flags.add(flag.name)
    if isinstance(each, Padding) and "PADDED" in each.flags:
        each.pad_length = pad
    return each


valid_frames = st.one_of(
    st.builds(DataFrame, st.integers(1, 9), bodies),
    st.builds(HeadersFrame, st.integers(1, 9), blocks),
    st.builds(
        lambda call_id, block: HeadersFrame(call_id, block, flags=["END_HEADERS"]),
        st.sampled_from([1, 3, 5, 7]),
        blocks,
    ),
    st.builds(ContinuationFrame, st.integers(1, 9), blocks),
    st.builds(RstStreamFrame, st.integers(1, 9), int32),
    st.builds(
        lambda values: SettingsFrame(0, values),
        st.dictionaries(st.integers(0, 9), int32, max_size=3),
    ),
    st.builds(lambda: SettingsFrame(0, flags=["ACK"])),
    st.builds(PushPromiseFrame, st.integers(1, 9), st.sampled_from([2, 4, 6]), blocks),
    st.builds(PingFrame, st.just(0), st.just(bytes(8))),
    st.builds(GoAwayFrame, st.just(0), st.integers(0, 9), int32, st.binary(max_size=20)),
    st.builds(WindowUpdateFrame, st.integers(0, 9), st.integers(1, 2**31 - 1)),
    st.builds(PriorityFrame, st.integers(1, 9), st.integers(0, 9)),
    st.builds(AltSvcFrame, st.integers(0, 3), st.binary(max_size=9), st.binary(max_size=9)),
)
some_frame = st.one_of(
    st.builds(_flagged, valid_frames, flags, st.integers(0, 255)).map(
        lambda each: each.serialize()
    ),
    st.builds(frame, st.integers(0, 12), st.integers(0, 255), stream_ids, st.binary(max_size=40)),
    st.builds(
        frame,
        st.integers(0, 12),
        st.integers(0, 255),
        stream_ids,
        st.binary(max_size=20),
        st.integers(0, 40),
    ),
)


@st.composite
def frames(draw: st.DrawFn) -> list[bytes]:
    """Some frames one after another; a function, since Hypothesis quotes strategies in full."""
    return [draw(some_frame) for _ in range(draw(st.integers(0, 12)))]


slices = st.lists(st.integers(1, 200), max_size=20)

# --- feeding --------------------------------------------------------------------------------------


def feed(codec: GrpcCodec, data: bytes, cuts: list[int], react: Callable[[Event], None]) -> None:
    """Read by read; what is allowed to come out is an event, or one of two errors."""
    at = 0
    for now, size in enumerate([*cuts, *[READ_BYTES] * (len(data) // READ_BYTES + 1)]):
        try:
            for event in codec.receive_untrusted(data[at : at + size], float(now + 1)):
                if event is not None:
                    react(event)
        except (MalformedError, ProtocolViolationError):
            codec.drain()
            codec.data_to_send()
            return
        codec.data_to_send()
        at += size
    # What a connection may still do, whatever happened.
    for call_id in range(1, 8):
        codec.consumed(call_id, 40_000)
        codec.reset(call_id)
    codec.drain()
    codec.data_to_send()


def server_reacts(codec: GrpcCodec) -> Callable[[Event], None]:
    """As a connection and its handlers: some calls are answered, some reset, some trusted."""

    def react(event: Event) -> None:
        match event:
            case CallOpened(call_id=1):
                codec.trust(1)
                codec.begin_reply(1, gzip=False)
                codec.send(1, message(b"pong")[: codec.send_window(1)])
            case CallOpened(call_id=3):
                codec.end_reply(3, StatusCode.INTERNAL, "no")
            case CallOpened(call_id=5):
                codec.reset(5)
            case BytesReceived(call_id, _, credit):
                codec.consumed(call_id, credit)

    return react


def client_reacts(codec: GrpcCodec) -> Callable[[Event], None]:
    def react(event: Event) -> None:
        match event:
            case BytesReceived(call_id, _, credit):
                codec.consumed(call_id, credit)

    return react


def fed_server(data: bytes, cuts: list[int]) -> None:
    codec = GrpcCodec(is_client=False, limits=LIMITS)
    feed(codec, data, cuts, server_reacts(codec))


def fed_client(data: bytes, cuts: list[int]) -> None:
    codec = GrpcCodec(is_client=True, limits=LIMITS, authority="test", scheme="http")
    for method in (PING, REQUEST_BY_STREAM, REQUEST_BY_STREAM):
        call_id = codec.open_call(method, {}, 1.0)
        codec.send(call_id, message(b"ping"))
        if method is PING:
            codec.end_request(call_id)
    codec.data_to_send()
    feed(codec, data, cuts, client_reacts(codec))
    with suppress(ConnectionLostError, CallFailedError):
        codec.open_call(PING, {}, 1.0)


@pytest.mark.fault(14)
@CI
@given(st.binary(max_size=400), slices)
def test_random_bytes_to_a_server(data: bytes, cuts: list[int]) -> None:
    fed_server(data, cuts)
    fed_server(PREFACE + data, cuts)


@pytest.mark.fault(14)
@CI
@given(st.binary(max_size=400), slices)
def test_random_bytes_to_a_client(data: bytes, cuts: list[int]) -> None:
    fed_client(data, cuts)


@CI
@given(frames(), slices)
def test_random_frames_to_a_server(sent: list[bytes], cuts: list[int]) -> None:
    fed_server(PREFACE + b"".join(sent), cuts)


@CI
@given(frames(), slices)
def test_random_frames_to_a_client(sent: list[bytes], cuts: list[int]) -> None:
    fed_client(b"".join(sent), cuts)
