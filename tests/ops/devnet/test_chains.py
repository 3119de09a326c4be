"""The chains that a devnet leaves, compared in the end."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aelf_p2p.chain.sqlite_store import open_sqlite_store
from aelf_p2p.core.errors import InvalidItemError, InvalidReason
from aelf_p2p.ops.devnet.chains import StoredChain, compare, read_chain
from aelf_p2p.ops.devnet.report import Report
from tests.chain.made import CHAIN_ID, signed_block, signed_chain, signed_transaction


def chain(height: int = 12, tip: bytes = b"t" * 32, ids: bytes = b"abc") -> StoredChain:
    return StoredChain(height, tip, frozenset(bytes([each]) for each in ids))


KNOWN = frozenset([b"a", b"b", b"c"])


@pytest.mark.parametrize(
    ("chains", "faults"),
    [
        ([chain(), chain()], []),
        (
            [chain(), chain(tip=b"u" * 32)],
            ["the chains have 2 tips, their heights are [12, 12]"],
        ),
        ([chain(11), chain(11)], ["the chains have 1 tips, their heights are [11, 11]"]),
        (
            [chain(), chain(ids=b"ab")],
            ["of the transactions 1 are missing somewhere, and 0 have ids that are not known"],
        ),
        (
            [chain(ids=b"abcd"), chain(ids=b"abcd")],
            ["of the transactions 0 are missing somewhere, and 1 have ids that are not known"],
        ),
        (
            [chain(ids=b"abcd"), chain()],
            ["of the transactions 0 are missing somewhere, and 1 have ids that are not known"],
        ),
    ],
)
def test_chains_that_are_not_as_they_should_be(
    chains: list[StoredChain], faults: list[str]
) -> None:
    report = Report()
    compare(chains, 12, KNOWN, report)
    assert report.faults == faults


async def test_a_stored_chain_is_checked_anew(tmp_path: Path) -> None:
    blocks = signed_chain(None, 4)
    blocks.append(signed_block(blocks[-1], [signed_transaction()]))
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
        for block in blocks:
            await store.put_block(block)
    found = await read_chain(tmp_path)
    assert found == StoredChain(5, blocks[-1].hash, frozenset(blocks[-1].transaction_ids))
    # without its transactions the last block has another root than its header says
    with closing(sqlite3.connect(tmp_path / "chain.sqlite3")) as database:
        database.execute("UPDATE block SET transactions = x''")
        database.commit()
    with pytest.raises(InvalidItemError) as caught:
        await read_chain(tmp_path)
    assert caught.value.reason is InvalidReason.BAD_MERKLE_ROOT
