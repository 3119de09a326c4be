"""HTTP/2 as an input: frames that are taken apart, and frames and header blocks that are made."""

import struct
from collections.abc import Callable, Iterator
from random import Random

from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from aelf_p2p.wire.methods import METHODS, PING, REQUEST_BY_STREAM
from tests.fuzz.feeding import MESSAGE
from tests.fuzz.mutation import AnyMutation, Framing

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4
HEAD_BYTES = 9

Pairs = list[tuple[str, str]]

REQUEST: Pairs = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", REQUEST_BY_STREAM.path),
    (":authority", "test"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]
REPLY: Pairs = [(":status", "200"), ("content-type", "application/grpc")]
TRAILERS: Pairs = [("grpc-status", "0")]
_NAMES = [
    ":method",
    ":scheme",
    ":path",
    ":authority",
    ":status",
    ":protocol",
    "content-type",
    "content-length",
    "te",
    "grpc-timeout",
    "grpc-encoding",
    "grpc-accept-encoding",
    "grpc-status",
    "grpc-message",
    "user-agent",
    "session-id-bin",
    "public-key",
    "x-bin",
    "cookie",
    "connection",
    "transfer-encoding",
]
_VALUES = [
    *("", "POST", "GET", "http", "https", "200", "100", "204", "404", "application/grpc"),
    *("gzip", "identity", "deflate", "1S", "0n", "99999999H", "-1", "0", "13", "99", "trailers"),
    *("AQI", "AQI=", "AQI,AQM=", "a b", " ", "%F0%9F", "\r\n", "ü", "x" * 2000, *METHODS),
]


def block(pairs: Pairs) -> bytes:
    """A header block that fills no table of the other side that a later one needs."""
    return Encoder().encode(pairs)


def _random_block(rng: Random) -> bytes:
    pairs = list(rng.choice((REQUEST, REPLY, TRAILERS, [])))
    for _ in range(rng.randrange(3)):
        pairs.insert(rng.randrange(len(pairs) + 1), (rng.choice(_NAMES), rng.choice(_VALUES)))
    if pairs and rng.randrange(4) == 0:
        del pairs[rng.randrange(len(pairs))]
    return block(pairs)


def _call(rng: Random) -> int:
    return rng.choice((1, 1, 3, 3, 5, 7, 9, 2, 2**31 - 1))


def _flags(rng: Random, *names: str) -> list[str]:
    return [name for name in names if rng.randrange(2)]


_MAKERS: tuple[Callable[[Random], Frame], ...] = (
    lambda rng: HeadersFrame(
        _call(rng), _random_block(rng), flags=["END_HEADERS", *_flags(rng, "END_STREAM")]
    ),
    lambda rng: HeadersFrame(_call(rng), _random_block(rng), flags=_flags(rng, "END_STREAM")),
    lambda rng: ContinuationFrame(_call(rng), _random_block(rng), flags=["END_HEADERS"]),
    lambda rng: DataFrame(_call(rng), MESSAGE * rng.randrange(40), flags=_flags(rng, "END_STREAM")),
    lambda rng: RstStreamFrame(_call(rng), rng.randrange(16)),
    lambda rng: SettingsFrame(
        0,
        {rng.randrange(1, 10): rng.choice((0, 1, 100, 65_535, 16_384, 2**31 - 1, 2**32 - 1))},
    ),
    lambda rng: SettingsFrame(0, flags=["ACK"]),
    lambda rng: PushPromiseFrame(_call(rng), 2, _random_block(rng), flags=["END_HEADERS"]),
    lambda rng: PingFrame(0, bytes(8), flags=_flags(rng, "ACK")),
    lambda rng: GoAwayFrame(0, rng.randrange(8), rng.randrange(16), b"why"),
    lambda rng: WindowUpdateFrame(
        rng.choice((0, _call(rng))), rng.choice((1, 65_535, 2**31 - 1, 40_000))
    ),
    lambda rng: PriorityFrame(_call(rng), rng.randrange(8)),
)


def _made(rng: Random) -> bytes:
    return rng.choice(_MAKERS)(rng).serialize()


def _mutated_payload(
    head: bytes, payload: bytes, most: int, rng: Random, change: AnyMutation
) -> bytes:
    if head[3] in (HeadersFrame.type, ContinuationFrame.type) and rng.randrange(3):
        return _random_block(rng)
    return change(payload, most)


mutate_frames = Framing(
    head_bytes=HEAD_BYTES,
    length_of=lambda head: int.from_bytes(head[:3]),
    with_length=lambda head, length: struct.pack(">I", length)[1:] + head[3:],
    mutate_payload=_mutated_payload,
    make=(_made,),
)


def frames(*each: Frame) -> bytes:
    """As they travel."""
    return b"".join(one.serialize() for one in each)


def request(
    call_id: int, path: str = PING.path, *more: tuple[str, str], end: bool = False
) -> Frame:
    """The headers that begin a call."""
    pairs = [(name, path if name == ":path" else value) for name, value in REQUEST] + list(more)
    flags = ["END_HEADERS", *(["END_STREAM"] if end else [])]
    return HeadersFrame(call_id, block(pairs), flags=flags)


def headers(call_id: int, pairs: Pairs, *, end: bool = False) -> Frame:
    """Any headers."""
    flags = ["END_HEADERS", *(["END_STREAM"] if end else [])]
    return HeadersFrame(call_id, block(pairs), flags=flags)


def whole_frames(data: bytes) -> Iterator[Frame]:
    """What a codec has written, which must be whole frames and nothing else."""
    at = 0
    while at < len(data):
        frame, length = Frame.parse_frame_header(memoryview(data[at : at + HEAD_BYTES]))
        body = data[at + HEAD_BYTES : at + HEAD_BYTES + length]
        assert len(body) == length, "a frame that is cut short was written"
        frame.parse_body(memoryview(body))
        yield frame
        at += HEAD_BYTES + length
