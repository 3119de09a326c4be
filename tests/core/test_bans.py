"""Bans: by host or key, extended but never shortened, until they end or are lifted."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from aelf_p2p.core.bans import Ban, BanList, BanReason

KEY = bytes.fromhex("04" + "cd" * 64)
OTHER_KEY = bytes(32)
HOSTS = ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
KEYS = [KEY, OTHER_KEY]

hosts = st.sampled_from(HOSTS)
keys = st.sampled_from(KEYS)
subjects = hosts | keys.map(bytes.hex)


class BanListMachine(RuleBasedStateMachine):
    """A subject is banned while the latest end of its bans, since the last lift, is ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.bans = BanList()
        self.ends: dict[str, list[int]] = {}
        self.now = 1000

    def until(self, subject: str) -> int | None:
        end = max(self.ends.get(subject, [0]))
        return end if end > self.now else None

    @rule(seconds=st.integers(1, 50))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(subject=subjects, reason=st.sampled_from(BanReason), seconds=st.integers(1, 60))
    def ban(self, subject: str, reason: BanReason, seconds: int) -> None:
        self.ends.setdefault(subject, []).append(self.now + seconds)
        held = self.bans.ban(subject, reason, self.now + seconds)
        assert (held.subject, held.until) == (subject, self.until(subject))

    @rule(subject=subjects)
    def lift(self, subject: str) -> None:
        if self.until(subject) is not None:
            assert self.bans.lift(subject)
        else:
            self.bans.lift(subject)
        self.ends.pop(subject, None)
        assert not self.bans.lift(subject)

    @rule(host=hosts, key=st.none() | keys)
    def find(self, host: str, key: bytes | None) -> None:
        by_host, by_key = self.until(host), self.until(key.hex()) if key else None
        found = self.bans.find(host, key, self.now)
        if by_host is None and by_key is None:
            assert found is None
        else:
            assert found is not None
            ends = {host: by_host} | ({key.hex(): by_key} if key else {})
            assert found.until == ends[found.subject]

    @rule()
    def list_them(self) -> None:
        ends = {subject: self.until(subject) for subject in self.ends}
        expected = sorted((end, subject) for subject, end in ends.items() if end is not None)
        assert [(ban.until, ban.subject) for ban in self.bans.active(self.now)] == expected


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
    assert longer == Ban("192.0.2.1", BanReason.ABNORMAL_PEER, longest + 1)
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
