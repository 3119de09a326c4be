"""What became of a broadcast, peer by peer."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.core.broadcast import BroadcastKind, DropReason
from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.node import Node
from aelf_p2p.services.receipts import Delivery, DeliveryState, Receipt
from aelf_p2p.testing.conditions import ConditionedHub
from tests.services.foreign import open_test_node
from tests.services.support import Services, make_chain, make_transaction

TRANSACTION = BroadcastKind.TRANSACTION
KNOWN, QUEUED, SENT, ACKNOWLEDGED, DROPPED = DeliveryState
LOCAL = NetworkOptions(dial_private=True)


@asynccontextmanager
async def star(
    *versions: str, options: NetworkOptions = LOCAL
) -> AsyncIterator[tuple[Node, ConditionedHub]]:
    """A node, and those of these versions that it is connected to."""
    hub = ConditionedHub(latency_s=0.02)
    async with AsyncExitStack() as opened:
        centre = await opened.enter_async_context(open_test_node(hub, "centre", 1, options=options))
        for number, version in enumerate(versions, 2):
            host = f"leaf{number}"
            node = open_test_node(hub, host, number, options=LOCAL, node_version=version)
            await opened.enter_async_context(node)
            await centre.connect(host)
        yield centre, hub


def by_host(receipt: Receipt) -> dict[str, Delivery]:
    return {info.endpoint.host: each for info, each in receipt.deliveries().items()}


async def test_from_the_queue_to_the_answer(autojump_clock: MockClock) -> None:
    async with star("1.12.3.0", "1.12.3.0", "1.3.0.0") as (centre, _):
        with centre.network.record_receipts() as book:
            # By way of the kernel, which an embedder need not go round.
            transaction = make_transaction()
            centre.kernel.submit_transaction(transaction)
            receipt = book.get(TRANSACTION, transaction.id)
            assert receipt is not None
            assert receipt.count(QUEUED) == 3
            await trio.sleep(0.03)
            assert by_host(receipt) == {f"leaf{n}": Delivery(SENT) for n in (2, 3, 4)}
            began = trio.current_time()
            assert await receipt.wait_acknowledged(2, timeout_s=5)
            assert trio.current_time() - began == pytest.approx(0.01, abs=0.02)
            # One before 1.4 answers no broadcast.
            assert by_host(receipt) == {
                "leaf2": Delivery(ACKNOWLEDGED),
                "leaf3": Delivery(ACKNOWLEDGED),
                "leaf4": Delivery(SENT),
            }
            assert not await receipt.wait_acknowledged(3, timeout_s=5)
            assert trio.current_time() - began < 1
            # All have it now.
            again = centre.network.broadcast_transaction(transaction).receipt
            assert again is not None
            assert again.count(KNOWN) == 3
            assert book.get(TRANSACTION, transaction.id) is again
            assert receipt.count(ACKNOWLEDGED) == 2


async def test_a_peer_that_does_not_read(autojump_clock: MockClock) -> None:
    async with star("1.12.3.0", "1.12.3.0") as (centre, hub):
        with centre.network.record_receipts() as book:
            hub.stall("leaf2")
            centre.network.broadcast_transaction(make_transaction())
            [receipt] = book
            began = trio.current_time()
            assert not await receipt.wait_acknowledged(2, timeout_s=1)
            assert trio.current_time() - began == pytest.approx(1)
            assert by_host(receipt) == {"leaf2": Delivery(SENT), "leaf3": Delivery(ACKNOWLEDGED)}
            # It expires, and then nobody waits for it any more.
            assert not await receipt.wait_acknowledged(2, timeout_s=60)
            assert trio.current_time() - began == pytest.approx(3, abs=0.1)
            assert by_host(receipt)["leaf2"] == Delivery(DROPPED, DropReason.UNACKNOWLEDGED)


async def test_a_peer_that_goes(autojump_clock: MockClock) -> None:
    async with star("1.12.3.0", "1.3.0.0") as (centre, hub):
        with centre.network.record_receipts() as book:
            for number in range(300):
                centre.network.broadcast_transaction(make_transaction(number))
            receipts = list(book)
            assert len(receipts) == 300
            for host in ("leaf2", "leaf3"):
                hub.cut("centre", host)
            for receipt in receipts:
                assert not await receipt.wait_acknowledged(1, timeout_s=10)
            states = [by_host(receipt) for receipt in receipts]
            # The queues of 100 were full soon; nothing is left undecided.
            for host in ("leaf2", "leaf3"):
                reasons = [state[host].reason for state in states]
                assert reasons.count(DropReason.QUEUE_FULL) == 200
                assert reasons.count(DropReason.CLOSED) == 100


async def test_what_is_refused_is_in_it() -> None:
    services = Services()
    full, well = services.add_peers(2)
    full.refuses = DropReason.BYTES_FULL
    with services.network.record_receipts():
        block = make_chain(1)[0]
        report = services.network.announce_block(block)
        assert report.receipt is not None
        assert report.receipt.deliveries() == {
            full.info: Delivery(DROPPED, DropReason.BYTES_FULL),
            well.info: Delivery(QUEUED),
        }
        assert (report.receipt.kind, report.receipt.hash) == (
            BroadcastKind.ANNOUNCEMENT,
            block.hash,
        )


async def test_a_newer_lib_takes_the_place_of_the_older() -> None:
    services = Services()
    services.add_peers(1)
    with services.network.record_receipts() as book:
        for height in (1, 2):
            services.network.announce_lib(bytes([height]) * 32, height)
        older, newer = book
        assert [each.state for each in older.deliveries().values()] == [DROPPED]
        assert [each.reason for each in older.deliveries().values()] == [DropReason.SUPERSEDED]
        assert newer.count(QUEUED) == 1


async def test_nothing_is_recorded_unasked() -> None:
    services = Services()
    [peer] = services.add_peers(1)
    assert services.network.broadcast_transaction(make_transaction(1)).receipt is None
    with services.network.record_receipts() as outer:
        services.network.broadcast_transaction(make_transaction(2))
        with services.network.record_receipts() as inner:
            services.network.broadcast_transaction(make_transaction(3))
        services.network.broadcast_transaction(make_transaction(4))
    services.network.broadcast_transaction(make_transaction(5))
    assert [receipt.hash for receipt in inner] == [make_transaction(3).id]
    assert [receipt.hash for receipt in outer] == [make_transaction(n).id for n in (2, 3, 4)]
    assert [item.watcher is not None for item in peer.enqueued] == [False, True, True, True, False]


async def test_the_oldest_receipt_is_forgotten() -> None:
    services = Services()
    services.add_peers(1)
    with services.network.record_receipts(2) as book:
        for number in range(3):
            services.network.broadcast_transaction(make_transaction(number))
        assert len(book) == 2
        assert book.get(TRANSACTION, make_transaction(0).id) is None
        assert book.get(TRANSACTION, make_transaction(2).id) is not None
    with pytest.raises(MisuseError), services.network.record_receipts(0):
        pytest.fail("it recorded nothing")


async def test_waiting_for_nobody(autojump_clock: MockClock) -> None:
    services = Services()
    with services.network.record_receipts():
        receipt = services.network.broadcast_transaction(make_transaction()).receipt
        assert receipt is not None
        assert await receipt.wait_acknowledged(0, timeout_s=1)
        assert not await receipt.wait_acknowledged(1, timeout_s=1)
        assert trio.current_time() == 0
