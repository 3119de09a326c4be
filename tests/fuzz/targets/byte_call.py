"""What opens a call of the transports that carry bytes only."""

from collections.abc import Iterator

from aelf_p2p.core.errors import MalformedError
from aelf_p2p.transports.byte_call import _encode_opening, _parse_opening_untrusted
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM

WORDS = (b"null", b'"-bin"', b'"/PeerService/Ping"', b"{", b"}", b"[", b"]", b"\\ud800", b"NaN")


def seeds() -> Iterator[bytes]:
    yield _encode_opening(PING, {"public-key": "04ab", "session-id-bin": b"\1\2"})
    yield _encode_opening(REQUEST_BY_STREAM, {})
    yield _encode_opening(None, {})
    yield b'["/PeerService/Ping", {"x-bin": "0"}]'
    yield b"[" * 4000


def target(data: bytes) -> bool:
    try:
        method, metadata = _parse_opening_untrusted(data)
    except MalformedError:
        return False
    assert _parse_opening_untrusted(_encode_opening(method, metadata)) == (method, metadata)
    return True
