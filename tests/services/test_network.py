"""Broadcasts to all peers, requests to one, and what failures mean (protocol §4)."""

from collections.abc import Callable

import pytest
from trio.testing import MockClock

from aelf_p2p.core.announcements import Announcement, LibAnnouncement
from aelf_p2p.core.block import Block
from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind, DropReason
from aelf_p2p.core.errors import (
    FullBufferError,
    HandlerError,
    NetworkError,
    NotConnectedError,
    PeerUnstableError,
    RpcError,
    UnrecoverableError,
)
from aelf_p2p.core.network_events import AbnormalPeerFound
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason, PeerStatus
from aelf_p2p.core.sync_target import SyncState
from aelf_p2p.services import network as network_module
from aelf_p2p.services.network import BroadcastReport, NetworkService
from tests.services.support import (
    EPOCH_NS,
    SECOND_NS,
    Services,
    make_chain,
    make_transaction,
    read_all,
)

BROADCASTS: dict[BroadcastKind, Callable[[NetworkService], BroadcastReport]] = {
    BroadcastKind.BLOCK: lambda network: network.broadcast_block(make_chain(1)[0]),
    BroadcastKind.ANNOUNCEMENT: lambda network: network.announce_block(make_chain(1)[0]),
    BroadcastKind.LIB_ANNOUNCEMENT: lambda network: network.announce_lib(b"l" * 32, 1),
    BroadcastKind.TRANSACTION: lambda network: network.broadcast_transaction(make_transaction()),
}

every_kind = pytest.mark.parametrize("kind", BROADCASTS)
every_kind_but_lib = pytest.mark.parametrize(
    "kind", [kind for kind in BROADCASTS if kind is not BroadcastKind.LIB_ANNOUNCEMENT]
)

# --- broadcasting ---------------------------------------------------------------------------------


@every_kind
async def test_every_ready_peer_gets_it(kind: BroadcastKind) -> None:
    services = Services()
    peers = services.add_peers(3)
    [unconfirmed] = services.add_peers(1, confirmed=False)
    report = BROADCASTS[kind](services.network)
    assert report == BroadcastReport(queued=3)
    assert [peer.enqueued_kinds() for peer in peers] == [[kind]] * 3
    assert unconfirmed.enqueued == []


async def test_what_is_in_it() -> None:
    services = Services()
    [peer] = services.add_peers(1)
    block = make_chain(1, transactions=(make_transaction(),))[0]
    services.network.announce_lib(b"l" * 32, 7)
    services.network.broadcast_transaction(make_transaction())
    services.network.broadcast_block(block)
    [lib, transaction, pushed] = [item.payload for item in peer.enqueued]
    assert LibAnnouncement.parse_untrusted(lib) == LibAnnouncement(b"l" * 32, 7)
    assert transaction == make_transaction().raw
    assert Block.parse_untrusted(pushed) == block
    other = make_chain(2)[1]
    services.network.announce_block(other)
    announced = Announcement.parse_untrusted(peer.enqueued[-1].payload)
    assert announced == Announcement(other.hash, 2)


@pytest.mark.parametrize("state", [SyncState.NOT_STARTED, SyncState.SYNCING])
@every_kind
async def test_a_node_that_is_not_synced_sends_transactions_only(
    kind: BroadcastKind, state: SyncState
) -> None:
    services = Services(state=state)
    [peer] = services.add_peers(1)
    report = BROADCASTS[kind](services.network)
    if kind is BroadcastKind.TRANSACTION:
        assert report.queued == 1
    else:
        assert report.queued == 0
        assert report.held_back
        assert peer.enqueued == []
        services.context.sync.state = SyncState.FINISHED  # what was held back is not known either
        assert BROADCASTS[kind](services.network).queued == 1


@pytest.mark.parametrize("kind", [BroadcastKind.BLOCK, BroadcastKind.ANNOUNCEMENT])
@pytest.mark.parametrize(("age_s", "sent"), [(600, True), (600.5, False), (-60, True)])
async def test_a_block_older_than_ten_minutes_is_held_back(
    kind: BroadcastKind, age_s: float, sent: bool, autojump_clock: MockClock
) -> None:
    services = Services()
    [peer] = services.add_peers(1)
    # make_chain adds the height to the time, in nanoseconds
    [block] = make_chain(1, time_ns=services.context.environment.wall_ns() - 1)
    autojump_clock.jump(max(age_s, 0))
    if age_s < 0:
        [block] = make_chain(1, time_ns=EPOCH_NS + 60 * SECOND_NS)
    send = {
        BroadcastKind.BLOCK: services.network.broadcast_block,
        BroadcastKind.ANNOUNCEMENT: services.network.announce_block,
    }[kind]
    report = send(block)
    assert (report.queued, report.held_back == "") == ((1, True) if sent else (0, False))
    assert len(peer.enqueued) == sent


@every_kind_but_lib
async def test_nobody_gets_it_twice(kind: BroadcastKind) -> None:
    services = Services()
    services.add_peers(2)
    assert BROADCASTS[kind](services.network).queued == 2
    services.add_peers(1)
    assert BROADCASTS[kind](services.network) == BroadcastReport(queued=1, known=2)


@pytest.mark.parametrize("kind", [BroadcastKind.BLOCK, BroadcastKind.ANNOUNCEMENT])
async def test_a_peer_that_sent_a_block_has_it(kind: BroadcastKind) -> None:
    services = Services()
    peers = services.add_peers(3)
    services.inbound.received(peers[1], make_chain(1)[0])
    assert BROADCASTS[kind](services.network) == BroadcastReport(queued=2, known=1)
    assert peers[1].enqueued == []


@pytest.mark.parametrize("kind", [BroadcastKind.BLOCK, BroadcastKind.ANNOUNCEMENT])
async def test_a_peer_that_announced_a_block_has_it(kind: BroadcastKind) -> None:
    services = Services()
    peers = services.add_peers(2)
    services.inbound.received(peers[0], Announcement(make_chain(1)[0].hash, 1))
    assert BROADCASTS[kind](services.network) == BroadcastReport(queued=1, known=1)


async def test_a_block_that_was_pushed_is_not_announced_as_well() -> None:
    services = Services()
    [peer] = services.add_peers(1)
    BROADCASTS[BroadcastKind.BLOCK](services.network)
    assert BROADCASTS[BroadcastKind.ANNOUNCEMENT](services.network).known == 1
    assert peer.enqueued_kinds() == [BroadcastKind.BLOCK]


async def test_what_a_peer_asked_for_is_known_to_it(autojump_clock: MockClock) -> None:
    services = Services()
    [peer] = services.add_peers(1)
    [block] = make_chain(1)
    peer.serve([block])
    assert await services.network.request_block(block.hash, peer) == block
    assert services.network.announce_block(block).known == 1


@every_kind_but_lib
async def test_knowing_expires(kind: BroadcastKind, autojump_clock: MockClock) -> None:
    services = Services()
    services.add_peers(1)
    BROADCASTS[kind](services.network)
    autojump_clock.jump(10 if kind is BroadcastKind.TRANSACTION else 100)
    assert BROADCASTS[kind](services.network).queued == 1


@every_kind_but_lib
async def test_a_refusal_neither_stops_the_others_nor_marks_the_item_known(
    kind: BroadcastKind,
) -> None:
    services = Services()
    peers = services.add_peers(4)
    peers[0].refuses = DropReason.NOT_READY
    peers[2].refuses = DropReason.QUEUE_FULL
    report = BROADCASTS[kind](services.network)
    assert report.queued == 2
    assert report.dropped == {DropReason.NOT_READY: 1, DropReason.QUEUE_FULL: 1}
    peers[0].refuses = peers[2].refuses = None
    assert BROADCASTS[kind](services.network) == BroadcastReport(queued=2, known=2)
    assert [peer.enqueued_kinds() for peer in peers] == [[kind]] * 4


@pytest.mark.parametrize(
    ("kind", "room"), [(BroadcastKind.BLOCK, 50), (BroadcastKind.TRANSACTION, 100)]
)
async def test_full_queues_are_told(kind: BroadcastKind, room: int) -> None:
    services = Services()
    services.add_peers(1)
    reports = []
    for number in range(room + 2):
        if kind is BroadcastKind.TRANSACTION:
            reports.append(services.network.broadcast_transaction(make_transaction(number)))
        else:
            [block] = make_chain(1, time_ns=EPOCH_NS + number)
            reports.append(services.network.broadcast_block(block))
    assert [report.queued for report in reports] == [1] * room + [0, 0]
    assert reports[-1].dropped == {DropReason.QUEUE_FULL: 1}


async def test_a_newer_lib_announcement_takes_the_place_of_one_that_waits() -> None:
    services = Services()
    [peer] = services.add_peers(1)
    for height in range(1, 4):
        assert services.network.announce_lib(bytes([height]) * 32, height).queued == 1
    assert peer.statistics().queued_announcements == 1
    superseded = peer.statistics().dropped[BroadcastKind.LIB_ANNOUNCEMENT, DropReason.SUPERSEDED]
    assert superseded == 2
    [waits] = peer.queues.take_batch(10, 10_000)
    assert LibAnnouncement.parse_untrusted(waits.payload).height == 3


@every_kind
async def test_an_item_is_made_once_however_many_receive_it(
    kind: BroadcastKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[BroadcastItem] = []

    def make(*args: object) -> BroadcastItem:
        made.append(BroadcastItem(*args))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(network_module, "BroadcastItem", make)
    services = Services()
    peers = services.add_peers(25)
    assert BROADCASTS[kind](services.network).queued == 25
    assert len(made) == 1
    assert all(peer.enqueued == made for peer in peers)
    if kind is not BroadcastKind.LIB_ANNOUNCEMENT:  # and not at all when nobody needs it
        assert BROADCASTS[kind](services.network).known == 25
        assert len(made) == 1


async def test_a_newcomer_does_not_inherit_what_another_peer_knew() -> None:
    bits = Services().context.known.bits
    first = bits.acquire(0.0)
    bits.release(first, 1.0)
    assert bits.acquire(100.9) != first  # a table may still hold it: 100 s since it was given back
    assert bits.acquire(101.0) == first


# --- requesting -----------------------------------------------------------------------------------

REQUESTS = ["block", "blocks"]


async def request(services: Services, what: str, peer: object) -> object:
    ask = getattr(services.network, f"request_{what}")
    return await (ask(b"h" * 32, peer) if what == "block" else ask(b"h" * 32, 10, peer))


@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize("error", [RpcError("x"), HandlerError("x"), FullBufferError("x")])
async def test_failures_of_the_request_alone_keep_the_peer(
    what: str, error: NetworkError, autojump_clock: MockClock
) -> None:
    services = Services()
    [peer] = services.add_peers(1)
    peer.request_error = error
    assert not await request(services, what, peer)
    assert peer.status is PeerStatus.READY
    assert [asked for asked, _ in peer.requests] == [what]


@pytest.mark.parametrize("what", REQUESTS)
async def test_an_unstable_peer_that_is_alive_stays(what: str, autojump_clock: MockClock) -> None:
    services = Services()
    [peer] = services.add_peers(1)
    peer.request_error = PeerUnstableError("x")
    assert not await request(services, what, peer)
    assert [asked for asked, _ in peer.requests] == [what, "health"]
    assert peer.status is PeerStatus.READY


@pytest.mark.parametrize("what", REQUESTS)
async def test_an_unstable_peer_that_stays_silent_goes(
    what: str, autojump_clock: MockClock
) -> None:
    services = Services()
    [peer] = services.add_peers(1)
    peer.request_error = PeerUnstableError("x")
    peer.health_error = PeerUnstableError("x")
    assert not await request(services, what, peer)
    assert peer.close_reason is CloseReason.SILENT


@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize("error", [UnrecoverableError("x"), NotConnectedError("x")])
async def test_a_connection_that_is_gone_is_let_go(
    what: str, error: NetworkError, autojump_clock: MockClock
) -> None:
    services = Services()
    [peer] = services.add_peers(1)
    peer.request_error = error
    assert not await request(services, what, peer)
    assert peer.close_reason is CloseReason.LOST
    assert not services.is_banned(peer)


@pytest.mark.parametrize("host", ["192.0.2.7", "127.0.0.1"])
@pytest.mark.parametrize("fault", ["another block", "an unlinked block"])
async def test_a_wrong_answer_is_punished(host: str, fault: str, autojump_clock: MockClock) -> None:
    services = Services()
    liar, neighbour = services.add_peers(2, host=host)
    chain = make_chain(4)
    with services.context.events.subscribe() as events:
        if fault == "another block":
            liar.blocks[chain[0].hash] = chain[1]
            assert await services.network.request_block(chain[0].hash, liar) is None
        else:
            liar.serve([chain[0], chain[1]])
            liar.successors[chain[1].hash] = chain[3]
            genesis = chain[0].previous_hash
            assert await services.network.request_blocks(genesis, 10, liar) is None
        [event] = await read_all(events)
    assert isinstance(event, AbnormalPeerFound)
    assert event.peer == liar.info
    assert liar.close_reason is CloseReason.ABNORMAL
    assert services.is_banned(liar)
    assert neighbour.close_reason is None
    # A host is banned too, but not the one that every local neighbour has.
    assert services.is_banned(neighbour) is (host != "127.0.0.1")
    autojump_clock.jump(300)
    assert not services.is_banned(liar)


async def test_blocks_after_another_than_asked_are_unlinked(autojump_clock: MockClock) -> None:
    services = Services()
    [liar] = services.add_peers(1)
    chain = make_chain(3)
    liar.successors[chain[0].hash] = chain[2]
    assert await services.network.request_blocks(chain[0].hash, 10, liar) is None
    assert services.is_banned(liar)


async def test_nothing_is_an_answer(autojump_clock: MockClock) -> None:
    services = Services()
    [peer] = services.add_peers(1)
    assert await services.network.request_block(b"h" * 32, peer) is None
    assert await services.network.request_blocks(b"h" * 32, 10, peer) == []
    assert peer.status is PeerStatus.READY


async def test_asking_in_turn_stops_at_the_first_that_has_it(autojump_clock: MockClock) -> None:
    services = Services()
    first, second, third, fourth = services.add_peers(4)
    chain = make_chain(2)
    first.request_error = RpcError("x")
    second.blocks[chain[0].hash] = chain[1]
    third.serve(chain)
    fourth.serve(chain)
    peers = services.context.pool.ready()
    found = await services.network.request_block_from_any(chain[0].hash, peers)
    assert found == (chain[0], third)
    assert fourth.requests == []
    assert second.close_reason is CloseReason.ABNORMAL
    assert await services.network.request_block_from_any(chain[0].hash, [first]) is None


async def test_a_peer_without_room_for_requests_is_not_banned(autojump_clock: MockClock) -> None:
    services = Services(options=NetworkOptions(abnormal_ban_s=1))
    [peer] = services.add_peers(1)
    peer.request_error = FullBufferError("x")
    await services.network.request_block(b"h" * 32, peer)
    assert not services.is_banned(peer)


async def test_the_next_producer_gets_a_block_first() -> None:
    services = Services()
    peers = services.add_peers(4)
    order: list[int] = []
    for number, peer in enumerate(peers):

        def enqueue(item: BroadcastItem, number: int = number) -> None:
            order.append(number)

        peer.enqueue = enqueue  # type: ignore[method-assign]
    services.context.next_producer = lambda: peers[2].info.public_key
    services.network.broadcast_block(make_chain(1)[0])
    assert order == [2, 0, 1, 3]
    order.clear()
    services.network.broadcast_transaction(make_transaction())
    assert order == [0, 1, 2, 3]
    order.clear()
    services.context.next_producer = lambda: b"none of the peers"
    services.network.broadcast_block(make_chain(2)[1])
    assert order == [0, 1, 2, 3]
