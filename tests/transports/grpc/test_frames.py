"""The look at HTTP/2 frames before h2 sees them, against frames made by hand (RFC 9113 §4.1)."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hyperframe.frame import GoAwayFrame
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.budgets import Rate
from aelf_p2p.core.errors import MalformedError, ProtocolViolationError
from aelf_p2p.transports.grpc.frames import SMALL_DATA_BYTES, DataPiece, FrameScanner
from aelf_p2p.transports.net.limits import WireLimits

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = range(9)
CONTINUATION, UNKNOWN = 9, 0xAB
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NOW = 3.0
GENEROUS = WireLimits(empty_frames=Rate(1e6, 1), small_frames=Rate(1e6, 1), pings=Rate(1e6, 1))

Piece = bytes | DataPiece | tuple[int, int, bytes]
"""What h2 sees, bytes of a DATA frame, or a GOAWAY: last stream's id, error code, debug data."""


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream_id: int = 1) -> bytes:
    header = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big")
    return header + payload


def goaway(last: int, code: int, debug: bytes = b"") -> bytes:
    payload = last.to_bytes(4, "big") + code.to_bytes(4, "big") + debug
    return frame(GOAWAY, payload, stream_id=0)


def new_scanner(limits: WireLimits | None = None, *, server: bool = False) -> FrameScanner:
    return FrameScanner(limits or WireLimits(), expects_preface=server)


def scan(scanner: FrameScanner, *slices: bytes, now: float = NOW) -> list[Piece]:
    """What comes out, neighbouring bytes joined; turns left out."""
    pieces: list[Piece] = []
    for each in slices:
        for piece in scanner.scan_untrusted(each, now):
            if isinstance(piece, GoAwayFrame):
                pieces.append((piece.last_stream_id, piece.error_code, piece.additional_data))
            elif piece is not None:
                assert piece  # h2 is not bothered with nothing
                pieces.append(piece)
    return join(pieces)


def join(pieces: Iterable[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for piece in pieces:
        match joined[-1:], piece:
            case [bytes(before)], bytes():
                joined[-1] = before + piece
            case [DataPiece(stream_id, before)], DataPiece(same, data) if stream_id == same:
                joined[-1] = DataPiece(same, before + data)
            case _:
                joined.append(piece)
    return joined


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(each % (len(data) + 1) for each in cuts)})
    return [data[a:b] for a, b in pairwise(at)]


# --- cutting --------------------------------------------------------------------------------------

PLAIN = st.tuples(
    st.sampled_from([DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, UNKNOWN]),
    st.binary(min_size=1, max_size=40),
    st.integers(0, 255),
).map(lambda made: frame(made[0], made[1], flags=made[2]))
GOAWAYS = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=20))


@given(
    st.lists(PLAIN | GOAWAYS, max_size=12),
    st.booleans(),
    st.lists(st.integers(0, 2**16), max_size=20),
)
def test_any_slicing_gives_the_same_pieces_without_goaway(
    made: list[bytes | tuple[int, int, bytes]], server: bool, cuts: list[int]
) -> None:
    wire = PREFACE if server else b""
    expected: list[Piece] = [PREFACE] if server else []
    for each in made:
        if isinstance(each, bytes):
            wire += each
            if expected and isinstance(expected[-1], bytes):
                expected[-1] += each
            else:
                expected.append(each)
        else:
            wire += goaway(*each)
            expected.append(each)
    assert scan(new_scanner(server=server), *cut(wire, cuts)) == expected


FRAMES = st.tuples(
    st.sampled_from([DATA, DATA, DATA, HEADERS, CONTINUATION, PING]),
    st.binary(max_size=40),
    st.sampled_from([0, 0, END_STREAM, END_HEADERS, 0x8, 0xFF]),
    st.integers(1, 3),
)


@given(st.lists(FRAMES, max_size=20), st.lists(st.integers(0, 2**16), max_size=20))
def test_data_of_some_streams_is_given_apart(
    made: list[tuple[int, bytes, int, int]], cuts: list[int]
) -> None:
    wire, expected, asked = b"", list[Piece](), []
    in_headers = False  # which only CONTINUATION may go on with, and h2 alone says so
    for kind, payload, flags, stream_id in made:
        whole = frame(kind, payload, flags=flags, stream_id=stream_id)
        wire += whole
        plain = kind == DATA and payload != b"" and not flags and not in_headers
        if plain:
            asked.append((stream_id, len(payload)))
        expected.append(DataPiece(stream_id, payload) if plain and stream_id != 2 else whole)
        if kind in (HEADERS, CONTINUATION):
            in_headers = not flags & END_HEADERS
    heard: list[tuple[int, int]] = []

    def takes_data(stream_id: int, size: int) -> bool:
        heard.append((stream_id, size))
        return stream_id != 2

    scanner = FrameScanner(GENEROUS, expects_preface=False, takes_data=takes_data)
    assert scan(scanner, *cut(wire, cuts)) == join(expected)
    assert heard == asked


def test_all_before_is_given_before_it_is_asked_for_data() -> None:
    given_before: list[list[Piece]] = []
    pieces: list[Piece] = []

    def takes_data(stream_id: int, size: int) -> bool:
        given_before.append(list(pieces))
        return True

    scanner = FrameScanner(WireLimits(), expects_preface=False, takes_data=takes_data)
    headers, data = frame(HEADERS, b"h", flags=END_HEADERS), frame(DATA, b"d")
    for piece in scanner.scan_untrusted(headers + data + headers + data, NOW):
        assert isinstance(piece, bytes | DataPiece)
        pieces.append(piece)
    one_call = [headers, DataPiece(1, b"d")]
    assert pieces == 2 * one_call
    assert given_before == [[headers], [*one_call, headers]]


@pytest.mark.parametrize("apart", [True, False])
def test_a_turn_has_a_bounded_number_of_frames(apart: bool) -> None:
    frames = [frame(DATA, b"data" + bytes([number])) for number in range(200)]
    scanner = FrameScanner(GENEROUS, expects_preface=False, takes_data=lambda *_: apart)
    turns = [b""]
    for piece in scanner.scan_untrusted(b"".join(frames), NOW):
        if piece is None:
            turns.append(b"")
        else:
            assert isinstance(piece, bytes | DataPiece)
            turns[-1] += piece if isinstance(piece, bytes) else frame(DATA, piece.data)
    assert [len(turn) / len(frames[0]) for turn in turns] == [63, 64, 64, 9]
    assert b"".join(turns) == b"".join(frames)


def test_bytes_one_by_one() -> None:
    wire = PREFACE + frame(DATA, b"abc") + goaway(5, 2, b"why") + frame(PING, b"12345678")
    pieces = scan(new_scanner(server=True), *(bytes([byte]) for byte in wire))
    assert pieces == [
        PREFACE + frame(DATA, b"abc"),
        (5, 2, b"why"),
        frame(PING, b"12345678"),
    ]


def test_h2_sees_a_frames_payload_before_the_frame_is_whole() -> None:
    scanner = new_scanner()
    wire = frame(DATA, b"abcdef")
    assert scan(scanner, wire[:11]) == [wire[:11]]
    assert scan(scanner, wire[11:]) == [wire[11:]]


@pytest.mark.parametrize("length", [0, 7])
def test_a_goaway_that_is_too_short(length: int) -> None:
    with pytest.raises(MalformedError, match=f"GOAWAY of {length} bytes"):
        scan(new_scanner(), frame(GOAWAY, bytes(length), stream_id=0))


def test_a_goaway_belongs_to_no_stream() -> None:
    with pytest.raises(MalformedError, match="GOAWAY"):
        scan(new_scanner(), frame(GOAWAY, bytes(8), stream_id=1))


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DATA, HEADERS, GOAWAY, UNKNOWN])
def test_a_frame_that_is_too_long_is_refused_at_its_header(kind: int) -> None:
    header = (16 * 1024 + 1).to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, 1])
    scanner = new_scanner()
    assert scan(scanner, header[:8]) == []
    with pytest.raises(MalformedError, match="16385 bytes, over 16384"):
        scan(scanner, header[8:])


def test_the_longest_frame_passes() -> None:
    wire = frame(DATA, bytes(16 * 1024))
    assert scan(new_scanner(), wire) == [wire]


def headers_of(*lengths: int) -> bytes:
    first, *others = lengths
    return frame(HEADERS, bytes(first)) + b"".join(
        frame(CONTINUATION, bytes(each)) for each in others
    )


@pytest.mark.parametrize("lengths", [(16384, 16384), (1, 16384, 16383), (16384, *[1024] * 16)])
def test_a_header_block_of_32_kib_passes_and_no_more(lengths: tuple[int, ...]) -> None:
    scanner = new_scanner()
    for _ in range(3):  # each block counts for itself
        assert scan(scanner, headers_of(*lengths)) == [headers_of(*lengths)]
    with pytest.raises(ProtocolViolationError, match="headers of over 32768 bytes"):
        scan(scanner, headers_of(*lengths, 1))


# --- floods ---------------------------------------------------------------------------------------

FLOODS = [
    ("small_frames", frame(RST_STREAM, bytes(4))),  # the codec knows whether a call ends by it
    ("pings", frame(PING, bytes(8), stream_id=0)),
    ("settings", frame(SETTINGS, stream_id=0)),
    ("settings", frame(SETTINGS, bytes(6), stream_id=0)),
    ("empty_frames", frame(DATA)),
    ("empty_frames", frame(HEADERS)),
    ("empty_frames", frame(CONTINUATION)),
    ("small_frames", frame(DATA, bytes(SMALL_DATA_BYTES))),
    ("small_frames", frame(DATA, b"\x63" + bytes(99), flags=0x8)),  # nothing but padding
    ("small_frames", frame(DATA, flags=END_STREAM)),
    ("small_frames", frame(WINDOW_UPDATE, bytes(4))),
    ("small_frames", frame(PRIORITY, bytes(5))),
    ("small_frames", frame(PUSH_PROMISE, bytes(5))),
    ("small_frames", frame(UNKNOWN, bytes(100))),
    ("small_frames", frame(PING, bytes(8), flags=ACK, stream_id=0)),
    ("small_frames", frame(SETTINGS, flags=ACK, stream_id=0)),
    ("small_frames", goaway(0, 0)),
]


def with_rate(rate: Rate, *budgets: str) -> WireLimits:
    changes: Any = dict.fromkeys(budgets, rate)
    return replace(WireLimits(), **changes)


@pytest.mark.parametrize(("budget", "wire"), FLOODS)
def test_a_flood_is_refused_at_its_own_rate(budget: str, wire: bytes) -> None:
    limits = with_rate(Rate(3, 2), budget)
    scanner = new_scanner(limits)
    for _ in range(3):
        scan(scanner, wire)
    scan(scanner, wire, wire, now=NOW + 1)
    with pytest.raises(ProtocolViolationError, match=f"too many {budget.replace('_', ' ')}"):
        scan(scanner, wire, now=NOW + 1)


@pytest.mark.parametrize(("budget", "wire"), FLOODS)
def test_a_flood_spends_nothing_of_the_other_budgets(budget: str, wire: bytes) -> None:
    others = {"pings", "settings", "empty_frames", "small_frames"} - {budget}
    limits = with_rate(Rate(1, 1), *others)
    scanner = new_scanner(limits)
    for _ in range(40):
        scan(scanner, wire)


@pytest.mark.parametrize(
    "wire",
    [
        frame(DATA, bytes(SMALL_DATA_BYTES + 1)),
        frame(HEADERS, b"1", flags=END_STREAM),
        frame(HEADERS, b"1") + frame(CONTINUATION, b"2"),
    ],
)
def test_what_carries_something_is_not_counted(wire: bytes) -> None:
    one = Rate(1, 1)
    limits = WireLimits(pings=one, settings=one, empty_frames=one, small_frames=one)
    scanner = new_scanner(limits)
    for _ in range(100):
        assert scan(scanner, wire) == [wire]
