"""The four events of the kernel, and what the network does at each (protocol §4, "Events in")."""

from collections.abc import Callable

from aelf_p2p.core.kernel_events import (
    BlockAccepted,
    BlockMined,
    KernelEvent,
    NewIrreversibleBlockFound,
    TransactionAccepted,
)
from aelf_p2p.core.sync_target import SyncState
from aelf_p2p.services.context import NetworkContext
from aelf_p2p.services.network import NetworkService


class KernelEventHandler:
    """Turns the kernel's events into broadcasts. Synchronous: broadcasting only queues."""

    def __init__(
        self, context: NetworkContext, network: NetworkService, recheck_target: Callable[[], None]
    ) -> None:
        self._context = context
        self._network = network
        self._recheck_target = recheck_target

    def handle(self, event: KernelEvent) -> None:
        """Tell the subscribers, and act; what the sync state forbids to send is held back."""
        self._context.events.publish(event)
        match event:
            case TransactionAccepted():
                self._network.broadcast_transaction(event.transaction)
            case BlockMined():
                self._network.broadcast_block(event.block)
            case BlockAccepted():
                if self._context.sync.state is SyncState.SYNCING:
                    self._recheck_target()
                else:
                    self._network.announce_block(event.block)
            case NewIrreversibleBlockFound():
                self._network.announce_lib(event.block_hash, event.height)
