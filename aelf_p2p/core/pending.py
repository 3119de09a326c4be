"""Our own requests on a stream, waiting for their replies: one table a connection."""

from typing import Generic, TypeVar

from aelf_p2p.core.errors import FullBufferError

Waiter = TypeVar("Waiter")


class PendingRequests(Generic[Waiter]):
    """Request ids with what waits for each.

    Bounded by ``capacity``; a waiter keeps its own deadline and takes itself out when that has
    passed.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: dict[str, tuple[int, Waiter]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request_id: str, message_type: int, waiter: Waiter) -> None:
        """Wait for a reply. Raises FullBufferError when too many requests are unanswered."""
        if len(self._waiting) >= self._capacity:
            raise FullBufferError(f"{self._capacity} requests to this peer are unanswered already")
        self._waiting[request_id] = (message_type, waiter)

    def match(self, request_id: str, message_type: int) -> Waiter | None:
        """Take out the waiter that a reply answers.

        None when nothing waits for that id, or when the reply's type is another than the request's
        (protocol §3.4): then the waiter stays, for the right reply may still come.
        """
        entry = self._waiting.get(request_id)
        if entry is None or entry[0] != message_type:
            return None
        del self._waiting[request_id]
        return entry[1]

    def discard(self, request_id: str) -> None:
        """Stop waiting; a reply that still comes is then an unknown one."""
        self._waiting.pop(request_id, None)

    def clear(self) -> list[Waiter]:
        """Take out all waiters: the connection is gone."""
        waiters = [waiter for _, waiter in self._waiting.values()]
        self._waiting.clear()
        return waiters
