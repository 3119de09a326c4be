"""The pool: at most one open peer a key."""

from contextlib import nullcontext

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from aelf_p2p.core.admission import PoolCount
from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.peer_info import CloseReason, PeerStatus
from aelf_p2p.services.peer_pool import PeerPool
from aelf_p2p.testing.fakes import FakePeer


async def test_peers_by_key() -> None:
    pool, first, second = PeerPool(), FakePeer(1), FakePeer(2)
    pool.add(first)
    pool.add(second)
    assert len(pool) == 2
    assert list(pool) == [first, second]
    assert pool.get(first.info.public_key) is first
    assert pool.get(bytes(65)) is None


async def test_a_closed_peer_is_not_found() -> None:
    pool, peer = PeerPool(), FakePeer(1)
    pool.add(peer)
    peer.close(CloseReason.LOST)
    assert pool.get(peer.info.public_key) is None
    assert not pool.ready()


async def test_only_confirmed_peers_are_ready() -> None:
    pool, peer = PeerPool(), FakePeer(1, confirmed=False)
    pool.add(peer)
    assert not pool.ready()
    assert pool.get(peer.info.public_key) is peer
    peer.confirmed_by_peer()
    assert list(pool.ready()) == [peer]


async def test_an_open_peer_is_not_pushed_out() -> None:
    pool, peer = PeerPool(), FakePeer(1)
    pool.add(peer)
    with pytest.raises(MisuseError):
        pool.add(FakePeer(1))


async def test_a_closed_peer_makes_place_for_the_next_and_its_end_leaves_that_alone() -> None:
    pool, old, new = PeerPool(), FakePeer(1), FakePeer(1)
    pool.add(old)
    old.close(CloseReason.REPLACED)
    pool.add(new)
    pool.remove(old)
    assert pool.get(new.info.public_key) is new
    pool.remove(new)
    pool.remove(new)
    assert len(pool) == 0


async def test_the_pool_may_change_while_it_is_walked() -> None:
    pool = PeerPool()
    for number in range(1, 6):
        pool.add(FakePeer(number))
    for peer in pool:
        pool.remove(peer)
    assert len(pool) == 0


async def test_what_an_admission_counts() -> None:
    pool = PeerPool()
    newcomer = FakePeer(9, host="192.0.2.1")
    unconfirmed = FakePeer(1, host="192.0.2.1", confirmed=False)
    elsewhere = FakePeer(2, host="192.0.2.2")
    closed = FakePeer(3, host="192.0.2.1")
    for peer in (newcomer, unconfirmed, elsewhere, closed):
        pool.add(peer)
    closed.close(CloseReason.LOST)
    count = pool.count_beside(newcomer.info.public_key, "192.0.2.1")
    assert count == PoolCount(peers=2, on_host=1)  # neither its own entry nor the closed one


def test_ipv6_peers_of_one_network_are_on_one_host() -> None:
    pool = PeerPool()
    for number, host in enumerate(("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"), 1):
        pool.add(FakePeer(number, host=host))
    assert pool.count_beside(b"", "2001:db8::3").on_host == 2


async def test_waiting_for_a_ready_peer() -> None:
    pool, other, peer = PeerPool(), FakePeer(2), FakePeer(1, confirmed=False)
    found: list[object] = []

    async def wait() -> None:
        found.append(await pool.wait_ready(peer.info.public_key))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        pool.add(other)
        await wait_all_tasks_blocked()
        pool.add(peer)
        await wait_all_tasks_blocked()
        assert not found
        peer.confirmed_by_peer()
    assert found == [peer]


async def test_waiting_goes_on_when_a_peer_is_closed_instead() -> None:
    pool, old, new = PeerPool(), FakePeer(1, confirmed=False), FakePeer(1)
    pool.add(old)
    found: list[object] = []

    async def wait() -> None:
        found.append(await pool.wait_ready(old.info.public_key))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        old.close(CloseReason.UNCONFIRMED)
        await wait_all_tasks_blocked()
        pool.add(new)
    assert found == [new]


PEERS = st.integers(0, 5)
STEPS = st.tuples(st.sampled_from(["add", "confirm", "close", "remove", "look", "mask"]), PEERS)


@given(st.lists(STEPS, max_size=30))
@example([("add", 0), ("confirm", 0), ("look", 0), ("remove", 0)])
@example([("add", 0), ("confirm", 0), ("look", 0), ("add", 3)])
def test_who_is_ready_is_as_each_says(steps: list[tuple[str, int]]) -> None:
    """However they come, are confirmed, replaced, refused and go, and whenever it is looked at."""
    pool = PeerPool()
    # Of each key there are two, which take each other's place.
    peers = [FakePeer(1 + number % 3, confirmed=False) for number in range(6)]
    for step, number in [*steps, ("mask", 0), ("look", 0)]:
        peer = peers[number]
        if step == "add" and peer not in pool:
            held = pool.get(peer.info.public_key)
            with nullcontext() if held is None else pytest.raises(MisuseError):
                pool.add(peer)
        elif step == "confirm":
            peer.confirmed_by_peer()
        elif step == "close":
            peer.close(CloseReason.LOST)
        elif step == "remove":
            pool.remove(peer)
        ready = [each for each in pool if each.status is PeerStatus.READY]
        if step == "look":
            assert list(pool.ready()) == ready
        elif step == "mask":
            assert pool.ready_peers().mask == sum(each.bit for each in ready)
