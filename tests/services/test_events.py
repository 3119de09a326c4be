"""Events out: every subscriber gets all of them, or is told how many it missed."""

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aelf_p2p.core.network_events import EventsMissed, NetworkInitialized, TransactionsReceived
from aelf_p2p.services.events import TRANSACTION_OVERHEAD_BYTES, Event, EventBus, Subscription
from aelf_p2p.testing.fakes import FakePeer
from tests.services.support import make_transaction, read_all


def numbered(number: int) -> NetworkInitialized:
    return NetworkInitialized(number)


async def test_all_subscribers_get_all_events_in_order(autojump_clock: MockClock) -> None:
    bus = EventBus(10, 2**20)
    with bus.subscribe() as first, bus.subscribe() as second, bus.subscribe() as third:
        for number in range(5):
            bus.publish(numbered(number))
        for subscription in (first, second, third):
            assert await read_all(subscription) == [numbered(number) for number in range(5)]


async def test_a_subscriber_gets_nothing_from_before(autojump_clock: MockClock) -> None:
    bus = EventBus(10, 2**20)
    bus.publish(numbered(1))
    with bus.subscribe() as events:
        bus.publish(numbered(2))
        assert await read_all(events) == [numbered(2)]


async def test_nobody_need_listen() -> None:
    bus = EventBus(1, 2**20)
    for number in range(5):
        bus.publish(numbered(number))


async def test_a_waiting_subscriber_wakes() -> None:
    bus = EventBus(10, 2**20)
    got: list[Event] = []

    async def read(events: Subscription) -> None:
        async for event in events:
            got.append(event)

    with bus.subscribe() as events:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, events)
            for number in range(3):
                await wait_all_tasks_blocked()
                bus.publish(numbered(number))
            await wait_all_tasks_blocked()
            assert got == [numbered(0), numbered(1), numbered(2)]
            bus.end()


async def test_a_slow_subscriber_loses_only_its_own(autojump_clock: MockClock) -> None:
    bus = EventBus(3, 2**20)
    with bus.subscribe() as slow, bus.subscribe() as quick:
        seen: list[Event] = []
        for number in range(8):
            bus.publish(numbered(number))
            seen += await read_all(quick)
        assert seen == [numbered(number) for number in range(8)]
        assert await read_all(slow) == [numbered(0), numbered(1), numbered(2), EventsMissed(5)]


async def test_what_was_missed_is_told_where_it_was_missed(autojump_clock: MockClock) -> None:
    bus = EventBus(3, 2**20)
    with bus.subscribe() as events:
        for number in range(5):  # 3 and 4 find no room
            bus.publish(numbered(number))
        assert await anext(events) == numbered(0)
        assert await anext(events) == numbered(1)
        bus.publish(numbered(5))
        assert await read_all(events) == [numbered(2), EventsMissed(2), numbered(5)]
        bus.publish(numbered(6))  # nothing is told twice
        assert await read_all(events) == [numbered(6)]


async def test_each_gap_has_its_own_count(autojump_clock: MockClock) -> None:
    bus = EventBus(1, 2**20)
    with bus.subscribe() as events:
        for number in range(3):
            bus.publish(numbered(number))
        assert await read_all(events) == [numbered(0), EventsMissed(2)]
        for number in range(3, 7):
            bus.publish(numbered(number))
        assert await read_all(events) == [numbered(3), EventsMissed(3)]


async def test_after_the_end_what_waits_can_still_be_read() -> None:
    bus = EventBus(2, 2**20)
    with bus.subscribe() as events:
        for number in range(4):
            bus.publish(numbered(number))
        bus.end()
        assert [event async for event in events] == [numbered(0), numbered(1), EventsMissed(2)]
        assert [event async for event in events] == []


async def test_the_end_wakes_who_waits() -> None:
    bus = EventBus(2, 2**20)
    ended = trio.Event()

    async def read(events: Subscription) -> None:
        async for _ in events:
            pass
        ended.set()

    with bus.subscribe() as events:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, events)
            await wait_all_tasks_blocked()
            bus.end()
            await ended.wait()


async def test_who_subscribes_after_the_end_does_not_wait_for_ever() -> None:
    bus = EventBus(2, 2**20)
    bus.end()
    with bus.subscribe() as events:
        assert [event async for event in events] == []


async def test_unsubscribing_ends_the_subscription() -> None:
    bus = EventBus(2, 2**20)
    with bus.subscribe() as events, bus.subscribe() as other:
        pass
    bus.publish(numbered(1))
    assert [event async for event in events] == []
    assert [event async for event in other] == []


async def test_unsubscribing_leaves_the_others(autojump_clock: MockClock) -> None:
    bus = EventBus(5, 2**20)
    with bus.subscribe() as stays:
        with bus.subscribe():
            bus.publish(numbered(1))
        bus.publish(numbered(2))
        assert await read_all(stays) == [numbered(1), numbered(2)]


async def test_a_cancelled_read_loses_nothing(autojump_clock: MockClock) -> None:
    bus = EventBus(5, 2**20)
    with bus.subscribe() as events:
        assert await read_all(events) == []  # cancelled while it waited
        bus.publish(numbered(1))
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(events)
        assert await read_all(events) == [numbered(1)]


async def test_what_waits_is_bounded_in_bytes(autojump_clock: MockClock) -> None:
    peer = FakePeer(1).info
    received = [TransactionsReceived(peer, (make_transaction(number),)) for number in range(4)]
    weight = len(received[0].transactions[0].raw) + TRANSACTION_OVERHEAD_BYTES
    bus = EventBus(10, 2 * weight)
    with bus.subscribe() as subscription:
        for event in received[:3]:
            bus.publish(event)
        bus.publish(numbered(1))  # it weighs nothing
        assert await anext(subscription) == received[0]
        bus.publish(received[3])  # there is room again
        bus.end()
        rest = [event async for event in subscription]
    assert rest == [received[1], EventsMissed(1), numbered(1), received[3]]


async def test_two_may_read_one_subscription(autojump_clock: MockClock) -> None:
    bus = EventBus(10, 2**20)
    seen: list[Event] = []

    async def read(subscription: Subscription) -> None:
        async for event in subscription:
            seen.append(event)

    with bus.subscribe() as subscription:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, subscription)
            nursery.start_soon(read, subscription)
            await wait_all_tasks_blocked()
            bus.publish(numbered(1))
            bus.publish(numbered(2))
            await wait_all_tasks_blocked()
            bus.end()
    assert seen == [numbered(1), numbered(2)]
