"""Network conditions: a memory hub whose links are slow, stalled, cut or partitioned.

    hub = ConditionedHub(latency_s=lambda rng: rng.uniform(0.02, 0.2), rng=random.Random(7))
    hub.set_latency("alice", "bob", 0.5)
    ...
    hub.partition([["alice", "bob"], ["carol"]])

Connections are reliable streams, as TCP's are: what is sent on one arrives once and in order, late,
or not at all because the connection is lost; no message is lost or repeated within a connection.
Time is trio's, so under a ``trio.testing.MockClock`` a day of bad network takes a moment. With the
same seed and :func:`aelf_p2p.testing.determinism.run_deterministic`, it is the same day again.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Collection, Iterable

import trio

from aelf_p2p.core.endpoint import Endpoint, normalise_host
from aelf_p2p.core.errors import ConnectionLostError, MisuseError, TransportError
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.transports.memory import MemoryConnection, MemoryHub, MemoryListener
from aelf_p2p.transports.memory_pipe import MemoryPipe

Latency = float | Callable[[random.Random], float]
"""Seconds one way: the same for every message, or drawn for each from the hub's randomness."""


class ConditionedHub(MemoryHub):
    """A :class:`MemoryHub` with conditions, which can change at any time.

    ``latency_s`` is that of every link without its own, one way; ``rng`` is what latencies are
    drawn from, ``random.Random(0)`` unless given. Hosts are named as in ``transport(host)``; a host
    need not exist yet.
    """

    def __init__(
        self,
        options: NetworkOptions | None = None,
        *,
        latency_s: Latency = 0.0,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(options)
        self._latency = _checked(latency_s)
        self._link_latency: dict[tuple[str, str], Latency] = {}
        self._rng = random.Random(0) if rng is None else rng
        self._stalled: set[str] = set()
        self._group_of: dict[str, int] | None = None
        # Everything here waits for conditions to change. Dicts, to wake them in a known order.
        self._readers: dict[ConditionedPipe, None] = {}
        self._dialers = trio.lowlevel.ParkingLot()

    # --- latency ---

    def set_latency(self, sender: str, receiver: str, latency_s: Latency) -> None:
        """The latency of one way of a link, for what is sent from now on.

        Each message is delivered that long after it was sent, but not before the one before it. A
        message under way counts against the window of its stream, as the bytes in flight do in
        TCP: a long link carries at most a window each latency. A dial takes both ways once. The end
        of a stream, or its status, travels behind its messages; that a call begins, or is left, is
        known to the other side at once.
        """
        self._link_latency[normalise_host(sender), normalise_host(receiver)] = _checked(latency_s)

    def draw_latency(self, sender: str, receiver: str) -> float:
        """The latency of the next message from one host to another, in seconds."""
        hosts = normalise_host(sender), normalise_host(receiver)
        latency = self._link_latency.get(hosts, self._latency)
        return latency if isinstance(latency, int | float) else _checked_s(latency(self._rng))

    # --- stalls ---

    def stall(self, host: str) -> None:
        """The host reads nothing more that is sent to it, as a process that was stopped does.

        Its receivers wait though messages are there, its senders and those of others go on until
        the windows are full, and dials to or from it wait. Its connections stay open.
        """
        self._stalled.add(normalise_host(host))

    def unstall(self, host: str) -> None:
        """The host reads again, all that was sent meanwhile."""
        self._stalled.discard(normalise_host(host))
        self._changed()

    def is_stalled(self, host: str) -> bool:
        """Whether the host reads nothing."""
        return normalise_host(host) in self._stalled

    # --- cuts ---

    def cut(self, host: str, other: str) -> None:
        """Break the connections between two hosts, with ConnectionLostError at both ends.

        What is in flight is lost with them. New connections can be made at once.
        """
        ends = {normalise_host(host), normalise_host(other)}
        self._break("was cut", lambda c: {c.caller.host, c.callee.host} == ends)

    def partition(self, groups: Iterable[Collection[str]]) -> None:
        """Part the hosts: each reaches its own group only. Replaces the partition before it.

        The hosts that no group names are one more group. Connections across groups are cut; a dial
        across waits until its timeout, or until the partition is healed, as when packets are
        dropped. Raises MisuseError when a host is named in two groups.
        """
        group_of: dict[str, int] = {}
        for number, group in enumerate(groups, 1):
            for host in map(normalise_host, group):
                if group_of.setdefault(host, number) != number:
                    raise MisuseError(f"{host} is in two groups of a partition")
        self._group_of = group_of
        self._break(
            "was cut by a partition", lambda c: not self.can_reach(c.caller.host, c.callee.host)
        )
        self._changed()  # a new partition can join what the last one parted

    def heal(self) -> None:
        """End the partition; dials that wait go on."""
        self._group_of = None
        self._changed()

    def can_reach(self, host: str, other: str) -> bool:
        """Whether no partition stands between two hosts."""
        if self._group_of is None:
            return True
        group, other_group = (self._group_of.get(normalise_host(name), 0) for name in (host, other))
        return group == other_group

    def kill(self, host: str) -> None:
        """Break all connections of a host and take its listeners away, as kill -9 does.

        Nothing is said to anyone: what is in flight is lost and goodbyes fail. The tasks of the
        killed node are the caller's, to be cancelled right after; until then its ``serve`` sleeps
        on without a listener, and could still dial. The host can listen again at once, on the same
        ports.
        """
        killed = normalise_host(host)
        # First, for a listener that closes lets its connections drain.
        self._break("was killed", lambda c: killed in (c.caller.host, c.callee.host))
        for listener in list(self.listeners.values()):
            if listener.endpoint.host == killed:
                self.close_listener(listener)

    # --- what the memory transport asks ---

    def make_pipe(self, sender: str, receiver: str) -> "ConditionedPipe":
        """A pipe under the conditions of its link."""
        return ConditionedPipe(self, sender, receiver)

    async def reach(self, caller: Endpoint, callee: Endpoint) -> MemoryListener:
        """Find who listens, there and back over the link; waits while the two cannot talk."""
        await trio.lowlevel.checkpoint()
        await self._cross(caller.host, callee.host)
        # Nobody listening is an answer too, and takes its way back.
        heard_by = self.listeners.get(callee)
        await self._cross(callee.host, caller.host)
        if heard_by is None or heard_by.closing:
            raise ConnectionLostError(f"nobody listens on {callee}")
        return heard_by

    async def _cross(self, sender: str, receiver: str) -> None:
        """What a dial's packet takes from one host to the other; sent again while it is dropped."""
        arrives_at = trio.current_time() + self.draw_latency(sender, receiver)
        while True:
            if not self.can_reach(sender, receiver) or self.is_stalled(receiver):
                await self._dialers.park()
            elif trio.current_time() < arrives_at:
                await trio.sleep_until(arrives_at)
            else:
                return

    def _break(self, how: str, affected: Callable[[MemoryConnection], bool]) -> None:
        for connection in [c for c in self.connections if affected(c)]:
            lost = ConnectionLostError(f"{connection.caller} to {connection.callee} {how}")
            connection.abort(lost, lost, in_flight=True)

    def _changed(self) -> None:
        self._dialers.unpark_all()
        for pipe in list(self._readers):
            pipe.conditions_changed()

    def reader_waits(self, pipe: "ConditionedPipe", *, waits: bool) -> None:
        """Pipes say here whether their reader waits, to be told when conditions change."""
        if waits:
            self._readers[pipe] = None
        else:
            self._readers.pop(pipe, None)


class ConditionedPipe(MemoryPipe):
    """One way of a call under a hub's conditions: each message can be read when it has arrived."""

    def __init__(self, hub: ConditionedHub, sender: str, receiver: str) -> None:
        super().__init__()
        self._hub = hub
        self._sender = sender
        self._receiver = receiver
        self._arrivals: deque[float] = deque()  # of the messages, each no earlier than the last
        self._last_arrival = -math.inf
        self._end_arrival = math.inf
        self._reset = False

    def end(self) -> None:
        """The sender's half is complete; the reader learns it after the last message."""
        self._end_travels()
        super().end()

    def fail(
        self,
        error: TransportError,
        *,
        sender_error: TransportError | None = None,
        discard: bool = False,
    ) -> None:
        """Break the pipe: behind what was sent, or at both ends at once with ``discard``."""
        if discard:
            self._arrivals.clear()
            self._reset = True
        else:
            self._end_travels()
        super().fail(error, sender_error=sender_error, discard=discard)

    def conditions_changed(self) -> None:
        """Look again whether there is something to read."""
        self._changed.unpark_all()

    def _end_travels(self) -> None:
        if self._end_arrival == math.inf:
            self._end_arrival = self._arrival()

    def _arrival(self) -> float:
        """When what is sent now arrives."""
        at = trio.current_time() + self._hub.draw_latency(self._sender, self._receiver)
        self._last_arrival = max(self._last_arrival, at)
        return self._last_arrival

    def _put(self, message: bytes) -> None:
        super()._put(message)
        self._arrivals.append(self._arrival())

    def _take(self) -> list[bytes]:
        messages = []
        now = trio.current_time()
        while self._arrivals and self._arrivals[0] <= now:
            self._arrivals.popleft()
            messages.append(self._messages.popleft())
        return messages

    async def _wait_readable(self) -> None:
        self._hub.reader_waits(self, waits=True)
        try:
            while (readable_at := self._readable_at()) > trio.current_time():
                with trio.move_on_at(readable_at):
                    await self._changed.park()
        finally:
            self._hub.reader_waits(self, waits=False)

    def _readable_at(self) -> float:
        """When the next message, or the end, can be read; infinity while that is not known."""
        if self._reset:
            return -math.inf
        if self._hub.is_stalled(self._receiver):
            return math.inf
        return self._arrivals[0] if self._arrivals else self._end_arrival


def _checked(latency: Latency) -> Latency:
    return latency if callable(latency) else _checked_s(latency)


def _checked_s(latency_s: float) -> float:
    if not 0 <= latency_s < math.inf:
        raise MisuseError(f"a latency of {latency_s} s")
    return latency_s
