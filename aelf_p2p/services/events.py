"""Events out: any number of subscribers, none of which can stop the node."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import trio

from aelf_p2p.core.kernel_events import KernelEvent
from aelf_p2p.core.network_events import EventsMissed, NetworkEvent

Event = NetworkEvent | KernelEvent
"""What subscribers get: what the network saw, and what the kernel did."""


class Subscription:
    """One subscriber's events, oldest first: ``async for event in subscription``.

    At most ``backlog`` events wait for it. When it falls behind, the newest are left out, and it
    finds an ``EventsMissed`` with their number where they would have been.
    """

    def __init__(self, backlog: int) -> None:
        self._backlog = backlog
        self._events: deque[Event] = deque()
        self._missed = 0
        self._arrived = trio.Event()
        self._ended = False

    def put_nowait(self, event: Event) -> None:
        """Add an event, or count it as missed."""
        if len(self._events) >= self._backlog:
            self._missed += 1
            return
        if self._missed:
            self._events.append(EventsMissed(self._missed))
            self._missed = 0
        self._events.append(event)
        self._arrived.set()

    def end(self) -> None:
        """Nothing more comes: what waits can still be read, then the iteration ends."""
        self._ended = True
        self._arrived.set()

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
            self._arrived = trio.Event()
            await self._arrived.wait()
        return self._events.popleft()


class EventBus:
    """Hands every event to every subscription; never blocks."""

    def __init__(self, backlog: int) -> None:
        self._backlog = backlog
        self._subscriptions: dict[Subscription, None] = {}  # a dict: the order of subscribing
        self._ended = False

    def publish(self, event: Event) -> None:
        """Hand an event to all who are subscribed now."""
        for subscription in self._subscriptions:
            subscription.put_nowait(event)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """A subscription that lasts as long as the block, or the node if that is shorter."""
        subscription = Subscription(self._backlog)
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
