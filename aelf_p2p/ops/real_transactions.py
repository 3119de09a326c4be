"""The real AElf transactions that come with this program, for chains and networks made here."""

from aelf_p2p.core.transaction import Transaction
from aelf_p2p.testing.vectors import load_vectors


def real_transactions() -> list[Transaction]:
    """All 64, each signed and with another id."""
    return [Transaction.parse_untrusted(vector.raw) for vector in load_vectors().transactions]
