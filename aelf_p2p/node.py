"""The composition root: one node, from its parts. The only place that knows everything."""

import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial

import trio

from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.chain.memory_state import MemoryStateStore
from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.contracts import ChainStore, Kernel, LivePeer, Peer, StateStore, Transport
from aelf_p2p.core.budgets import ByteBudget
from aelf_p2p.core.chain_id import resolve_chain_id
from aelf_p2p.core.endpoint import DEFAULT_PORT, MAX_PORT, Endpoint
from aelf_p2p.core.environment import Environment
from aelf_p2p.core.errors import MalformedError, MisuseError
from aelf_p2p.core.handshake import HandshakeRules
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.kernel_events import KernelEvent
from aelf_p2p.core.network_events import NetworkInitialized
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.core.single_error import single_error_as_itself
from aelf_p2p.core.sntp import NTP_PORT
from aelf_p2p.core.version import own_version
from aelf_p2p.peers.stream_peer import StreamPeer
from aelf_p2p.peers.unary_peer import UnaryPeer
from aelf_p2p.services.acceptor import Acceptor
from aelf_p2p.services.answers import Answers
from aelf_p2p.services.block_sync import BlockSync
from aelf_p2p.services.boot import dial_boot_nodes
from aelf_p2p.services.clock import watch_clock
from aelf_p2p.services.connections import Connections
from aelf_p2p.services.context import NetworkContext, SyncProgress
from aelf_p2p.services.dialer import DialedPeers
from aelf_p2p.services.events import Subscription
from aelf_p2p.services.inbound import Inbound
from aelf_p2p.services.kernel_events import KernelEventHandler
from aelf_p2p.services.network import NetworkService
from aelf_p2p.services.operator import Operator
from aelf_p2p.services.state_keeper import StateKeeper
from aelf_p2p.services.unary_acceptor import UnaryAcceptor
from aelf_p2p.services.workers import Workers
from aelf_p2p.transports.udp import ask_over_udp

DEFAULT_NODE_VERSION = "1.12.3.0"
"""What handshakes say: the release line of the C# node whose protocol this is."""


class Node:
    """A running node, as ``open_node`` gives it. Its methods may be called from any task."""

    def __init__(
        self,
        *,
        context: NetworkContext,
        network: NetworkService,
        kernel_events: KernelEventHandler,
        dialer: DialedPeers,
        workers: Workers,
        operator: Operator,
        endpoint: Endpoint,
        initialized: trio.Event,
    ) -> None:
        self._context = context
        self._initialized = initialized
        self._kernel_events = kernel_events
        self._dialer = dialer
        self.network = network
        """Broadcasts and requests over all peers."""
        self.workers = workers
        """Health check, reconnection and discovery: ``pause``, ``resume`` and ``step`` each."""
        self.operator = operator
        """Adds, removes, lists and bans peers."""
        self.endpoint = endpoint
        """Where the node listens."""

    @property
    def public_key(self) -> bytes:
        """The node's own key, 65 (secp256k1) or 32 (Ed25519) bytes."""
        return self._context.public_key

    @property
    def store(self) -> ChainStore:
        """The node's chain."""
        return self._context.store

    @property
    def kernel(self) -> Kernel:
        """What decides on blocks and transactions."""
        return self._context.kernel

    @property
    def sync(self) -> SyncProgress:
        """Whether the node is synced, and its target while it is not."""
        return self._context.sync

    def peers(self) -> list[Peer]:
        """The ready peers, oldest first."""
        return list(self._context.pool.ready())

    def peer(self, public_key: bytes) -> Peer | None:
        """The open peer of a key."""
        return self._context.pool.get(public_key)

    async def wait_initialized(self) -> None:
        """Wait until all boot nodes were dialed, whatever came of it."""
        await self._initialized.wait()

    async def connect(self, endpoint: Endpoint | str) -> Peer:
        """Dial a node; returns its peer, ready. The one that is there already when connected.

        Raises MalformedError for a bad endpoint text, TransportError, HandshakeRefusedError,
        ProtocolViolationError, NetworkError.
        """
        return await self.operator.add(endpoint)

    async def disconnect(self, public_key: bytes) -> bool:
        """Say goodbye to a peer and wait until it is gone. False when there is none.

        It is not dialed again, nor is one that was lost before; it may come back by itself.
        """
        return await self.operator.remove(public_key, ban_s=0)

    def subscribe(self) -> AbstractContextManager[Subscription]:
        """``with node.subscribe() as events: async for event in events: ...``"""
        return self._context.events.subscribe()

    def handle(self, event: KernelEvent) -> None:
        """Tell the network what an embedder's kernel did. Never blocks."""
        self._kernel_events.handle(event)

    async def _close(self) -> None:
        """Say goodbye to all peers at once; bounded by their goodbye timeout."""
        self.workers.close()
        self._dialer.close()
        peers: list[LivePeer] = list(self._context.pool)
        for peer in peers:
            peer.close(CloseReason.SHUTDOWN)
        for peer in peers:
            await peer.wait_closed()


@asynccontextmanager
async def open_node(
    *,
    identity: Identity,
    transport: Transport,
    chain_id: int | str = "AELF",
    host: str = "0.0.0.0",
    port: int = DEFAULT_PORT,
    announce_port: int | None = None,
    boot_nodes: Sequence[Endpoint | str] = (),
    store: ChainStore | None = None,
    state: StateStore | None = None,
    kernel: Kernel | None = None,
    options: NetworkOptions | None = None,
    node_version: str = DEFAULT_NODE_VERSION,
    authorized_keys: frozenset[bytes] | None = None,
    next_producer: Callable[[], bytes | None] = lambda: None,
    ntp_server: Endpoint | str | None = None,
    wall_ns: Callable[[], int] = time.time_ns,
    rng: random.Random | None = None,
) -> AsyncIterator[Node]:
    """A node that lives as long as the block.

    It listens when the block begins; boot nodes are dialed meanwhile (NetworkInitialized tells
    when that is done). Leaving the block says DISCONNECT to every peer. Without a store the chain
    is kept in memory, without a state store the node forgets its network at the end, without a
    kernel the minimal one decides. ``next_producer`` tells the public key of whoever produces the
    next block, when that is known: a block that this node mined goes to it first. With an
    ``ntp_server`` the clock is checked against it, now and every hour: a third party hears of this
    node, so there is none by default. ``wall_ns`` is the clock on the wall (unix nanoseconds) and
    ``rng`` all randomness, session ids included: leave it out, or give a ``random.SystemRandom``,
    unless you want a network that replays.

    Raises MisuseError for arguments that cannot be right, and when host and port are taken;
    StoreError when the state cannot be loaded.
    """
    if kernel is not None and store is None:
        raise MisuseError("a kernel needs the store that it decides on: give both")
    if announce_port is not None and not 1 <= announce_port <= MAX_PORT:
        raise MisuseError(f"announce_port {announce_port} is not between 1 and {MAX_PORT}")
    options = options or NetworkOptions()
    environment = Environment(wall_ns, rng or random.SystemRandom())
    chain = resolve_chain_id(chain_id)
    if store is None:
        store = MemoryChainStore()
    if kernel is None:
        kernel = MinimalKernel(store, chain_id=chain, wall_ns=wall_ns)
    boot_endpoints = [_endpoint("boot node", node) for node in boot_nodes]
    time_server = _endpoint("NTP server", ntp_server, NTP_PORT) if ntp_server is not None else None
    context = NetworkContext(
        options=options,
        environment=environment,
        rules=HandshakeRules(
            identity=identity,
            chain_id=chain,
            node_version=own_version(node_version),
            options=options,
            authorized_keys=authorized_keys,
        ),
        store=store,
        kernel=kernel,
        next_producer=next_producer,
        boot_nodes=frozenset(boot_endpoints),
    )
    keeper = StateKeeper(context, state or MemoryStateStore())
    await keeper.load()
    network = NetworkService(context)
    sync = BlockSync(context, network)
    kernel_events = KernelEventHandler(context, network, sync.recheck_target)
    inbound = Inbound(context, sync, Answers(context))
    connections = Connections(
        context,
        sync,
        make_stream_peer=partial(
            StreamPeer,
            large_replies=ByteBudget(options.max_large_replies_bytes),
            handler=inbound,
            environment=environment,
            options=options,
            own_public_key=identity.public_key,
        ),
        make_unary_peer=partial(
            UnaryPeer,
            environment=environment,
            options=options,
            own_public_key=identity.public_key,
        ),
    )
    with single_error_as_itself(ignoring=trio.Cancelled):
        async with trio.open_nursery() as nursery:
            unary_acceptor = UnaryAcceptor(connections, transport, nursery)
            acceptor = Acceptor(connections, unary_acceptor, inbound)
            endpoint = await nursery.start(
                partial(transport.serve, on_fault=context.broke_transport),
                host,
                port,
                acceptor.handle,
            )
            kernel.connect(kernel_events.handle)
            context.listening_port = announce_port or endpoint.port
            acceptor.open()
            dialer = DialedPeers(connections, transport, nursery)
            initialized = trio.Event()
            workers = Workers(context, network, dialer, transport)
            node = Node(
                context=context,
                network=network,
                kernel_events=kernel_events,
                dialer=dialer,
                workers=workers,
                operator=Operator(context, dialer),
                endpoint=endpoint,
                initialized=initialized,
            )
            nursery.start_soon(_begin, context, dialer, boot_endpoints, sync, initialized)
            if time_server is not None:
                nursery.start_soon(watch_clock, context, time_server, ask_over_udp)
            nursery.start_soon(workers.run, initialized)
            nursery.start_soon(keeper.run)
            try:
                yield node
            finally:
                acceptor.close()
                try:
                    await node._close()
                finally:
                    context.events.end()
                    nursery.cancel_scope.cancel()


async def _begin(
    context: NetworkContext,
    dialer: DialedPeers,
    boot_nodes: list[Endpoint],
    sync: BlockSync,
    initialized: trio.Event,
) -> None:
    """Dial the boot nodes; then sync and follow the chain, until cancelled."""
    await dial_boot_nodes(dialer, boot_nodes, context.lost_peers)
    initialized.set()
    context.events.publish(NetworkInitialized(len(context.pool.ready())))
    await sync.run()


def _endpoint(what: str, given: Endpoint | str, default_port: int = DEFAULT_PORT) -> Endpoint:
    if isinstance(given, Endpoint):
        return given
    try:
        return Endpoint.parse_untrusted(given, default_port)
    except MalformedError as exc:
        raise MisuseError(f"{what} {given!r}: {exc}") from exc
