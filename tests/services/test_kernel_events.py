"""The four events of the kernel, and what the network makes of each (protocol §4, "Events in")."""

import pytest

from aelf_p2p.core.announcements import Announcement, LibAnnouncement
from aelf_p2p.core.block import Block
from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind
from aelf_p2p.core.kernel_events import (
    BlockAccepted,
    BlockMined,
    KernelEvent,
    NewIrreversibleBlockFound,
    TransactionAccepted,
)
from aelf_p2p.core.sync_target import SyncState
from aelf_p2p.services.kernel_events import KernelEventHandler
from tests.services.support import EPOCH_NS, PRODUCER, Services, make_chain, make_transaction

NOT_SYNCED = [SyncState.NOT_STARTED, SyncState.SYNCING]


@pytest.mark.parametrize("state", SyncState)
async def test_an_accepted_transaction_is_broadcast(state: SyncState) -> None:
    services = Services(state=state)
    [peer] = services.add_peers(1)
    services.kernel_events.handle(TransactionAccepted(make_transaction()))
    assert peer.enqueued_kinds() == [BroadcastKind.TRANSACTION]
    assert peer.enqueued[0].payload == make_transaction().raw


async def test_a_mined_block_is_broadcast_whole() -> None:
    services = Services()
    [peer] = services.add_peers(1)
    [block] = make_chain(1)
    services.kernel_events.handle(BlockMined(block))
    assert peer.enqueued_kinds() == [BroadcastKind.BLOCK]
    assert Block.parse_untrusted(peer.enqueued[0].payload) == block


async def test_an_accepted_block_is_announced() -> None:
    services = Services()
    [peer] = services.add_peers(1)
    [block] = make_chain(1)
    services.kernel_events.handle(BlockAccepted(block))
    assert peer.enqueued_kinds() == [BroadcastKind.ANNOUNCEMENT]
    announced = Announcement.parse_untrusted(peer.enqueued[0].payload)
    assert announced == Announcement(block.hash, 1)


async def test_a_new_lib_is_announced() -> None:
    services = Services()
    [peer] = services.add_peers(1)
    services.kernel_events.handle(NewIrreversibleBlockFound(b"l" * 32, 4))
    assert peer.enqueued_kinds() == [BroadcastKind.LIB_ANNOUNCEMENT]
    announced = LibAnnouncement.parse_untrusted(peer.enqueued[0].payload)
    assert announced == LibAnnouncement(b"l" * 32, 4)


@pytest.mark.parametrize("state", NOT_SYNCED)
@pytest.mark.parametrize("event", [BlockMined, BlockAccepted, NewIrreversibleBlockFound])
async def test_nothing_of_blocks_is_said_while_not_synced(event: type, state: SyncState) -> None:
    services = Services(state=state)
    [peer] = services.add_peers(1)
    [block] = make_chain(1)
    what = event(block) if event is not NewIrreversibleBlockFound else event(b"l" * 32, 4)
    services.kernel_events.handle(what)
    assert peer.enqueued == []


@pytest.mark.parametrize("state", SyncState)
async def test_a_block_accepted_while_syncing_has_the_target_looked_at(state: SyncState) -> None:
    services = Services(state=state)
    looked: list[bool] = []
    handler = KernelEventHandler(services.context, services.network, lambda: looked.append(True))
    handler.handle(BlockAccepted(make_chain(1)[0]))
    handler.handle(BlockMined(make_chain(1)[0]))
    assert len(looked) == (state is SyncState.SYNCING)


async def test_an_old_block_is_not_announced() -> None:
    services = Services()
    [peer] = services.add_peers(1)
    [block] = make_chain(1, time_ns=EPOCH_NS - 601 * 10**9)
    services.kernel_events.handle(BlockMined(block))
    services.kernel_events.handle(BlockAccepted(block))
    assert peer.enqueued == []


async def test_mining_pushes_the_block_and_announces_only_where_the_push_failed() -> None:
    services = Services(confirmations=1)
    gets_it, full = services.add_peers(2)
    for number in range(50):  # its queue for blocks is full
        [other] = make_chain(1, time_ns=EPOCH_NS + number)
        full.enqueue(_item(other))
    await services.kernel.mine_block(PRODUCER)
    assert gets_it.enqueued_kinds() == [BroadcastKind.BLOCK]
    assert full.enqueued_kinds()[50:] == [BroadcastKind.ANNOUNCEMENT]
    await services.kernel.mine_block(PRODUCER)
    assert gets_it.enqueued_kinds()[1:] == [BroadcastKind.BLOCK, BroadcastKind.LIB_ANNOUNCEMENT]


async def test_subscribers_are_told_what_the_kernel_did() -> None:
    services = Services(state=SyncState.SYNCING)
    [block] = make_chain(1)
    happened: list[KernelEvent] = [
        TransactionAccepted(make_transaction()),
        BlockMined(block),
        BlockAccepted(block),
        NewIrreversibleBlockFound(b"l" * 32, 4),
    ]
    with services.context.events.subscribe() as events:
        for event in happened:
            services.kernel_events.handle(event)
        assert [await anext(events) for _ in happened] == happened


def _item(block: Block) -> BroadcastItem:
    return BroadcastItem(BroadcastKind.BLOCK, block.hash, block.encode(), "id")
