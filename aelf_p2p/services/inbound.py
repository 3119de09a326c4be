"""What peers send: noted as known to them, told to subscribers, and acted on."""

import logging
from collections.abc import Sequence

import trio

from aelf_p2p.contracts import Peer, Taken
from aelf_p2p.core.announcements import Announcement, LibAnnouncement
from aelf_p2p.core.block import Block
from aelf_p2p.core.errors import InvalidItemError, InvalidReason
from aelf_p2p.core.invalid_transactions import InvalidTransactions
from aelf_p2p.core.network_events import (
    AnnouncementReceived,
    BlockReceived,
    TransactionsReceived,
)
from aelf_p2p.core.payloads import BroadcastContent
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.services.answers import Answers
from aelf_p2p.services.block_sync import BlockSync
from aelf_p2p.services.context import NetworkContext

log = logging.getLogger(__name__)

# Where the sender's chain is, and how much our pool holds, may differ from node to node.
_NOT_THE_SENDERS_FAULT = {InvalidReason.TOO_FAR_AHEAD, InvalidReason.POOL_FULL}


class Inbound:
    """The node's ``SessionHandler``. A repetition by the same peer has no effect."""

    def __init__(self, context: NetworkContext, sync: BlockSync, answers: Answers) -> None:
        self._context = context
        self._sync = sync
        self._invalid = InvalidTransactions(
            context.options.max_invalid_transactions, context.options.invalid_transactions_window_s
        )
        self.answer = answers.answer
        self.misbehaved = context.misbehaved

    def received(self, peer: Peer, content: BroadcastContent) -> None:
        """Take a broadcast of a peer. Never blocks."""
        match content:
            case Transaction():
                self.received_transactions(peer, (content,))
            case Announcement():
                self._announcement(peer, content)
            case Block():
                self._block(peer, content)
            case LibAnnouncement(block_hash, height):
                peer.chain.saw_lib(block_hash, height)

    def received_transactions(self, peer: Peer, transactions: Sequence[Transaction]) -> Taken:
        """The same of several. Stops when the peer is closed, by the kernel or for too many that
        are refused; and when half a queue of them is relayed, since the senders to other peers wait
        for their turn, and it may be that two of ours come before it."""
        context = self._context
        known, kernel = context.known.transactions, context.kernel
        now, queued_before = trio.current_time(), context.queued_broadcasts
        relayed_at_most = queued_before + max(context.options.max_queued_transactions // 2, 1)
        looked_at = 0
        taken: list[Transaction] = []
        try:
            for transaction in transactions:
                if peer.close_reason is not None or context.queued_broadcasts >= relayed_at_most:
                    break
                looked_at += 1
                if not known.add(transaction.id, peer.bit, now):
                    continue
                try:
                    kernel.submit_transaction(transaction)
                except InvalidItemError as exc:
                    log.debug("%s sent a transaction that is refused: %s", peer.info, exc)
                    self._refused(peer, transaction.id, exc.reason)
                else:
                    taken.append(transaction)
        finally:  # whatever the kernel does, subscribers hear of what it took
            if taken and context.events.is_heard:
                context.events.publish(TransactionsReceived(peer.info, tuple(taken)))
        return Taken(looked_at, relayed=context.queued_broadcasts > queued_before)

    def _refused(self, peer: Peer, transaction_id: bytes, reason: InvalidReason) -> None:
        if reason in _NOT_THE_SENDERS_FAULT:
            return
        sender = self._context.sender_of(peer)
        if self._invalid.mark(sender, transaction_id, trio.current_time()):
            log.info("%s: too many invalid transactions came from its host", peer.info)
            self._context.punish_for_transactions(peer)

    def _announcement(self, peer: Peer, announcement: Announcement) -> None:
        block_hash, height = announcement.block_hash, announcement.height
        known = self._context.known.announcements
        peer.chain.saw_block(block_hash, height)
        if known.add(block_hash, peer.bit, trio.current_time()):
            self._context.events.publish(AnnouncementReceived(peer.info, announcement))
            self._sync.announced(peer, block_hash, height)

    def _block(self, peer: Peer, block: Block) -> None:
        known = self._context.known.blocks
        peer.chain.saw_block(block.hash, block.height)
        if not known.add(block.hash, peer.bit, trio.current_time()):
            return
        if block.header.signer_pubkey != peer.info.public_key:
            return  # protocol §4: only its producer pushes a block; others announce it
        self._context.events.publish(BlockReceived(peer.info, block))
        self._sync.pushed(peer, block)
