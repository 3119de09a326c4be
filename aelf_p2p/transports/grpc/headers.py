"""gRPC's header texts, both ways, as lists of pairs for HTTP/2 (grpc/doc/PROTOCOL-HTTP2.md).

Where the document leaves a choice, the comment says what we do, and what C core (which AElf's nodes
run on) was seen to do with the same bytes.
"""

import base64
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from types import MappingProxyType
from urllib.parse import quote, unquote_to_bytes

from aelf_p2p.contracts import Metadata
from aelf_p2p.core.errors import MalformedError, MisuseError, StatusCode
from aelf_p2p.wire.methods import Method

Headers = list[tuple[bytes, bytes]]

MAX_DETAILS_BYTES = 1024
"""What a status says at most, in UTF-8; percent-encoding can make three times that of it."""

_CONTENT_TYPE = b"application/grpc"
_CONTENT_TYPES = {"application/grpc", "application/grpc+proto"}
_ENCODINGS = b"identity,gzip"
_USER_AGENT = f"aelf-p2p/{version('aelf-p2p')}".encode()

_METADATA_KEY = re.compile(r"[0-9a-z_.-]+")
_METADATA_TEXT = re.compile(r"[ -~]*")
_RESERVED = {
    "te",
    "content-type",
    "content-length",
    "user-agent",
    "host",
    # RFC 9113 §8.2.2: they speak of a connection, and HTTP/2 refuses them
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
}

# --- requests -------------------------------------------------------------------------------------


def request_headers(
    method: Method, *, authority: str, scheme: str, metadata: Metadata, timeout_s: float | None
) -> Headers:
    """The headers that begin a call.

    Raises MisuseError for metadata that cannot travel: a key that is reserved or not in
    ``0-9a-z_.-``, a value of the wrong type, text that is not printable ASCII or begins or ends
    with a space.
    """
    headers = [
        (b":method", b"POST"),
        (b":scheme", scheme.encode()),
        (b":path", method.path.encode()),
        (b":authority", authority.encode()),
    ]
    if timeout_s is not None:
        headers.append((b"grpc-timeout", encode_timeout(timeout_s).encode()))
    headers += [
        (b"te", b"trailers"),
        (b"content-type", _CONTENT_TYPE),
        (b"user-agent", _USER_AGENT),
        (b"grpc-accept-encoding", _ENCODINGS),
    ]
    headers += [(key.encode(), _metadata_value(key, value)) for key, value in metadata.items()]
    return headers


def _is_metadata_key(key: str) -> bool:
    return (
        _METADATA_KEY.fullmatch(key) is not None
        and key not in _RESERVED
        and not key.startswith("grpc-")
    )


def _metadata_value(key: str, value: str | bytes) -> bytes:
    """A value as it travels. No message shows it: it may be a session id."""
    if not _is_metadata_key(key):
        raise MisuseError(f"{key!r} cannot be a metadata key")
    if key.endswith("-bin"):
        if not isinstance(value, bytes):
            raise MisuseError(f"the metadata {key} must be bytes")
        return base64.b64encode(value).rstrip(b"=")
    if not isinstance(value, str):
        raise MisuseError(f"the metadata {key} must be text; bytes need a key that ends in -bin")
    if _METADATA_TEXT.fullmatch(value) is None or value != value.strip(" "):
        raise MisuseError(f"the metadata {key} must be printable ASCII, without spaces around it")
    return value.encode("ascii")


class BadRequest(MalformedError):
    """A request that ends its call at once, with this status."""

    def __init__(self, code: StatusCode, details: str, http_status: int = 200) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.http_status = http_status


@dataclass(frozen=True, slots=True)
class Request:
    """What the headers of a call say."""

    path: str
    metadata: dict[str, str | bytes] = field(repr=False)  # it may hold a session id
    """In order of first appearance. Repeated text is joined by commas, of repeated bytes the first
    are kept; text that is not printable ASCII is left out."""
    timeout_s: float | None
    encoding: str
    """``identity`` or ``gzip``."""
    accepts_gzip: bool


def parse_request_untrusted(headers: Iterable[tuple[bytes, bytes]]) -> Request:
    """Read the headers that begin a call.

    Raises BadRequest with the status that ends the call, and MalformedError for what is no text:
    names that are not ASCII, values that are not UTF-8.
    """
    values = _collect_untrusted(headers)
    path = _check_pseudo_headers_untrusted(values)
    _check_content_type_untrusted(values)
    encoding = _joined(values, "grpc-encoding", "identity")
    if encoding not in ("identity", "gzip"):
        # as grpc/doc/compression.md says; C core was seen to answer INTERNAL
        raise BadRequest(StatusCode.UNIMPLEMENTED, f"grpc-encoding {_shown(encoding)}")
    accepted = _joined(values, "grpc-accept-encoding", "").split(",")
    return Request(
        path=path,
        metadata=_metadata_untrusted(values),
        timeout_s=_timeout_untrusted(values),
        encoding=encoding,
        accepts_gzip="gzip" in (each.strip(" ") for each in accepted),
    )


def _check_pseudo_headers_untrusted(values: Mapping[str, list[str]]) -> str:
    """The path, when all is well."""
    # :authority may be missing (RFC 9113 §8.3.1); C core resets the stream of any of these
    for name in (":method", ":scheme", ":path"):
        if name not in values:
            raise BadRequest(StatusCode.INTERNAL, f"{name} is missing", 400)
    for name in values:
        if name.startswith(":"):
            if name not in (":method", ":scheme", ":path", ":authority"):
                raise BadRequest(StatusCode.INTERNAL, f"{_shown(name)} in a request", 400)
            if len(values[name]) > 1:
                raise BadRequest(StatusCode.INTERNAL, f"{name} is repeated", 400)
    method = values[":method"][0]
    if method != "POST":
        raise BadRequest(StatusCode.INTERNAL, f"method {_shown(method)}, not POST", 405)
    return values[":path"][0]


def _check_content_type_untrusted(values: Mapping[str, list[str]]) -> None:
    # The document asks for this; C core was seen to take any content type.
    content_type = _joined(values, "content-type", "")
    if not _is_grpc(content_type):
        raise BadRequest(
            StatusCode.INVALID_ARGUMENT, f"content-type {_shown(content_type)}", http_status=415
        )


def _is_grpc(content_type: str) -> bool:
    return content_type.partition(";")[0].rstrip(" ").lower() in _CONTENT_TYPES


def _timeout_untrusted(values: Mapping[str, list[str]]) -> float | None:
    if "grpc-timeout" not in values:
        return None
    try:
        return parse_timeout_untrusted(_joined(values, "grpc-timeout", ""))
    except MalformedError as exc:
        raise BadRequest(StatusCode.INTERNAL, str(exc)) from exc  # as C core


def _metadata_untrusted(values: Mapping[str, list[str]]) -> dict[str, str | bytes]:
    metadata: dict[str, str | bytes] = {}
    for key, texts in values.items():
        if not _is_metadata_key(key):
            continue
        if key.endswith("-bin"):
            # Each is looked at. C core hands on each of a repeated key, and refuses commas.
            parts = ",".join(texts).split(",")
            metadata[key], *_ = [_base64_untrusted(key, part) for part in parts]
        elif printable := [text for text in texts if _METADATA_TEXT.fullmatch(text)]:
            metadata[key] = ",".join(printable).strip(" ")
    return metadata


def _base64_untrusted(key: str, text: str) -> bytes:
    """Base64 (RFC 4648 §4), padded or not."""
    text = text.strip(" ")
    bare = text.rstrip("=")
    padded = bare + "=" * (-len(bare) % 4)
    try:
        if text not in (bare, padded):
            raise ValueError("wrong padding")
        return base64.b64decode(padded, validate=True)
    except ValueError as exc:  # binascii.Error is one
        raise BadRequest(StatusCode.INTERNAL, f"{_shown(key)} is not base64") from exc  # as C core


# --- replies --------------------------------------------------------------------------------------


def reply_headers(*, gzip: bool) -> Headers:
    """The headers that begin a reply; ``gzip``: of messages flagged compressed."""
    return [
        (b":status", b"200"),
        (b"content-type", _CONTENT_TYPE),
        *([(b"grpc-encoding", b"gzip")] if gzip else []),
        (b"grpc-accept-encoding", _ENCODINGS),
    ]


def trailers(code: StatusCode, details: str) -> Headers:
    """The headers that end a reply."""
    headers = [(b"grpc-status", b"%d" % code.value)]
    if details:
        headers.append((b"grpc-message", _percent_encode(details)))
    return headers


def trailers_only(code: StatusCode, details: str, http_status: int = 200) -> Headers:
    """The only headers of a call that ends before its reply began."""
    return [
        (b":status", b"%d" % http_status),
        (b"content-type", _CONTENT_TYPE),
        (b"grpc-accept-encoding", _ENCODINGS),  # must be there when an encoding was refused
        *trailers(code, details),
    ]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the headers of a reply say."""

    http_status: int
    content_type_ok: bool
    encoding: str
    """Whatever the server names; one that is not ours allows no compressed message."""


def parse_reply_untrusted(headers: Iterable[tuple[bytes, bytes]]) -> Reply:
    """Read the headers that begin a reply. Raises MalformedError when there is no one status, or
    for what is no text."""
    values = _collect_untrusted(headers)
    statuses = values.get(":status", [])
    if len(statuses) != 1 or re.fullmatch(r"[0-9]{3}", statuses[0]) is None:
        raise MalformedError(f":status is {_shown(','.join(statuses))}")
    return Reply(
        http_status=int(statuses[0]),
        content_type_ok=_is_grpc(_joined(values, "content-type", "")),
        encoding=_joined(values, "grpc-encoding", "identity"),
    )


def parse_trailers_untrusted(
    headers: Iterable[tuple[bytes, bytes]],
) -> tuple[StatusCode, str] | None:
    """The status that ends a reply, and its details; None when there is no grpc-status.

    Never fails: a status that is not one of gRPC's is UNKNOWN, what is wrong in the details is
    shown as it came or as U+FFFD.
    """
    statuses: list[bytes] = []
    messages: list[bytes] = []
    for name, value in headers:
        if name == b"grpc-status":
            statuses.append(value)
        elif name == b"grpc-message":
            messages.append(value)
    if not statuses:
        return None
    details = unquote_to_bytes(b",".join(messages)).decode(errors="replace")
    code = _STATUS_CODES.get(b",".join(statuses), StatusCode.UNKNOWN)
    return code, _cut(details).decode()


_STATUS_CODES = MappingProxyType({b"%d" % code.value: code for code in StatusCode})


def status_of_http(http_status: int) -> StatusCode:
    """What a reply without a grpc-status means (grpc/doc/http-grpc-status-mapping.md)."""
    return _STATUS_OF_HTTP.get(http_status, StatusCode.UNKNOWN)


_STATUS_OF_HTTP = MappingProxyType(
    {
        400: StatusCode.INTERNAL,
        401: StatusCode.UNAUTHENTICATED,
        403: StatusCode.PERMISSION_DENIED,
        404: StatusCode.UNIMPLEMENTED,
        429: StatusCode.UNAVAILABLE,
        431: StatusCode.INTERNAL,
        502: StatusCode.UNAVAILABLE,
        503: StatusCode.UNAVAILABLE,
        504: StatusCode.UNAVAILABLE,
    }
)

_UNENCODED = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def _percent_encode(details: str) -> bytes:
    text = quote(_cut(details), safe=_UNENCODED)
    # HTTP takes spaces off the ends of a value, so these are encoded as well.
    leading = len(text) - len(text.lstrip(" "))
    text = "%20" * leading + text[leading:]
    trailing = len(text) - len(text.rstrip(" "))
    return (text.rstrip(" ") + "%20" * trailing).encode("ascii")


def _cut(details: str) -> bytes:
    """At most MAX_DETAILS_BYTES of UTF-8, whole characters."""
    encoded = details.encode(errors="replace")[:MAX_DETAILS_BYTES]
    return encoded.decode(errors="ignore").encode()


# --- deadlines ------------------------------------------------------------------------------------

_NS_OF_UNIT = MappingProxyType(
    {"n": 1, "u": 10**3, "m": 10**6, "S": 10**9, "M": 60 * 10**9, "H": 3600 * 10**9}
)
_MAX_TIMEOUT = 99_999_999  # eight digits
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")


def encode_timeout(seconds: float) -> str:
    """A timeout as grpc-timeout has it: the finest unit that fits into eight digits, rounded up.

    At least ``1n``, since it must be positive; at most ``99999999H``. Raises MisuseError for NaN.
    """
    if math.isnan(seconds):
        raise MisuseError("a timeout must be a number of seconds, not NaN")
    if seconds < _MAX_TIMEOUT * 3600:
        nanoseconds = max(1, round(max(seconds, 0.0) * 1e9))
        for unit, size in _NS_OF_UNIT.items():
            count = -(-nanoseconds // size)
            if count <= _MAX_TIMEOUT:
                return f"{count}{unit}"
    return f"{_MAX_TIMEOUT}H"


def parse_timeout_untrusted(text: str) -> float:
    """A grpc-timeout in seconds; 0 is a deadline that has passed. Raises MalformedError.

    C core was seen to allow spaces and more digits as well.
    """
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise MalformedError(f"grpc-timeout is {_shown(text)}, not 1 to 8 digits and a unit")
    return int(match[1]) * _NS_OF_UNIT[match[2]] / 1e9


# --- both -----------------------------------------------------------------------------------------


def _collect_untrusted(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """The values of each name, in order. Raises MalformedError for what is no text."""
    values: dict[str, list[str]] = {}
    for raw_name, raw_value in headers:
        try:
            name, value = raw_name.decode("ascii"), raw_value.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise MalformedError(f"a header that is not text: {raw_name[:_SHOWN]!r}") from exc
        values.setdefault(name, []).append(value)
    return values


def _joined(values: Mapping[str, list[str]], name: str, default: str) -> str:
    """The value of a header, repeated ones joined as HTTP does (RFC 9110 §5.3)."""
    return ",".join(values[name]) if name in values else default


_SHOWN = 40


def _shown(text: str) -> str:
    """Their text in an error of ours."""
    return repr(text[:_SHOWN])
