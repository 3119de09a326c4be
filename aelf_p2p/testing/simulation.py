"""A whole network of nodes in one process, in virtual time, from one seed.

    async def scenario() -> None:
        async with open_simulation(20, seed=7) as network:
            await network.start_all()
            await network.mine(0)
            await network.wait_for_height(1)

    run_deterministic(scenario, seed=7)

The nodes are real ones, as ``open_node`` makes them; only the transport, the clocks and the
randomness are the simulation's. With :func:`aelf_p2p.testing.determinism.run_deterministic` the
same seed gives the same ``trace``, event by event.
"""

import gc
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import trio

from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.chain.memory_state import MemoryStateStore
from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.core.block import Block
from aelf_p2p.core.chain_id import chain_id_from_text_untrusted
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import DeadlineExceededError, MisuseError
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.kernel_events import BlockAccepted
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.single_error import single_error_as_itself
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.node import DEFAULT_NODE_VERSION, Node, open_node
from aelf_p2p.testing.conditions import ConditionedHub, Latency

EPOCH_NS = 1_700_000_000_000_000_000
"""What the clocks on the wall say when a simulation begins (unix nanoseconds)."""

CHAIN_ID = chain_id_from_text_untrusted("AELF")

ANY_REF_BLOCK = 1 << 62
"""How far ahead a transaction's ref block may be: real transactions refer to blocks far above those
of a chain that has just begun."""


@dataclass(eq=False)
class SimulatedNode:
    """One place in the network: its host, its key, its chain and what it remembers of its network,
    which outlive a restart."""

    index: int
    host: str
    identity: Identity
    rng: random.Random
    wall_ns: Callable[[], int]
    node_version: str = DEFAULT_NODE_VERSION
    """What it says when it is started; below 1.4.0.0 it is of the old kind."""
    store: MemoryChainStore = field(default_factory=MemoryChainStore)
    state: MemoryStateStore = field(default_factory=MemoryStateStore)
    node: Node | None = None
    """The running node; None while it is down."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    stopping: trio.Event = field(default_factory=trio.Event)
    down: trio.Event = field(default_factory=trio.Event)

    @property
    def running(self) -> Node:
        """The running node. Raises MisuseError while it is down."""
        if self.node is None:
            raise MisuseError(f"{self.host} is down")
        return self.node

    @property
    def height(self) -> int:
        """Of its best chain."""
        return self.store.status.best_height


class Simulation:
    """The network: its hub, whose conditions can be changed, its nodes, and what happened."""

    def __init__(
        self,
        count: int,
        *,
        seed: int,
        options: NetworkOptions,
        latency_s: Latency,
        clock_skew_s: float,
        nursery: trio.Nursery,
    ) -> None:
        self._rng = random.Random(f"network/{seed}")
        self._options = options
        self._nursery = nursery
        self._accepted = trio.Event()
        self.hub = ConditionedHub(latency_s=latency_s, rng=random.Random(f"latency/{seed}"))
        self.trace: list[str] = []
        """What happened, one line an event: virtual seconds, node, event."""
        self.arrivals: dict[bytes, dict[int, float]] = {}
        """For each block, when each node (by index) accepted it, in virtual seconds; its producer
        comes first."""
        self.nodes = [self._make_place(index, seed, clock_skew_s) for index in range(count)]

    def _make_place(self, index: int, seed: int, clock_skew_s: float) -> SimulatedNode:
        rng = random.Random(f"node/{seed}/{index}")
        skew_ns = round(rng.uniform(-clock_skew_s, clock_skew_s) * 1e9)
        start = trio.current_time()

        def wall_ns() -> int:
            return EPOCH_NS + skew_ns + round((trio.current_time() - start) * 1e9)

        host = f"node{index:03d}"
        return SimulatedNode(index, host, Identity.generate(rng), rng, wall_ns)

    # --- nodes ---

    async def start(self, index: int, boot_nodes: Sequence[int] = ()) -> Node:
        """Start a node, or start it again with the chain it had; dials others by index."""
        place = self.nodes[index]
        place.scope, place.stopping = trio.CancelScope(), trio.Event()
        node: Node = await self._nursery.start(self._live, place, boot_nodes)
        return node

    async def start_all(self, *, boot_nodes_each: int = 3) -> None:
        """Start all nodes in order, each with some random earlier ones as its boot nodes."""
        for index in range(len(self.nodes)):
            others = self._rng.sample(range(index), min(boot_nodes_each, index))
            await self.start(index, others)

    async def stop(self, index: int) -> None:
        """Stop a node politely, and wait until it is down."""
        self.nodes[index].stopping.set()
        await self.stopped(index)

    async def stopped(self, index: int) -> None:
        """Wait until a node is down."""
        if self.nodes[index].node is not None:
            await self.nodes[index].down.wait()

    def kill(self, index: int) -> None:
        """Take a node down as kill -9 does: its connections break, nobody is told."""
        place = self.nodes[index]
        self.hub.kill(place.host)
        place.scope.cancel()

    async def _live(
        self,
        place: SimulatedNode,
        boot_nodes: Sequence[int],
        *,
        task_status: trio.TaskStatus[Node],
    ) -> None:
        with place.scope:
            async with self.open_place(place.index, boot_nodes) as node:
                task_status.started(node)
                await place.stopping.wait()

    @asynccontextmanager
    async def open_place(self, index: int, boot_nodes: Sequence[int] = ()) -> AsyncIterator[Node]:
        """A node that is up as long as the block, instead of ``start`` and ``stop``."""
        place = self.nodes[index]
        if place.node is not None:
            raise MisuseError(f"{place.host} is running")
        place.down = trio.Event()
        kernel = MinimalKernel(
            place.store,
            chain_id=CHAIN_ID,
            wall_ns=place.wall_ns,
            max_ref_block_ahead=ANY_REF_BLOCK,
        )
        try:
            async with open_node(
                identity=place.identity,
                transport=self.hub.transport(place.host),
                chain_id=CHAIN_ID,
                boot_nodes=[Endpoint(self.nodes[other].host, 6800) for other in boot_nodes],
                store=place.store,
                state=place.state,
                kernel=kernel,
                options=self._options,
                node_version=place.node_version,
                wall_ns=place.wall_ns,
                rng=place.rng,
            ) as node:
                place.node = node
                with single_error_as_itself():
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._watch, place, node)
                        yield node
                        nursery.cancel_scope.cancel()
        finally:
            place.node = None
            place.down.set()

    async def _watch(self, place: SimulatedNode, node: Node) -> None:
        with node.subscribe() as events:
            async for event in events:
                self.trace.append(f"{trio.current_time():.9f} {place.host} {type(event).__name__}")
                if isinstance(event, BlockAccepted):
                    times = self.arrivals.setdefault(event.block.hash, {})
                    times.setdefault(place.index, trio.current_time())
                    self._accepted.set()
                    self._accepted = trio.Event()

    # --- the chain ---

    async def mine(self, index: int, *, max_transactions: int = 512) -> Block:
        """Let a node produce a block out of its pool, and broadcast it."""
        place = self.nodes[index]
        kernel = place.running.kernel
        assert isinstance(kernel, MinimalKernel)
        return await kernel.mine_block(place.identity, max_transactions=max_transactions)

    def submit(self, index: int, transaction: Transaction) -> bool:
        """Give a node a transaction, which it checks and broadcasts. Raises InvalidItemError."""
        return self.nodes[index].running.kernel.submit_transaction(transaction)

    async def wait_for_height(self, height: int, *, timeout_s: float = 60.0) -> None:
        """Wait until every running node has a height. Raises DeadlineExceededError, which says
        who is behind."""
        with trio.move_on_after(timeout_s):
            while behind := self._behind(height):
                await self._accepted.wait()
            return
        who = ", ".join(f"{place.host} at {place.height}" for place in behind)
        raise DeadlineExceededError(f"not at height {height} after {timeout_s:g} s: {who}")

    def _behind(self, height: int) -> list[SimulatedNode]:
        return [place for place in self.nodes if place.node and place.height < height]


_COLLECTION_THRESHOLDS = 100_000, 50, 100  # Python's own are 700, 10, 10


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """A thousand nodes are millions of objects that stay: at Python's own pace its collector would
    look through them for half of the time."""
    before = gc.get_threshold()
    gc.set_threshold(*_COLLECTION_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@asynccontextmanager
async def open_simulation(
    count: int,
    *,
    seed: int,
    options: NetworkOptions | None = None,
    latency_s: Latency = 0.05,
    clock_skew_s: float = 0.0,
) -> AsyncIterator[Simulation]:
    """A network of ``count`` places, none of them started. Nodes go down when the block ends.

    ``latency_s`` is one way, for every link; ``clock_skew_s`` the most that a node's clock on the
    wall is off, to either side. ``options`` are those of all nodes; without them discovery dials
    names, since hosts are nothing else here.
    """
    with single_error_as_itself(), _seldom_collected():
        async with trio.open_nursery() as nursery:
            network = Simulation(
                count,
                seed=seed,
                options=options or NetworkOptions(dial_private=True),  # its hosts are names
                latency_s=latency_s,
                clock_skew_s=clock_skew_s,
                nursery=nursery,
            )
            yield network
            for place in network.nodes:
                place.stopping.set()
