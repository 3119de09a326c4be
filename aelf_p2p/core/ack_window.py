"""The ordered window of broadcasts that a peer has not answered yet.

Our own nodes answer in order, so the oldest entry is nearly always the one that is answered, and no
index is kept. A C# node answers each broadcast in a task of its own: then the window is searched,
which its bound keeps short.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from aelf_p2p.core.broadcast import BroadcastItem
from aelf_p2p.core.envelope import MAX_OVERHEAD_BYTES


@dataclass(slots=True)
class _Batch:
    """Items that were sent together: when (monotonic seconds), and how many are unanswered."""

    sent_at: float
    left: int


class AckWindow:
    """Broadcasts in flight to one peer; full, it holds the sender back.

    Entries that stay unanswered for ``ttl_s`` expire, so that a peer that never answers slows its
    own deliveries and blocks nothing. At worst it holds ``max_items`` items, and ``max_bytes`` plus
    one batch; in lists, of which an empty one weighs a tenth of a deque.
    """

    def __init__(self, max_items: int, max_bytes: int, ttl_s: float) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._items: list[BroadcastItem] = []
        self._batches: list[_Batch] = []
        self._around: tuple[bytes, bytes] | None = None
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def room(self) -> int:
        """How many more items may be sent now; 0 when the window is full by count or bytes."""
        if self.bytes >= self._max_bytes:
            return 0
        return self._max_items - len(self._items)

    @property
    def room_for_transactions(self) -> int:
        """As ``room``, less a quarter of the window: no block waits for answers to transactions."""
        return max(self.room - self._max_items // 4, 0)

    @property
    def next_expiry(self) -> float | None:
        """When the oldest entry expires (monotonic seconds), or None when all is answered."""
        return self._batches[0].sent_at + self._ttl_s if self._batches else None

    def push(self, batch: Sequence[BroadcastItem], now: float) -> None:
        """Note a batch that is being sent, in its order."""
        if batch:
            self._items.extend(batch)
            self._batches.append(_Batch(now, len(batch)))
            self.bytes += sum(item.size for item in batch)

    def sent(self, now: float) -> None:
        """The latest batch is on its way: its time to be answered begins now.

        It stands in the window before, since answers may come while it is being sent.
        """
        if self._batches:
            self._batches[-1].sent_at = now

    def acknowledge(self, request_id: str, message_type: int) -> BroadcastItem | None:
        """Take out the entry that a reply answers; None for a late or unknown reply."""
        for position, item in enumerate(self._items):  # nearly always the first
            if item.request_id == request_id:
                if item.message_type != message_type:
                    return None
                del self._items[position]
                self._forget(item, position)
                return item
        return None

    def acknowledge_many(self, messages: Sequence[bytes], begin: int = 0) -> list[BroadcastItem]:
        """Take out the oldest entries that the messages from ``begin`` on, not parsed, answer one
        by one; each must be laid out like the reply that ``learn`` was given last. The message
        behind the last of them may be anything.

        A peer's replies differ in the acknowledgement's own fields only: what stands before and
        behind them is the same for a session. So most replies need not be parsed.
        """
        if self._around is None or not self._items:
            return []
        before, behind = self._around
        count = 0
        for message, item in zip(islice(messages, begin, None), self._items, strict=False):
            if message != before + item.acknowledgement + behind:
                break
            count += 1
        return self._take_oldest(count)

    def learn(self, item: BroadcastItem, reply: bytes) -> None:
        """How this peer lays out a reply, by the bytes of one that was parsed.

        Not of one that brings more than an acknowledgement needs: it would be kept.
        """
        before, found, behind = reply.partition(item.acknowledgement)
        is_small = len(before) + len(behind) <= MAX_OVERHEAD_BYTES
        self._around = (before, behind) if found and is_small else None

    def expire(self, now: float) -> list[BroadcastItem]:
        """Take out what has been unanswered for too long."""
        expired: list[BroadcastItem] = []
        while self._batches and now >= self._batches[0].sent_at + self._ttl_s:
            expired += self._take_oldest(self._batches[0].left)
        return expired

    def clear(self) -> list[BroadcastItem]:
        """Take out everything: the connection is gone."""
        left = list(self._items)
        self._items.clear()
        self._batches.clear()
        self.bytes = 0
        return left

    def _take_oldest(self, count: int) -> list[BroadcastItem]:
        taken = self._items[:count]
        del self._items[:count]
        self.bytes -= sum([item.size for item in taken])
        while count:
            batch = self._batches[0]
            if batch.left > count:
                batch.left -= count
                break
            count -= batch.left
            del self._batches[0]
        return taken

    def _forget(self, item: BroadcastItem, position: int) -> None:
        self.bytes -= item.size
        for index, batch in enumerate(self._batches):
            if position < batch.left:
                batch.left -= 1
                if not batch.left:
                    del self._batches[index]
                return
            position -= batch.left
