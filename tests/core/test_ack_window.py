"""The window of unanswered broadcasts against a list of (when sent, item)."""

from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aelf_p2p.core.ack_window import AckWindow
from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind
from aelf_p2p.wire import MessageType, StreamMessage, StreamType

MAX_ITEMS = 12
MAX_BYTES = 600
TTL = 3
_numbers = count()


def make(kind: BroadcastKind = BroadcastKind.TRANSACTION, size: int = 10) -> BroadcastItem:
    number = next(_numbers)
    return BroadcastItem(kind, number.to_bytes(32), bytes(size), f"1700000000000_{number:08}")


def encode_reply(item: BroadcastItem, layout: str) -> bytes:
    """The reply to a broadcast as protobuf writes it: all at once, or the session's part first."""
    session = {"session-id-bin": "00ff"}
    message_type = MessageType.Name(item.kind.value)
    own = StreamMessage(message_type=message_type, request_id=item.request_id)
    if layout == "ours":
        before = StreamMessage(stream_type=StreamType.REPLY, meta=session)
        return before.SerializeToString() + own.SerializeToString()
    own.stream_type = StreamType.REPLY
    own.meta.update(session)
    return own.SerializeToString()


LEARNED_FROM = make()


class AckWindowMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.window = AckWindow(MAX_ITEMS, MAX_BYTES, TTL)
        self.model: list[tuple[int, BroadcastItem]] = []
        self.gone: list[BroadcastItem] = []
        self.now = 100

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(
        parts=st.lists(
            st.tuples(st.sampled_from(BroadcastKind), st.integers(0, 120)), min_size=0, max_size=5
        )
    )
    def push(self, parts: list[tuple[BroadcastKind, int]]) -> None:
        batch = [make(kind, size) for kind, size in parts][: self.window.room]
        self.window.push(batch, self.now)
        self.model += [(self.now, item) for item in batch]

    @precondition(lambda self: self.model)
    @rule()
    def acknowledge_in_order(self) -> None:
        self.take(0)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def acknowledge_out_of_order(self, data: st.DataObject) -> None:
        self.take(data.draw(st.integers(0, len(self.model) - 1)))

    @precondition(lambda self: self.model)
    @rule(
        layout=st.sampled_from(["ours", "c#"]),
        count=st.integers(0, MAX_ITEMS),
        before=st.lists(st.binary(max_size=3), max_size=2),
        behind=st.lists(st.binary(max_size=3), max_size=2),
    )
    def acknowledge_by_bytes(
        self, layout: str, count: int, before: list[bytes], behind: list[bytes]
    ) -> None:
        """The window has learned a layout: replies in it are taken while they are the oldest's."""
        self.window.learn(LEARNED_FROM, encode_reply(LEARNED_FROM, layout))
        oldest = [item for _, item in self.model[:count]]
        messages = [*before, *(encode_reply(item, layout) for item in oldest), *behind]
        assert self.window.acknowledge_many(messages, len(before)) == oldest
        del self.model[:count]
        self.gone += oldest

    @precondition(lambda self: self.model)
    @rule(layout=st.sampled_from(["ours", "c#"]))
    def acknowledge_by_other_bytes(self, layout: str) -> None:
        self.window.learn(LEARNED_FROM, encode_reply(LEARNED_FROM, layout))
        (_, oldest), *others = self.model
        for _, item in others:
            assert self.window.acknowledge_many([encode_reply(item, layout)]) == []
        changed = encode_reply(oldest, layout) + b"\x08\x01"  # stream_type REQUEST after all
        assert self.window.acknowledge_many([changed, encode_reply(oldest, layout)]) == []

    def take(self, position: int) -> None:
        _, item = self.model.pop(position)
        assert self.window.acknowledge(item.request_id, item.kind.value) is item
        self.gone.append(item)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), other=st.sampled_from([0, 1, 8, 9, 10, 11, 99]))
    def acknowledge_with_another_type(self, data: st.DataObject, other: int) -> None:
        _, item = data.draw(st.sampled_from(self.model))
        if other != item.kind.value:
            assert self.window.acknowledge(item.request_id, other) is None

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def acknowledge_again(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.gone))
        assert self.window.acknowledge(item.request_id, item.kind.value) is None

    @rule(request_id=st.sampled_from(["", "x", "1700000000000_"]))
    def acknowledge_something_unknown(self, request_id: str) -> None:
        assert self.window.acknowledge(request_id, 9) is None

    @rule()
    def expire(self) -> None:
        expected = [item for sent, item in self.model if self.now - sent >= TTL]
        assert self.window.expire(self.now) == expected
        self.model = [(sent, item) for sent, item in self.model if self.now - sent < TTL]
        self.gone += expected

    @precondition(lambda self: len(self.model) > 6)
    @rule()
    def clear(self) -> None:
        left = [item for _, item in self.model]
        assert self.window.clear() == left
        self.gone += left
        self.model = []

    @invariant()
    def same_as_the_model(self) -> None:
        size = sum(item.size for _, item in self.model)
        assert len(self.window) == len(self.model) <= MAX_ITEMS
        assert self.window.bytes == size
        assert self.window.room == (0 if size >= MAX_BYTES else MAX_ITEMS - len(self.model))
        oldest = min((sent for sent, _ in self.model), default=None)
        assert self.window.next_expiry == (None if oldest is None else oldest + TTL)


TestAckWindow = AckWindowMachine.TestCase
TestAckWindow.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def test_full_by_count() -> None:
    window = AckWindow(3, 10**6, 3.0)
    items = [make() for _ in range(3)]
    assert window.room == 3
    window.push(items[:2], 0.0)
    assert window.room == 1
    window.push(items[2:], 0.0)
    assert window.room == 0
    assert window.acknowledge(items[1].request_id, 9) is items[1]
    assert window.room == 1


def test_full_by_bytes() -> None:
    window = AckWindow(1000, 500, 3.0)
    nearly = make(BroadcastKind.BLOCK, 470)
    large = make(BroadcastKind.BLOCK, 600)
    exact = AckWindow(1000, nearly.size, 3.0)
    exact.push([nearly], 0.0)
    assert exact.room == 0
    window.push([nearly], 0.0)
    assert window.room == 999  # one byte is enough for a whole batch
    window.acknowledge(nearly.request_id, 8)
    window.push([large], 0.0)
    assert window.room == 0
    window.acknowledge(large.request_id, 8)
    assert (window.bytes, window.room) == (0, 1000)


@pytest.mark.parametrize("answered", [[], [0], [1, 0], [3], [2, 1, 0, 3]])
def test_only_what_is_old_expires(answered: list[int]) -> None:
    window = AckWindow(100, 10**6, 3.0)
    items = [make() for _ in range(5)]
    window.push(items[:3], 10.0)
    window.push(items[3:], 12.0)
    for position in answered:
        window.acknowledge(items[position].request_id, 9)
    assert window.expire(12.9) == []
    late = [position for position in range(3) if position not in answered]
    assert window.expire(13.0) == [items[position] for position in late]
    assert window.next_expiry == 15.0
    assert len(window.expire(15.0)) == 2 - (3 in answered)
    assert (len(window), window.bytes) == (0, 0)


def test_an_empty_batch_leaves_no_trace() -> None:
    window = AckWindow(10, 100, 3.0)
    window.push([], 0.0)
    assert window.next_expiry is None
    assert window.expire(100.0) == []


def test_a_thousand_out_of_order() -> None:
    window = AckWindow(1024, 10**9, 3.0)
    items = [make() for _ in range(1000)]
    for start in range(0, 1000, 64):
        window.push(items[start : start + 64], float(start))
    for item in reversed(items):
        assert window.acknowledge(item.request_id, 9) is item
    assert (len(window), window.bytes, window.next_expiry) == (0, 0, None)


def test_the_time_to_answer_begins_when_a_batch_is_sent() -> None:
    window = AckWindow(10, 10_000, 3.0)
    first, second = make(), make()
    window.push([first], 0.0)
    window.sent(0.5)
    window.push([second], 0.5)  # its send takes long
    assert window.expire(3.4) == []
    window.sent(5.0)
    assert window.expire(5.0) == [first]
    assert window.next_expiry == 8.0
    assert window.expire(8.0) == [second]
    window.sent(9.0)
    assert window.next_expiry is None


def test_a_quarter_of_the_window_is_not_for_transactions() -> None:
    window = AckWindow(8, 10_000, 3.0)
    assert (window.room, window.room_for_transactions) == (8, 6)
    window.push([make() for _ in range(6)], 0.0)
    assert (window.room, window.room_for_transactions) == (2, 0)
    window.push([make()], 0.0)
    assert (window.room, window.room_for_transactions) == (1, 0)


def test_an_unparsed_reply_says_nothing_before_a_layout_is_learned() -> None:
    window, item = AckWindow(MAX_ITEMS, MAX_BYTES, TTL), make()
    window.push([item], 0)
    assert window.acknowledge_many([encode_reply(item, "ours")]) == []
    window.learn(item, b"a reply in which the fields do not stand together")
    assert window.acknowledge_many([encode_reply(item, "ours")]) == []
    assert window.acknowledge(item.request_id, item.kind.value) is item


@pytest.mark.parametrize(("size", "is_learned"), [(8000, True), (8192, False)])
def test_a_large_reply_is_not_kept_as_a_layout(size: int, is_learned: bool) -> None:
    """The message of a reply to a broadcast should be empty; a megabyte of it would be held."""
    message = StreamMessage(message=bytes(size)).SerializeToString()
    window, item = AckWindow(MAX_ITEMS, MAX_BYTES, TTL), make()
    window.push([item], 0)
    window.learn(LEARNED_FROM, encode_reply(LEARNED_FROM, "c#") + message)
    taken = window.acknowledge_many([encode_reply(item, "c#") + message])
    assert taken == ([item] if is_learned else [])


def test_an_empty_window_takes_no_unparsed_reply() -> None:
    window = AckWindow(MAX_ITEMS, MAX_BYTES, TTL)
    window.learn(LEARNED_FROM, encode_reply(LEARNED_FROM, "c#"))
    assert window.acknowledge_many([encode_reply(LEARNED_FROM, "c#")]) == []
