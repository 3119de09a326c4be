"""Endpoints and hosts that strangers tell: written again they are the same."""

from collections.abc import Iterator

from aelf_p2p.core.endpoint import Endpoint, counted_host, is_loopback_host, normalise_host
from aelf_p2p.core.errors import MalformedError

WORDS = (
    b":6800",
    b"[",
    b"]:",
    b"::",
    b"::ffff:",
    b"127.0.0.1",
    b"%eth0",
    b"0x7f.1",
    b"xn--",
    b"65536",
    b".",
)


def seeds() -> Iterator[bytes]:
    yield from (b"10.0.0.2:6800", b"[2001:db8::1]:6800", b"[::1]", b"::1:6800", b"::ffff:1.2.3.4")
    yield from (b"node.example.org:1", b"node.example.org", b"a:b:c", b"host:99999", b"127.1:80")
    yield from (
        "ö.example:80".encode(),
        b"[fe80::1%eth0]:1",
        b"64:ff9b::7f00:1",
        b"2130706433",
        b"",
    )


def target(data: bytes) -> bool:
    text = data.decode(errors="replace")
    is_loopback_host(text)
    counted = counted_host(text)
    assert counted_host(counted) == counted
    assert normalise_host(normalise_host(text)) == normalise_host(text)
    try:
        endpoint = Endpoint.parse_untrusted(text)
    except MalformedError:
        return False
    assert Endpoint.parse_untrusted(str(endpoint)) == endpoint
    assert normalise_host(endpoint.host) == endpoint.host
    assert endpoint.host.isascii()
    assert not (endpoint.is_loopback and endpoint.is_global)
    return True
