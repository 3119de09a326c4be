"""The send queues against a flat list of what waits, in the order of arrival."""

from collections import Counter
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind, DropReason
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.send_queues import SendQueues

BLOCK = BroadcastKind.BLOCK
ANNOUNCEMENT = BroadcastKind.ANNOUNCEMENT
LIB = BroadcastKind.LIB_ANNOUNCEMENT
TRANSACTION = BroadcastKind.TRANSACTION

PRIORITY = [BLOCK, ANNOUNCEMENT, LIB, TRANSACTION]
SMALL = NetworkOptions(
    max_queued_blocks=3,
    max_queued_announcements=4,
    max_queued_transactions=5,
    max_queued_bytes=1000,
)
_numbers = count()


def make(kind: BroadcastKind, size: int = 40) -> BroadcastItem:
    """An item of this size in a queue, up to two bytes more or less."""
    number = next(_numbers)
    request_id = f"{number:08}"
    item = BroadcastItem(kind, number.to_bytes(32), bytes(max(size - 14, 1)), request_id)
    assert abs(item.size - size) <= 2
    return item


def drop_all(queues: SendQueues) -> Counter[tuple[BroadcastKind, DropReason]]:
    queues.clear()
    return queues.dropped


class SendQueuesMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queues = SendQueues(SMALL)
        self.waiting: list[BroadcastItem] = []
        self.dropped: Counter[tuple[BroadcastKind, DropReason]] = Counter()
        self.put_in: Counter[BroadcastKind] = Counter()
        self.taken: Counter[BroadcastKind] = Counter()

    def waiting_of(self, *kinds: BroadcastKind) -> list[BroadcastItem]:
        return [item for item in self.waiting if item.kind in kinds]

    def expected_refusal(self, item: BroadcastItem, rest: list[BroadcastItem]) -> DropReason | None:
        if sum(other.size for other in rest) + item.size > 1000:
            return DropReason.BYTES_FULL
        group, limit = {
            BLOCK: ({BLOCK}, 3),
            ANNOUNCEMENT: ({ANNOUNCEMENT, LIB}, 4),
            LIB: ({ANNOUNCEMENT, LIB}, 4),
            TRANSACTION: ({TRANSACTION}, 5),
        }[item.kind]
        if sum(other.kind in group for other in rest) >= limit:
            return DropReason.QUEUE_FULL
        return None

    @rule(kind=st.sampled_from(BroadcastKind), size=st.integers(16, 120))
    def put(self, kind: BroadcastKind, size: int) -> None:
        self.put_item(make(kind, size))

    @rule(kind=st.sampled_from(BroadcastKind), size=st.integers(300, 1100))
    def put_large(self, kind: BroadcastKind, size: int) -> None:
        self.put_item(make(kind, size))

    @rule(sizes=st.lists(st.integers(16, 40), min_size=4, max_size=12))
    def put_many_transactions(self, sizes: list[int]) -> None:
        for size in sizes:
            self.put_item(make(TRANSACTION, size))

    def put_item(self, item: BroadcastItem) -> None:
        self.put_in[item.kind] += 1
        rest = [other for other in self.waiting if not (item.kind is LIB is other.kind)]
        refusal = self.expected_refusal(item, rest)
        assert self.queues.put_nowait(item) is refusal
        if refusal is not None:
            self.dropped[item.kind, refusal] += 1
            return
        if len(rest) < len(self.waiting):
            self.dropped[LIB, DropReason.SUPERSEDED] += 1
        self.waiting = [*rest, item]

    @rule(max_items=st.integers(0, 8), max_bytes=st.integers(1, 600))
    def take_batch(self, max_items: int, max_bytes: int) -> None:
        expected: list[BroadcastItem] = []
        ended: set[BroadcastKind] = set()
        room = max_bytes
        for item in sorted(self.waiting, key=lambda item: PRIORITY.index(item.kind)):
            if len(expected) == max_items:
                break
            if item.kind is TRANSACTION and BLOCK in ended:
                break  # a block that did not fit goes first in the next batch
            if item.kind in ended or (item.size > room and expected):
                ended.add(item.kind)  # its kind stays in order
                continue
            expected.append(item)
            room -= item.size
        batch = self.queues.take_batch(max_items, max_bytes)
        assert batch == expected
        assert len(batch) <= max_items
        assert len(batch) == 1 or sum(item.size for item in batch) <= max_bytes
        assert batch or not self.waiting or max_items == 0
        self.waiting = [item for item in self.waiting if item not in batch]
        self.taken.update(item.kind for item in batch)

    @rule(
        kind=st.sampled_from(BroadcastKind),
        max_items=st.integers(1, 8),
        max_bytes=st.integers(1, 600),
    )
    def take_kind(self, kind: BroadcastKind, max_items: int, max_bytes: int) -> None:
        expected: list[BroadcastItem] = []
        for item in self.waiting_of(kind)[:max_items]:
            if expected and sum(each.payload_size for each in [*expected, item]) > max_bytes:
                break
            expected.append(item)
        assert self.queues.take_kind(kind, max_items, max_bytes) == expected
        self.waiting = [item for item in self.waiting if item not in expected]
        self.taken.update(item.kind for item in expected)

    @precondition(lambda self: len(self.waiting) > 4)
    @rule()
    def clear(self) -> None:
        self.queues.clear()
        self.dropped.update((item.kind, DropReason.CLOSED) for item in self.waiting)
        self.waiting = []

    @invariant()
    def counts_and_bytes(self) -> None:
        assert len(self.queues) == len(self.waiting)
        assert self.queues.blocks == len(self.waiting_of(BLOCK)) <= 3
        assert self.queues.announcements == len(self.waiting_of(ANNOUNCEMENT, LIB)) <= 4
        assert self.queues.transactions == len(self.waiting_of(TRANSACTION)) <= 5
        assert self.queues.queued_bytes == sum(item.size for item in self.waiting) <= 1000

    @invariant()
    def nothing_is_lost_uncounted(self) -> None:
        assert self.queues.dropped == self.dropped
        for kind in BroadcastKind:
            dropped = sum(n for (each, _), n in self.queues.dropped.items() if each is kind)
            waiting = len(self.waiting_of(kind))
            assert self.put_in[kind] == self.taken[kind] + waiting + dropped


TestSendQueues = SendQueuesMachine.TestCase
TestSendQueues.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize(("kind", "limit"), [(BLOCK, 50), (ANNOUNCEMENT, 200), (TRANSACTION, 100)])
def test_the_networks_limits(kind: BroadcastKind, limit: int) -> None:
    queues = SendQueues(NetworkOptions())
    answers = [queues.put_nowait(make(kind)) for _ in range(limit + 2)]
    assert answers == [None] * limit + [DropReason.QUEUE_FULL] * 2
    assert queues.dropped == {(kind, DropReason.QUEUE_FULL): 2}
    assert len(queues) == limit


def test_lib_announcements_share_the_room_of_announcements() -> None:
    queues = SendQueues(SMALL)
    assert [queues.put_nowait(make(ANNOUNCEMENT)) for _ in range(4)] == [None] * 4
    assert queues.put_nowait(make(LIB)) is DropReason.QUEUE_FULL
    queues.take_batch(1, 1000)
    assert queues.put_nowait(make(LIB)) is None
    assert queues.put_nowait(make(ANNOUNCEMENT)) is DropReason.QUEUE_FULL
    assert queues.put_nowait(make(LIB)) is None  # in the place of the first
    assert queues.announcements == 4


def test_a_newer_lib_announcement_is_the_only_one() -> None:
    queues = SendQueues(SMALL)
    libs = [make(LIB) for _ in range(10)]
    assert [queues.put_nowait(item) for item in libs] == [None] * 10
    assert queues.take_batch(64, 1000) == libs[-1:]
    assert queues.dropped == {(LIB, DropReason.SUPERSEDED): 9}


def test_a_newer_lib_announcement_may_take_the_bytes_of_the_older() -> None:
    queues = SendQueues(SMALL)
    older, newer, larger = make(LIB, 60), make(LIB, 60), make(LIB, 70)
    filler = make(BLOCK, 940 - 1)
    assert queues.put_nowait(older) is None
    assert queues.put_nowait(filler) is None
    assert queues.queued_bytes > 990
    assert queues.put_nowait(newer) is None
    assert queues.put_nowait(larger) is DropReason.BYTES_FULL
    assert queues.take_batch(64, 1000) == [filler, newer]
    assert queues.queued_bytes == 0


def test_the_order_of_sending() -> None:
    queues = SendQueues(SMALL)
    kinds = [TRANSACTION, LIB, ANNOUNCEMENT, BLOCK, TRANSACTION, ANNOUNCEMENT, BLOCK]
    items = [make(kind) for kind in kinds]
    for item in items:
        queues.put_nowait(item)
    order = [items[index] for index in (3, 6, 2, 5, 1, 0, 4)]
    assert queues.take_batch(3, 10_000) == order[:3]
    assert queues.take_batch(64, 10_000) == order[3:]
    assert queues.take_batch(64, 10_000) == []


def test_an_item_larger_than_a_batch_goes_alone() -> None:
    queues = SendQueues(SMALL)
    large, small = make(BLOCK, 500), make(TRANSACTION, 20)
    queues.put_nowait(small)
    queues.put_nowait(large)
    assert queues.take_batch(64, 100) == [large]
    assert queues.take_batch(64, 100) == [small]


def test_an_item_larger_than_all_queues_is_refused() -> None:
    queues = SendQueues(SMALL)
    assert queues.put_nowait(make(BLOCK, 1010)) is DropReason.BYTES_FULL
    assert len(queues) == 0


def test_clearing_counts_each_kind() -> None:
    queues = SendQueues(SMALL)
    for kind in (BLOCK, LIB, TRANSACTION, TRANSACTION):
        queues.put_nowait(make(kind))
    assert drop_all(queues) == {
        (BLOCK, DropReason.CLOSED): 1,
        (LIB, DropReason.CLOSED): 1,
        (TRANSACTION, DropReason.CLOSED): 2,
    }
    assert sum(drop_all(queues).values()) == 4  # the second time there is nothing
    assert (len(queues), queues.queued_bytes) == (0, 0)


def test_transactions_have_a_number_of_their_own_in_a_batch() -> None:
    queues = SendQueues(NetworkOptions())
    kinds = [BroadcastKind.TRANSACTION] * 5 + [BroadcastKind.ANNOUNCEMENT] * 2
    for number, kind in enumerate(kinds):
        assert queues.put_nowait(BroadcastItem(kind, bytes(32), b"x", f"1_{number}")) is None
    taken = [item.request_id for item in queues.take_batch(64, 10_000, 3)]
    assert taken == ["1_5", "1_6", "1_0", "1_1", "1_2"]
    assert queues.take_batch(64, 10_000, 0) == []
    assert len(queues) == queues.transactions == 2


def test_no_transaction_overtakes_a_block_that_did_not_fit() -> None:
    queues = SendQueues(NetworkOptions())
    for number, (kind, size) in enumerate(
        [(BroadcastKind.TRANSACTION, 10), (BroadcastKind.BLOCK, 500), (BroadcastKind.BLOCK, 600)]
    ):
        item = BroadcastItem(kind, bytes(32), bytes(size), f"1_{number}")
        assert queues.put_nowait(item) is None
    batches = [[item.request_id for item in queues.take_batch(64, 1000)] for _ in range(2)]
    assert batches == [["1_1"], ["1_2", "1_0"]]
