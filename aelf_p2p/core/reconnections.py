"""What waits to be dialed again, and when (protocol §4, "Reconnection")."""

import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from aelf_p2p.core.backoff import Backoff
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.network_state import Reconnection


class ReconnectionTable:
    """At most ``capacity`` nodes that wait, one entry an endpoint.

    When it is full the oldest loss goes. Boot nodes, since the operator named them, are the last to
    go and are never given up: they are tried on at the longest delay.

    ``now`` is monotonic seconds, by which attempts are due, so that a clock on the wall that is put
    right moves none; ``wall_s`` unix seconds, by which an entry is given up.
    """

    def __init__(
        self,
        backoff: Backoff,
        rng: random.Random,
        *,
        capacity: int,
        boot_nodes: Collection[Endpoint] = (),
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._backoff = backoff
        self._rng = rng
        self._capacity = capacity
        self._boot_nodes = frozenset(boot_nodes)
        self._on_change = on_change
        self._entries: dict[Endpoint, Reconnection] = {}
        self._due_at: dict[Endpoint, float] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, endpoint: Endpoint) -> bool:
        return endpoint in self._entries

    @property
    def entries(self) -> tuple[Reconnection, ...]:
        """All that wait, in the order in which they came."""
        return tuple(self._entries.values())

    def schedule(
        self,
        endpoint: Endpoint,
        public_key: bytes | None,
        *,
        now: float,
        wall_s: float,
        retries: int = 0,
    ) -> None:
        """Dial a node again in a while; what waits at its endpoint already goes on as it was."""
        if endpoint not in self._entries:
            entry = Reconnection(
                endpoint=endpoint, public_key=public_key, lost_at=wall_s, retries=retries
            )
            self._put(entry, now + self._backoff.delay_s(retries, self._rng))
            self._on_change()

    def restore(self, entries: Iterable[Reconnection], *, now: float, wall_s: float) -> None:
        """Take in what an earlier run left. Each is tried after one period: whatever kept it away,
        this node's own restart may have ended it."""
        for entry in entries:
            if not self._given_up(entry, wall_s):
                # A clock that was ahead when it was lost must not keep it for ever.
                lost_at = min(entry.lost_at, wall_s)
                delay_s = self._backoff.delay_s(0, self._rng)
                self._put(replace(entry, lost_at=lost_at), now + delay_s)

    def due(self, now: float) -> list[Reconnection]:
        """What is to be dialed now, longest due first. It stays until ``failed`` or ``end``."""
        endpoints = [endpoint for endpoint, due_at in self._due_at.items() if due_at <= now]
        return [self._entries[each] for each in sorted(endpoints, key=self._due_at.__getitem__)]

    def next_due_at(self) -> float | None:
        """When the next attempt is due; None when nothing waits."""
        return min(self._due_at.values(), default=None)

    def failed(self, entry: Reconnection, *, now: float, wall_s: float) -> None:
        """An attempt failed: wait longer, or give the node up.

        Without effect when the entry was ended while it was dialed.
        """
        if self._entries.get(entry.endpoint) is not entry:
            return
        later = replace(entry, retries=entry.retries + 1)
        delay_s = self._backoff.delay_s(later.retries, self._rng)
        if self._given_up(entry, wall_s + delay_s):  # the next attempt would come too late
            self._remove(entry.endpoint)
        else:
            self._entries[entry.endpoint] = later
            self._due_at[entry.endpoint] = now + delay_s
        self._on_change()

    def end(self, endpoint: Endpoint) -> Reconnection | None:
        """It is connected, or not wanted any more. Returns what waited there."""
        held = self._entries.get(endpoint)
        if held is not None:
            self._remove(endpoint)
            self._on_change()
        return held

    def end_key(self, public_key: bytes) -> list[Reconnection]:
        """The same for whatever waits for a key. Returns what did."""
        found = [entry for entry in self._entries.values() if entry.public_key == public_key]
        for entry in found:
            self.end(entry.endpoint)
        return found

    def _put(self, entry: Reconnection, due_at: float) -> None:
        if entry.endpoint not in self._entries and len(self._entries) >= self._capacity:
            oldest = min(
                self._entries.values(), key=lambda held: (self._is_boot(held), held.lost_at)
            )
            self._remove(oldest.endpoint)
        self._entries[entry.endpoint] = entry
        self._due_at[entry.endpoint] = due_at

    def _remove(self, endpoint: Endpoint) -> None:
        del self._entries[endpoint], self._due_at[endpoint]

    def _is_boot(self, entry: Reconnection) -> bool:
        return entry.endpoint in self._boot_nodes

    def _given_up(self, entry: Reconnection, wall_s: float) -> bool:
        return not self._is_boot(entry) and self._backoff.given_up(entry.lost_at, wall_s)
