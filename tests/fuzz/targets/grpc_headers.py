"""The header texts of gRPC: requests, replies, trailers, metadata, deadlines."""

import math
from collections.abc import Iterator
from contextlib import suppress

from aelf_p2p.core.errors import CallFailedError, MalformedError, StatusCode
from aelf_p2p.transports.grpc import headers as h
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from tests.fuzz.http2_input import REPLY, REQUEST, TRAILERS, Pairs

WORDS = (
    b"\n",
    b": ",
    b"grpc-timeout: ",
    b"grpc-encoding: gzip",
    b"grpc-accept-encoding: ",
    b"session-id-bin: AQI=",
    b"grpc-status: ",
    b"grpc-message: ",
    b"%F0%9F%98%80",
    b":status: ",
    b"99999999H",
    b"te: trailers",
)


def seeds() -> Iterator[bytes]:
    more: Pairs = [
        ("grpc-timeout", "3S"),
        ("grpc-encoding", "gzip"),
        ("grpc-accept-encoding", "identity, gzip"),
        ("public-key", "04ab"),
        ("session-id-bin", "AQIDBAU,AQI="),
    ]
    yield _lines(REQUEST)
    yield _lines(REQUEST + more)
    yield _lines(REPLY + more)
    yield _lines([*TRAILERS, ("grpc-message", "no%20such %E2%82%AC%F0")])
    yield b""


def _lines(pairs: Pairs) -> bytes:
    return b"\n".join(f"{name}: {value}".encode() for name, value in pairs)


def target(data: bytes) -> bool:
    pairs = [
        (name, value) for name, _, value in (line.partition(b": ") for line in data.split(b"\n"))
    ]
    with suppress(MalformedError):
        reply = h.parse_reply_untrusted(pairs)
        assert isinstance(h.status_of_http(reply.http_status), StatusCode)
    trailers = h.parse_trailers_untrusted(pairs)
    if trailers is not None:
        CallFailedError(*trailers)
        assert h.parse_trailers_untrusted(h.trailers(*trailers)) == trailers
    with suppress(MalformedError):
        seconds = h.parse_timeout_untrusted(data.decode(errors="replace"))
        again_s = h.parse_timeout_untrusted(h.encode_timeout(seconds))
        assert math.isclose(again_s, max(seconds, 1e-9), rel_tol=1e-7)  # rounded to eight digits
    try:
        request = h.parse_request_untrusted(pairs)
    except MalformedError:  # BadRequest is one
        return False
    # What was understood can be said again, and is understood the same.
    said = h.request_headers(
        REQUEST_BY_STREAM,
        authority="",
        scheme="http",
        metadata=request.metadata,
        timeout_s=request.timeout_s,
    )
    again = h.parse_request_untrusted(said)
    assert again.metadata == request.metadata
    return True
