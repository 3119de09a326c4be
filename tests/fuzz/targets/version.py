"""Node versions as .NET writes them: what is accepted is written again and read the same."""

from collections.abc import Iterator

from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.version import STREAM_VERSION, NodeVersion, uses_stream

WORDS = (b".", b"2147483647", b"2147483648", b"1.4.0.0", b"0")


def seeds() -> Iterator[bytes]:
    yield from (b"1.12.3.0", b"1.4", b"1.4.0", b"0.0.0.2147483647", b"2147483648.0", b"x", b"")


def target(data: bytes) -> bool:
    text = data.decode(errors="replace")
    try:
        version = NodeVersion.parse_untrusted(text)
    except MalformedError:
        assert not uses_stream(text)
        return False
    assert NodeVersion.parse_untrusted(str(version)) == version
    assert uses_stream(text) == (version >= STREAM_VERSION)
    return True
