"""Floods of HTTP/2 frames, each with the budget that it overruns."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

from tests.transports.hostile.raw_connection import for_ever
from tests.transports.hostile.raw_http2 import (
    RawPeer,
    data,
    frame,
    ping,
    request_pairs,
    reset,
    settings,
    window_update,
)

Flood = Callable[[RawPeer], Iterator[bytes]]


def calls(make: Callable[[RawPeer, int], bytes]) -> Flood:
    """One call after another: ``make(peer, 1)``, ``make(peer, 3)``, …"""
    return lambda peer: for_ever(lambda at: make(peer, 2 * at + 1))


def opened(peer: RawPeer, call_id: int, *, end_stream: bool = False) -> bytes:
    return peer.headers(call_id, request_pairs(do="sleep"), end_stream=end_stream)


def repeated(repeat: bytes) -> Flood:
    return lambda peer: for_ever(lambda at: repeat)


def on_a_call(repeat: bytes) -> Flood:
    return lambda peer: chain([opened(peer, 1)], for_ever(lambda at: repeat))


def in_a_header_block(repeat: bytes) -> Flood:
    return lambda peer: chain([frame(1, 0, 1, b"\x82")], for_ever(lambda at: repeat, batch=1))


TOO_MANY_RESETS = "too many calls that had to be reset"
TOO_SMALL = "too many small frames"


class KnownFlood(NamedTuple):
    """A flood, the case that it is of (0 for none), and what its GOAWAY says."""

    case: int
    flood: Flood
    why: str


FLOODS = {
    "rapid reset (CVE-2023-44487)": KnownFlood(
        16,
        calls(lambda peer, at: opened(peer, at) + reset(at)),
        "too many resets",
    ),
    # CVE-2025-8671: resets that the server is made to send
    "DATA after END_STREAM": KnownFlood(
        17,
        calls(lambda peer, at: opened(peer, at, end_stream=True) + data(at, b"more")),
        TOO_MANY_RESETS,
    ),
    "HEADERS after END_STREAM": KnownFlood(
        17,
        calls(
            lambda peer, at: (
                opened(peer, at, end_stream=True) + peer.headers(at, [("x", "y")], end_stream=True)
            )
        ),
        TOO_MANY_RESETS,
    ),
    "windows that overflow": KnownFlood(
        17,
        calls(lambda peer, at: opened(peer, at, end_stream=True) + window_update(at, 2**31 - 1)),
        TOO_MANY_RESETS,
    ),
    "headers that are no text": KnownFlood(
        17,
        calls(lambda peer, at: peer.headers(at, [*request_pairs(), ("x", b"\xff")])),
        TOO_MANY_RESETS,
    ),
    "unknown methods, their requests outstanding": KnownFlood(
        17,
        calls(lambda peer, at: peer.headers(at, request_pairs("/PeerService/Nothing"))),
        TOO_MANY_RESETS,
    ),
    "DATA of a call that is over": KnownFlood(
        17,
        lambda peer: chain(
            [opened(peer, 1) + reset(1)], for_ever(lambda at: data(1, b"123456789"))
        ),
        "too many frames of calls that are over",
    ),
    "PING": KnownFlood(18, repeated(ping()), "too many pings"),
    "PING ACK": KnownFlood(18, repeated(frame(6, 1, 0, bytes(8))), TOO_SMALL),
    "SETTINGS": KnownFlood(19, repeated(settings()), "too many settings"),
    "SETTINGS ACK": KnownFlood(19, repeated(frame(4, 1, 0)), TOO_SMALL),
    "empty DATA": KnownFlood(20, on_a_call(data(1, b"")), "too many empty frames"),
    "DATA of one byte": KnownFlood(20, on_a_call(data(1, b"x")), TOO_SMALL),
    "big CONTINUATION": KnownFlood(
        21,
        in_a_header_block(frame(9, 0, 1, b"\0\1a\1b" * 3000)),
        "headers of over 32768 bytes",
    ),
    "PRIORITY": KnownFlood(0, repeated(frame(2, 0, 1, bytes(5))), TOO_SMALL),
    "WINDOW_UPDATE": KnownFlood(0, repeated(window_update(0, 1)), TOO_SMALL),
    "WINDOW_UPDATE of a call": KnownFlood(0, on_a_call(window_update(1, 1)), TOO_SMALL),
    "unknown frames": KnownFlood(0, repeated(frame(0xEE, 0xFF, 1)), TOO_SMALL),
    "GOAWAY": KnownFlood(0, repeated(frame(7, 0, 0, bytes(8))), TOO_SMALL),
}
