"""The chains that a devnet's nodes leave on the disk, looked at when their processes are gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.chain.sqlite_store import open_sqlite_store
from aelf_p2p.core.block import Block
from aelf_p2p.core.chain_id import chain_id_from_text_untrusted
from aelf_p2p.core.options import MIB
from aelf_p2p.ops.devnet.report import Report

CHAIN_ID = chain_id_from_text_untrusted("AELF")
_BATCH = 100


@dataclass(frozen=True)
class StoredChain:
    """What a directory holds: the tip of its best chain, and the transactions in it."""

    height: int
    tip: bytes
    transaction_ids: frozenset[bytes]


async def read_chain(directory: Path) -> StoredChain:
    """Read a chain from its first block on, every hash, signature, root and link checked anew.

    Raises StoreError, or what a kernel says of a block that is wrong.
    """
    checked = MemoryChainStore()
    kernel = MinimalKernel(checked, chain_id=CHAIN_ID)
    transaction_ids: set[bytes] = set()
    async with open_sqlite_store(directory, chain_id=CHAIN_ID) as store:
        while raw_blocks := await store.raw_blocks_after(
            checked.status.best_hash, _BATCH, max_bytes=64 * MIB
        ):
            for raw_block in raw_blocks:
                block = Block.parse_untrusted(raw_block)
                await kernel.accept_block(block)
                transaction_ids.update(block.transaction_ids)
    return StoredChain(
        checked.status.best_height, checked.status.best_hash, frozenset(transaction_ids)
    )


def compare_tips(chains: Sequence[StoredChain], height: int, faults: list[str]) -> str:
    """All chains are to be one, of a height; tells what they are."""
    tips = {chain.tip for chain in chains}
    heights = sorted(chain.height for chain in chains)
    if len(tips) == 1 and heights[0] == height:
        return f"{len(chains)} at height {height}, tip {chains[0].tip.hex()}"
    faults.append(f"the chains have {len(tips)} tips, their heights are {heights}")
    return f"{len(tips)} different ones"


def compare(
    chains: Sequence[StoredChain], blocks: int, known_ids: frozenset[bytes], report: Report
) -> None:
    """All chains are to be one, with all blocks, and with the transactions by their known ids."""
    report.chains = compare_tips(chains, blocks, report.faults)
    everywhere = frozenset.intersection(*(chain.transaction_ids for chain in chains))
    anywhere = frozenset.union(*(chain.transaction_ids for chain in chains))
    found, missing = len(everywhere & known_ids), len(known_ids - everywhere)
    report.transactions = f"{found} of {len(known_ids)} in every chain, each with its known id"
    if missing or anywhere != known_ids:
        report.faults.append(
            f"of the transactions {missing} are missing somewhere, and "
            f"{len(anywhere - known_ids)} have ids that are not known"
        )
