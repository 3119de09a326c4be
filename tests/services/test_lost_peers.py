"""Which lost peers are dialed again, and which are not."""

from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.core.duplicates import DialTimes
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason, PeerInfo
from aelf_p2p.services.lost_peers import LostPeers
from tests.services.support import environment

SOMEONE, BOOT = Endpoint("someone", 6800), Endpoint("boot", 6800)
KEY = b"k" * 65
EXACT = NetworkOptions(worker_jitter=0)


def make(options: NetworkOptions = EXACT) -> LostPeers:
    return LostPeers(options, environment(), frozenset({BOOT}), lambda: None)


def peer_info(endpoint: Endpoint, **changes: Any) -> PeerInfo:
    """A peer that is connected from now on."""
    made = PeerInfo(
        public_key=KEY,
        endpoint=endpoint,
        inbound=False,
        node_version="1.12.3.0",
        protocol_version=1,
        connected_at_ns=environment().wall_ns(),
        dial_times=DialTimes(0, 0),
        uses_stream=True,
        revision=1,
    )
    return replace(made, **changes)


LOSSES = {CloseReason.LOST, CloseReason.DROPPED_BY_PEER, CloseReason.SILENT}
NOT_OURS = LOSSES | {CloseReason.UNCONFIRMED, CloseReason.DISCONNECTED_BY_PEER}


@pytest.mark.parametrize("reason", CloseReason)
@pytest.mark.parametrize("inbound", [False, True])
@pytest.mark.parametrize("endpoint", [SOMEONE, BOOT], ids=["someone", "boot node"])
async def test_the_rules(
    endpoint: Endpoint, inbound: bool, reason: CloseReason, autojump_clock: MockClock
) -> None:
    lost = make()
    info = peer_info(endpoint, inbound=inbound)
    lost.peer_connected(info)
    lost.peer_gone(info, reason)
    expected = reason in NOT_OURS if endpoint == BOOT else reason in LOSSES and not inbound
    assert (endpoint in lost.table) is expected
    assert len(lost.table) == expected


async def test_an_inbound_boot_node_is_known_by_the_key_that_a_dial_proved(
    autojump_clock: MockClock,
) -> None:
    lost = make()
    lost.note_boot_node(BOOT, KEY)
    lost.peer_gone(peer_info(Endpoint("192.0.2.1", 6800), inbound=True), CloseReason.LOST)
    assert [entry.endpoint for entry in lost.table.entries] == [BOOT]
    lost.table.end(BOOT)
    lost.note_boot_node(BOOT, b"new" * 20)
    lost.peer_gone(peer_info(Endpoint("192.0.2.1", 6800), inbound=True), CloseReason.LOST)
    assert not lost.table.entries


async def test_who_connects_is_not_dialed_any_more(autojump_clock: MockClock) -> None:
    lost = make()
    lost.peer_gone(peer_info(SOMEONE), CloseReason.LOST)
    lost.boot_node_failed(BOOT)
    lost.peer_connected(peer_info(Endpoint("192.0.2.1", 1), inbound=True))  # the same key
    assert [entry.endpoint for entry in lost.table.entries] == [BOOT]
    # that it is at this endpoint is what it says
    lost.peer_connected(peer_info(BOOT, public_key=b"x" * 65, inbound=True))
    assert BOOT in lost.table
    lost.peer_connected(peer_info(BOOT, public_key=b"x" * 65))
    assert not lost.table.entries


async def test_a_boot_node_that_leaves_at_once_is_asked_less_and_less(
    autojump_clock: MockClock,
) -> None:
    """As a full one does, which takes a peer in for a moment."""
    lost = make()
    waits = []
    for stays_s in (5, 5, 5, 60, 5):
        info = peer_info(BOOT)
        lost.peer_connected(info)
        await trio.sleep(stays_s)
        lost.peer_gone(info, CloseReason.DISCONNECTED_BY_PEER)
        lost_at = trio.current_time()
        await lost.wait_due()
        waits.append(trio.current_time() - lost_at)
    assert waits == [60, 120, 240, 60, 120]


@pytest.mark.parametrize("jump_s", [-3600, 3600])
async def test_a_clock_that_is_put_right_is_no_stay(jump_s: int, autojump_clock: MockClock) -> None:
    lost = make()
    waits = []
    for stays_s in (5, 5, 90, 5):
        info = peer_info(BOOT)  # as if the clock had been put right since
        info = replace(info, connected_at_ns=info.connected_at_ns - jump_s * 10**9)
        lost.peer_connected(info)
        await trio.sleep(stays_s)
        lost.peer_gone(info, CloseReason.DISCONNECTED_BY_PEER)
        lost_at = trio.current_time()
        await lost.wait_due()
        waits.append(trio.current_time() - lost_at)
    assert waits == [60, 120, 60, 120]


async def test_what_is_cancelled_is_not_dialed(autojump_clock: MockClock) -> None:
    lost = make()
    lost.peer_gone(peer_info(SOMEONE), CloseReason.LOST)
    lost.cancel(KEY)
    assert not lost.table.entries


async def test_waiting_for_what_is_due(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    lost, began = make(), trio.current_time()
    due_at: list[float] = []

    async def wait() -> None:
        await lost.wait_due()
        due_at.append(trio.current_time() - began)

    nursery.start_soon(wait)
    await trio.sleep(1000)  # nothing is due while nothing waits
    assert due_at == []
    lost.boot_node_failed(BOOT)
    await trio.sleep(30)
    lost.peer_gone(peer_info(SOMEONE), CloseReason.LOST)  # due later
    await trio.sleep(1000)
    assert due_at == [1060]
    assert [entry.endpoint for entry in lost.due()] == [BOOT, SOMEONE]
    for entry in lost.due():
        lost.failed(entry)
    assert lost.due() == []


async def test_the_options_decide(autojump_clock: MockClock) -> None:
    lost = make(
        NetworkOptions(
            worker_jitter=0,
            reconnection_period_s=1.0,
            reconnection_cap_s=5.0,
            reconnection_give_up_s=20.0,
            max_reconnections=1,
        )
    )
    began = trio.current_time()
    lost.peer_gone(peer_info(Endpoint("another", 1)), CloseReason.LOST)
    lost.peer_gone(peer_info(SOMEONE), CloseReason.LOST)
    assert len(lost.table) == 1
    times = []
    while lost.table.entries:
        await lost.wait_due()
        times.append(trio.current_time() - began)
        for entry in lost.due():
            lost.failed(entry)
    assert times == [1, 3, 7, 12, 17]
