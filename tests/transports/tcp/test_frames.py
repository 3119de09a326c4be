"""The layout: each frame as bytes written out by hand, and what breaks the layout's rules."""

import struct
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.errors import MalformedError, MisuseError, StatusCode
from aelf_p2p.transports.tcp import frames as f
from aelf_p2p.transports.tcp.frames import Frame, FrameKind, FrameReader, Opening, ResetCause

PREFACE = b"aelf-p2p/1\n"

OPENING = Opening(
    path="/PeerService/Ping",
    metadata={"public-key": "04ab", "session-id-bin": b"\x00\xff"},
    timeout_s=1.5,
    accepts_gzip=True,
)
OPEN_PAYLOAD = (
    b"\x01"  # accepts gzip
    b"\x00\x00\x05\xdc"  # 1500 ms
    b"\x11/PeerService/Ping"  # 17 characters
    b"\x0apublic-key\x00\x0404ab"
    b"\x0esession-id-bin\x00\x02\x00\xff"
)

GOLDEN = [
    (
        f.encode_settings(65535, 100),
        b"\x00\x00\x00\x08\x01\x00\x00\x00\x00" + b"\x00\x00\xff\xff\x00\x00\x00\x64",
    ),
    (f.encode_open(7, OPENING), b"\x00\x00\x00\x3b\x02\x00\x00\x00\x07" + OPEN_PAYLOAD),
    (f.encode_reply(7, gzip=True), b"\x00\x00\x00\x01\x03\x00\x00\x00\x07" + b"\x01"),
    (f.encode_reply(7, gzip=False), b"\x00\x00\x00\x01\x03\x00\x00\x00\x07" + b"\x00"),
    (
        f.encode_header(FrameKind.BYTES, 0x01020304, 3) + b"abc",
        b"\x00\x00\x00\x03\x04\x01\x02\x03\x04" + b"abc",
    ),
    (f.encode_header(FrameKind.END, 7, 0), b"\x00\x00\x00\x00\x05\x00\x00\x00\x07"),
    (
        f.encode_status(7, StatusCode.UNAUTHENTICATED, "né"),
        b"\x00\x00\x00\x04\x06\x00\x00\x00\x07" + b"\x10n\xc3\xa9",
    ),
    (
        f.encode_reset(7, ResetCause.NEVER_STARTED),
        b"\x00\x00\x00\x01\x07\x00\x00\x00\x07" + b"\x01",
    ),
    (f.encode_reset(7, ResetCause.ENDED), b"\x00\x00\x00\x01\x07\x00\x00\x00\x07" + b"\x00"),
    (f.encode_credit(7, 2**31 - 1), b"\x00\x00\x00\x04\x08\x00\x00\x00\x07" + b"\x7f\xff\xff\xff"),
    (
        f.encode_goaway(7, "bye"),
        b"\x00\x00\x00\x07\x09\x00\x00\x00\x00" + b"\x00\x00\x00\x07bye",
    ),
]


@pytest.mark.parametrize(("encoded", "by_hand"), GOLDEN)
def test_each_kind_of_frame_is_laid_out_as_documented(encoded: bytes, by_hand: bytes) -> None:
    assert encoded == by_hand


def test_payloads_are_read_as_documented() -> None:
    assert f.parse_settings_untrusted(b"\x00\x00\xff\xff\x00\x00\x00\x64") == (65535, 100)
    assert f.parse_open_untrusted(OPEN_PAYLOAD) == OPENING
    assert f.parse_reply_untrusted(b"\x01")
    assert not f.parse_reply_untrusted(b"\x00")
    assert f.parse_status_untrusted(b"\x10n\xc3\xa9") == (StatusCode.UNAUTHENTICATED, "né")
    assert f.parse_reset_untrusted(b"\x00") is ResetCause.ENDED
    assert f.parse_reset_untrusted(b"\x01") is ResetCause.NEVER_STARTED
    assert f.parse_credit_untrusted(b"\x7f\xff\xff\xff") == 2**31 - 1
    assert f.parse_goaway_untrusted(b"\x00\x00\x00\x07bye") == (7, "bye")


def test_an_opening_keeps_its_metadata_to_itself() -> None:
    assert "04ab" not in repr(OPENING)


# --- timeouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout_s", "timeout_ms"),
    [
        (None, 0),
        (0.25, 250),
        (0.0001, 1),
        (0.0, 1),
        (-5.0, 1),
        (0.0021, 3),
        (4294967.295, 2**32 - 1),
        (1e12, 2**32 - 1),
        (float("inf"), 2**32 - 1),
    ],
)
def test_timeouts_are_milliseconds_rounded_up(timeout_s: float | None, timeout_ms: int) -> None:
    encoded = f.encode_open(1, Opening("/p", {}, timeout_s, accepts_gzip=False))
    assert encoded[9:] == b"\x00" + timeout_ms.to_bytes(4, "big") + b"\x02/p"


def test_no_timeout_is_read_from_zero() -> None:
    assert f.parse_open_untrusted(b"\x00\x00\x00\x00\x00\x02/p").timeout_s is None
    assert f.parse_open_untrusted(b"\x00\x00\x00\x00\x01\x02/p").timeout_s == 0.001


# --- metadata -------------------------------------------------------------------------------------

keys = st.from_regex(r"[0-9a-z_.-]{1,20}", fullmatch=True).filter(lambda k: not k.endswith("-bin"))
binary_keys = keys.map(lambda key: key + "-bin")
texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=50)
metadatas = st.builds(
    lambda text, binary: text | binary,
    st.dictionaries(keys, texts, max_size=5),
    st.dictionaries(binary_keys, st.binary(max_size=50), max_size=5),
)


@given(metadatas)
def test_metadata_arrive_as_they_were_sent(metadata: dict[str, str | bytes]) -> None:
    encoded = f.encode_open(1, Opening("/p", metadata, None, accepts_gzip=False))
    received = f.parse_open_untrusted(encoded[9:]).metadata
    assert list(received.items()) == list(metadata.items())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("", "v"),
        ("Upper", "v"),
        ("a key", "v"),
        ("key\n", "v"),
        ("ключ", "v"),
        ("k" * 256, "v"),
        ("key", b"bytes"),
        ("key-bin", "text"),
        ("key", "line\nbreak"),
        ("key", "\x7f"),
        ("key", "é"),
        ("key", "v" * 16385),
        ("key", "v" * 70_000),
    ],
)
def test_metadata_that_break_the_rules_are_not_sent(key: str, value: str | bytes) -> None:
    with pytest.raises(MisuseError, match="metadata that cannot be sent"):
        f.encode_open(1, Opening("/p", {key: value}, None, accepts_gzip=False))


@pytest.mark.parametrize(
    "pairs",
    [
        b"\x00\x00\x01v",
        b"\x01K\x00\x01v",
        b"\x01\xe9\x00\x01v",
        b"\x01k\x00\x01\n",
        b"\x01k\x00\x01\xe9",
        b"\x01k\x00\x01v\x01k\x00\x01w",  # twice
        b"\x01k\x00\x02v",
        b"\x01k\x00",
        b"\x02k",
        b"\x01",
    ],
)
def test_metadata_that_break_the_rules_are_malformed(pairs: bytes) -> None:
    with pytest.raises(MalformedError):
        f.parse_open_untrusted(b"\x00\x00\x00\x00\x00\x02/p" + pairs)


def test_metadata_may_weigh_16_kib() -> None:
    value = "v" * (16 * 1024 - 1 - 1 - 2)
    opening = Opening("/p", {"k": value}, None, accepts_gzip=False)
    payload = f.encode_open(1, opening)[9:]
    assert f.parse_open_untrusted(payload) == opening
    with pytest.raises(MisuseError, match="16385 bytes of metadata, over 16384"):
        f.encode_open(1, Opening("/p", {"k": value + "v"}, None, accepts_gzip=False))
    one_more = payload.replace(struct.pack(">H", len(value)), struct.pack(">H", len(value) + 1))
    with pytest.raises(MalformedError, match="16385 bytes of metadata, over 16384"):
        f.parse_open_untrusted(one_more + b"v")


# --- other payloads -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shortened"),
    [
        ("a" * 1024, "a" * 1024),
        ("a" * 1025, "a" * 1024),
        ("é" * 512, "é" * 512),
        ("a" + "é" * 512, "a" + "é" * 511),
        ("a" * 1021 + "🦀", "a" * 1021),
        ("\ud800", "?"),  # half a surrogate pair, which UTF-8 cannot say
    ],
)
def test_texts_are_shortened_between_characters(text: str, shortened: str) -> None:
    status = f.encode_status(1, StatusCode.INTERNAL, text)
    assert status[10:] == shortened.encode()
    assert f.encode_goaway(1, text)[13:] == shortened.encode()


def test_malformed_payloads() -> None:
    for payload in (b"", b"\x00" * 7, b"\x00" * 9):
        with pytest.raises(MalformedError, match="SETTINGS"):
            f.parse_settings_untrusted(payload)
    for payload in (b"", b"\x00" * 5, b"\x00\x00\x00\x00\x00\x03/p"):
        with pytest.raises(MalformedError, match="OPEN ends too early"):
            f.parse_open_untrusted(payload)
    with pytest.raises(MalformedError, match="unknown flags 0x2"):
        f.parse_open_untrusted(b"\x02\x00\x00\x00\x00\x02/p")
    with pytest.raises(MalformedError, match="not UTF-8"):
        f.parse_open_untrusted(b"\x00\x00\x00\x00\x00\x02/\xff")
    with pytest.raises(MalformedError, match="unknown flags 0x80"):
        f.parse_reply_untrusted(b"\x80")
    with pytest.raises(MalformedError, match="REPLY of 0 bytes instead of 1"):
        f.parse_reply_untrusted(b"")
    with pytest.raises(MalformedError, match="without a code"):
        f.parse_status_untrusted(b"")
    with pytest.raises(MalformedError, match="unknown status code 17"):
        f.parse_status_untrusted(b"\x11")
    with pytest.raises(MalformedError, match="not UTF-8"):
        f.parse_status_untrusted(b"\x00\xc3")
    with pytest.raises(MalformedError, match="unknown cause 2"):
        f.parse_reset_untrusted(b"\x02")
    with pytest.raises(MalformedError, match="RESET of 0 bytes instead of 1"):
        f.parse_reset_untrusted(b"")
    with pytest.raises(MalformedError, match="CREDIT of 3 bytes instead of 4"):
        f.parse_credit_untrusted(b"\x00\x00\x01")
    with pytest.raises(MalformedError, match="GOAWAY of 3 bytes"):
        f.parse_goaway_untrusted(b"\x00\x00\x01")
    with pytest.raises(MalformedError, match="not UTF-8"):
        f.parse_goaway_untrusted(b"\x00\x00\x00\x01\xff")


@given(st.binary(max_size=100))
def test_any_payload_is_read_or_malformed(payload: bytes) -> None:
    for parse in (
        f.parse_settings_untrusted,
        f.parse_open_untrusted,
        f.parse_reply_untrusted,
        f.parse_status_untrusted,
        f.parse_reset_untrusted,
        f.parse_credit_untrusted,
        f.parse_goaway_untrusted,
    ):
        with suppress(MalformedError):
            parse(payload)


# --- reading --------------------------------------------------------------------------------------


def read(reader: FrameReader, data: bytes) -> list[Frame]:
    return list(reader.read_untrusted(data))


def test_a_frame_waits_until_it_is_whole() -> None:
    reader = FrameReader()
    wire = PREFACE + f.encode_credit(1, 5)
    for byte in wire[:-1]:
        assert read(reader, bytes([byte])) == []
    assert read(reader, wire[-1:]) == [Frame(FrameKind.CREDIT, 1, b"\x00\x00\x00\x05")]


def test_bytes_do_not_wait_for_the_rest_of_their_frame() -> None:
    reader = FrameReader()
    assert read(reader, PREFACE + b"\x00\x00\x00\x05\x04\x00\x00\x00\x09") == []
    assert read(reader, b"ab") == [Frame(FrameKind.BYTES, 9, b"ab")]
    assert read(reader, b"cde\x00\x00\x00\x00\x05\x00\x00\x00\x08") == [
        Frame(FrameKind.BYTES, 9, b"cde"),
        Frame(FrameKind.END, 8, b""),
    ]


def test_an_empty_frame_of_bytes_is_seen() -> None:
    wire = PREFACE + b"\x00\x00\x00\x00\x04\x00\x00\x00\x09"
    assert read(FrameReader(), wire) == [Frame(FrameKind.BYTES, 9, b"")]


def joined(frames: Iterable[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Frames, with the neighbours among those of bytes made one."""
    result: list[tuple[int, int, bytes]] = []
    for kind, call_id, payload in frames:
        if kind == 4 and result and result[-1][:2] == (kind, call_id):
            result[-1] = (kind, call_id, result[-1][2] + payload)
        else:
            result.append((kind, call_id, payload))
    return result


@given(st.data())
def test_any_splitting_gives_the_same_frames(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from([by_hand for _, by_hand in GOLDEN]), max_size=8))
    rest = PREFACE + b"".join(chosen)
    reader = FrameReader()
    frames: list[Frame] = []
    while rest:
        count = data.draw(st.integers(1, len(rest)))
        frames += reader.read_untrusted(rest[:count])
        rest = rest[count:]
    expected = [(wire[4], int.from_bytes(wire[5:9], "big"), wire[9:]) for wire in chosen]
    assert joined(frames) == joined(expected)


@pytest.mark.parametrize(
    ("came", "shown"),
    [
        (b"GET / HTTP/1.1\r\n", "'GET / HTTP/1.1'"),
        (b"aelf-p2p/2\n", "'aelf-p2p/2'"),
        (b"aelf-p2p/1\r", "'aelf-p2p/1'"),
        (b"\x16\x03\x01\x02\x00\x01", "''"),
        (b"x", "'x'"),
        (b"x" * 100, f"'{'x' * 32}'"),
    ],
)
def test_a_wrong_preface_is_shown(came: bytes, shown: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read(FrameReader(), came)
    assert str(caught.value) == f"expected 'aelf-p2p/1\\n', got {shown}"


def test_a_wrong_preface_in_parts_is_shown_too() -> None:
    reader = FrameReader()
    assert read(reader, b"aelf-") == []
    with pytest.raises(MalformedError, match="got 'aelf-q'"):
        read(reader, b"q")


@pytest.mark.parametrize("kind", [0, 10, 255])
def test_unknown_kinds_are_malformed(kind: int) -> None:
    with pytest.raises(MalformedError, match=f"unknown kind {kind}"):
        read(FrameReader(), PREFACE + struct.pack(">IBI", 0, kind, 1))


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        (FrameKind.SETTINGS, 8),
        (FrameKind.OPEN, 1 + 4 + 1 + 255 + 16384),
        (FrameKind.REPLY, 1),
        (FrameKind.BYTES, 65536),
        (FrameKind.END, 0),
        (FrameKind.STATUS, 1 + 1024),
        (FrameKind.RESET, 1),
        (FrameKind.CREDIT, 4),
        (FrameKind.GOAWAY, 4 + 1024),
    ],
)
def test_a_frame_too_long_for_its_kind_is_malformed_before_it_comes(
    kind: FrameKind, most: int
) -> None:
    frames = read(FrameReader(), PREFACE + struct.pack(">IBI", most, kind, 1) + b"\x00" * most)
    assert frames == [Frame(kind, 1, b"\x00" * most)]
    with pytest.raises(MalformedError, match=f"{kind.name} of {most + 1} bytes, over {most}"):
        read(FrameReader(), PREFACE + struct.pack(">IBI", most + 1, kind, 1))


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_any_bytes_are_read_or_malformed(chunks: list[bytes]) -> None:
    reader = FrameReader()
    with suppress(MalformedError):
        for chunk in (PREFACE, *chunks):
            read(reader, chunk)
