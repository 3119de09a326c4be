import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aelf_p2p.core.endpoint import (
    DEFAULT_PORT,
    Endpoint,
    counted_host,
    is_loopback_host,
    normalise_host,
    split_host_port_untrusted,
)
from aelf_p2p.core.errors import MalformedError, MisuseError

LONGEST_NAME = ".".join(["a" * 63] * 3 + ["a" * 61])

label = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
names = st.lists(label, min_size=1, max_size=4).map(".".join)
hosts = st.ip_addresses().map(str) | names
endpoints = st.builds(Endpoint, hosts, st.integers(1, 65535))


@pytest.mark.fault(68)
@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("node.example.com", "node.example.com", 6800),
        ("node.example.com:7000", "node.example.com", 7000),
        ("Node-1.Example.COM:1", "node-1.example.com", 1),
        ("localhost:65535", "localhost", 65535),
        ("1.2.3.4", "1.2.3.4", 6800),
        ("1.2.3.4:6801", "1.2.3.4", 6801),
        ("[::1]:6801", "::1", 6801),
        ("[::1]", "::1", 6800),
        ("::1", "::1", 6800),
        ("::1:6801", "::1:6801", 6800),
        ("[2001:DB8:0:0::7]:80", "2001:db8::7", 80),
        ("[::ffff:1.2.3.4]:80", "1.2.3.4", 80),
        ("::ffff:102:304", "1.2.3.4", 6800),
        (LONGEST_NAME + ":65535", LONGEST_NAME, 65535),
        ("1a:00080", "1a", 80),
    ],
)
def test_texts(text: str, host: str, port: int) -> None:
    endpoint = Endpoint.parse_untrusted(text)
    assert (endpoint.host, endpoint.port) == (host, port)
    assert endpoint == Endpoint(host, port)
    assert Endpoint.parse_untrusted(str(endpoint)) == endpoint


def test_default_port() -> None:
    assert DEFAULT_PORT == 6800
    assert Endpoint.parse_untrusted("host", default_port=7).port == 7
    assert Endpoint.parse_untrusted("[::1]", default_port=7).port == 7
    assert Endpoint.parse_untrusted("host:8", default_port=7).port == 8


@pytest.mark.fault(68)
@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":6800",
        "host:",
        "host:0",
        "host:99999",
        "host:65536",
        "host:-1",
        "host:+1",
        "host: 1",
        "host:1 ",
        "host:٣",
        "host:000080",
        "a:b:c",
        "1.2.3.4:1:2",
        "[::1",
        "::1]",
        "[::1]x",
        "[::1]6800",
        "[::1]:",
        "[::1]:0",
        "[]:1",
        "[1.2.3.4]:1",
        "[host]:1",
        "[a:b]:1",
        "[fe80::1%eth0]:1",
        "fe80::1%eth0",
        "host name",
        "host_name",
        "-host",
        "host-",
        "host.",
        ".host",
        "a..b",
        "höst",
        "host\n",
        "host/path",
        "user@host",
        "a" * 64,
        LONGEST_NAME + "a",
        "a" * 1_000_000,
        # What a resolver would read as an IPv4 address.
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0X7F000001",
        "0x",
        "1.2.3.256",
        "1.2.3.04",
        "1.2.3.4.5",
    ],
)
def test_malformed_texts(text: str) -> None:
    with pytest.raises(MalformedError):
        Endpoint.parse_untrusted(text)


@given(endpoints)
def test_texts_come_back(endpoint: Endpoint) -> None:
    assert Endpoint.parse_untrusted(str(endpoint)) == endpoint


@given(st.text() | st.text("[]:.0123456789abcdefx%-") | st.text(max_size=20).map("[::1]".__add__))
def test_any_text_is_an_endpoint_or_malformed(text: str) -> None:
    try:
        endpoint = Endpoint.parse_untrusted(text)
    except MalformedError:
        return
    assert 1 <= endpoint.port <= 65535
    assert endpoint.host == normalise_host(endpoint.host) != ""
    assert Endpoint.parse_untrusted(str(endpoint)) == endpoint


@given(st.text())
def test_normalising_never_raises_and_settles(host: str) -> None:
    once = normalise_host(host)
    assert once == host.lower() or ":" in host
    assert normalise_host(once) == once.lower()


@pytest.mark.parametrize(
    ("host", "normal"),
    [
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::FFFF:7f00:1", "127.0.0.1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("10.0.0.1", "10.0.0.1"),
        ("HOST", "host"),
        ("not a host!", "not a host!"),
    ],
)
def test_normalise_host(host: str, normal: str) -> None:
    assert normalise_host(host) == normal


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("Node", "node"),
        ("not a host!", "not a host!"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:DB8:0:0:ffff:ffff:ffff:ffff", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_what_counts_as_one_host(host: str, counted: str) -> None:
    assert counted_host(host) == counted
    assert counted_host(counted) == counted


@given(st.integers(0x20000000 << 96, (1 << 128) - 1), st.integers(0, 127))
@example(0x20010DB8 << 96, 63)
@example(0x20010DB8 << 96, 64)
def test_ipv6_addresses_of_one_network_are_one_host(number: int, bit: int) -> None:
    one = str(ipaddress.IPv6Address(number))
    other = str(ipaddress.IPv6Address(number ^ (1 << bit)))
    assert (counted_host(one) == counted_host(other)) is (bit < 64)


@given(st.text() | hosts)
def test_counting_never_raises_and_settles(host: str) -> None:
    once = counted_host(host)
    assert counted_host(once) == once.lower()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("128.0.0.1", False),
        ("10.1.2.3", False),
        ("8.8.8.8", False),
        ("localhost", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert Endpoint(host, 6800).is_loopback is loopback
    assert is_loopback_host(host) is loopback


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "::ffff:8.8.8.8", "2001:4860:4860::8888", "2606:4700::1111"]
)
def test_what_the_whole_internet_reaches(host: str) -> None:
    assert Endpoint(host, 6800).is_global


@pytest.mark.parametrize(
    "host",
    [
        "aelf.example",
        "localhost",
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",  # shared by the customers of a provider
        "127.0.0.1",
        "169.254.169.254",  # where clouds keep their machines' secrets
        "192.0.2.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",  # 127.0.0.1 by way of NAT64
        "2002:7f00:1::",  # and by way of 6to4
        "2001:db8::1",
        "fd00::1",
        "fe80::1",
        "ff0e::1",
    ],
)
def test_what_it_does_not(host: str) -> None:
    assert not Endpoint(host, 6800).is_global


@pytest.mark.parametrize(
    ("host", "port"), [("", 1), ("a b", 1), ("[::1]", 1), ("host", 0), ("host", 65536), ("h", -1)]
)
def test_parts_that_are_no_endpoint(host: str, port: int) -> None:
    with pytest.raises(MisuseError):
        Endpoint(host, port)
    with pytest.raises(MalformedError):
        Endpoint.of_untrusted(host, port)


def test_parts_from_outside() -> None:
    assert Endpoint.of_untrusted("::ffff:1.2.3.4", 6800) == Endpoint("1.2.3.4", 6800)


# --- host and port alone --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("host", "host", 7),
        ("host:0", "host", 0),
        ("Host:00080", "Host", 80),
        ("host:99999", "host", 99999),
        ("1.2.3.4:6801", "1.2.3.4", 6801),
        ("0.0.0.0", "0.0.0.0", 7),
        ("[::]:0", "::", 0),
        ("[::1]", "::1", 7),
        ("::1", "::1", 7),
        ("::1:6801", "::1:6801", 7),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("fe80::1%eth0", "fe80::1%eth0", 7),
        # whether these are hosts is seen by whoever uses them
        ("", "", 7),
        (":1", "", 1),
        ("a b", "a b", 7),
        ("a:b:c", "a:b:c", 7),
        ("[a:b]:1", "a:b", 1),
    ],
)
def test_split(text: str, host: str, port: int) -> None:
    assert split_host_port_untrusted(text, 7) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "host:",
        "host:-1",
        "host:+1",
        "host: 1",
        "host:1 ",
        "host:٣",
        "host:1_0",
        "host:000080",
        "host:http",
        "[::1",
        "[::1]x",
        "[::1]6800",
        "[::1]:",
        "[]:1",
        "[1.2.3.4]:1",
        "[host]",
        LONGEST_NAME + ":000001",
    ],
)
def test_what_cannot_be_split(text: str) -> None:
    with pytest.raises(MalformedError):
        split_host_port_untrusted(text, 7)


@given(st.text() | st.text("[]:.0123456789abcdefx%-"))
def test_any_text_is_split_or_malformed(text: str) -> None:
    try:
        host, port = split_host_port_untrusted(text, 7)
    except MalformedError:
        return
    assert host in text
    assert 0 <= port <= 99999
