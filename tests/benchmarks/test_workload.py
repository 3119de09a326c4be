"""The transactions that benchmarks send."""

import pytest

from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.transaction import Transaction
from benchmarks.workload import TransactionSource, smallest_payload


@pytest.mark.parametrize("size", [182, 300, 65_536, 1_048_576])
def test_transactions_have_the_size_that_is_asked_for_and_differ(size: int) -> None:
    source = TransactionSource(size)
    made = [*source.take(2), *source.take(1)]
    assert {len(each.raw) for each in made} == {size}
    assert len({each.id for each in made}) == 3
    assert Transaction.parse_untrusted(made[0].raw).id == made[0].id


def test_the_smallest_is_the_smallest() -> None:
    smallest = smallest_payload()
    with pytest.raises(MisuseError, match=f"exactly {smallest - 1} bytes"):
        TransactionSource(smallest - 1)
