"""The bounded broadcast queues of one peer, and what is lost when they are full."""

from collections import Counter

from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind, DropReason
from aelf_p2p.core.options import NetworkOptions

# Looking a member up in its enum costs as much as the rest of a comparison, and these are compared
# for each peer and broadcast.
_BLOCK, _TRANSACTION = BroadcastKind.BLOCK, BroadcastKind.TRANSACTION
_LIB_ANNOUNCEMENT = BroadcastKind.LIB_ANNOUNCEMENT


class SendQueues:
    """Blocks, announcements (LIB ones among them) and transactions that wait for one peer's sender.

    A full queue refuses the new item, tells the caller why and counts it; what already waits is
    never thrown out, except that a newer LIB announcement replaces one still queued. At worst they
    hold ``max_queued_bytes``; an item larger than that alone is refused.

    The queues are lists: they are short, and an empty deque weighs 0.7 KiB.
    """

    def __init__(self, options: NetworkOptions, bit: int = 0) -> None:
        self._bit = bit
        self._blocks: list[BroadcastItem] = []
        self._announcements: list[BroadcastItem] = []
        self._transactions: list[BroadcastItem] = []
        self._lib: BroadcastItem | None = None
        self._queue_of = {
            _BLOCK: self._blocks,
            BroadcastKind.ANNOUNCEMENT: self._announcements,
            _TRANSACTION: self._transactions,
        }
        self._max_blocks = options.max_queued_blocks
        self._max_announcements = options.max_queued_announcements
        self._max_transactions = options.max_queued_transactions
        self._max_bytes = options.max_queued_bytes
        self.queued_bytes = 0
        self.dropped: Counter[tuple[BroadcastKind, DropReason]] = Counter()

    def __len__(self) -> int:
        return len(self._blocks) + self.announcements + len(self._transactions)

    @property
    def blocks(self) -> int:
        """How many blocks wait."""
        return len(self._blocks)

    @property
    def announcements(self) -> int:
        """How many announcements wait, the LIB announcement among them."""
        return len(self._announcements) + (self._lib is not None)

    @property
    def transactions(self) -> int:
        """How many transactions wait."""
        return len(self._transactions)

    def put_nowait(self, item: BroadcastItem) -> DropReason | None:
        """Queue an item. Returns None when it waits now, else why it was refused (and counted)."""
        kind = item.kind
        queued_bytes = self.queued_bytes + item.size
        if kind is _TRANSACTION:  # nearly always
            if queued_bytes > self._max_bytes:
                return self._refuse(kind, DropReason.BYTES_FULL)
            if len(self._transactions) >= self._max_transactions:
                return self._refuse(kind, DropReason.QUEUE_FULL)
            self._transactions.append(item)
            self.queued_bytes = queued_bytes
            return None
        replaced = self._lib if kind is _LIB_ANNOUNCEMENT else None
        if replaced is not None:
            queued_bytes -= replaced.size
        if queued_bytes > self._max_bytes:
            return self._refuse(kind, DropReason.BYTES_FULL)
        if kind is _BLOCK:
            if len(self._blocks) >= self._max_blocks:
                return self._refuse(kind, DropReason.QUEUE_FULL)
            self._blocks.append(item)
        elif replaced is not None:
            self.drop(replaced, DropReason.SUPERSEDED)
            self._lib = item
        elif self.announcements >= self._max_announcements:
            return self._refuse(kind, DropReason.QUEUE_FULL)
        elif kind is _LIB_ANNOUNCEMENT:
            self._lib = item
        else:
            self._announcements.append(item)
        self.queued_bytes = queued_bytes
        return None

    def take_batch(
        self, max_items: int, max_bytes: int, max_transactions: int | None = None
    ) -> list[BroadcastItem]:
        """Remove what to send next: blocks, then announcements, then LIB, then transactions.

        At most ``max_items`` and ``max_bytes``, but always one item when any waits; of these
        ``max_transactions``, or as many as fit.
        """
        batch: list[BroadcastItem] = []
        room = max_bytes
        for queue in (self._blocks, self._announcements):
            while queue and len(batch) < max_items and (queue[0].size <= room or not batch):
                batch.append(queue.pop(0))
                room -= batch[-1].size
        lib = self._lib
        if lib is not None and len(batch) < max_items and (lib.size <= room or not batch):
            batch.append(lib)
            room -= lib.size
            self._lib = None
        most = max_items - len(batch)
        if max_transactions is not None:
            most = min(most, max_transactions)
        if self._blocks and batch:
            most = 0  # a block that did not fit goes first, in the next batch
        self.queued_bytes -= max_bytes - room
        return batch + self._take_transactions(most, room, one_at_least=not batch)

    def _take_transactions(
        self, max_items: int, max_bytes: int, *, one_at_least: bool
    ) -> list[BroadcastItem]:
        """Nearly all that is sent, so many are taken at once, less what is too much."""
        taken = self._transactions[:max_items]
        size = sum([item.size for item in taken])
        while size > max_bytes and len(taken) > one_at_least:
            size -= taken.pop().size
        del self._transactions[: len(taken)]
        self.queued_bytes -= size
        return taken

    def take_kind(self, kind: BroadcastKind, max_items: int, max_bytes: int) -> list[BroadcastItem]:
        """Remove what to send next of one kind, where each has a way of its own: at most
        ``max_items`` and ``max_bytes`` of payload, but always one item when any waits."""
        if kind is _LIB_ANNOUNCEMENT:
            queue = [] if self._lib is None else [self._lib]
            self._lib = None
        else:
            queue = self._queue_of[kind]
        taken: list[BroadcastItem] = []
        while (
            queue and len(taken) < max_items and (queue[0].payload_size <= max_bytes or not taken)
        ):
            item = queue.pop(0)
            taken.append(item)
            max_bytes -= item.payload_size
            self.queued_bytes -= item.size
        return taken

    def clear(self) -> None:
        """Throw out all that waits, counted as CLOSED: the connection is gone."""
        for item in self.take_batch(len(self), self.queued_bytes):
            self.drop(item, DropReason.CLOSED)

    def drop(self, item: BroadcastItem, reason: DropReason) -> None:
        """Count an item as lost that waited here, and was perhaps taken."""
        self.dropped[item.kind, reason] += 1
        if item.watcher is not None:
            item.watcher.dropped(self._bit, reason)

    def _refuse(self, kind: BroadcastKind, reason: DropReason) -> DropReason:
        self.dropped[kind, reason] += 1
        return reason
