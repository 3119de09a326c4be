"""The bytes of the tcp transport: a preface, then frames. Layout alone; the rules are in ``codec``.

Each side first sends the eleven bytes ``aelf-p2p/1`` and a line feed, where 1 is the version of
what follows: frames, back to back. Every number is unsigned and big-endian; text is UTF-8, without
a terminator. A frame is ::

    u32 length of the payload, u8 kind, u32 call id, payload

    kind        from    call id  payload
    1 SETTINGS  both    0        u32 window, u32 calls
    2 OPEN      client  new      u8 flags, u32 timeout, u8 length and path, metadata
    3 REPLY     server  a call   u8 flags
    4 BYTES     both    a call   the next bytes of the sender's half
    5 END       client  a call   nothing
    6 STATUS    server  a call   u8 code, details
    7 RESET     both    a call   u8 cause
    8 CREDIT    both    a call   u32 bytes
    9 GOAWAY    both    0        u32 last call id, reason

SETTINGS is the first frame of each side and comes once: how many bytes of each half its sender
takes before it gives credit, and how many calls it takes at once (a client takes none: 0).

OPEN begins a call. Flag 1: replies may hold gzipped messages. The timeout is in milliseconds, 0 for
none. The metadata are pairs up to the end of the payload, at most 16 KiB of them, each ``u8 length
and key, u16 length and value``. Keys are of ``0-9 a-z _ - .`` and appear once; the value of a key
that ends in ``-bin`` is any bytes, every other one printable ASCII.

REPLY begins the server's half. Flag 1: its messages that are flagged compressed are gzipped.
END completes the caller's half. STATUS, with a code of gRPC and at most 1 KiB of details, completes
the server's half and ends the call. RESET ends a call at once, cause 0: its sender wants no more of
it, or 1: it was never started, and may be made again elsewhere. CREDIT lets the other side send so
many bytes more on a call. GOAWAY tells that its sender takes no new calls, which was the last that
it took (a client: 0), and why, in at most 1 KiB.

A flag or a cause that is not named here is malformed, and so is a BYTES frame of more than 64 KiB.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from types import MappingProxyType
from typing import Final, NamedTuple

from aelf_p2p.contracts import Metadata
from aelf_p2p.core.errors import MalformedError, MisuseError, StatusCode
from aelf_p2p.core.options import KIB

PREFACE: Final = b"aelf-p2p/1\n"
MAX_NUMBER: Final = 2**32 - 1
"""The largest call id, and the longest timeout in milliseconds."""
MAX_SENT_BYTES: Final = 32 * KIB
"""The payload of the largest BYTES frame that we send."""
MAX_METADATA_BYTES: Final = 16 * KIB
"""Of one call, as they are encoded."""
MAX_TEXT_BYTES: Final = KIB
"""Of a status's details, and of a reason to go away."""


class FrameKind(IntEnum):
    """What a frame says; its number on the wire."""

    SETTINGS = 1
    OPEN = 2
    REPLY = 3
    BYTES = 4
    END = 5
    STATUS = 6
    RESET = 7
    CREDIT = 8
    GOAWAY = 9


class ResetCause(IntEnum):
    """Why a call is reset."""

    ENDED = 0
    NEVER_STARTED = 1


class Frame(NamedTuple):
    """One frame; of a BYTES frame, a part of it."""

    kind: FrameKind
    call_id: int
    payload: bytes


_HEADER: Final = Struct(">IBI")
_OPEN: Final = Struct(">BIB")
_VALUE_LENGTH: Final = Struct(">H")
_U8: Final = Struct(">B")
_U32: Final = Struct(">I")
_TWO_U32: Final = Struct(">II")
_GZIP: Final = 1  # the flag of OPEN and of REPLY

_MAX_PAYLOAD_BYTES: Final[Mapping[int, int]] = MappingProxyType(
    {
        FrameKind.SETTINGS: _TWO_U32.size,
        FrameKind.OPEN: _OPEN.size + 255 + MAX_METADATA_BYTES,
        FrameKind.REPLY: _U8.size,
        FrameKind.BYTES: 64 * KIB,
        FrameKind.END: 0,
        FrameKind.STATUS: _U8.size + MAX_TEXT_BYTES,
        FrameKind.RESET: _U8.size,
        FrameKind.CREDIT: _U32.size,
        FrameKind.GOAWAY: _U32.size + MAX_TEXT_BYTES,
    }
)


class FrameReader:
    """Cuts the bytes of one side, preface first, into frames, however they arrive.

    The bytes of a BYTES frame are given as they come, so that what waits here for the rest of a
    frame is never more than an OPEN: less than 17 KiB.
    """

    def __init__(self) -> None:
        self._kept = b""
        self._preface_seen = False
        self._rest = 0  # bytes of the BYTES frame under way that have not come
        self._rest_id = 0  # its call id

    def read_untrusted(self, data: bytes) -> Iterator[Frame]:
        """The frames, and parts of BYTES frames, that are there with these bytes.

        Raises MalformedError for a wrong preface, an unknown kind and a payload longer than its
        kind allows, this before it has come. Only a BYTES frame that is empty gives empty bytes.
        """
        data = self._kept + data
        at = 0
        if not self._preface_seen:
            _check_preface_untrusted(data)
            if len(data) >= len(PREFACE):
                self._preface_seen = True
                at = len(PREFACE)
        while self._preface_seen:
            if self._rest:
                part = data[at : at + self._rest]
                if not part:
                    break
                at += len(part)
                self._rest -= len(part)
                yield Frame(FrameKind.BYTES, self._rest_id, part)
                continue
            begin = at + _HEADER.size
            if begin > len(data):
                break
            length, kind, call_id = _HEADER.unpack_from(data, at)
            _check_length_untrusted(kind, length)
            if kind == FrameKind.BYTES and length:
                self._rest, self._rest_id = length, call_id
                at = begin
                continue
            if begin + length > len(data):
                break
            at = begin + length
            yield Frame(FrameKind(kind), call_id, data[begin:at])
        self._kept = data[at:]


def _check_preface_untrusted(data: bytes) -> None:
    """Raises MalformedError when what has come is no beginning of the preface, or not after it."""
    if not (data.startswith(PREFACE) or PREFACE.startswith(data)):
        printable = "".join(chr(byte) for byte in data[:32] if 0x20 <= byte < 0x7F)
        raise MalformedError(f"expected {PREFACE.decode()!r}, got {printable!r}")


def _check_length_untrusted(kind: int, length: int) -> None:
    most = _MAX_PAYLOAD_BYTES.get(kind)
    if most is None:
        raise MalformedError(f"a frame of the unknown kind {kind}")
    if length > most:
        raise MalformedError(f"{FrameKind(kind).name} of {length} bytes, over {most}")


def encode_header(kind: FrameKind, call_id: int, length: int) -> bytes:
    """What comes before a payload of ``length`` bytes."""
    return _HEADER.pack(length, kind, call_id)


def _encode(kind: FrameKind, call_id: int, payload: bytes) -> bytes:
    return encode_header(kind, call_id, len(payload)) + payload


def _unpack_untrusted(layout: Struct, kind: FrameKind, payload: bytes) -> tuple[int, ...]:
    """The numbers of a payload that has no more than them."""
    if len(payload) != layout.size:
        raise MalformedError(f"{kind.name} of {len(payload)} bytes instead of {layout.size}")
    return layout.unpack(payload)


# --- text -----------------------------------------------------------------------------------------


def _encode_text(text: str) -> bytes:
    """Text as UTF-8, shortened to MAX_TEXT_BYTES, never inside a character."""
    shortened = text.encode(errors="replace")[:MAX_TEXT_BYTES]
    return shortened.decode(errors="ignore").encode()


def _decode_text_untrusted(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise MalformedError(f"text that is not UTF-8: {exc.reason}") from exc


# --- SETTINGS -------------------------------------------------------------------------------------


def encode_settings(window: int, calls: int) -> bytes:
    """``window`` bytes of each half, and ``calls`` calls."""
    return _encode(FrameKind.SETTINGS, 0, _TWO_U32.pack(window, calls))


def parse_settings_untrusted(payload: bytes) -> tuple[int, int]:
    """The window and the calls. Raises MalformedError."""
    window, calls = _unpack_untrusted(_TWO_U32, FrameKind.SETTINGS, payload)
    return window, calls


# --- OPEN -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opening:
    """What an OPEN frame says."""

    path: str
    metadata: Metadata = field(repr=False)  # it may hold a session id
    timeout_s: float | None
    accepts_gzip: bool


def encode_open(call_id: int, opening: Opening) -> bytes:
    """Raises MisuseError when the metadata break the rules. The timeout is rounded up to a
    millisecond, and is 49 days at most."""
    timeout_ms = 0
    if opening.timeout_s is not None:
        timeout_ms = max(1, math.ceil(min(opening.timeout_s * 1000, MAX_NUMBER)))
    path = opening.path.encode()
    payload = _OPEN.pack(_GZIP if opening.accepts_gzip else 0, timeout_ms, len(path)) + path
    return _encode(FrameKind.OPEN, call_id, payload + _encode_metadata(opening.metadata))


def parse_open_untrusted(payload: bytes) -> Opening:
    """Raises MalformedError."""
    cursor = _Cursor(payload)
    flags, timeout_ms, path_length = _OPEN.unpack(cursor.take_untrusted(_OPEN.size))
    return Opening(
        path=_decode_text_untrusted(cursor.take_untrusted(path_length)),
        metadata=_parse_metadata_untrusted(cursor),
        timeout_s=timeout_ms / 1000 if timeout_ms else None,
        accepts_gzip=_is_gzip_untrusted(flags),
    )


class _Cursor:
    """A place in the payload of an OPEN."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    @property
    def rest(self) -> int:
        """How many bytes follow."""
        return len(self._payload) - self._at

    def take_untrusted(self, count: int) -> bytes:
        """The next ``count`` bytes. Raises MalformedError when there are fewer."""
        if self.rest < count:
            raise MalformedError("OPEN ends too early")
        self._at += count
        return self._payload[self._at - count : self._at]


_KEY: Final = re.compile(r"[0-9a-z_.-]{1,255}")
_TEXT_VALUE: Final = re.compile(r"[ -~]*")


def _is_metadata(key: str, value: str | bytes) -> bool:
    """Whether a pair keeps the rules."""
    if _KEY.fullmatch(key) is None or len(value) > MAX_METADATA_BYTES:
        return False
    if key.endswith("-bin"):
        return isinstance(value, bytes)
    return isinstance(value, str) and _TEXT_VALUE.fullmatch(value) is not None


def _encode_metadata(metadata: Metadata) -> bytes:
    encoded = bytearray()
    for key, value in metadata.items():
        if not _is_metadata(key, value):
            raise MisuseError(f"metadata that cannot be sent, key {key!r}")
        raw = value.encode() if isinstance(value, str) else value
        encoded += _U8.pack(len(key)) + key.encode() + _VALUE_LENGTH.pack(len(raw)) + raw
    if len(encoded) > MAX_METADATA_BYTES:
        raise MisuseError(f"{len(encoded)} bytes of metadata, over {MAX_METADATA_BYTES}")
    return bytes(encoded)


def _parse_metadata_untrusted(cursor: _Cursor) -> Metadata:
    if cursor.rest > MAX_METADATA_BYTES:
        raise MalformedError(f"{cursor.rest} bytes of metadata, over {MAX_METADATA_BYTES}")
    metadata: dict[str, str | bytes] = {}
    while cursor.rest:
        (key_length,) = cursor.take_untrusted(_U8.size)
        key = cursor.take_untrusted(key_length).decode(
            "latin-1"
        )  # what is not ASCII breaks the rules
        (length,) = _VALUE_LENGTH.unpack(cursor.take_untrusted(_VALUE_LENGTH.size))
        raw = cursor.take_untrusted(length)
        value = raw if key.endswith("-bin") else raw.decode("latin-1")
        if not _is_metadata(key, value) or key in metadata:
            raise MalformedError(f"metadata that break the rules, key {key!r}")
        metadata[key] = value
    return metadata


# --- the rest of a call ---------------------------------------------------------------------------


def encode_reply(call_id: int, *, gzip: bool) -> bytes:
    """``gzip``: messages that are flagged compressed are gzipped."""
    return _encode(FrameKind.REPLY, call_id, _U8.pack(_GZIP if gzip else 0))


def parse_reply_untrusted(payload: bytes) -> bool:
    """Whether messages that are flagged compressed are gzipped. Raises MalformedError."""
    (flags,) = _unpack_untrusted(_U8, FrameKind.REPLY, payload)
    return _is_gzip_untrusted(flags)


def _is_gzip_untrusted(flags: int) -> bool:
    if flags > _GZIP:
        raise MalformedError(f"unknown flags {flags:#x}")
    return flags == _GZIP


def encode_status(call_id: int, code: StatusCode, details: str) -> bytes:
    """Details are shortened to MAX_TEXT_BYTES."""
    return _encode(FrameKind.STATUS, call_id, _U8.pack(code.value) + _encode_text(details))


def parse_status_untrusted(payload: bytes) -> tuple[StatusCode, str]:
    """Code and details. Raises MalformedError."""
    if not payload:
        raise MalformedError("STATUS without a code")
    try:
        code = StatusCode(payload[0])
    except ValueError as exc:
        raise MalformedError(f"the unknown status code {payload[0]}") from exc
    return code, _decode_text_untrusted(payload[1:])


def encode_reset(call_id: int, cause: ResetCause) -> bytes:
    """The call is over."""
    return _encode(FrameKind.RESET, call_id, _U8.pack(cause))


def parse_reset_untrusted(payload: bytes) -> ResetCause:
    """Raises MalformedError."""
    (cause,) = _unpack_untrusted(_U8, FrameKind.RESET, payload)
    try:
        return ResetCause(cause)
    except ValueError as exc:
        raise MalformedError(f"the unknown cause {cause} of a reset") from exc


def encode_credit(call_id: int, credit: int) -> bytes:
    """``credit`` bytes more may come."""
    return _encode(FrameKind.CREDIT, call_id, _U32.pack(credit))


def parse_credit_untrusted(payload: bytes) -> int:
    """In bytes. Raises MalformedError."""
    (credit,) = _unpack_untrusted(_U32, FrameKind.CREDIT, payload)
    return credit


# --- GOAWAY ---------------------------------------------------------------------------------------


def encode_goaway(last_call_id: int, why: str) -> bytes:
    """The reason is shortened to MAX_TEXT_BYTES."""
    return _encode(FrameKind.GOAWAY, 0, _U32.pack(last_call_id) + _encode_text(why))


def parse_goaway_untrusted(payload: bytes) -> tuple[int, str]:
    """The last call id, and the reason. Raises MalformedError."""
    if len(payload) < _U32.size:
        raise MalformedError(f"GOAWAY of {len(payload)} bytes")
    (last_call_id,) = _U32.unpack_from(payload)
    return last_call_id, _decode_text_untrusted(payload[_U32.size :])
