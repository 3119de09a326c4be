"""Fakes of the contracts: parts of a node that a test can hold in its hand."""

from collections.abc import Callable, Iterable

import trio

from aelf_p2p.core.block import Block
from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind, DropReason
from aelf_p2p.core.chain_status import GENESIS_PREVIOUS_HASH, PeerChain
from aelf_p2p.core.duplicates import DialTimes
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import NetworkError
from aelf_p2p.core.options import PROTOCOL_VERSION, NetworkOptions
from aelf_p2p.core.payloads import NodeRecord
from aelf_p2p.core.peer_info import CloseReason, PeerInfo, PeerStatistics, PeerStatus
from aelf_p2p.core.round_trips import RoundTrip
from aelf_p2p.core.send_queues import SendQueues


class FakePeer:
    """A ``LivePeer`` without a connection, that serves what it was given and records what it got.

    Everything scripted is a plain attribute, to be changed at any time. It queues broadcasts as a
    real peer does, in queues of the same sizes, and never sends them.
    """

    def __init__(
        self,
        number: int,
        *,
        host: str | None = None,
        inbound: bool = False,
        confirmed: bool = True,
        connected_at_ns: int = 0,
        options: NetworkOptions | None = None,
    ) -> None:
        self.info = PeerInfo(
            public_key=bytes([number]) * 65,
            endpoint=Endpoint(host or f"fake{number:03d}", 6800),
            inbound=inbound,
            node_version="1.12.3.0",
            protocol_version=PROTOCOL_VERSION,
            connected_at_ns=connected_at_ns,
            dial_times=DialTimes(0, 0),
            uses_stream=True,
            revision=1,
        )
        self.chain = PeerChain(GENESIS_PREVIOUS_HASH, 0, GENESIS_PREVIOUS_HASH, 0)
        self.bit = 1 << number
        self.close_reason: CloseReason | None = None
        self.session = b"session"
        """What ``accepts_session`` accepts."""

        self.blocks: dict[bytes, Block] = {}
        """What it answers to a request for one block, by the hash asked for."""
        self.successors: dict[bytes, Block] = {}
        """What it answers to a request for blocks: the one after each hash."""
        self.nodes: list[NodeRecord] = []
        self.request_error: NetworkError | None = None
        """What requests raise, health checks excepted."""
        self.health_error: NetworkError | None = None
        self.delay_s = 0.0
        """How long each request takes."""
        self.refuses: DropReason | None = None
        """Why it queues nothing."""

        self.requests: list[tuple[str, bytes | int]] = []
        """What it was asked, in order: block, blocks, nodes or health, and the main argument."""
        self.enqueued: list[BroadcastItem] = []
        """The broadcasts that it took."""
        self.queues = SendQueues(options or NetworkOptions(), self.bit)
        self._settled = trio.Event()
        self._closed = trio.Event()
        self._confirmed = False
        self._status_changed: Callable[[], None] = lambda: None
        if confirmed:
            self.confirmed_by_peer()

    def __repr__(self) -> str:
        return f"<FakePeer {self.info.endpoint.host} {self.status.name}>"

    def serve(self, blocks: Iterable[Block], *, announced: bool = True) -> None:
        """Have these blocks, and say that the highest is the tip of its chain."""
        for block in blocks:
            self.blocks[block.hash] = block
            self.successors[block.previous_hash] = block
            if announced:
                self.chain.saw_block(block.hash, block.height)

    @property
    def status(self) -> PeerStatus:
        """Whether it is ready, and why not."""
        if self.close_reason is not None:
            return PeerStatus.CLOSED
        return PeerStatus.READY if self._confirmed else PeerStatus.UNCONFIRMED

    def accepts_session(self, shown: str | bytes) -> bool:
        """Whether it is ``session``, as bytes or hex text."""
        return shown in (self.session, self.session.hex())

    def statistics(self) -> PeerStatistics:
        """Its counters now; what it queued is never sent."""
        return PeerStatistics(
            queued_blocks=self.queues.blocks,
            queued_announcements=self.queues.announcements,
            queued_transactions=self.queues.transactions,
            queued_bytes=self.queues.queued_bytes,
            unacknowledged=0,
            sent={},
            acknowledged={},
            dropped=dict(self.queues.dropped),
            ignored={},
        )

    def round_trips(self) -> list[RoundTrip]:
        """None are noted."""
        return []

    def enqueue(self, item: BroadcastItem) -> DropReason | None:
        """Queue a broadcast, unless ``refuses`` or a full queue says why not."""
        refused = self.refuses or self.queues.put_nowait(item)
        if refused is None:
            self.enqueued.append(item)
        return refused

    def enqueued_kinds(self) -> list[BroadcastKind]:
        """Of the broadcasts that it took, in order."""
        return [item.kind for item in self.enqueued]

    async def request_block(self, block_hash: bytes) -> Block | None:
        """What ``blocks`` holds. Raises ``request_error``."""
        await self._asked("block", block_hash)
        return self.blocks.get(block_hash)

    async def request_blocks(self, previous_hash: bytes, count: int) -> list[Block]:
        """What ``successors`` leads to. Raises ``request_error``."""
        await self._asked("blocks", previous_hash)
        found: list[Block] = []
        while len(found) < count and (block := self.successors.get(previous_hash)):
            found.append(block)
            previous_hash = block.hash
        return found

    async def request_nodes(self, max_count: int) -> list[NodeRecord]:
        """What ``nodes`` holds. Raises ``request_error``."""
        await self._asked("nodes", max_count)
        return self.nodes[:max_count]

    async def check_health(self, *, timeout_s: float) -> None:
        """Raises ``health_error``."""
        self.requests.append(("health", b""))
        await trio.lowlevel.checkpoint()
        if self.health_error is not None:
            raise self.health_error

    async def _asked(self, what: str, argument: bytes | int) -> None:
        self.requests.append((what, argument))
        await trio.sleep(self.delay_s)
        if self.request_error is not None:
            raise self.request_error

    def close(self, reason: CloseReason) -> None:
        """Closed at once; the first reason stays."""
        if self.close_reason is None:
            self.close_reason = reason
            self._status_changed()
            self._settled.set()
            self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until it is closed."""
        await self._closed.wait()

    async def run(self) -> None:
        """Do nothing until closed."""
        await self._closed.wait()

    async def confirm(self) -> None:
        """Be confirmed. Raises ``request_error``."""
        await self._asked("confirm", b"")
        self.confirmed_by_peer()

    def confirmed_by_peer(self) -> None:
        """Be ready."""
        self._confirmed = True
        self._status_changed()
        self._settled.set()

    def on_status_change(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called whenever ``status`` has changed."""
        self._status_changed = changed

    def heard(self) -> None:
        """Nothing watches it."""

    async def wait_confirmed(self) -> bool:
        """Wait until it is ready; False when it was closed instead."""
        await self._settled.wait()
        return self.status is PeerStatus.READY
