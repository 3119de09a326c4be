"""Events out: any number of subscribers, none of which can stop the node."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import trio

from aelf_p2p.core.kernel_events import (
    BlockAccepted,
    BlockMined,
    KernelEvent,
    TransactionAccepted,
)
from aelf_p2p.core.network_events import (
    BlockReceived,
    EventsMissed,
    NetworkEvent,
    TransactionsReceived,
)

Event = NetworkEvent | KernelEvent
"""What subscribers get: what the network saw, and what the kernel did."""

TRANSACTION_OVERHEAD_BYTES = 200
"""What a transaction weighs beside its bytes; an event may hold a hundred."""


class Subscription:
    """One subscriber's events, oldest first: ``async for event in subscription``.

    At most ``backlog`` events wait for it, and ``backlog_bytes`` of blocks and transactions with
    them. When it falls behind, the newest are left out, and it finds an ``EventsMissed`` with their
    number where they would have been.
    """

    def __init__(self, backlog: int, backlog_bytes: int) -> None:
        self._backlog = backlog
        self._room_bytes = backlog_bytes
        self._events: deque[Event] = deque()
        self._missed = 0
        self._arrived = trio.lowlevel.ParkingLot()
        self._ended = False

    def put_nowait(self, event: Event) -> None:
        """Add an event, or count it as missed."""
        weight = _weight(event)
        if len(self._events) >= self._backlog or weight > self._room_bytes:
            self._missed += 1
            return
        self._room_bytes -= weight
        if self._missed:
            self._events.append(EventsMissed(self._missed))
            self._missed = 0
        self._events.append(event)
        self._arrived.unpark_all()

    def end(self) -> None:
        """Nothing more comes: what waits can still be read, then the iteration ends."""
        self._ended = True
        self._arrived.unpark_all()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not self._events:
            if self._missed:
                missed, self._missed = self._missed, 0
                return EventsMissed(missed)
            if self._ended:
                raise StopAsyncIteration
            await self._arrived.park()
        event = self._events.popleft()
        self._room_bytes += _weight(event)
        return event


def _weight(event: Event) -> int:
    """Bytes that an event keeps alive, as far as peers decide how many."""
    match event:
        case BlockReceived(_, block) | BlockAccepted(block) | BlockMined(block):
            return block.size
        case TransactionsReceived(_, transactions):
            return sum(len(each.raw) + TRANSACTION_OVERHEAD_BYTES for each in transactions)
        case TransactionAccepted(transaction):
            return len(transaction.raw) + TRANSACTION_OVERHEAD_BYTES
        case _:
            return 0


class EventBus:
    """Hands every event to every subscription; never blocks."""

    def __init__(self, backlog: int, backlog_bytes: int) -> None:
        self._backlog = backlog
        self._backlog_bytes = backlog_bytes
        self._subscriptions: dict[Subscription, None] = {}  # a dict: the order of subscribing
        self._ended = False

    @property
    def is_heard(self) -> bool:
        """Whether anyone is subscribed now: what costs something to make need not be made else."""
        return bool(self._subscriptions)

    def publish(self, event: Event) -> None:
        """Hand an event to all who are subscribed now."""
        for subscription in self._subscriptions:
            subscription.put_nowait(event)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """A subscription that lasts as long as the block, or the node if that is shorter."""
        subscription = Subscription(self._backlog, self._backlog_bytes)
        if self._ended:
            subscription.end()
        self._subscriptions[subscription] = None
        try:
            yield subscription
        finally:
            del self._subscriptions[subscription]
            subscription.end()  # whoever still reads it would wait for ever

    def end(self) -> None:
        """End all subscriptions, later ones too: the node is gone."""
        self._ended = True
        for subscription in self._subscriptions:
            subscription.end()
