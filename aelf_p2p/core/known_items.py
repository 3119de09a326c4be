"""Which peer knows which item: one entry an item, one bit a peer.

A cache for each peer would cost a lookup and an insertion for each peer and broadcast; a shared
table of bit masks costs one of each for a broadcast, whatever the number of peers.
"""

import math
from collections import deque
from heapq import heappop, heappush


class KnownItems:
    """A bounded table from an item's hash to the mask of peers that have it.

    When full, the oldest entry goes, so that new items always find room: forgetting costs a
    redundant delivery, never a lost one. Entries expire ``ttl_s`` after they were made. At worst it
    holds ``capacity`` entries of about 200 bytes.
    """

    def __init__(self, capacity: int, ttl_s: float) -> None:
        self._capacity = capacity
        self._ttl_s = ttl_s
        self._masks: dict[bytes, int] = {}
        self._born: deque[tuple[float, bytes]] = deque()
        self._next_expiry = math.inf  # or earlier than that

    def __len__(self) -> int:
        return len(self._masks)

    def mask(self, hash_: bytes, now: float) -> int:
        """The peers that know the item; ``now`` is monotonic seconds."""
        if now >= self._next_expiry:
            self._expire(now)
        return self._masks.get(hash_, 0)

    def add(self, hash_: bytes, mask: int, now: float) -> bool:
        """Note that the peers of ``mask`` know the item.

        False when all of them were noted before.
        """
        if now >= self._next_expiry:
            self._expire(now)
        masks = self._masks
        before = masks.get(hash_)
        if before is None:
            born = self._born
            if len(masks) >= self._capacity:
                del masks[born.popleft()[1]]
            if not born:
                self._next_expiry = now + self._ttl_s
            born.append((now, hash_))
            before = 0
        after = before | mask
        masks[hash_] = after
        return after != before

    def forget(self, mask: int) -> None:
        """The peers of ``mask`` are not known to have anything."""
        for hash_ in self._masks:
            self._masks[hash_] &= ~mask

    def _expire(self, now: float) -> None:
        born = self._born
        while born and now >= born[0][0] + self._ttl_s:
            del self._masks[born.popleft()[1]]
        self._next_expiry = born[0][0] + self._ttl_s if born else math.inf


class PeerBits:
    """Hands each connected peer a bit of the masks.

    A bit that a peer gave back rests until no table can still hold it for that peer, so that a
    newcomer never inherits what another one knew. When ``MAX_RESTING`` rest, whoever owns the
    tables forgets them, so that those who come and go do not make the masks long.
    """

    MAX_RESTING = 1024

    def __init__(self, rest_s: float) -> None:
        self._rest_s = rest_s
        self._resting: deque[tuple[float, int]] = deque()
        self._rested: list[int] = []  # a heap: low bits make short masks
        self._next = 1

    def acquire(self, now: float) -> int:
        """A mask with one bit set that no other connected peer has."""
        while self._resting and now - self._resting[0][0] >= self._rest_s:
            heappush(self._rested, self._resting.popleft()[1])
        if self._rested:
            return heappop(self._rested)
        bit = self._next
        self._next <<= 1
        return bit

    def release(self, bit: int, now: float) -> None:
        """Give a bit back."""
        self._resting.append((now, bit))

    def wake(self) -> int:
        """Hand all resting bits out again once there are MAX_RESTING; returns them as a mask that
        the tables have to ``forget``, else 0."""
        if len(self._resting) < self.MAX_RESTING:
            return 0
        mask = 0
        for _, bit in self._resting:
            mask |= bit
            heappush(self._rested, bit)
        self._resting.clear()
        return mask
