"""What waits to be sent to one stream peer, and the one task that sends it."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence

import trio

from aelf_p2p.contracts import MessageStream
from aelf_p2p.core.ack_window import AckWindow
from aelf_p2p.core.broadcast import (
    BroadcastItem,
    BroadcastKind,
    DeliveryWatcher,
    DropReason,
)
from aelf_p2p.core.budgets import ByteBudget
from aelf_p2p.core.envelope import LARGE_BYTES
from aelf_p2p.core.errors import FullBufferError
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.send_queues import SendQueues


class Outbox:
    """Replies and requests first, then broadcasts as the acknowledgement window has room.

    Replies and requests are bounded by ``max_control_bytes`` and one message more (posting beyond
    raises FullBufferError), broadcasts by their queues, what is in flight by the window, what one
    send holds by ``batch_bytes`` and one message more. A peer that does not read fills these and
    nobody else's; of large replies also what all peers share.
    """

    def __init__(
        self,
        prefix: bytes,
        options: NetworkOptions,
        bit: int = 0,
        *,
        large_replies: ByteBudget | None = None,
    ) -> None:
        self._prefix = prefix
        self._bit = bit
        self._options = options
        self._control: deque[bytes] = deque()
        self._control_bytes = 0
        self._large_replies = large_replies or ByteBudget(options.max_large_replies_bytes)
        self._large_bytes = 0  # ours of them, until they are sent
        self._large_in_batch = 0  # that is being sent
        self.queues = SendQueues(options, bit)
        self.window = AckWindow(
            options.max_unacknowledged,
            options.max_unacknowledged_bytes,
            options.acknowledgement_timeout_s,
        )
        self._sent_broadcasts = 0
        self.sent: Counter[BroadcastKind] = Counter()
        self.acknowledged: Counter[BroadcastKind] = Counter()
        self._idle: trio.Event | None = None  # set while the sender waits for something to do
        self._stream: MessageStream | None = None  # that it sends on

    def is_full(self) -> bool:
        """Whether posting raises FullBufferError."""
        return self._control_bytes >= self._options.max_control_bytes

    def post_nowait(self, message: bytes) -> None:
        """Send a whole message soon. Raises FullBufferError when too many bytes wait already."""
        if self.is_full():
            raise FullBufferError(f"{self._control_bytes} bytes wait for this peer already")
        if len(message) >= LARGE_BYTES:
            if not self._large_replies.take(len(message)):
                raise FullBufferError(f"no room for {len(message)} bytes: others wait for as much")
            self._large_bytes += len(message)
        self._control.append(message)
        self._control_bytes += len(message)
        self._wake()

    def send_nowait(self, message: bytes) -> None:
        """Send a whole message at once where nothing waits and the stream has room, else soon.

        For one that comes alone: many are cheaper posted, since they leave together. Raises
        FullBufferError as ``post_nowait`` does.
        """
        stream = self._stream
        is_idle = self._idle is not None and not self._control
        if stream is None or not is_idle or not stream.send_nowait(message):
            self.post_nowait(message)

    def enqueue_nowait(self, item: BroadcastItem) -> DropReason | None:
        """Queue a broadcast; None, or why it was refused."""
        refused = self.queues.put_nowait(item)
        if self._idle is not None and refused is None:
            self._wake()
        return refused

    def acknowledge(self, request_id: str, message_type: int, reply: bytes) -> bool:
        """Take a reply to a broadcast; False when it answers none that is in flight."""
        item = self.window.acknowledge(request_id, message_type)
        if item is None:
            return False
        self.window.learn(item, reply)
        self._count_acknowledged([item])
        return True

    def acknowledge_many(self, messages: Sequence[bytes], begin: int) -> int:
        """How many messages from ``begin`` on, not parsed, are the next acknowledgements, which
        are taken."""
        items = self.window.acknowledge_many(messages, begin)
        if items:
            self._count_acknowledged(items)
        return len(items)

    def _count_acknowledged(self, items: Sequence[BroadcastItem]) -> None:
        _count_kinds(self.acknowledged, items)
        for watcher in _watchers(items):
            watcher.acknowledged(self._bit)
        if self._idle is not None and len(self.queues):
            self._wake()

    async def run(self, stream: MessageStream) -> None:
        """Send until cancelled. Raises TransportError when the stream breaks."""
        self._stream = stream
        while True:
            broadcasts = self._sent_broadcasts
            batch = self._next_batch()
            if batch:
                await stream.send_many(batch)
                if self._large_in_batch:
                    self._release(self._large_in_batch)
                if self._sent_broadcasts > broadcasts:
                    self.window.sent(trio.current_time())
            else:
                await self._wait_for_work()

    def close(self) -> None:
        """The connection is gone: what waits and what is unanswered is lost, and counted."""
        self._control.clear()
        self._control_bytes = 0
        self._release(self._large_bytes)
        self.queues.clear()
        self._count(self.window.clear(), DropReason.CLOSED)

    def _release(self, large_bytes: int) -> None:
        self._large_bytes -= large_bytes
        self._large_in_batch = 0
        self._large_replies.give(large_bytes)

    def _next_batch(self) -> list[bytes]:
        now = trio.current_time()
        self._count(self.window.expire(now), DropReason.UNACKNOWLEDGED)
        batch: list[bytes] = []
        room_bytes = self._options.batch_bytes
        # The rest stays here, where it is counted, should the peer not read.
        while self._control and (not batch or len(self._control[0]) <= room_bytes):
            batch.append(self._control.popleft())
            room_bytes -= len(batch[-1])
            if len(batch[-1]) >= LARGE_BYTES:
                self._large_in_batch += len(batch[-1])
        self._control_bytes -= self._options.batch_bytes - room_bytes
        room = min(self.window.room, self._options.batch_items)
        if room and room_bytes > 0 and not self._control and len(self.queues):
            items = self.queues.take_batch(room, room_bytes, self.window.room_for_transactions)
            self._sent_broadcasts += len(items)
            self.window.push(items, now)
            _count_kinds(self.sent, items)
            for watcher in _watchers(items):
                watcher.sent(self._bit)
            prefix = self._prefix
            batch += [prefix + item.body for item in items]
        return batch

    async def _wait_for_work(self) -> None:
        """Until something is posted, or room comes: by an acknowledgement, or by an expiry."""
        idle = self._idle = trio.Event()
        expiry = self.window.next_expiry
        try:
            with trio.CancelScope(deadline=float("inf") if expiry is None else expiry):
                await idle.wait()
        finally:
            self._idle = None

    def _wake(self) -> None:
        if self._idle is not None:
            self._idle.set()
            self._idle = None

    def _count(self, items: Iterable[BroadcastItem], reason: DropReason) -> None:
        for item in items:
            self.queues.drop(item, reason)


def _count_kinds(counter: Counter[BroadcastKind], items: Sequence[BroadcastItem]) -> None:
    kinds = [item.kind for item in items]
    for kind in set(kinds):  # one, nearly always
        counter[kind] += kinds.count(kind)


def _watchers(items: Sequence[BroadcastItem]) -> list[DeliveryWatcher]:
    return [item.watcher for item in items if item.watcher is not None]
