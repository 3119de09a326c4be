"""Bans: by host or key, extended but never shortened, until they end or are lifted; bounded."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aelf_p2p.core.bans import MAX_BANS, Ban, BanList, BanReason, ban_subject
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import MisuseError

KEY = bytes.fromhex("04" + "cd" * 64)
OTHER_KEY = bytes(32)
COUNTED = {"2001:db8::1": "2001:db8::/64", "2001:db8::2": "2001:db8::/64"}
HOSTS = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", *COUNTED]
KEYS = [KEY, OTHER_KEY]

hosts = st.sampled_from(HOSTS)
keys = st.sampled_from(KEYS)
subjects = hosts | keys.map(bytes.hex)


class BanListMachine(RuleBasedStateMachine):
    """Beside a plain model; the operator's bans, which hold in any case, are told apart."""

    capacity = 4

    def __init__(self) -> None:
        super().__init__()
        self.bans = BanList(capacity=self.capacity)
        self.model: dict[str, Ban] = {}
        self.operators: dict[str, float] = {}  # until when, by subject
        self.now = 1000.0

    @rule(seconds=st.integers(1, 50))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.model = {who: ban for who, ban in self.model.items() if ban.until > self.now}
        self.operators = {who: until for who, until in self.operators.items() if until > self.now}
        assert len(self.bans.active(self.now)) == len(self.model)

    @rule(given=subjects, reason=st.sampled_from(BanReason), seconds=st.integers(1, 60))
    def ban(self, given: str, reason: BanReason, seconds: int) -> None:
        subject, until = COUNTED.get(given, given), self.now + seconds
        ban = Ban(subject, reason, until)
        if (held := self.model.get(subject)) is not None:
            ban = held if held.until >= until else ban
            if BanReason.OPERATOR in (held.reason, reason):
                ban = Ban(subject, BanReason.OPERATOR, ban.until)
        if reason is BanReason.OPERATOR:
            self.operators[subject] = max(until, self.operators.get(subject, 0))
        self.model[subject] = ban
        assert self.bans.ban(given, reason, until) == ban
        others = [ban for ban in self.model.values() if ban.reason is not BanReason.OPERATOR]
        if len(self.model) > self.capacity and others:
            del self.model[min(others, key=lambda ban: (ban.until, ban.subject)).subject]

    @rule(given=subjects)
    def lift(self, given: str) -> None:
        subject = COUNTED.get(given, given)
        assert self.bans.lift(given) is (subject in self.model)
        self.model.pop(subject, None)
        self.operators.pop(subject, None)
        assert not self.bans.lift(given)

    @rule(host=hosts, key=st.none() | keys)
    def find(self, host: str, key: bytes | None) -> None:
        by_host = self.model.get(COUNTED.get(host, host))
        by_key = self.model.get(key.hex()) if key else None
        assert self.bans.find(host, key, self.now) == (by_host or by_key)

    @invariant()
    def holds_its_bounds(self) -> None:
        bans = self.bans.active(self.now)
        assert bans == sorted(self.model.values(), key=lambda ban: (ban.until, ban.subject))
        of_operator = {ban.subject: ban.until for ban in bans if ban.reason is BanReason.OPERATOR}
        assert len(bans) <= max(self.capacity, len(of_operator))
        assert all(of_operator[who] >= until for who, until in self.operators.items())


TestBanList = BanListMachine.TestCase
TestBanList.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_host_or_a_key() -> None:
    bans = BanList()
    by_host = bans.ban("192.0.2.1", BanReason.ABNORMAL_PEER, 400.0)
    by_key = bans.ban(KEY.hex(), BanReason.OPERATOR, 500.0)
    assert by_host == Ban("192.0.2.1", BanReason.ABNORMAL_PEER, 400.0)
    assert bans.find("192.0.2.1", None, 100.0) is by_host
    assert bans.find("192.0.2.9", KEY, 100.0) is by_key
    assert bans.find("192.0.2.9", None, 100.0) is None
    assert bans.find("192.0.2.9", OTHER_KEY, 100.0) is None


def test_a_ban_ends_at_its_time() -> None:
    bans = BanList()
    bans.ban("192.0.2.1", BanReason.ABNORMAL_PEER, 400.0)
    assert bans.find("192.0.2.1", KEY, 399.9) is not None
    assert bans.find("192.0.2.1", KEY, 400.0) is None


def test_a_key_is_banned_still_when_its_host_is_not_any_more() -> None:
    bans = BanList()
    bans.ban("192.0.2.1", BanReason.INVALID_TRANSACTIONS, 200.0)
    bans.ban(KEY.hex(), BanReason.OPERATOR, 300.0)
    found = bans.find("192.0.2.1", KEY, 250.0)
    assert found is not None
    assert found.subject == KEY.hex()


def test_a_shorter_ban_changes_nothing() -> None:
    bans = BanList()
    longest = 2.0**31 - 1
    first = bans.ban("192.0.2.1", BanReason.OPERATOR, longest)
    assert bans.ban("192.0.2.1", BanReason.ABNORMAL_PEER, 300.0) is first
    assert bans.find("192.0.2.1", None, 10_000.0) is first
    longer = bans.ban("192.0.2.1", BanReason.ABNORMAL_PEER, longest + 1)
    assert longer == Ban("192.0.2.1", BanReason.OPERATOR, longest + 1)  # as it was the operator's
    assert bans.active(0.0) == [longer]


def test_a_lifted_ban_is_gone() -> None:
    bans = BanList()
    bans.ban("192.0.2.1", BanReason.OPERATOR, 400.0)
    assert bans.lift("192.0.2.1")
    assert bans.find("192.0.2.1", None, 100.0) is None
    assert bans.active(100.0) == []
    assert not bans.lift("192.0.2.1")
    bans.ban("192.0.2.1", BanReason.ABNORMAL_PEER, 200.0)  # a new one may be shorter
    found = bans.find("192.0.2.1", None, 100.0)
    assert found is not None
    assert found.until == 200.0


def test_changes_are_told() -> None:
    changes: list[int] = []
    bans = BanList(lambda: changes.append(1))
    bans.ban("192.0.2.1", BanReason.OPERATOR, 400.0)
    assert len(changes) == 1
    bans.ban("192.0.2.1", BanReason.OPERATOR, 300.0)  # a shorter one
    assert len(changes) == 1
    bans.lift("192.0.2.1")
    bans.lift("192.0.2.1")
    assert len(changes) == 2


def test_the_list_begins_with_what_ends_first() -> None:
    bans = BanList()
    for subject, until in (("c", 300.0), ("b", 200.0), ("a", 300.0), ("d", 100.0)):
        bans.ban(subject, BanReason.OPERATOR, until)
    assert [ban.subject for ban in bans.active(100.0)] == ["b", "a", "c"]


def test_a_full_list_lets_go_what_ends_first_and_is_not_the_operators() -> None:
    bans = BanList(capacity=3)
    bans.ban("a", BanReason.OPERATOR, 100.0)
    bans.ban("b", BanReason.INVALID_TRANSACTIONS, 300.0)
    bans.ban("c", BanReason.ABNORMAL_PEER, 200.0)
    bans.ban("d", BanReason.ABNORMAL_PEER, 400.0)
    assert [ban.subject for ban in bans.active(0.0)] == ["a", "b", "d"]
    bans.ban("b", BanReason.INVALID_TRANSACTIONS, 500.0)  # longer, and not one more
    assert [ban.subject for ban in bans.active(0.0)] == ["a", "d", "b"]


def test_a_list_full_of_the_operators_bans_takes_his_alone() -> None:
    bans = BanList(capacity=2)
    for subject in "abc":
        bans.ban(subject, BanReason.OPERATOR, 100.0)
    bans.ban("d", BanReason.ABNORMAL_PEER, 900.0)
    assert [ban.subject for ban in bans.active(0.0)] == ["a", "b", "c"]
    assert bans.find("d", None, 0.0) is None


def test_the_operators_word_makes_a_ban_his() -> None:
    """Else his shorter ban would go with the longer one of the list, when it is full."""
    changes: list[int] = []
    bans = BanList(lambda: changes.append(1))
    bans.ban("a", BanReason.ABNORMAL_PEER, 300.0)
    assert bans.ban("a", BanReason.OPERATOR, 10.0) == Ban("a", BanReason.OPERATOR, 300.0)
    assert bans.ban("a", BanReason.ABNORMAL_PEER, 400.0) == Ban("a", BanReason.OPERATOR, 400.0)
    assert len(changes) == 3


def test_a_flood_of_keys_is_bounded() -> None:
    bans = BanList()
    for number in range(MAX_BANS + 100):
        bans.ban(number.to_bytes(32, "big").hex(), BanReason.ABNORMAL_PEER, 300.0 + number)
    assert len(bans.active(0.0)) == MAX_BANS
    assert bans.find("a", (99).to_bytes(32, "big"), 0.0) is None
    assert bans.find("a", (100).to_bytes(32, "big"), 0.0) is not None


def test_a_ban_of_an_ipv6_address_is_its_networks() -> None:
    bans = BanList()
    bans.ban("2001:db8::1", BanReason.ABNORMAL_PEER, 400.0)
    assert bans.active(0.0) == [Ban("2001:db8::/64", BanReason.ABNORMAL_PEER, 400.0)]
    assert bans.find("2001:db8::ffff:1", None, 0.0) is not None
    assert bans.find("2001:db8:0:1::1", None, 0.0) is None
    assert bans.lift("2001:db8::2")
    assert bans.find("2001:db8::1", None, 0.0) is None


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (KEY, KEY.hex()),
        (KEY.hex().upper(), KEY.hex()),
        ("Node", "node"),
        (Endpoint("192.0.2.1", 6800), "192.0.2.1"),
        (Endpoint("2001:db8::1", 6800), "2001:db8::/64"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::/64", "2001:db8::/64"),
        ("::1", "::1"),
    ],
)
def test_subjects(given: Endpoint | bytes | str, written: str) -> None:
    assert ban_subject(given) == written


@pytest.mark.parametrize("text", ["192.0.2.1/64", "node/64", "2001:db8::/48", "[2001:db8::]/64"])
def test_networks_of_other_sizes_are_no_subjects(text: str) -> None:
    with pytest.raises(MisuseError):
        ban_subject(text)
