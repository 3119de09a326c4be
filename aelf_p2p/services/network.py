"""The network service: what higher layers broadcast and request, over all peers."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import trio

from aelf_p2p.contracts import LivePeer, Peer
from aelf_p2p.core.announcements import Announcement, LibAnnouncement
from aelf_p2p.core.block import Block
from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind, DropReason
from aelf_p2p.core.errors import (
    FullBufferError,
    NetworkError,
    NotConnectedError,
    PeerUnstableError,
    UnrecoverableError,
)
from aelf_p2p.core.known_items import KnownItems
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.receipts import DEFAULT_RECEIPTS, Receipt, ReceiptBook, ReceiptBooks

log = logging.getLogger(__name__)

# Looking an enum's member up by name costs a Python call.
_BLOCK, _ANNOUNCEMENT = BroadcastKind.BLOCK, BroadcastKind.ANNOUNCEMENT
_TRANSACTION, _LIB_ANNOUNCEMENT = BroadcastKind.TRANSACTION, BroadcastKind.LIB_ANNOUNCEMENT


class BroadcastReport(NamedTuple):
    """What became of one broadcast at the moment it was queued."""

    queued: int
    """Peers in whose queue it waits."""
    known: int = 0
    """Peers that have it already."""
    dropped: Mapping[DropReason, int] | None = None
    """Peers that it was not queued for, by why; None when there are none."""
    held_back: str = ""
    """Why nobody gets it: the node is not synced, or the block is too old."""
    receipt: Receipt | None = None
    """What becomes of it, peer by peer, where ``record_receipts`` asked for that; None when it was
    held back."""


class NetworkService:
    """Broadcasts to all ready peers, requests from one of them, and acts on failures by type."""

    def __init__(self, context: NetworkContext) -> None:
        self._context = context
        self._receipts = ReceiptBooks()

    # --- broadcasting ---

    def record_receipts(
        self, capacity: int = DEFAULT_RECEIPTS
    ) -> AbstractContextManager[ReceiptBook]:
        """While the block runs, each broadcast has a receipt, the kernel's among them.

        The latest ``capacity`` are kept; without a block nothing is, and broadcasts cost less.
        """
        return self._receipts.record(capacity)

    def broadcast_transaction(self, transaction: Transaction) -> BroadcastReport:
        """Send a transaction to every peer that does not know it."""
        known = self._context.known.transactions
        mask = known.mask(transaction.id, trio.current_time())
        return self._fan_out(_TRANSACTION, transaction.id, transaction.raw, known, mask)

    def broadcast_block(self, block: Block) -> BroadcastReport:
        """Send a whole block, which this node signed, to every peer that does not have it.

        Nodes take a pushed block from its signer only (protocol §4): announce those of others.
        """
        held_back = self._held_back(block.time_ns)
        if held_back:
            return BroadcastReport(0, held_back=held_back)
        known = self._context.known
        mask = known.block_mask(block.hash, trio.current_time())
        return self._fan_out(_BLOCK, block.hash, block.encode(), known.blocks, mask)

    def announce_block(self, block: Block) -> BroadcastReport:
        """Announce a block, which this node executed, to every peer that does not know of it."""
        held_back = self._held_back(block.time_ns)
        if held_back:
            return BroadcastReport(0, held_back=held_back)
        known = self._context.known
        mask = known.block_mask(block.hash, trio.current_time())
        payload = Announcement(block.hash, block.height).encode()
        return self._fan_out(_ANNOUNCEMENT, block.hash, payload, known.announcements, mask)

    def announce_lib(self, block_hash: bytes, height: int) -> BroadcastReport:
        """Announce the last irreversible block to every peer."""
        if not self._context.sync.finished:
            return BroadcastReport(0, held_back="the node is not synced")
        payload = LibAnnouncement(block_hash, height).encode()
        return self._fan_out(_LIB_ANNOUNCEMENT, block_hash, payload, None, 0)

    def _held_back(self, time_ns: int) -> str:
        if not self._context.sync.finished:
            return "the node is not synced"
        age_s = (self._context.environment.wall_ns() - time_ns) / 1_000_000_000
        return "the block is too old" if age_s > self._context.options.max_broadcast_age_s else ""

    def _fan_out(
        self, kind: BroadcastKind, hash_: bytes, payload: bytes, known: KnownItems | None, mask: int
    ) -> BroadcastReport:
        """Queue one item for every ready peer outside ``mask``, and note those as knowing it."""
        peers, all_ready = self._context.pool.ready_peers()
        receipt = self._receipts.open(kind, hash_)
        if receipt is None and not all_ready & ~mask:  # nothing is encoded for nobody
            return BroadcastReport(0, len(peers))
        item: BroadcastItem | None = None
        skipped = queued_mask = 0
        dropped: Counter[DropReason] | None = None
        for peer in self._next_producer_first(peers) if kind is _BLOCK else peers:
            if mask & peer.bit:
                skipped += 1
                if receipt is not None:
                    receipt.known(peer)
                continue
            if item is None:
                request_id = self._context.environment.new_request_id()
                item = BroadcastItem(kind, hash_, payload, request_id, receipt)
            refused = peer.enqueue(item)
            if refused is None:
                queued_mask |= peer.bit
            else:
                dropped = dropped or Counter()
                dropped[refused] += 1
            if receipt is not None:
                receipt.enqueued(peer, refused)
        if queued_mask:
            self._context.queued_broadcasts += 1
            if known is not None:
                known.add(hash_, queued_mask, trio.current_time())
        return BroadcastReport(queued_mask.bit_count(), skipped, dropped, receipt=receipt)

    def _next_producer_first(self, peers: Sequence[LivePeer]) -> Sequence[LivePeer]:
        """Whoever builds on a block is to have it before all others (protocol §4)."""
        next_producer = self._context.next_producer()
        if next_producer is None:
            return peers
        return sorted(peers, key=lambda peer: peer.info.public_key != next_producer)

    # --- requesting ---

    async def request_block(self, block_hash: bytes, peer: Peer) -> Block | None:
        """A block from a peer; None when it does not have it or failed, which is dealt with."""
        try:
            block = await peer.request_block(block_hash)
        except NetworkError as exc:
            await self.handle_failure(peer, exc)
            return None
        if block is not None and block.hash != block_hash:
            self._context.punish(peer, "it answered with another block than it was asked for")
            return None
        if block is not None:
            self._note_known([block], peer)
        return block

    async def request_block_from_any(
        self, block_hash: bytes, peers: Iterable[Peer]
    ) -> tuple[Block, Peer] | None:
        """Ask peers in turn until one has the block; who gave it is told too."""
        for peer in peers:
            block = await self.request_block(block_hash, peer)
            if block is not None:
                return block, peer
        return None

    async def request_blocks(
        self, previous_hash: bytes, count: int, peer: Peer
    ) -> list[Block] | None:
        """Blocks that follow a block, linked one to the next, none when the peer's best chain does
        not go on behind it; None when the peer failed, which is dealt with.

        A peer whose blocks do not link has failed: it is punished.
        """
        try:
            blocks = await peer.request_blocks(previous_hash, count)
        except NetworkError as exc:
            await self.handle_failure(peer, exc)
            return None
        previous = previous_hash
        for block in blocks:
            if block.previous_hash != previous:
                self._context.punish(peer, "it sent blocks that do not link to one another")
                return None
            previous = block.hash
        self._note_known(blocks, peer)
        return blocks

    def _note_known(self, blocks: Iterable[Block], peer: Peer) -> None:
        """What a peer sent is known to it, so it need not be announced to it."""
        now = trio.current_time()
        for block in blocks:
            self._context.known.blocks.add(block.hash, peer.bit, now)

    async def handle_failure(self, peer: Peer, error: NetworkError) -> None:
        """What a failed request means for the peer: keep it, see whether it lives, let it go."""
        log.debug("a request to %s failed: %s", peer.info, error)
        if isinstance(error, PeerUnstableError):
            try:
                await peer.check_health(timeout_s=self._context.options.request_timeout_s)
            except FullBufferError:
                pass  # so many requests are unanswered that the watchdog asks it soon enough
            except NetworkError:
                peer.close(CloseReason.SILENT)
        elif isinstance(error, UnrecoverableError | NotConnectedError):
            peer.close(CloseReason.LOST)
        # RpcError, HandlerError and FullBufferError concern the request alone.
