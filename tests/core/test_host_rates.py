"""How often one host may do something."""

from aelf_p2p.core.budgets import Rate
from aelf_p2p.core.host_rates import MAX_HOSTS, HostRates


def test_each_host_has_its_own_rate() -> None:
    rates = HostRates(Rate(2, 1))
    assert [rates.spend("192.0.2.1", 5.0) for _ in range(4)] == [True, True, False, False]
    assert rates.spend("192.0.2.2", 5.0)
    assert [rates.spend("192.0.2.1", 6.0) for _ in range(2)] == [True, False]


def test_a_network_of_ipv6_addresses_is_one_host() -> None:
    rates = HostRates(Rate(1, 1))
    assert rates.spend("2001:db8::1", 1.0)
    assert not rates.spend("2001:db8::2", 1.0)
    assert rates.spend("2001:db8:0:1::1", 1.0)
    assert rates.spend("192.0.2.1", 1.0)
    assert not rates.spend("::ffff:192.0.2.1", 1.0)


def test_loopback_is_exempt() -> None:
    rates = HostRates(Rate(1, 1))
    assert all(rates.spend(host, 1.0) for host in ("127.0.0.1", "::1") for _ in range(100))
    assert len(rates) == 0


def test_of_too_many_hosts_the_quietest_is_forgotten() -> None:
    rates = HostRates(Rate(1, 0.001))
    hosts = [f"10.0.{number // 256}.{number % 256}" for number in range(MAX_HOSTS + 1)]
    for host in hosts[:-1]:
        assert rates.spend(host, 1.0)
    assert not rates.spend(hosts[0], 1.0)
    assert rates.spend(hosts[-1], 1.0)
    assert len(rates) == MAX_HOSTS
    assert not rates.spend(hosts[0], 1.0)
    assert rates.spend(hosts[1], 1.0)
