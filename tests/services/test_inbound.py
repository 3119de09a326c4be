"""What peers send is told once a peer, and acted on (protocol §4 and §6)."""

from collections.abc import Iterable

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.chain.transaction_pool import TransactionPool
from aelf_p2p.core.announcements import Announcement, LibAnnouncement
from aelf_p2p.core.bans import BanReason
from aelf_p2p.core.network_events import (
    AnnouncementReceived,
    BlockReceived,
    TransactionsReceived,
)
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.payloads import BroadcastContent
from aelf_p2p.core.peer_info import CloseReason
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.services.events import Event
from aelf_p2p.testing.fakes import FakePeer
from tests.services.support import (
    Services,
    identity,
    make_chain,
    make_transaction,
    read_all,
    stored,
)


class Producer(FakePeer):
    """A fake peer under the key of a real identity, so that it can sign what it pushes."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        object.__setattr__(self.info, "public_key", identity(number).public_key)


async def events_of(
    services: Services, *received: tuple[FakePeer, BroadcastContent]
) -> list[Event]:
    with services.context.events.subscribe() as events:
        for peer, content in received:
            services.inbound.received(peer, content)
        return await read_all(events)


# --- repetitions ----------------------------------------------------------------------------------


async def test_a_repeated_transaction_is_told_once(autojump_clock: MockClock) -> None:
    services, peer = Services(), FakePeer(1)
    transaction = make_transaction()
    events = await events_of(services, (peer, transaction), (peer, transaction))
    assert events == [TransactionsReceived(peer.info, (transaction,))]


async def test_a_repeated_announcement_is_told_once(autojump_clock: MockClock) -> None:
    services, peer = Services(), FakePeer(1)
    announcement = Announcement(b"h" * 32, 5)
    events = await events_of(services, (peer, announcement), (peer, announcement))
    assert events == [AnnouncementReceived(peer.info, announcement)]


async def test_a_repeated_block_is_told_once(autojump_clock: MockClock) -> None:
    services, peer = Services(), Producer(50)
    [block] = make_chain(1, producer=identity(50))
    events = await events_of(services, (peer, block), (peer, block))
    assert events == [BlockReceived(peer.info, block)]


async def test_each_peer_counts_for_itself(autojump_clock: MockClock) -> None:
    services, first, second = Services(), FakePeer(1), FakePeer(2)
    announcement = Announcement(b"h" * 32, 5)
    events = await events_of(services, (first, announcement), (second, announcement))
    assert events == [
        AnnouncementReceived(first.info, announcement),
        AnnouncementReceived(second.info, announcement),
    ]


@pytest.mark.parametrize("first", ["announcement", "block"])
async def test_a_block_pushed_after_it_was_announced_is_not_lost(
    first: str, autojump_clock: MockClock
) -> None:
    services, peer = Services(), Producer(50)
    [block] = make_chain(1, producer=identity(50))
    received: list[tuple[FakePeer, BroadcastContent]] = [
        (peer, Announcement(block.hash, 1)),
        (peer, block),
    ]
    if first == "block":
        received.reverse()
    events = await events_of(services, *received)
    assert {type(event) for event in events} == {AnnouncementReceived, BlockReceived}
    assert len(events) == 2


async def test_a_thousand_repetitions_and_a_full_table_let_new_ones_through(
    autojump_clock: MockClock,
) -> None:
    options = NetworkOptions(known_transactions=10, max_event_backlog=10_000)
    services, peer = Services(options=options), FakePeer(1)
    transactions = [make_transaction(number) for number in range(40)]
    events = await events_of(services, *((peer, each) for each in transactions))
    assert events == [TransactionsReceived(peer.info, (each,)) for each in transactions]


# --- transactions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("ahead", "taken"), [(0, True), (512, True), (513, False), (2**62, False)])
async def test_a_transaction_too_far_ahead_is_ignored(
    ahead: int, taken: bool, autojump_clock: MockClock
) -> None:
    chain = make_chain(3)
    services, peer = Services(store=await stored(chain)), FakePeer(1)
    transaction = make_transaction(ref_block_number=3 + ahead)
    assert len(await events_of(services, (peer, transaction))) == taken
    assert len(services.kernel.pool) == taken


async def test_a_good_transaction_is_relayed_but_not_to_who_sent_it() -> None:
    services = Services()
    sender, other = services.add_peers(2)
    services.inbound.received(sender, make_transaction())
    assert [item.payload for item in other.enqueued] == [make_transaction().raw]
    assert sender.enqueued == []


async def test_a_wrong_transaction_is_neither_told_nor_relayed(autojump_clock: MockClock) -> None:
    services = Services()
    sender, other, third = services.add_peers(3)
    wrong = make_transaction().with_signature(make_transaction(1).signature)
    assert await events_of(services, (sender, wrong)) == []
    assert third.enqueued == []
    # and it does not keep out the right one with the same id, from somebody else
    services.inbound.received(other, make_transaction())
    assert [item.payload for item in third.enqueued] == [make_transaction().raw]


async def test_transactions_that_came_together_are_told_together(
    autojump_clock: MockClock,
) -> None:
    services = Services()
    [peer, other] = services.add_peers(2)
    transactions = [make_transaction(number) for number in range(3)]
    services.inbound.received(peer, transactions[1])
    with services.context.events.subscribe() as events:
        services.inbound.received_transactions(peer, [*transactions, transactions[0]])
        received = [await anext(events) for _ in range(3)][-1]
    assert received == TransactionsReceived(peer.info, (transactions[0], transactions[2]))
    raws = [transactions[number].raw for number in (1, 0, 2)]
    assert [item.payload for item in other.enqueued] == raws
    assert not peer.enqueued


# --- invalid transactions -------------------------------------------------------------------------


def invalid(number: int) -> Transaction:
    """One that nobody signed; another for each number."""
    return Transaction.build(
        from_address=bytes(32), to_address=bytes(32), method_name=f"number {number}"
    )


def receive_invalid(services: Services, peer: FakePeer, numbers: Iterable[int]) -> None:
    for number in numbers:
        services.inbound.received(peer, invalid(number))


async def test_fifty_invalid_transactions_are_borne_and_one_more_is_not(
    autojump_clock: MockClock,
) -> None:
    services = Services()
    services.context.pool.add(first := FakePeer(1, host="192.0.2.1"))
    services.context.pool.add(same_host := FakePeer(2, host="192.0.2.1", confirmed=False))
    services.context.pool.add(other := FakePeer(3, host="192.0.2.2"))
    receive_invalid(services, first, range(25))
    receive_invalid(services, same_host, range(50))  # half of them count already
    receive_invalid(services, other, range(50))
    await trio.sleep(9)
    assert [peer.close_reason for peer in (first, same_host, other)] == [None, None, None]
    receive_invalid(services, first, [50])
    reasons = [peer.close_reason for peer in (first, same_host, other)]
    assert reasons == [CloseReason.INVALID_TRANSACTIONS] * 2 + [None]
    now = services.context.environment.wall_s()
    [ban] = services.context.bans.active(now)
    assert (ban.subject, ban.reason) == ("192.0.2.1", BanReason.INVALID_TRANSACTIONS)
    assert ban.until == pytest.approx(now + 300)


async def test_of_what_came_with_the_last_straw_nothing_more_counts(
    autojump_clock: MockClock,
) -> None:
    services = Services()
    [peer] = services.add_peers(1)
    receive_invalid(services, peer, range(50))
    first, last = make_transaction(1), make_transaction(2)
    services.inbound.received_transactions(peer, [first, invalid(50), last])
    assert peer.close_reason is CloseReason.INVALID_TRANSACTIONS
    assert not services.kernel.submit_transaction(first)  # it has that one
    assert services.kernel.submit_transaction(last)


async def test_a_kernel_that_closes_the_peer_is_given_no_more_of_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = Services()
    [peer] = services.add_peers(1)
    submitted: list[Transaction] = []

    def submit(transaction: Transaction) -> bool:
        submitted.append(transaction)
        if len(submitted) == 2:
            peer.close(CloseReason.REMOVED)
        return True

    monkeypatch.setattr(services.kernel, "submit_transaction", submit)
    transactions = [make_transaction(number) for number in range(5)]
    with services.context.events.subscribe() as events:
        taken = services.inbound.received_transactions(peer, transactions)
        told = await anext(events)
    assert (submitted, taken.looked_at) == (transactions[:2], 2)
    assert told == TransactionsReceived(peer.info, tuple(transactions[:2]))


async def test_what_a_kernel_took_before_it_failed_is_told(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = Services()
    [peer] = services.add_peers(1)
    transactions = [make_transaction(number) for number in range(3)]

    def submit(transaction: Transaction) -> bool:
        if transaction == transactions[2]:
            raise RuntimeError("a kernel's own fault")
        return True

    monkeypatch.setattr(services.kernel, "submit_transaction", submit)
    with services.context.events.subscribe() as events:
        with pytest.raises(RuntimeError, match="own fault"):
            services.inbound.received_transactions(peer, transactions)
        told = await anext(events)
    assert told == TransactionsReceived(peer.info, tuple(transactions[:2]))


async def test_whether_any_of_them_is_relayed(autojump_clock: MockClock) -> None:
    services = Services()
    [peer, other] = services.add_peers(2)
    transactions = [make_transaction(number) for number in range(3)]
    assert services.inbound.received_transactions(peer, transactions) == (3, True)
    assert services.inbound.received_transactions(other, transactions) == (3, False)


async def test_no_more_are_relayed_at_once_than_half_a_queue_holds(
    autojump_clock: MockClock,
) -> None:
    services = Services(NetworkOptions(max_queued_transactions=10))
    [peer, other] = services.add_peers(2)
    transactions = [make_transaction(number) for number in range(12)]
    services.inbound.received_transactions(other, transactions[:3])  # these it knows
    for expected in [(8, True), (4, True), (0, False)]:
        taken = services.inbound.received_transactions(peer, transactions)
        assert taken == expected
        del transactions[: taken.looked_at]
    assert len(other.enqueued) == 9


async def test_ipv6_senders_of_one_network_are_one(autojump_clock: MockClock) -> None:
    services = Services()
    peers = [FakePeer(n, host=host) for n, host in ((1, "2001:db8::1"), (2, "2001:db8::2"))]
    for peer in peers:
        services.context.pool.add(peer)
    receive_invalid(services, peers[0], range(25))
    receive_invalid(services, peers[1], range(25, 51))
    assert [peer.close_reason for peer in peers] == [CloseReason.INVALID_TRANSACTIONS] * 2
    assert services.is_banned(FakePeer(3, host="2001:db8::3"))
    assert not services.is_banned(FakePeer(4, host="2001:db8:0:1::3"))


async def test_invalid_transactions_of_ten_seconds_ago_are_forgotten(
    autojump_clock: MockClock,
) -> None:
    services = Services()
    [peer] = services.add_peers(1)
    for number in range(10):
        receive_invalid(services, peer, range(number * 20, number * 20 + 20))
        await trio.sleep(5)
    assert peer.close_reason is None


async def test_on_loopback_the_neighbours_are_left_alone(autojump_clock: MockClock) -> None:
    services = Services()
    peers = [FakePeer(number, host="127.0.0.1") for number in (1, 2, 3)]
    for peer in peers:
        services.context.pool.add(peer)
    receive_invalid(services, peers[1], range(30))
    receive_invalid(services, peers[2], range(30, 60))
    receive_invalid(services, peers[0], range(51))
    reasons = [peer.close_reason for peer in peers]
    assert reasons == [CloseReason.INVALID_TRANSACTIONS, None, None]
    assert [services.is_banned(peer) for peer in peers] == [True, False, False]


async def test_what_is_not_the_senders_fault_does_not_count(autojump_clock: MockClock) -> None:
    services = Services()
    services.kernel.pool = TransactionPool(1, 512, max_bytes=10**6)
    [peer] = services.add_peers(1)
    assert services.kernel.submit_transaction(make_transaction())
    for number in range(1, 60):  # the pool is full
        services.inbound.received(peer, make_transaction(number))
    for number in range(60, 120):
        services.inbound.received(peer, make_transaction(number, ref_block_number=513))
    services.inbound.received(peer, make_transaction())  # seen already
    assert peer.close_reason is None
    assert services.context.bans.active(0.0) == []


# --- blocks and announcements ---------------------------------------------------------------------


async def test_a_block_whose_signer_is_not_its_sender_is_ignored(autojump_clock: MockClock) -> None:
    services, peer = Services(), Producer(50)
    [block] = make_chain(1, producer=identity(51))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(services.sync.run)
        assert await events_of(services, (peer, block)) == []
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert services.store.status.best_height == 0
    assert peer.requests == []


async def test_a_pushed_block_is_attached(autojump_clock: MockClock) -> None:
    services = Services()
    peer = Producer(50)
    [block] = make_chain(1, producer=identity(50))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(services.sync.run)
        services.inbound.received(peer, block)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert services.store.status.best_hash == block.hash


@pytest.mark.parametrize(("height", "asked"), [(4, False), (5, False), (6, True)])
async def test_an_announcement_at_or_below_the_lib_is_ignored(
    height: int, asked: bool, autojump_clock: MockClock
) -> None:
    services = Services(store=await stored(make_chain(8), lib=5))
    [peer] = services.add_peers(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(services.sync.run)
        services.inbound.received(peer, Announcement(b"f" * 32, height))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert peer.requests == ([("block", b"f" * 32)] if asked else [])


async def test_a_block_at_or_below_the_lib_is_ignored(autojump_clock: MockClock) -> None:
    services = Services(store=await stored(make_chain(8), lib=5))
    peer = Producer(50)
    fork = make_chain(5, producer=identity(50))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(services.sync.run)
        services.inbound.received(peer, fork[4])
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert not await services.store.has_block(fork[4].hash)
    assert not services.is_banned(peer)


async def test_what_a_peer_says_of_its_chain() -> None:
    services, peer = Services(), FakePeer(1)
    services.inbound.received(peer, LibAnnouncement(b"l" * 32, 90))
    assert peer.chain.lib_height == 0  # never above its best height
    services.inbound.received(peer, Announcement(b"h" * 32, 100))
    services.inbound.received(peer, LibAnnouncement(b"l" * 32, 90))
    assert (peer.chain.best_height, peer.chain.lib_height) == (100, 90)


@pytest.mark.parametrize("kind", ["announcement", "block", "lib"])
async def test_a_peer_counts_as_synced_from_its_first_word(kind: str) -> None:
    services, peer = Services(), FakePeer(1)
    content: dict[str, BroadcastContent] = {
        "announcement": Announcement(b"h" * 32, 1),
        "block": make_chain(1)[0],
        "lib": LibAnnouncement(b"l" * 32, 1),
    }
    synced = []
    for each in (make_transaction(), content[kind]):
        services.inbound.received(peer, each)
        synced.append(peer.chain.synced)
    assert synced == [False, True]
