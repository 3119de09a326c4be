"""Who serves a wrong block is banned by those that it lied to, and by nobody else."""

import random
from collections.abc import Callable

import pytest
import trio

from aelf_p2p.chain.block_maker import make_block
from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.core.block import Block, BlockHeader
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.testing.determinism import run_deterministic
from aelf_p2p.testing.simulation import CHAIN_ID, EPOCH_NS, Simulation, open_simulation
from aelf_p2p.testing.vectors import load_vectors

TRANSACTIONS = [Transaction.parse_untrusted(item.raw) for item in load_vectors().transactions[:4]]

PRODUCER = Identity.generate(random.Random("producer"))

NODES = 9
HONEST, LIAR = 0, 1
LIED_TO = {2, 3, 4}  # they have nothing when they meet the liar
KNOWING = {5, 6}  # they have the blocks when they do
AWAY = {7, 8}  # they never meet it


def wrong_body(block: Block) -> Block:
    return Block(block.header, block.transactions[:-1])


def wrong_signature_of_the_header(block: Block) -> Block:
    return Block(block.header.with_signature(bytes(65)), block.transactions)


def wrong_signature_of_a_transaction(block: Block) -> Block:
    first, *others = block.transactions
    return Block(block.header, (first.with_signature(others[0].signature), *others))


def another_block(block: Block) -> Block:
    header = block.header
    other = BlockHeader.build(
        chain_id=header.chain_id,
        previous_hash=header.previous_hash,
        transactions_root=header.transactions_root,
        world_state_root=b"\x01" * 32,
        status_root=header.status_root,
        height=header.height,
        time_ns=header.time_ns,
        signer_pubkey=header.signer_pubkey,
        signature=header.signature,
    )
    return Block(other, block.transactions)


class LyingStore(MemoryChainStore):
    """Keeps the right chain, and gives out wrong blocks under the hashes of the right ones."""

    def __init__(self, lie: Callable[[Block], Block]) -> None:
        super().__init__()
        self._lie = lie
        self.lies = 0

    async def get_raw_block(self, block_hash: bytes) -> bytes | None:
        block = await self.get_block(block_hash)
        if block is None:
            return None
        self.lies += 1
        return self._lie(block).encode()

    async def raw_blocks_after(
        self, previous_hash: bytes, count: int, *, max_bytes: int
    ) -> list[bytes]:
        true = await super().raw_blocks_after(previous_hash, count, max_bytes=max_bytes)
        self.lies += bool(true)
        return [self._lie(Block.parse_untrusted(raw_block)).encode() for raw_block in true]


async def connect(network: Simulation, index: int, others: set[int]) -> None:
    for other in sorted(others):
        await network.nodes[other].running.connect(network.nodes[index].host)


def who_bans(network: Simulation, liar: int) -> set[int]:
    key, host = network.nodes[liar].identity.public_key, network.nodes[liar].host
    return {
        place.index
        for place in network.nodes
        if place.running._context.bans.find(host, key, place.wall_ns() / 1e9)
    }


async def fill(network: Simulation, height: int) -> None:
    """Give those that are to have it a chain of blocks with transactions."""
    previous_hash = bytes(32)
    for number in range(1, height + 1):
        block = make_block(
            PRODUCER,
            chain_id=CHAIN_ID,
            previous_hash=previous_hash,
            height=number,
            time_ns=EPOCH_NS + number,
            transactions=TRANSACTIONS,
        )
        for index in {HONEST, LIAR, *KNOWING}:
            await network.nodes[index].store.put_block(block)
        previous_hash = block.hash


@pytest.mark.parametrize(
    "lie",
    [
        another_block,
        wrong_body,
        wrong_signature_of_the_header,
        wrong_signature_of_a_transaction,
    ],
)
@pytest.mark.parametrize("height", [1, 40], ids=["one block", "in bulk"])
def test_a_liar_is_banned(lie: Callable[[Block], Block], height: int) -> None:
    async def scenario() -> None:
        async with open_simulation(NODES, seed=5, latency_s=0.02) as network:
            store = network.nodes[LIAR].store = LyingStore(lie)
            await fill(network, height)
            for index in range(NODES):
                node = await network.start(index)
                node.workers.discovery.pause()  # it would find the honest before it is to
            await connect(network, HONEST, {LIAR, *KNOWING, *AWAY})
            await trio.sleep(3)
            assert store.lies == 0
            await connect(network, LIAR, {*LIED_TO, *KNOWING})
            await trio.sleep(3)
            assert store.lies == len(LIED_TO)
            assert who_bans(network, LIAR) == LIED_TO
            assert {network.nodes[index].height for index in LIED_TO} == {0}
            assert len(network.nodes[LIAR].running.peers()) == 1 + len(KNOWING)
            # Those that were lied to believe the honest, and nobody else is banned.
            await connect(network, HONEST, LIED_TO)
            await network.wait_for_height(height, timeout_s=10)
            assert who_bans(network, LIAR) == LIED_TO
            for honest in set(range(NODES)) - {LIAR}:
                assert who_bans(network, honest) == set()

    run_deterministic(scenario, seed=5)
