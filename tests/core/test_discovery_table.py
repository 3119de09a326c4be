"""The nodes that discovery knows: bounded, one an endpoint, and no host fills the table."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aelf_p2p.core.discovery_table import MAX_AVOIDED, DiscoveryTable
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.network_state import KnownNode

KEY = b"k" * 65


def at(host: str, port: int = 6800) -> Endpoint:
    return Endpoint(host, port)


def known(table: DiscoveryTable) -> list[str]:
    return [node.endpoint.host for node in table.nodes]


def test_a_node_that_answers_is_known() -> None:
    changes: list[int] = []
    table = DiscoveryTable(10, 8, lambda: changes.append(1))
    assert table.answered(at("a"), 100.0)
    expected = KnownNode(endpoint=at("a"), public_key=None, seen_at=100.0, available=True)
    assert table.nodes == (expected,)
    assert at("a") in table
    assert len(table) == len(changes) == 1


def test_a_key_that_was_proved_stays_until_another_is() -> None:
    table = DiscoveryTable(10, 8)
    table.answered(at("a"), 100.0, KEY)
    table.answered(at("a"), 200.0)
    assert table.nodes[0].public_key == KEY
    assert table.nodes[0].seen_at == 200.0
    table.answered(at("a"), 300.0, b"new")
    assert table.nodes[0].public_key == b"new"


def test_the_node_that_was_tried_longest_ago_is_probed_next() -> None:
    table = DiscoveryTable(10, 8)
    assert table.next_to_probe() is None
    for host in "abc":
        table.answered(at(host), 1.0)
    for host in "abcab":
        node = table.next_to_probe()
        assert node is not None
        assert node.endpoint.host == host
        if host == "b":
            table.failed(node.endpoint)
        else:
            table.answered(node.endpoint, 2.0)


def test_a_node_that_fails_stays_and_is_not_dialed() -> None:
    table = DiscoveryTable(10, 8)
    table.answered(at("a"), 1.0)
    table.failed(at("a"))
    assert known(table) == ["a"]
    assert table.dialable(0.0) == []
    assert table.nodes[0].seen_at == 1.0
    table.answered(at("a"), 2.0)
    assert [node.endpoint for node in table.dialable(0.0)] == [at("a")]
    table.failed(at("nobody"))
    assert len(table) == 1


def test_a_full_table_gives_the_place_of_the_node_not_seen_for_longest() -> None:
    table = DiscoveryTable(3, 8)
    for host, seen_at in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        table.answered(at(host), seen_at)
    assert not table.answered(at("d"), 9.0)  # all are available
    assert known(table) == ["a", "b", "c"]
    table.failed(at("a"))
    table.failed(at("c"))
    assert table.answered(at("d"), 9.0)
    assert sorted(known(table)) == ["a", "b", "d"]


def test_one_host_does_not_fill_the_table() -> None:
    table = DiscoveryTable(100, 2)
    assert table.answered(at("192.0.2.1", 1), 1.0)
    assert table.answered(at("192.0.2.1", 2), 2.0)
    assert not table.answered(at("192.0.2.1", 3), 3.0)
    assert table.answered(at("192.0.2.2", 3), 3.0)
    table.failed(at("192.0.2.2", 3))  # another host's place is none of its
    assert not table.answered(at("192.0.2.1", 3), 3.0)
    table.failed(at("192.0.2.1", 2))
    assert table.answered(at("192.0.2.1", 3), 3.0)
    assert [node.endpoint.port for node in table.nodes] == [1, 3, 3]


def test_one_ipv6_network_does_not_fill_the_table() -> None:
    table = DiscoveryTable(100, 2)
    answered = [table.answered(at(f"2001:db8::{number}"), 1.0) for number in range(1, 4)]
    assert answered == [True, True, False]
    assert table.answered(at("2001:db8:0:1::1"), 1.0)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_loopback_is_exempt(host: str) -> None:
    table = DiscoveryTable(5, 1)
    assert [table.answered(at(host, port), 1.0) for port in range(1, 7)] == [True] * 5 + [False]


def test_what_is_avoided_is_forgotten_and_left_alone_for_its_time() -> None:
    changes: list[int] = []
    table = DiscoveryTable(10, 8, lambda: changes.append(1))
    table.answered(at("a"), 1.0)
    table.avoid(at("a"), 600.0)
    table.avoid(at("ourselves"), math.inf)
    assert len(table) == 0
    assert len(changes) == 2
    assert table.is_avoided(at("a"), 599.9)
    assert not table.is_avoided(at("a"), 600.0)
    assert not table.is_avoided(at("b"), 0.0)
    assert table.is_avoided(at("ourselves"), 1e12)


def test_of_too_many_that_are_avoided_the_first_is_forgotten() -> None:
    table = DiscoveryTable(10, 8)
    for number in range(MAX_AVOIDED + 1):
        table.avoid(at("host", number + 1), math.inf)
    assert not table.is_avoided(at("host", 1), 0.0)
    assert table.is_avoided(at("host", 2), 0.0)
    table.avoid(at("host", 2), math.inf)  # told again: the last now
    table.avoid(at("another"), math.inf)
    assert table.is_avoided(at("host", 2), 0.0)
    assert not table.is_avoided(at("host", 3), 0.0)


def spared(table: DiscoveryTable, told: list[Endpoint], now: float = 0.0) -> list[Endpoint]:
    return table.spare_hosts(told, now, most_of_a_host=2, most_avoided=4)


def test_of_one_host_a_few_endpoints_are_tried() -> None:
    table = DiscoveryTable(10, 8)
    told = [at("a", 1), at("b", 1), at("a", 2), at("a", 3), at("b", 2), at("b", 3)]
    assert spared(table, told) == [at("a", 1), at("b", 1), at("a", 2), at("b", 2)]
    network = [at(f"2001:db8::{number}") for number in range(1, 5)]
    assert spared(table, network) == network[:2]
    local = [at("127.0.0.1", port) for port in range(1, 9)]
    assert spared(table, local) == local


def test_a_host_with_several_dead_endpoints_is_left_alone_while_they_are() -> None:
    table = DiscoveryTable(10, 8)
    for port in range(1, 5):
        table.avoid(at("a", port), 600.0 + port)
        table.avoid(at("127.0.0.1", port), 600.0)
    told = [at("a", 11), at("a", 12), at("b", 1), at("127.0.0.1", 9)]
    assert spared(table, told, 600.9) == [at("b", 1), at("127.0.0.1", 9)]
    assert spared(table, told, 601.0) == [at("a", 11), at("b", 1), at("127.0.0.1", 9)]
    assert spared(table, told, 602.0) == told


@given(st.lists(st.lists(st.integers(1, 60), max_size=10), max_size=20), st.integers(1, 300))
def test_however_it_is_told_a_hosts_dead_ports_are_tried_that_often(
    rounds: list[list[int]], rest_s: int
) -> None:
    """Each round 60 s behind the last one: four of one host rest at most."""
    table = DiscoveryTable(10, 8)
    tried: list[float] = []
    for number, ports in enumerate(rounds):
        now = 60.0 * number
        told = [each for port in ports if not table.is_avoided(each := at("8.8.8.8", port), now)]
        chosen = spared(table, list(dict.fromkeys(told)), now)
        for endpoint in chosen:
            table.avoid(endpoint, now + rest_s)
        tried += [now] * len(chosen)
        assert len(chosen) <= 2
        resting = sum(tried_at > now - rest_s for tried_at in tried)
        assert resting <= 4
        assert chosen or not told or resting == 4


def test_a_node_that_rests_is_known_and_not_dialed() -> None:
    table = DiscoveryTable(10, 8)
    for host in "ab":
        table.answered(at(host), 1.0)
    table.rest(at("a"), 600.0)
    table.rest(at("stranger"), 600.0)
    assert [node.endpoint.host for node in table.dialable(599.0)] == ["b"]
    assert [node.endpoint.host for node in table.dialable(600.0)] == ["a", "b"]
    table.rest(at("a"), 2000.0)
    table.avoid(at("a"), 700.0)
    table.answered(at("a"), 2.0)  # another one lives there now
    assert [node.endpoint.host for node in table.dialable(1000.0)] == ["b", "a"]


def test_what_an_earlier_run_left_is_taken_in_as_far_as_there_is_room() -> None:
    changes: list[int] = []
    nodes = [
        KnownNode(endpoint=at(host), public_key=KEY, seen_at=1.0, available=host != "b")
        for host in "abc"
    ]
    table = DiscoveryTable(2, 8, lambda: changes.append(1))
    table.restore([*nodes, nodes[0]])
    assert table.nodes == (nodes[0], nodes[2])
    assert not changes


class DiscoveryMachine(RuleBasedStateMachine):
    """Whatever happens, the bounds hold, and who answered last is not pushed out by newcomers."""

    capacity, per_host = 5, 2
    endpoints = st.builds(Endpoint, st.sampled_from([*"abcdefg", "127.0.0.1"]), st.integers(1, 4))

    def __init__(self) -> None:
        super().__init__()
        self.table = DiscoveryTable(self.capacity, self.per_host)
        self.now = 1.0
        self.available: set[Endpoint] = set()

    @rule(endpoint=endpoints)
    def answered(self, endpoint: Endpoint) -> None:
        self.now += 1
        if self.table.answered(endpoint, self.now):
            self.available.add(endpoint)
        else:
            assert endpoint not in self.table

    @rule(endpoint=endpoints)
    def failed(self, endpoint: Endpoint) -> None:
        self.table.failed(endpoint)
        self.available.discard(endpoint)

    @rule(endpoint=endpoints)
    def avoid(self, endpoint: Endpoint) -> None:
        self.table.avoid(endpoint, self.now + 5)
        self.available.discard(endpoint)

    @invariant()
    def holds_its_bounds(self) -> None:
        nodes = self.table.nodes
        hosts = [node.endpoint.host for node in nodes if node.endpoint.host != "127.0.0.1"]
        assert len(nodes) <= self.capacity
        assert all(hosts.count(host) <= self.per_host for host in hosts)
        assert {node.endpoint for node in nodes if node.available} == self.available
        assert {node.endpoint for node in self.table.dialable(self.now)} == self.available


TestDiscoveryTable = DiscoveryMachine.TestCase
TestDiscoveryTable.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
