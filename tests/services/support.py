"""What the tests of the services share: a node's parts without the node, and chains of blocks."""

import random
from dataclasses import dataclass, field
from typing import Any

import trio

from aelf_p2p.chain.block_maker import make_block
from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.contracts import LivePeer
from aelf_p2p.core.address import address_of
from aelf_p2p.core.block import Block
from aelf_p2p.core.chain_status import GENESIS_PREVIOUS_HASH
from aelf_p2p.core.environment import Environment
from aelf_p2p.core.handshake import HandshakeRules
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.kernel_events import KernelEvent
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.sync_target import SyncState
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.services.answers import Answers
from aelf_p2p.services.block_sync import BlockSync
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.events import Event, Subscription
from aelf_p2p.services.inbound import Inbound
from aelf_p2p.services.kernel_events import KernelEventHandler
from aelf_p2p.services.network import NetworkService
from aelf_p2p.testing.fakes import FakePeer

EPOCH_NS = 1_700_000_000_000_000_000
CHAIN_ID = 9992731  # AELF
SECOND_NS = 1_000_000_000


def identity(number: int) -> Identity:
    """The key pair of a small number, which is not zero."""
    return Identity.from_private_key(number.to_bytes(32, "big"))


PRODUCER = identity(1000)


_beginning = trio.lowlevel.RunVar[float]("beginning")


def wall_ns() -> int:
    """The clock on the wall: EPOCH_NS when it is first read in a test, then it goes with trio's."""
    now = trio.current_time()
    try:
        began = _beginning.get()
    except LookupError:
        began = now
        _beginning.set(now)
    return EPOCH_NS + round((now - began) * SECOND_NS)


def environment(seed: int = 1) -> Environment:
    wall_ns()
    return Environment(wall_ns, random.Random(seed))


def make_transaction(number: int = 0, *, ref_block_number: int = 0, key: int = 900) -> Transaction:
    """A valid transaction; another for each number."""
    signer = identity(key)
    transaction = Transaction.build(
        from_address=address_of(signer.public_key),
        to_address=bytes(32),
        method_name="Transfer",
        params=number.to_bytes(8, "big"),
        ref_block_number=ref_block_number,
        ref_block_prefix=b"\x01\x02\x03\x04",
    )
    return transaction.with_signature(signer.sign(transaction.id))


def make_chain(
    count: int,
    *,
    after: Block | None = None,
    producer: Identity = PRODUCER,
    time_ns: int = EPOCH_NS,
    transactions: tuple[Transaction, ...] = (),
) -> list[Block]:
    """Linked blocks; another producer makes a fork."""
    blocks: list[Block] = []
    previous_hash = GENESIS_PREVIOUS_HASH if after is None else after.hash
    height = 0 if after is None else after.height
    for _ in range(count):
        height += 1
        block = make_block(
            producer,
            chain_id=CHAIN_ID,
            previous_hash=previous_hash,
            height=height,
            time_ns=time_ns + height,
            transactions=transactions,
        )
        blocks.append(block)
        previous_hash = block.hash
    return blocks


def with_wrong_body(block: Block) -> Block:
    """The same header, and so the same hash, over other transactions."""
    return Block(block.header, (*block.transactions, make_transaction(99)))


async def stored(blocks: list[Block], *, lib: int = 0) -> MemoryChainStore:
    """A store that holds a chain."""
    store = MemoryChainStore()
    for block in blocks:
        await store.put_block(block)
    if lib:
        await store.set_lib(blocks[lib - 1].hash)
    return store


@dataclass
class Services:
    """A node's services, wired as the node does it, without transport and without a task."""

    options: NetworkOptions = field(default_factory=NetworkOptions)
    store: MemoryChainStore = field(default_factory=MemoryChainStore)
    state: SyncState = SyncState.FINISHED
    confirmations: int = 1000

    def __post_init__(self) -> None:
        clock = environment()
        self.kernel = MinimalKernel(
            self.store,
            chain_id=CHAIN_ID,
            wall_ns=wall_ns,
            max_ref_block_ahead=512,
            confirmations=self.confirmations,
        )
        self.context = NetworkContext(
            options=self.options,
            environment=clock,
            rules=HandshakeRules(
                identity=identity(1),
                chain_id=CHAIN_ID,
                node_version="1.12.3.0",
                options=self.options,
            ),
            store=self.store,
            kernel=self.kernel,
        )
        self.context.sync.state = self.state
        self.network = NetworkService(self.context)
        self.sync = BlockSync(self.context, self.network)
        self.kernel_events = KernelEventHandler(
            self.context, self.network, self.sync.recheck_target
        )
        self.kernel.connect(self.kernel_events.handle)
        self.answers = Answers(self.context)
        self.inbound = Inbound(self.context, self.sync, self.answers)

    def add_peers(self, count: int, **settings: Any) -> list[FakePeer]:
        """Fake peers in the pool, numbered on from those that are there."""
        first = len(self.context.pool)
        peers = [FakePeer(first + index + 1, **settings) for index in range(count)]
        for peer in peers:
            self.context.pool.add(peer)
        return peers

    def is_banned(self, peer: FakePeer | LivePeer) -> bool:
        now = self.context.environment.wall_s()
        info = peer.info
        return self.context.bans.find(info.endpoint.host, info.public_key, now) is not None


async def read_all(events: Subscription) -> list[Event]:
    """What waits in a subscription; the kernel's own events, which it also tells, are left out."""
    found: list[Event] = []
    with trio.move_on_after(0.001):
        async for event in events:
            if not isinstance(event, KernelEvent):
                found.append(event)
    return found
