"""The minimal kernel's transactions: checked once, kept until a block holds them."""

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

from aelf_p2p.core.address import address_of
from aelf_p2p.core.errors import InvalidItemError, InvalidReason, MalformedError
from aelf_p2p.core.identity import recover_untrusted
from aelf_p2p.core.transaction import Transaction


def check_signature(transaction: Transaction) -> None:
    """The signature must recover a key whose address is the sender. Raises InvalidItemError."""
    what = f"transaction {transaction.id.hex()}"
    try:
        public_key = recover_untrusted(transaction.id, transaction.signature)
    except MalformedError as exc:
        raise InvalidItemError(InvalidReason.BAD_SIGNATURE, what) from exc
    if address_of(public_key) != transaction.from_address:
        raise InvalidItemError(InvalidReason.WRONG_SENDER, what)


class TransactionPool:
    """Verified transactions, oldest first, and the ids of all that were seen lately.

    A full pool refuses new transactions (POOL_FULL): full is ``capacity`` transactions, or
    ``max_bytes`` of them and one more. Of the remembered ids, ten times as many, the oldest go.
    """

    def __init__(self, capacity: int, max_ref_block_ahead: int, *, max_bytes: int) -> None:
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._bytes = 0
        self._max_ahead = max_ref_block_ahead
        self._waiting: dict[bytes, Transaction] = {}
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def holds(self, transaction: Transaction) -> bool:
        """Whether this very transaction waits, signature included, and so was checked."""
        return self._waiting.get(transaction.id) == transaction

    def add(self, transaction: Transaction, longest_height: int) -> bool:
        """Check a transaction and keep it. False when it was seen. Raises InvalidItemError."""
        # One that waits for long may be forgotten among those that were seen.
        if transaction.id in self._seen or transaction.id in self._waiting:
            return False
        self._check_room(transaction, longest_height)
        check_signature(transaction)
        self._keep(transaction)
        return True

    def take_out(self, transaction_ids: Iterable[bytes]) -> None:
        """A block holds these: they wait no longer, and are not taken in again."""
        for transaction_id in transaction_ids:
            waited = self._waiting.pop(transaction_id, None)
            if waited is not None:
                self._bytes -= len(waited.raw)
            self._remember(transaction_id)

    def take_back(self, transactions: Iterable[Transaction], longest_height: int) -> None:
        """No block of the chain holds these any more: they wait again, as far as there is room.

        Their signatures were checked with their block, where they have any.
        """
        for transaction in transactions:
            self._seen.pop(transaction.id, None)
            if transaction.signature and transaction.id not in self._waiting:
                with suppress(InvalidItemError):
                    self._check_room(transaction, longest_height)
                    self._keep(transaction)

    def oldest(self, count: int) -> list[Transaction]:
        """The transactions that the next block should hold."""
        return list(islice(self._waiting.values(), count))

    def _check_room(self, transaction: Transaction, longest_height: int) -> None:
        what = f"transaction {transaction.id.hex()}"
        if transaction.ref_block_number > longest_height + self._max_ahead:
            raise InvalidItemError(InvalidReason.TOO_FAR_AHEAD, what)
        if len(self._waiting) >= self._capacity or self._bytes >= self._max_bytes:
            raise InvalidItemError(InvalidReason.POOL_FULL, what)

    def _keep(self, transaction: Transaction) -> None:
        self._waiting[transaction.id] = transaction
        self._bytes += len(transaction.raw)
        self._remember(transaction.id)

    def _remember(self, transaction_id: bytes) -> None:
        self._seen[transaction_id] = None
        if len(self._seen) > 10 * self._capacity:
            self._seen.popitem(last=False)
