"""What became of a broadcast, peer by peer, for an embedder that asks."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import trio

from aelf_p2p.contracts import Peer
from aelf_p2p.core.broadcast import BroadcastKind, DropReason
from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.peer_info import PeerInfo

DEFAULT_RECEIPTS = 1024


class DeliveryState(Enum):
    """How far a broadcast came at one peer."""

    KNOWN = "the peer had it before"
    QUEUED = "it waits in the peer's queue"
    SENT = "it was given to the connection"
    ACKNOWLEDGED = "the peer answered it"
    DROPPED = "it was given up"


@dataclass(frozen=True)
class Delivery:
    """A state; for DROPPED also why."""

    state: DeliveryState
    reason: DropReason | None = None


class Receipt:
    """One broadcast: a ``DeliveryWatcher`` that remembers, and can be waited for.

    Peers of nodes before 1.4 answer no broadcast: there SENT is as far as it comes.
    """

    def __init__(self, kind: BroadcastKind, hash_: bytes) -> None:
        self.kind = kind
        self.hash = hash_
        """The id under which peers know it: of the transaction, of the block."""
        self._peers: dict[int, PeerInfo] = {}  # by bit
        self._deliveries: dict[int, Delivery] = {}
        self._changed = trio.lowlevel.ParkingLot()

    def deliveries(self) -> Mapping[PeerInfo, Delivery]:
        """How things stand at each peer that was ready when it was broadcast."""
        return {self._peers[bit]: delivery for bit, delivery in self._deliveries.items()}

    def count(self, state: DeliveryState) -> int:
        """At how many peers it is in a state."""
        return sum(delivery.state is state for delivery in self._deliveries.values())

    async def wait_acknowledged(self, count: int, *, timeout_s: float) -> bool:
        """Wait until so many peers have answered it. False after ``timeout_s``, and as soon as too
        few are left that could."""
        with trio.move_on_after(timeout_s):
            while (lacking := count - self.count(DeliveryState.ACKNOWLEDGED)) > 0:
                if self._may_answer() < lacking:
                    break
                await self._changed.park()
        await trio.lowlevel.checkpoint()
        return self.count(DeliveryState.ACKNOWLEDGED) >= count

    def _may_answer(self) -> int:
        return sum(
            delivery.state is DeliveryState.QUEUED
            or (delivery.state is DeliveryState.SENT and self._peers[bit].uses_stream)
            for bit, delivery in self._deliveries.items()
        )

    # --- what the network service and the peers tell it ---

    def known(self, peer: Peer) -> None:
        """It is not sent to a peer, which has it."""
        self._peers[peer.bit] = peer.info
        self._set(peer.bit, Delivery(DeliveryState.KNOWN))

    def enqueued(self, peer: Peer, refused: DropReason | None) -> None:
        """It was put in a peer's queue, or refused there."""
        self._peers[peer.bit] = peer.info
        queued = Delivery(DeliveryState.QUEUED)
        self._set(peer.bit, queued if refused is None else Delivery(DeliveryState.DROPPED, refused))

    def sent(self, bit: int) -> None:
        """See ``DeliveryWatcher``."""
        self._set(bit, Delivery(DeliveryState.SENT))

    def acknowledged(self, bit: int) -> None:
        """See ``DeliveryWatcher``."""
        self._set(bit, Delivery(DeliveryState.ACKNOWLEDGED))

    def dropped(self, bit: int, reason: DropReason) -> None:
        """See ``DeliveryWatcher``."""
        self._set(bit, Delivery(DeliveryState.DROPPED, reason))

    def _set(self, bit: int, delivery: Delivery) -> None:
        self._deliveries[bit] = delivery
        self._changed.unpark_all()


class ReceiptBook:
    """The receipts of the latest broadcasts; beyond its capacity the oldest is forgotten."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._receipts: OrderedDict[tuple[BroadcastKind, bytes], Receipt] = OrderedDict()

    def get(self, kind: BroadcastKind, hash_: bytes) -> Receipt | None:
        """The receipt of a transaction by its id, of a block or an announcement by its hash; of one
        that was broadcast more than once the last."""
        return self._receipts.get((kind, hash_))

    def __iter__(self) -> Iterator[Receipt]:
        """All, oldest first."""
        return iter(list(self._receipts.values()))

    def __len__(self) -> int:
        return len(self._receipts)

    def add(self, receipt: Receipt) -> None:
        """Keep a receipt."""
        key = receipt.kind, receipt.hash
        self._receipts.pop(key, None)
        self._receipts[key] = receipt
        if len(self._receipts) > self._capacity:
            self._receipts.popitem(last=False)


class ReceiptBooks:
    """The books that are being written."""

    def __init__(self) -> None:
        self._books: dict[ReceiptBook, None] = {}

    @contextmanager
    def record(self, capacity: int) -> Iterator[ReceiptBook]:
        """A book that is written while the block runs. Raises MisuseError for no capacity."""
        if capacity < 1:
            raise MisuseError(f"a capacity of {capacity} receipts")
        book = ReceiptBook(capacity)
        self._books[book] = None
        try:
            yield book
        finally:
            del self._books[book]

    def open(self, kind: BroadcastKind, hash_: bytes) -> Receipt | None:
        """The receipt of a broadcast that begins now; None when nobody asks for it."""
        if not self._books:
            return None
        receipt = Receipt(kind, hash_)
        for book in self._books:
            book.add(receipt)
        return receipt
