"""What one peer's sender sends, in which order, and what it loses when nobody reads."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind, DropReason
from aelf_p2p.core.budgets import ByteBudget
from aelf_p2p.core.envelope import LARGE_BYTES
from aelf_p2p.core.errors import ConnectionLostError, FullBufferError
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.peers.outbox import Outbox
from tests.peers.foreign_side import make_item

BLOCK = BroadcastKind.BLOCK
ANNOUNCEMENT = BroadcastKind.ANNOUNCEMENT
LIB = BroadcastKind.LIB_ANNOUNCEMENT
TRANSACTION = BroadcastKind.TRANSACTION
PREFIX = b"prefix/"


class Sink:
    """A stream that keeps what is sent, one list a batch, and can stall or break."""

    def __init__(self) -> None:
        self.batches: list[tuple[float, list[bytes]]] = []
        self.stalled: trio.Event | None = None
        self.broken = False
        self.takes_nowait = True
        self.at_once: list[bytes] = []

    @property
    def sent(self) -> list[bytes]:
        return [message for _, batch in self.batches for message in batch]

    async def send_many(self, messages: Sequence[bytes]) -> None:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise ConnectionLostError("broken")
        self.batches.append((trio.current_time(), list(messages)))
        if self.stalled is not None:
            await self.stalled.wait()

    def send_nowait(self, message: bytes) -> bool:
        if self.takes_nowait:
            self.at_once.append(message)
            self.batches.append((trio.current_time(), [message]))
        return self.takes_nowait

    async def receive_many(self) -> list[bytes]:
        raise NotImplementedError

    async def send_eof(self) -> None:
        raise NotImplementedError

    def trust(self) -> None:
        raise NotImplementedError

    def limit_messages(self, max_bytes: int) -> None:
        raise NotImplementedError


@asynccontextmanager
async def running(outbox: Outbox, sink: Sink) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run, sink)
        yield
        nursery.cancel_scope.cancel()


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


def make_outbox(**options: float) -> Outbox:
    return Outbox(PREFIX, NetworkOptions(**options))  # type: ignore[arg-type]


def wire(items: Sequence[BroadcastItem]) -> list[bytes]:
    return [PREFIX + item.body for item in items]


def fill(outbox: Outbox, many: int, kind: BroadcastKind = TRANSACTION) -> list[BroadcastItem]:
    items = [make_item(kind) for _ in range(many)]
    assert [outbox.enqueue_nowait(item) for item in items] == [None] * many
    return items


def post_until_full(outbox: Outbox) -> int:
    """Post messages of 100 bytes; returns how many were taken."""
    for taken in count():
        try:
            outbox.post_nowait(bytes(100))
        except FullBufferError:
            return taken
    raise AssertionError


async def test_what_comes_alone_goes_at_once_when_nothing_waits(
    autojump_clock: trio.abc.Clock,
) -> None:
    outbox, sink = make_outbox(), Sink()
    outbox.send_nowait(b"before there is a stream")
    async with running(outbox, sink):
        await settle()
        outbox.send_nowait(b"alone")
        assert sink.at_once == [b"alone"]
        outbox.post_nowait(b"one of many")
        outbox.send_nowait(b"behind it")
        sink.takes_nowait = False
        await settle()
        outbox.send_nowait(b"no room")
        await settle()
        sink.takes_nowait, sink.stalled = True, trio.Event()
        [item] = fill(outbox, 1)
        await settle()
        outbox.send_nowait(b"behind a send that waits")
        sink.stalled.set()
        await settle()
    assert sink.at_once == [b"alone"]
    assert sink.sent == [
        b"before there is a stream",
        b"alone",
        b"one of many",
        b"behind it",
        b"no room",
        *wire([item]),
        b"behind a send that waits",
    ]


async def test_what_comes_alone_is_refused_as_all_else_when_too_much_waits(
    autojump_clock: trio.abc.Clock,
) -> None:
    outbox = make_outbox(max_control_bytes=100)
    post_until_full(outbox)
    with pytest.raises(FullBufferError):
        outbox.send_nowait(b"alone")


async def test_the_order_of_one_batch(autojump_clock: trio.abc.Clock) -> None:
    outbox, sink = make_outbox(), Sink()
    kinds = [TRANSACTION, LIB, ANNOUNCEMENT, BLOCK, TRANSACTION]
    items = [make_item(kind) for kind in kinds]
    for item in items:
        outbox.enqueue_nowait(item)
    outbox.post_nowait(b"a reply")
    outbox.post_nowait(b"a request")
    async with running(outbox, sink):
        await settle()
    order = [items[index] for index in (3, 2, 1, 0, 4)]
    assert [batch for _, batch in sink.batches] == [[b"a reply", b"a request", *wire(order)]]
    assert outbox.sent == Counter(kinds)


async def test_one_send_carries_many(autojump_clock: trio.abc.Clock) -> None:
    outbox, sink = make_outbox(), Sink()
    items = fill(outbox, 100)
    async with running(outbox, sink):
        await settle()
    assert [len(batch) for _, batch in sink.batches] == [64, 36]
    assert sink.sent == wire(items)


async def test_a_batch_is_bounded_in_bytes(autojump_clock: trio.abc.Clock) -> None:
    outbox, sink = make_outbox(batch_bytes=10_000), Sink()
    sizes = [3000, 3000, 3000, 3000, 50_000, 10]
    items = [make_item(size=size) for size in sizes]
    for item in items:
        outbox.enqueue_nowait(item)
    async with running(outbox, sink):
        await settle()
    assert [len(batch) for _, batch in sink.batches] == [3, 1, 1, 1]
    assert sink.sent == wire(items)


async def test_replies_are_sent_in_bounded_batches_too_and_stay_first(
    autojump_clock: trio.abc.Clock,
) -> None:
    outbox, sink = make_outbox(batch_bytes=1000), Sink()
    replies = [bytes([number]) * 300 for number in range(7)] + [b"large" * 1000, b"last"]
    for reply in replies:
        outbox.post_nowait(reply)
    items = fill(outbox, 2)
    async with running(outbox, sink):
        await settle()
    assert sink.sent == [*replies, *wire(items)]
    assert all(len(batch) == 1 or sum(map(len, batch)) <= 1300 for _, batch in sink.batches)
    assert [len(batch) for _, batch in sink.batches] == [3, 3, 1, 1, 3]


async def test_work_that_comes_later_wakes_the_sender(autojump_clock: trio.abc.Clock) -> None:
    outbox, sink = make_outbox(), Sink()
    async with running(outbox, sink):
        await trio.sleep(5)
        assert sink.batches == []
        outbox.post_nowait(b"a reply")
        await settle()
        await trio.sleep(5)
        [item] = fill(outbox, 1)
        await settle()
    assert sink.batches == [(5.0, [b"a reply"]), (10.0, wire([item]))]


async def test_a_block_does_not_wait_behind_a_thousand_transactions(
    autojump_clock: trio.abc.Clock,
) -> None:
    outbox, sink = make_outbox(max_queued_transactions=1000), Sink()
    sink.stalled = trio.Event()
    fill(outbox, 1000)
    async with running(outbox, sink):
        await settle()
        assert len(sink.batches) == 1
        block = make_item(BLOCK)
        assert outbox.enqueue_nowait(block) is None
        sink.stalled.set()
        await settle()
    assert sink.batches[1][1][0] == PREFIX + block.body
    assert len(sink.sent) == 768  # a quarter of the window of 1024 is not for transactions


async def test_a_block_does_not_wait_for_answers_to_transactions(
    autojump_clock: trio.abc.Clock,
) -> None:
    outbox, sink = make_outbox(max_queued_transactions=2000), Sink()
    fill(outbox, 2000)
    async with running(outbox, sink):
        await settle()
        assert len(sink.sent) == 768
        block = make_item(BLOCK)
        assert outbox.enqueue_nowait(block) is None
        await settle()
        assert sink.sent[768:] == [PREFIX + block.body]


async def test_replies_do_not_keep_unanswered_broadcasts_alive(
    autojump_clock: trio.abc.Clock,
) -> None:
    outbox, sink = make_outbox(), Sink()
    fill(outbox, 5)
    async with running(outbox, sink):
        for _ in range(10):
            await trio.sleep(1)
            outbox.post_nowait(b"a reply")
        assert len(outbox.window) == 0
        assert outbox.queues.dropped[TRANSACTION, DropReason.UNACKNOWLEDGED] == 5


async def test_a_full_window_holds_broadcasts_and_not_replies(
    autojump_clock: trio.abc.Clock,
) -> None:
    outbox, sink = make_outbox(max_unacknowledged=3), Sink()
    items = fill(outbox, 5)
    async with running(outbox, sink):
        await settle()
        outbox.post_nowait(b"a reply")
        await settle()
        assert sink.sent == [*wire(items[:3]), b"a reply"]
        assert outbox.acknowledge(items[1].request_id, 9, b"")
        await settle()
        assert sink.sent[4:] == wire(items[3:4])
        assert outbox.acknowledge(items[0].request_id, 9, b"")
        await settle()
        assert sink.sent[5:] == wire(items[4:])
        assert trio.current_time() == 0  # at once, no waiting for an expiry
    assert outbox.acknowledged == {TRANSACTION: 2}
    assert not outbox.queues.dropped


async def test_a_window_full_of_bytes(autojump_clock: trio.abc.Clock) -> None:
    outbox, sink = make_outbox(max_unacknowledged_bytes=1000), Sink()
    large, small = make_item(BLOCK, 2000), make_item(TRANSACTION)
    outbox.enqueue_nowait(large)
    async with running(outbox, sink):
        await settle()
        outbox.enqueue_nowait(small)
        await settle()
        assert sink.sent == wire([large])
        outbox.acknowledge(large.request_id, 8, b"")
        await settle()
        assert sink.sent == wire([large, small])


async def test_what_is_not_acknowledged_expires(autojump_clock: trio.abc.Clock) -> None:
    outbox, sink = make_outbox(max_unacknowledged=2), Sink()
    items = fill(outbox, 5)
    async with running(outbox, sink):
        await trio.sleep(2.9)
        assert outbox.acknowledge(items[1].request_id, 9, b"")
        await settle()
        assert len(sink.sent) == 3
        await trio.sleep(20)
    assert sink.sent == wire(items)
    assert [at for at, _ in sink.batches] == [0.0, 2.9, 3.0, 5.9]
    assert outbox.queues.dropped == {(TRANSACTION, DropReason.UNACKNOWLEDGED): 4}
    assert len(outbox.window) == 0
    # too late
    assert not outbox.acknowledge(items[0].request_id, 9, b"")


async def test_a_peer_that_never_answers_blocks_nothing(autojump_clock: trio.abc.Clock) -> None:
    outbox, sink = make_outbox(max_unacknowledged=10), Sink()
    async with running(outbox, sink):
        for _ in range(60):
            fill(outbox, 5)
            await trio.sleep(3)
        await trio.sleep(10)
    assert len(sink.sent) == 300
    assert outbox.queues.dropped == {(TRANSACTION, DropReason.UNACKNOWLEDGED): 300}


async def test_what_is_no_acknowledgement(autojump_clock: trio.abc.Clock) -> None:
    outbox, sink = make_outbox(), Sink()
    [item] = fill(outbox, 1)
    assert not outbox.acknowledge(item.request_id, 9, b"")  # not sent yet
    async with running(outbox, sink):
        await settle()
        assert not outbox.acknowledge(item.request_id, 8, b"")
        assert not outbox.acknowledge("1700000000000_else", 9, b"")
        assert outbox.acknowledge(item.request_id, 9, b"")
        assert not outbox.acknowledge(item.request_id, 9, b"")
    assert outbox.acknowledged == {TRANSACTION: 1}


async def test_a_stalled_stream_fills_its_own_queues_only(autojump_clock: trio.abc.Clock) -> None:
    stalled, healthy = make_outbox(), make_outbox()
    stuck, sink = Sink(), Sink()
    stuck.stalled = trio.Event()
    items = [make_item() for _ in range(300)]
    async with running(stalled, stuck), running(healthy, sink):
        for item in items:
            refused = stalled.enqueue_nowait(item)
            assert refused in (None, DropReason.QUEUE_FULL)
            assert healthy.enqueue_nowait(item) is None
            await settle()
            assert healthy.acknowledge(item.request_id, 9, b"")
        assert len(stuck.sent) == 1
        assert stalled.queues.transactions == 100
        assert stalled.queues.dropped == {(TRANSACTION, DropReason.QUEUE_FULL): 199}
    assert sink.sent == wire(items)
    assert healthy.acknowledged == {TRANSACTION: 300}
    assert not healthy.queues.dropped


async def test_too_many_unread_replies(autojump_clock: trio.abc.Clock) -> None:
    outbox, sink = make_outbox(max_control_bytes=1000, batch_bytes=200), Sink()
    sink.stalled = trio.Event()
    async with running(outbox, sink):
        outbox.post_nowait(bytes(100))
        await settle()
        assert post_until_full(outbox) == 10
        assert fill(outbox, 1)  # broadcasts have their own room
        sink.stalled.set()
        await settle()
        outbox.post_nowait(bytes(100))
        await settle()
    assert len(sink.sent) == 13


async def test_what_a_stalled_send_holds_is_bounded(autojump_clock: trio.abc.Clock) -> None:
    # a flood of small requests whose answers are never read: only one batch may leave the count
    outbox, sink = make_outbox(max_control_bytes=100_000, batch_bytes=1000), Sink()
    assert post_until_full(outbox) == 1000
    sink.stalled = trio.Event()
    async with running(outbox, sink):
        await settle()
        assert post_until_full(outbox) == 10


async def test_a_reply_of_any_size_is_taken_when_there_is_room(
    autojump_clock: trio.abc.Clock,
) -> None:
    outbox, sink = make_outbox(max_control_bytes=1000), Sink()
    outbox.post_nowait(bytes(999))
    outbox.post_nowait(bytes(100_000))
    with pytest.raises(FullBufferError):
        outbox.post_nowait(b"")
    async with running(outbox, sink):
        await settle()
    assert [len(message) for message in sink.sent] == [999, 100_000]


async def test_large_replies_share_what_all_peers_have(autojump_clock: trio.abc.Clock) -> None:
    """Until they are sent, or their peer is gone; small ones and broadcasts are not counted."""
    shared = ByteBudget(3 * LARGE_BYTES)
    options = NetworkOptions(max_control_bytes=10**7)
    stalled, other = (
        Outbox(b"", options, large_replies=shared),
        Outbox(b"", options, large_replies=shared),
    )
    sink = Sink()
    sink.stalled = trio.Event()
    async with running(stalled, sink):
        stalled.post_nowait(bytes(LARGE_BYTES))
        stalled.enqueue_nowait(make_item(BLOCK, 2 * LARGE_BYTES))
        await settle()  # it is being sent
        other.post_nowait(bytes(2 * LARGE_BYTES))
        assert shared.held_bytes == 3 * LARGE_BYTES
        with pytest.raises(FullBufferError, match="others wait for as much"):
            stalled.post_nowait(bytes(LARGE_BYTES))
        stalled.post_nowait(bytes(LARGE_BYTES - 1))
        sink.stalled.set()
        await settle()
        assert shared.held_bytes == 2 * LARGE_BYTES
        sink.stalled = trio.Event()
        stalled.post_nowait(bytes(LARGE_BYTES))
        await settle()
    stalled.close()  # in the midst of a send
    assert shared.held_bytes == 2 * LARGE_BYTES
    other.close()
    other.close()
    assert shared.held_bytes == 0


async def test_one_encoding_for_all_peers(autojump_clock: trio.abc.Clock) -> None:
    options = NetworkOptions()
    outboxes = [Outbox(b"one/", options), Outbox(b"other/", options)]
    item = make_item(BLOCK, 5000)
    body = item.body
    for outbox in outboxes:
        sink = Sink()
        outbox.enqueue_nowait(item)
        async with running(outbox, sink):
            await settle()
        [message] = sink.sent
        assert message.endswith(b"/" + body)
        kept = outbox.window.acknowledge(item.request_id, 8)
        assert kept is item
        assert item.body is body


async def test_a_newer_lib_announcement_supersedes(autojump_clock: trio.abc.Clock) -> None:
    outbox, sink = make_outbox(), Sink()
    libs = fill(outbox, 4, LIB)
    async with running(outbox, sink):
        await settle()
    assert sink.sent == wire(libs[-1:])
    assert outbox.queues.dropped == {(LIB, DropReason.SUPERSEDED): 3}


async def test_closing_counts_all_that_is_lost(autojump_clock: trio.abc.Clock) -> None:
    outbox, sink = make_outbox(max_unacknowledged=2), Sink()
    blocks, transactions = fill(outbox, 3, BLOCK), fill(outbox, 4)
    async with running(outbox, sink):
        await settle()
        outbox.acknowledge(blocks[0].request_id, 8, b"")
        await settle()
        outbox.post_nowait(b"a reply")
    outbox.close()
    assert outbox.queues.dropped == {
        (BLOCK, DropReason.CLOSED): 2,
        (TRANSACTION, DropReason.CLOSED): len(transactions),
    }
    assert (len(outbox.queues), len(outbox.window), outbox.queues.queued_bytes) == (0, 0, 0)
    outbox.close()
    assert sum(outbox.queues.dropped.values()) == 6


async def test_a_broken_stream_ends_the_sender(autojump_clock: trio.abc.Clock) -> None:
    outbox, sink = make_outbox(), Sink()
    sink.broken = True
    outbox.post_nowait(b"a reply")
    with pytest.raises(ConnectionLostError):
        await outbox.run(sink)


# --- whatever happens -----------------------------------------------------------------------------

STEP = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(BroadcastKind), st.integers(0, 400)),
    st.tuples(st.just("post"), st.integers(0, 300)),
    st.tuples(st.just("answer"), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.5, 1.0, 3.0])),
    st.tuples(st.just("stall"), st.booleans()),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=60))
def test_nothing_is_lost_uncounted_and_each_kind_stays_in_order(
    steps: list[tuple[str, *tuple[object, ...]]],
) -> None:
    trio.run(play, steps, clock=trio.testing.MockClock(autojump_threshold=0))


async def play(  # noqa: PLR0912 - a case for each kind of step
    steps: list[tuple[str, *tuple[object, ...]]],
) -> None:
    outbox = make_outbox(
        max_queued_transactions=4,
        max_queued_blocks=3,
        max_queued_announcements=4,
        max_queued_bytes=2000,
        max_control_bytes=1000,
        batch_bytes=500,
        batch_items=3,
        max_unacknowledged=5,
        max_unacknowledged_bytes=1200,
    )
    sink = Sink()
    taken: list[BroadcastItem] = []
    offered: Counter[BroadcastKind] = Counter()
    posted: list[bytes] = []
    async with running(outbox, sink):
        for name, *arguments in steps:
            match name, *arguments:
                case "put", BroadcastKind() as kind, int(size):
                    item = make_item(kind, size)
                    offered[kind] += 1
                    if outbox.enqueue_nowait(item) is None:
                        taken.append(item)
                case "post", int(size):
                    message = b"%06d" % len(posted) + bytes(size)
                    try:
                        outbox.post_nowait(message)
                    except FullBufferError:
                        pass
                    else:
                        posted.append(message)
                case "answer", int(back):
                    in_flight = [item for item in taken if PREFIX + item.body in sink.sent]
                    if in_flight:
                        item = in_flight[-1 - back % len(in_flight)]
                        outbox.acknowledge(item.request_id, item.kind.value, b"")
                case "wait", float(seconds):
                    await trio.sleep(seconds)
                case "stall", bool(stall):
                    if sink.stalled is not None:
                        sink.stalled.set()
                    sink.stalled = trio.Event() if stall else None
            await settle()
            assert len(outbox.window) <= 5
            assert outbox.queues.queued_bytes <= 2000
    for _, batch in sink.batches:  # only the last message may go beyond
        assert sum(map(len, batch[:-1])) <= 500 + len(PREFIX) * len(batch)
    assert [message for message in sink.sent if not message.startswith(PREFIX)] == posted[
        : len([message for message in sink.sent if not message.startswith(PREFIX)])
    ]
    for kind in BroadcastKind:
        expected = [PREFIX + item.body for item in taken if item.kind is kind]
        sent = [message for message in sink.sent if message in expected]
        if kind is not LIB:  # of which a newer one takes the place of an older one
            assert sent == expected[: len(sent)]
        assert outbox.sent[kind] == len(sent)
    outbox.close()
    for kind in BroadcastKind:
        lost = sum(n for (each, _), n in outbox.queues.dropped.items() if each is kind)
        assert offered[kind] == outbox.acknowledged[kind] + lost
