"""Which nodes of the old kind are dialed back: a stranger names the port (protocol §3.2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.dial_backs import MAX_HOSTS, DialBacks
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import RefusalReason
from aelf_p2p.core.options import NetworkOptions

PUBLIC = Endpoint("8.8.8.8", 6800)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "node", "fd00::1"])
def test_private_hosts_are_dialed_when_that_is_configured(host: str) -> None:
    endpoint = Endpoint(host, 6800)
    assert DialBacks(NetworkOptions()).refuse(endpoint, 0) is RefusalReason.PRIVATE
    assert DialBacks(NetworkOptions(dial_private=True)).refuse(endpoint, 0) is None
    assert DialBacks(NetworkOptions()).refuse(PUBLIC, 0) is None


def test_a_host_rests_after_so_many_failures() -> None:
    rules = DialBacks(NetworkOptions(max_failed_dial_backs=3, failed_dial_backs_period_s=60))
    for count in range(3):
        assert rules.refuse(PUBLIC, count) is None
        rules.failed(Endpoint("8.8.8.8", 1000 + count), count)  # whatever the port
    assert rules.refuse(PUBLIC, 3) is RefusalReason.UNREACHABLE
    assert rules.refuse(Endpoint("8.8.4.4", 6800), 3) is None
    assert rules.refuse(PUBLIC, 59.9) is RefusalReason.UNREACHABLE
    assert rules.refuse(PUBLIC, 60) is None


def test_ipv6_addresses_of_one_network_rest_together() -> None:
    rules = DialBacks(NetworkOptions(max_failed_dial_backs=2))
    for address in "2600::1", "2600::2":
        rules.failed(Endpoint(address, 6800), 0)
    assert rules.refuse(Endpoint("2600::3", 6800), 0) is RefusalReason.UNREACHABLE
    assert rules.refuse(Endpoint("2600:0:0:1::3", 6800), 0) is None


def test_many_hosts_are_remembered_but_not_all() -> None:
    rules = DialBacks(NetworkOptions(max_failed_dial_backs=1))
    hosts = [Endpoint(f"8.8.{n // 250}.{n % 250}", 1) for n in range(MAX_HOSTS + 1)]
    for endpoint in hosts:
        rules.failed(endpoint, 0)
    refused = [rules.refuse(endpoint, 0) is not None for endpoint in hosts]
    assert refused == [False] + [True] * MAX_HOSTS


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(1, 5))
def test_a_host_is_dialed_so_often_in_a_period(gaps: list[float], most: int) -> None:
    """Whenever it asks: at most ``most`` failures begin each period, so twice as many any 60 s."""
    rules = DialBacks(NetworkOptions(max_failed_dial_backs=most, failed_dial_backs_period_s=60))
    now, dialed = 0.0, []
    for gap in gaps:
        now += gap
        if rules.refuse(PUBLIC, now) is None:
            dialed.append(now)
            rules.failed(PUBLIC, now)
    for at in dialed:
        assert sum(at <= other < at + 60 for other in dialed) <= 2 * most
