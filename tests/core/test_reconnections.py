"""What waits to be dialed again: when, until when, and what a full table lets go."""

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aelf_p2p.core.backoff import Backoff
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.network_state import Reconnection
from aelf_p2p.core.reconnections import ReconnectionTable

DAY_S = 86_400.0
WALL_S = 1_700_000_000.0
A, B, C, BOOT = (Endpoint(name, 6800) for name in ("a", "b", "c", "boot"))
KEY = b"k" * 65


def make_table(capacity: int = 512, *, changes: list[int] | None = None) -> ReconnectionTable:
    heard = [] if changes is None else changes
    return ReconnectionTable(
        Backoff(jitter=0.0),
        random.Random(1),
        capacity=capacity,
        boot_nodes=[BOOT],
        on_change=lambda: heard.append(1),
    )


def attempts(table: ReconnectionTable, *, until_s: float) -> list[float]:
    """When what waits is dialed, in vain, in seconds from 0."""
    times: list[float] = []
    while (due_at := table.next_due_at()) is not None and due_at <= until_s:
        for entry in table.due(due_at):
            times.append(due_at)
            table.failed(entry, now=due_at, wall_s=WALL_S + due_at)
    return times


A_DAY = [
    60, 180, 420, 900, 1860, 3780, 7620,  # 60 s, doubled six times
    14820, 22020, 29220, 36420, 43620, 50820, 58020, 65220, 72420, 79620,  # every two hours
]  # fmt: skip


def test_a_lost_peer_is_tried_for_a_day() -> None:
    table = make_table()
    table.schedule(A, KEY, now=0, wall_s=WALL_S)
    assert attempts(table, until_s=10 * DAY_S) == A_DAY
    assert A not in table
    assert len(table) == 0


def test_a_boot_node_is_never_given_up() -> None:
    table = make_table()
    table.schedule(BOOT, None, now=0, wall_s=WALL_S)
    times = attempts(table, until_s=10 * DAY_S)
    assert times[: len(A_DAY)] == A_DAY
    assert times[len(A_DAY) :] == list(range(86_820, int(10 * DAY_S), 7200))
    assert BOOT in table


def test_what_waits_goes_on_as_it_was() -> None:
    changes: list[int] = []
    table = make_table(changes=changes)
    table.schedule(A, KEY, now=0, wall_s=WALL_S)
    table.schedule(A, KEY, now=50, wall_s=WALL_S + 50)
    assert table.next_due_at() == 60
    assert len(changes) == 1


def test_the_backoff_can_begin_later() -> None:
    table = make_table()
    table.schedule(BOOT, KEY, now=0, wall_s=WALL_S, retries=3)
    assert table.next_due_at() == 480
    assert table.entries[0].retries == 3


def test_nothing_is_due_before_its_time_and_the_longest_due_comes_first() -> None:
    table = make_table()
    table.schedule(B, None, now=5, wall_s=WALL_S)
    table.schedule(A, None, now=0, wall_s=WALL_S)
    assert table.due(59.9) == []
    assert [entry.endpoint for entry in table.due(60)] == [A]
    assert [entry.endpoint for entry in table.due(100)] == [A, B]


def test_an_entry_that_was_ended_while_it_was_dialed_stays_ended() -> None:
    table = make_table()
    table.schedule(A, KEY, now=0, wall_s=WALL_S)
    [entry] = table.due(60)
    assert table.end(A) is entry
    table.failed(entry, now=61, wall_s=WALL_S)
    assert len(table) == 0
    table.schedule(A, KEY, now=62, wall_s=WALL_S)  # lost again
    table.failed(entry, now=63, wall_s=WALL_S)
    assert table.next_due_at() == 122


def test_ending_by_key() -> None:
    changes: list[int] = []
    table = make_table(changes=changes)
    for endpoint, key in ((A, KEY), (B, b"other"), (C, KEY)):
        table.schedule(endpoint, key, now=0, wall_s=WALL_S)
    assert [entry.endpoint for entry in table.end_key(KEY)] == [A, C]
    assert [entry.endpoint for entry in table.entries] == [B]
    assert table.end_key(KEY) == []
    assert table.end(A) is None
    assert len(changes) == 5


def test_a_full_table_lets_the_oldest_loss_go_and_boot_nodes_last() -> None:
    table = make_table(2)
    table.schedule(BOOT, None, now=0, wall_s=WALL_S)
    table.schedule(A, None, now=1, wall_s=WALL_S + 1)
    table.schedule(B, None, now=2, wall_s=WALL_S + 2)
    assert {entry.endpoint for entry in table.entries} == {BOOT, B}
    alone = make_table(1)
    alone.schedule(BOOT, None, now=0, wall_s=WALL_S)
    alone.schedule(A, None, now=1, wall_s=WALL_S + 1)  # nothing else is left to go
    assert {entry.endpoint for entry in alone.entries} == {A}


def entry_of(endpoint: Endpoint, lost_at: float, retries: int = 0) -> Reconnection:
    return Reconnection(endpoint=endpoint, public_key=KEY, lost_at=lost_at, retries=retries)


def test_what_an_earlier_run_left_is_tried_after_a_period_and_then_as_before() -> None:
    changes: list[int] = []
    table = make_table(changes=changes)
    table.restore([entry_of(A, WALL_S - 1000, 4)], now=7, wall_s=WALL_S)
    assert table.entries == (entry_of(A, WALL_S - 1000, 4),)
    assert not changes
    [entry] = table.due(67)
    table.failed(entry, now=67, wall_s=WALL_S + 60)
    assert table.next_due_at() == 67 + 60 * 2**5


def test_what_an_earlier_run_left_for_too_long_is_forgotten() -> None:
    table = make_table()
    old = WALL_S - DAY_S
    table.restore(
        [entry_of(A, old), entry_of(B, old + 1), entry_of(BOOT, old)], now=0, wall_s=WALL_S
    )
    assert [entry.endpoint for entry in table.entries] == [B, BOOT]


def test_a_clock_that_was_ahead_keeps_nothing_for_ever() -> None:
    table = make_table()
    table.restore([entry_of(A, WALL_S + 1e9)], now=0, wall_s=WALL_S)
    assert table.entries[0].lost_at == WALL_S
    assert len(attempts(table, until_s=100 * DAY_S)) == len(A_DAY)


def test_a_clock_that_is_put_right_moves_no_attempt() -> None:
    table = make_table()
    table.schedule(A, KEY, now=0, wall_s=WALL_S)
    [entry] = table.due(60)
    table.failed(entry, now=60, wall_s=WALL_S - 5000)
    assert table.next_due_at() == 180


class ReconnectionMachine(RuleBasedStateMachine):
    """Bounded, one entry an endpoint, and never an attempt later than the longest delay."""

    capacity = 4
    endpoints = st.sampled_from([Endpoint(f"host{number}", 6800) for number in range(7)] + [BOOT])
    keys = st.none() | st.sampled_from([b"1", b"2", b"3"])

    def __init__(self) -> None:
        super().__init__()
        self.table = make_table(self.capacity)
        self.now = 0.0

    @rule(seconds=st.floats(0, 20_000))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(endpoint=endpoints, key=keys, retries=st.integers(0, 10))
    def schedule(self, endpoint: Endpoint, key: bytes | None, retries: int) -> None:
        self.table.schedule(endpoint, key, now=self.now, wall_s=WALL_S + self.now, retries=retries)
        assert endpoint in self.table

    @rule(some=st.integers(0, 3))
    def dial(self, some: int) -> None:
        for entry in self.table.due(self.now)[:some]:
            self.table.failed(entry, now=self.now, wall_s=WALL_S + self.now)
            assert entry not in self.table.due(self.now)

    @rule(endpoint=endpoints)
    def connect(self, endpoint: Endpoint) -> None:
        self.table.end(endpoint)
        assert endpoint not in self.table

    @rule(key=keys.filter(bool))
    def connect_key(self, key: bytes) -> None:
        self.table.end_key(key)
        assert all(entry.public_key != key for entry in self.table.entries)

    @invariant()
    def is_bounded(self) -> None:
        entries = self.table.entries
        assert len(self.table) == len(entries) <= self.capacity
        assert len({entry.endpoint for entry in entries}) == len(entries)
        due_at = self.table.next_due_at()
        assert (due_at is None) == (not entries)
        assert due_at is None or due_at <= self.now + 7200


TestReconnectionTable = ReconnectionMachine.TestCase
TestReconnectionTable.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
