from contextlib import suppress
from fractions import Fraction
from importlib.metadata import version

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.errors import MalformedError, MisuseError, StatusCode
from aelf_p2p.transports.grpc.headers import (
    BadRequest,
    encode_timeout,
    parse_reply_untrusted,
    parse_request_untrusted,
    parse_timeout_untrusted,
    parse_trailers_untrusted,
    reply_headers,
    request_headers,
    status_of_http,
    trailers,
    trailers_only,
)
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM

# The request of grpc/doc/PROTOCOL-HTTP2.md, "Example", with the :authority's host and bearer short.
EXAMPLE = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/google.pubsub.v2.PublisherService/CreateTopic"),
    (b":authority", b"pubsub"),
    (b"grpc-timeout", b"1S"),
    (b"content-type", b"application/grpc+proto"),
    (b"grpc-encoding", b"gzip"),
    (b"authorization", b"Bearer y235"),
]


def example(*more: tuple[bytes, bytes], without: bytes = b"") -> list[tuple[bytes, bytes]]:
    return [header for header in EXAMPLE if header[0] != without] + list(more)


def changed(name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    return [(each, value if each == name else old) for each, old in EXAMPLE]


def refused(headers: list[tuple[bytes, bytes]]) -> tuple[int, StatusCode]:
    with pytest.raises(BadRequest) as caught:
        parse_request_untrusted(headers)
    assert caught.value.details
    return caught.value.http_status, caught.value.code


# --- requests we make -----------------------------------------------------------------------------


def test_a_request_is_as_the_document_says() -> None:
    assert request_headers(
        REQUEST_BY_STREAM,
        authority="10.0.0.7:6800",
        scheme="https",
        metadata={"public-key": "04ab", "session-id-bin": b"\x00\xff\xfe\x01"},
        timeout_s=2.5,
    ) == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", b"/PeerService/RequestByStream"),
        (b":authority", b"10.0.0.7:6800"),
        (b"grpc-timeout", b"2500000u"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"aelf-p2p/" + version("aelf-p2p").encode()),
        (b"grpc-accept-encoding", b"identity,gzip"),
        (b"public-key", b"04ab"),
        (b"session-id-bin", b"AP/+AQ"),
    ]


def test_a_request_without_a_deadline_has_no_timeout() -> None:
    headers = request_headers(PING, authority="a", scheme="http", metadata={}, timeout_s=None)
    assert "grpc-timeout" not in [name.decode() for name, _ in headers]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "Public-Key",
        ":path",
        "grpc-timeout",
        "grpc-anything",
        "te",
        "content-type",
        "content-length",
        "user-agent",
        "host",
        "connection",
        "transfer-encoding",
        "a b",
        "a\r\nb",
        "é",
        "a\n",
    ],
)
def test_a_key_that_cannot_travel_is_misuse(key: str) -> None:
    with pytest.raises(MisuseError):
        request_headers(PING, authority="a", scheme="http", metadata={key: "x"}, timeout_s=None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("key", b"secret"),
        ("key-bin", "secret"),
        ("key", "secret é"),
        ("key", "secret\x00"),
        ("key", "secret\r\nb: c"),
        ("key", "secret\ttab"),
        ("key", "secret\x7f"),
        ("key", "secret\n"),
        ("key", " secret"),
        ("key", "secret "),
    ],
)
def test_a_value_that_cannot_travel_is_misuse_and_stays_unseen(
    key: str, value: str | bytes
) -> None:
    with pytest.raises(MisuseError) as caught:
        request_headers(PING, authority="a", scheme="http", metadata={key: value}, timeout_s=None)
    assert "secret" not in str(caught.value)


KEYS = st.from_regex(r"x[0-9a-z_.-]{0,10}", fullmatch=True)
METADATA = st.dictionaries(
    KEYS.filter(lambda key: not key.endswith("-bin")),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)),
    max_size=4,
)
BINARY = st.dictionaries(KEYS.map(lambda key: key + "-bin"), st.binary(max_size=50), max_size=4)


@given(METADATA, BINARY, st.none() | st.integers(1, 90_000).map(float))
def test_a_request_arrives(
    text: dict[str, str], binary: dict[str, bytes], timeout_s: float | None
) -> None:
    metadata: dict[str, str | bytes] = {**text, **binary}
    request = parse_request_untrusted(
        request_headers(PING, authority="a", scheme="http", metadata=metadata, timeout_s=timeout_s)
    )
    assert request.path == "/PeerService/Ping"
    assert list(request.metadata.items()) == list(metadata.items())
    assert request.timeout_s == timeout_s
    assert (request.encoding, request.accepts_gzip) == ("identity", True)


# --- requests that come ---------------------------------------------------------------------------


def test_the_documents_example_is_read() -> None:
    request = parse_request_untrusted(EXAMPLE)
    assert request.path == "/google.pubsub.v2.PublisherService/CreateTopic"
    assert request.metadata == {"authorization": "Bearer y235"}
    assert request.timeout_s == 1.0
    assert (request.encoding, request.accepts_gzip) == ("gzip", False)
    assert "y235" not in repr(request)


def test_what_may_be_missing() -> None:
    for name in (b":authority", b"grpc-timeout", b"grpc-encoding", b"authorization"):
        parse_request_untrusted(example(without=name))
    bare = parse_request_untrusted(
        [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":path", b"/a/b"),
            (b"content-type", b"application/grpc"),
        ]
    )
    assert (bare.timeout_s, bare.encoding, bare.accepts_gzip) == (None, "identity", False)
    assert bare.metadata == {}


def test_what_belongs_to_http_or_grpc_is_no_metadata() -> None:
    request = parse_request_untrusted(
        example(
            (b"te", b"trailers"),
            (b"user-agent", b"grpc-csharp/2.46"),
            (b"grpc-accept-encoding", b"identity, deflate, gzip"),
            (b"grpc-previous-rpc-attempts", b"1"),
            (b"host", b"a"),
            (b"content-length", b"5"),
            (b"strange!name", b"x"),
            (b"accent", "é".encode()),
        )
    )
    assert request.metadata == {"authorization": "Bearer y235"}
    assert request.accepts_gzip


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        (b"gzip", True),
        (b"identity,gzip", True),
        (b"identity, deflate , gzip", True),
        (b"identity", False),
        (b"x-gzip", False),
        (b"gzipped", False),
        (b"", False),
    ],
)
def test_whether_gzip_is_accepted(accepted: bytes, expected: bool) -> None:
    request = parse_request_untrusted(example((b"grpc-accept-encoding", accepted)))
    assert request.accepts_gzip is expected


def test_repeated_metadata() -> None:
    request = parse_request_untrusted(
        example(
            (b"key", b"one"), (b"id-bin", b"AQ"), (b"key", b"two"), (b"id-bin", b"Ag"), (b"e", b"")
        )
    )
    assert request.metadata == {
        "authorization": "Bearer y235",
        "key": "one,two",
        "id-bin": b"\x01",
        "e": "",
    }


# RFC 4648 §10, and the two characters in which base64 and its URL-safe form differ
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", b""),
        (b"Zg==", b"f"),
        (b"Zg", b"f"),
        (b"Zm8=", b"fo"),
        (b"Zm8", b"fo"),
        (b"Zm9v", b"foo"),
        (b"Zm9vYmFy", b"foobar"),
        (b"+/8", b"\xfb\xff"),
        (b"Zg==,Zm8", b"f"),
        (b"Zm8, Zg==", b"fo"),
    ],
)
def test_binary_metadata_with_and_without_padding(text: bytes, expected: bytes) -> None:
    assert parse_request_untrusted(example((b"a-bin", text))).metadata["a-bin"] == expected


@pytest.mark.parametrize(
    "text",
    [b"!", b"Z", b"Zm9vY", b"Zg=", b"Zg===", b"Zm9v=", b"=", b"Z=g=", b"-_8", b"Zm 8", b"Zg,!"],
)
def test_bad_binary_metadata_ends_the_call(text: bytes) -> None:
    assert refused(example((b"a-bin", text))) == (200, StatusCode.INTERNAL)


def test_bad_binary_metadata_is_seen_in_every_repetition() -> None:
    assert refused(example((b"a-bin", b"Zg"), (b"a-bin", b"!"))) == (200, StatusCode.INTERNAL)


@pytest.mark.parametrize("name", [b":method", b":scheme", b":path"])
def test_a_missing_pseudo_header(name: bytes) -> None:
    assert refused(example(without=name)) == (400, StatusCode.INTERNAL)


@pytest.mark.parametrize(
    "header",
    [
        (b":method", b"POST"),
        (b":path", b"/other"),
        (b":authority", b"other"),
        (b":status", b"200"),
        (b":protocol", b"websocket"),
    ],
)
def test_a_repeated_or_strange_pseudo_header(header: tuple[bytes, bytes]) -> None:
    assert refused(example(header)) == (400, StatusCode.INTERNAL)


@pytest.mark.parametrize("method", [b"GET", b"post", b"", b"CONNECT"])
def test_another_method(method: bytes) -> None:
    assert refused(changed(b":method", method))[0] == 405


@pytest.mark.parametrize(
    "content_type",
    [b"", b"text/html", b"application/grpc-web", b"application/grpc+json", b"application/grpcx"],
)
def test_another_content_type(content_type: bytes) -> None:
    assert refused(changed(b"content-type", content_type))[0] == 415
    assert refused(example(without=b"content-type"))[0] == 415


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/grpc",
        b"application/grpc+proto",
        b"application/grpc;charset=utf-8",
        b"Application/gRPC",
    ],
)
def test_content_types_of_grpc(content_type: bytes) -> None:
    parse_request_untrusted(changed(b"content-type", content_type))


@pytest.mark.parametrize("encoding", [b"deflate", b"snappy", b"GZIP", b"", b"gzip,gzip"])
def test_an_unknown_encoding(encoding: bytes) -> None:
    assert refused(changed(b"grpc-encoding", encoding)) == (200, StatusCode.UNIMPLEMENTED)


def test_a_bad_timeout_ends_the_call() -> None:
    assert refused(changed(b"grpc-timeout", b"soon")) == (200, StatusCode.INTERNAL)
    assert refused(example((b"grpc-timeout", b"1S"))) == (200, StatusCode.INTERNAL)


def test_an_expired_timeout_is_legal() -> None:
    assert parse_request_untrusted(changed(b"grpc-timeout", b"0n")).timeout_s == 0


@pytest.mark.parametrize(
    "header", [(b"caf\xc3\xa9", b"x"), (b"key", b"\xff"), (b"key", b"\xc0\x80"), (b"\xff", b"")]
)
def test_what_is_no_text_is_malformed(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_request_untrusted(example(header))
    assert not isinstance(caught.value, BadRequest)
    with pytest.raises(MalformedError):
        parse_reply_untrusted([(b":status", b"200"), header])


NAMES = st.sampled_from(
    [name for name, _ in EXAMPLE] + [b"a-bin", b":status", b"grpc-status", b"grpc-message"]
)
NOISE = st.lists(st.tuples(NAMES | st.binary(max_size=8), st.binary(max_size=12)), max_size=6)


@given(NOISE)
def test_random_headers_raise_nothing_else(noise: list[tuple[bytes, bytes]]) -> None:
    for headers in (noise, example(*noise)):
        with suppress(MalformedError):
            parse_request_untrusted(headers)
    for headers in (noise, [(b":status", b"200"), *noise]):
        with suppress(MalformedError):
            parse_reply_untrusted(headers)
    parse_trailers_untrusted(noise)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z-]{0,8}", fullmatch=True), st.text(max_size=9)))
def test_metadata_that_came_can_be_sent_on(metadata: dict[str, str]) -> None:
    headers = [(key.encode(), value.encode()) for key, value in metadata.items()]
    try:
        request = parse_request_untrusted(example(*headers))
    except BadRequest:
        return  # a -bin that is no base64
    request_headers(PING, authority="a", scheme="http", metadata=request.metadata, timeout_s=None)


# --- replies --------------------------------------------------------------------------------------


def test_replies_are_as_the_document_says() -> None:
    assert reply_headers(gzip=False) == [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", b"identity,gzip"),
    ]
    assert (b"grpc-encoding", b"gzip") in reply_headers(gzip=True)
    assert trailers(StatusCode.OK, "") == [(b"grpc-status", b"0")]
    assert trailers(StatusCode.NOT_FOUND, "no block") == [
        (b"grpc-status", b"5"),
        (b"grpc-message", b"no block"),
    ]
    assert trailers_only(StatusCode.INVALID_ARGUMENT, "no", 415) == [
        (b":status", b"415"),
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", b"identity,gzip"),
        (b"grpc-status", b"3"),
        (b"grpc-message", b"no"),
    ]


def test_replies_are_read() -> None:
    reply = parse_reply_untrusted(reply_headers(gzip=True))
    assert (reply.http_status, reply.content_type_ok, reply.encoding) == (200, True, "gzip")
    proxy = parse_reply_untrusted([(b":status", b"502"), (b"content-type", b"text/html")])
    assert (proxy.http_status, proxy.content_type_ok, proxy.encoding) == (502, False, "identity")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b":status", b"")],
        [(b":status", b"20")],
        [(b":status", b"2000")],
        [(b":status", b"+20")],
        [(b":status", b"\xef\xbc\x92\xef\xbc\x90\xef\xbc\x90")],
        [(b":status", b"200"), (b":status", b"200")],
    ],
)
def test_a_reply_has_one_status(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(MalformedError):
        parse_reply_untrusted(headers)


# grpc/doc/statuscodes.md
CODES = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]


@pytest.mark.parametrize(("number", "name"), list(enumerate(CODES)))
def test_every_status(number: int, name: str) -> None:
    text = str(number).encode()
    assert trailers(StatusCode[name], "")[0] == (b"grpc-status", text)
    assert parse_trailers_untrusted([(b"grpc-status", text)]) == (StatusCode[name], "")


@pytest.mark.parametrize(
    "text", [b"17", b"-1", b"", b"x", b"00", b"1_0", b" 0", b"9" * 5000, b"\xef\xbc\x90"]
)
def test_a_strange_status_is_unknown(text: bytes) -> None:
    assert parse_trailers_untrusted([(b"grpc-status", text)]) == (StatusCode.UNKNOWN, "")


def test_two_statuses_are_unknown() -> None:
    twice = [(b"grpc-status", b"0"), (b"grpc-status", b"13")]
    assert parse_trailers_untrusted(twice) == (StatusCode.UNKNOWN, "")


def test_trailers_without_a_status() -> None:
    assert parse_trailers_untrusted([(b"grpc-message", b"alone")]) is None


@pytest.mark.parametrize(
    ("details", "encoded"),
    [
        ("plain, with ~ and !", b"plain, with ~ and !"),
        ("50%", b"50%25"),
        ("é", b"%C3%A9"),
        ("\t\r\n\x7f\x00", b"%09%0D%0A%7F%00"),
        ("\U0001f600", b"%F0%9F%98%80"),
        (" a b ", b"%20a b%20"),
        ("  ", b"%20%20"),
    ],
)
def test_details_are_percent_encoded(details: str, encoded: bytes) -> None:
    headers = trailers(StatusCode.ABORTED, details)
    assert headers[1] == (b"grpc-message", encoded)
    assert parse_trailers_untrusted(headers) == (StatusCode.ABORTED, details)


@pytest.mark.parametrize(
    ("encoded", "details"),
    [
        (b"%", "%"),
        (b"%4", "%4"),
        (b"%zz", "%zz"),
        (b"%c3%a9", "é"),
        (b"%41%4", "A%4"),
        (b"%FF", "\ufffd"),
        (b"a\xffb", "a\ufffdb"),
    ],
)
def test_bad_details_are_shown_as_they_came(encoded: bytes, details: str) -> None:
    headers = [(b"grpc-status", b"2"), (b"grpc-message", encoded)]
    assert parse_trailers_untrusted(headers) == (StatusCode.UNKNOWN, details)


@given(st.text())
def test_details_arrive(details: str) -> None:
    headers = trailers(StatusCode.UNKNOWN, details)
    assert all(0x20 <= byte <= 0x7E for _, value in headers for byte in value)
    assert parse_trailers_untrusted(headers) == (StatusCode.UNKNOWN, details)


@pytest.mark.parametrize(
    ("details", "kept"),
    [("x" * 5000, "x" * 1024), ("é" * 600, "é" * 512), ("a" + "é" * 600, "a" + "é" * 511)],
)
def test_long_details_are_cut_both_ways(details: str, kept: str) -> None:
    headers = trailers(StatusCode.UNKNOWN, details)
    assert len(headers[1][1]) <= 3 * 1024
    assert parse_trailers_untrusted(headers) == (StatusCode.UNKNOWN, kept)
    raw = [(b"grpc-status", b"2"), (b"grpc-message", details.encode())]
    assert parse_trailers_untrusted(raw) == (StatusCode.UNKNOWN, kept)


def test_a_lone_surrogate_does_not_stop_a_status() -> None:
    assert trailers(StatusCode.UNKNOWN, "a\ud800")[1] == (b"grpc-message", b"a?")


@pytest.mark.parametrize(
    ("http", "name"),
    [
        (400, "INTERNAL"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "UNIMPLEMENTED"),
        (429, "UNAVAILABLE"),
        (431, "INTERNAL"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"),
        (504, "UNAVAILABLE"),
        (200, "UNKNOWN"),
        (415, "UNKNOWN"),
        (500, "UNKNOWN"),
    ],
)
def test_a_status_of_http(http: int, name: str) -> None:
    assert status_of_http(http) is StatusCode[name]


# --- deadlines ------------------------------------------------------------------------------------

UNITS = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "S": Fraction(1),
    "M": Fraction(60),
    "H": Fraction(3600),
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1n"),
        (-3.0, "1n"),
        (float("-inf"), "1n"),
        (1e-12, "1n"),
        (0.05, "50000000n"),
        (0.099999999, "99999999n"),
        (0.1, "100000u"),
        (1, "1000000u"),
        (2.2, "2200000u"),
        (99.9999995, "100000m"),
        (200, "200000m"),
        (99_999.9991, "100000S"),
        (100_000_000, "1666667M"),
        (6e9, "1666667H"),
        (99_999_999 * 3600, "99999999H"),
        (1e300, "99999999H"),
        (float("inf"), "99999999H"),
    ],
)
def test_timeouts_as_text(seconds: float, text: str) -> None:
    assert encode_timeout(seconds) == text


def test_nan_is_no_timeout() -> None:
    with pytest.raises(MisuseError):
        encode_timeout(float("nan"))


@given(st.floats(1e-9, 99_999_999 * 3600))
def test_a_timeout_is_never_shortened_and_in_the_finest_unit(seconds: float) -> None:
    text = encode_timeout(seconds)
    unit = UNITS[text[-1]]
    sent = int(text[:-1]) * unit
    half_a_nanosecond = Fraction(1, 2 * 10**9)
    asked = Fraction(seconds)
    # a float of years is itself coarser than a nanosecond
    coarse = asked / 2**52
    assert asked - half_a_nanosecond - coarse <= sent <= asked + unit + coarse
    finer = [each for each in UNITS.values() if each < unit]
    assert not finer or asked > (10**8 - 1) * max(finer) - half_a_nanosecond - coarse
    assert len(text) <= 9


@given(st.integers(0, 99_999_999), st.sampled_from("HMSmun"))
def test_every_timeout_is_read(count: int, unit: str) -> None:
    expected = float(count * UNITS[unit])
    assert parse_timeout_untrusted(f"{count}{unit}") == pytest.approx(expected, rel=1e-15)
    assert parse_timeout_untrusted(f"{count:08}{unit}") == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "S",
        "1",
        "1x",
        "1s",
        "123456789S",
        "-1S",
        "+1S",
        "1.5S",
        " 1S",
        "1S ",
        "1S\n",
        "\u0661S",
        "1_0S",
    ],
)
def test_malformed_timeouts(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_timeout_untrusted(text)


@given(st.text(max_size=12))
def test_any_text_is_a_timeout_or_malformed(text: str) -> None:
    with suppress(MalformedError):
        assert parse_timeout_untrusted(text) >= 0
