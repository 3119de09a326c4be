"""Who sends invalid transactions, and how many (protocol §4, "Invalid transactions")."""

from collections import OrderedDict

MAX_SENDERS = 1024


class InvalidTransactions:
    """Counts the different invalid transactions of each sender, a host, over the last ``window_s``.

    Holds at most ``limit`` ids for each of 1024 senders, about 5 MB with the network's limit; when
    full, the one who has been quiet for longest is forgotten.
    """

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        # By sender, quiet ones first: when each id was first seen, oldest first.
        self._seen: OrderedDict[str, dict[bytes, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def mark(self, sender: str, transaction_id: bytes, now: float) -> bool:
        """Note an invalid transaction at ``now``, monotonic seconds.

        True when it is one more than the sender may have within the window: then the count begins
        anew. The same transaction counts once.
        """
        times = self._seen.setdefault(sender, {})
        self._seen.move_to_end(sender)
        if len(self._seen) > MAX_SENDERS:
            self._seen.popitem(last=False)
        while times and now - (oldest := next(iter(times.items())))[1] >= self._window_s:
            del times[oldest[0]]
        if transaction_id in times:
            return False
        if len(times) >= self._limit:
            del self._seen[sender]
            return True
        times[transaction_id] = now
        return False
