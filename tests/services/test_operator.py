"""What an operator does with the network (protocol §4, §5 and §6)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import network_types_pb2 as types
import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.core.bans import Ban, BanReason
from aelf_p2p.core.broadcast import BroadcastKind
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import (
    ClosedByUsError,
    ConnectionLostError,
    HandshakeRefusedError,
    MalformedError,
    MisuseError,
    RefusalReason,
)
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.peer_info import CloseReason, PeerStatus
from aelf_p2p.node import Node
from aelf_p2p.services.operator import REMOVAL_BAN_S
from aelf_p2p.testing.conditions import ConditionedHub
from tests.services.foreign import PORT, ForeignNode, open_test_node
from tests.services.support import EPOCH_NS, identity, make_chain, make_transaction, stored

BOB = Endpoint("bob", PORT)
BOBS_KEY = identity(2).public_key
NOW_S = EPOCH_NS / 1e9
QUIET = NetworkOptions(worker_jitter=0)


@asynccontextmanager
async def alice_and_bob(
    hub: ConditionedHub | None = None, **of_bob: Any
) -> AsyncIterator[tuple[Node, Node]]:
    hub = hub or ConditionedHub(latency_s=0.02)
    async with (
        open_test_node(hub, "alice", 1, options=QUIET) as alice,
        open_test_node(hub, "bob", 2, **of_bob) as bob,
    ):
        for node in alice, bob:
            node.workers.discovery.pause()
        yield alice, bob


# --- adding ---------------------------------------------------------------------------------------


async def test_adding_by_text_or_endpoint(autojump_clock: MockClock) -> None:
    async with alice_and_bob() as (alice, _):
        peer = await alice.operator.add("bob")
        assert peer.info.endpoint == BOB
        assert await alice.operator.add(BOB) is peer
        assert await alice.operator.add_trusted("bob:6800") is peer
        for add in alice.operator.add, alice.operator.add_trusted:
            with pytest.raises(MalformedError, match="not a port"):
                await add("bob:x")
            with pytest.raises(ConnectionLostError, match="nobody listens on nobody:6800"):
                await add("nobody")


@pytest.mark.parametrize("subject", ["bob", BOBS_KEY], ids=["host", "key"])
async def test_adding_keeps_a_ban_and_adding_a_trusted_one_lifts_it(
    subject: str | bytes, autojump_clock: MockClock
) -> None:
    async with alice_and_bob() as (alice, _):
        alice.operator.ban(subject, for_s=1000)
        with pytest.raises(HandshakeRefusedError) as raised:
            await alice.operator.add("bob")
        assert raised.value.reason is RefusalReason.BANNED
        assert raised.value.code == types.CONNECTION_REFUSED
        assert len(alice.operator.bans()) == 1
        assert (await alice.operator.add_trusted("bob")).info.public_key == BOBS_KEY
        assert alice.operator.bans() == []


async def test_a_closed_node_adds_nobody(autojump_clock: MockClock) -> None:
    async with alice_and_bob() as (alice, _):
        pass
    with pytest.raises(ClosedByUsError):
        await alice.operator.add("bob")


# --- removing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", ["bob", BOB, BOBS_KEY], ids=["text", "endpoint", "key"])
async def test_whoever_is_removed_stays_out(
    subject: str | Endpoint | bytes, autojump_clock: MockClock
) -> None:
    async with alice_and_bob() as (alice, bob):
        peer = await alice.operator.add("bob")
        await bob._context.pool.wait_ready(alice.public_key)
        assert await alice.operator.remove(subject)
        assert peer.close_reason is CloseReason.REMOVED
        await trio.sleep(1)
        assert bob.peers() == []
        until = alice._context.environment.wall_s() - 1 + REMOVAL_BAN_S
        assert {ban.subject: ban.reason for ban in alice.operator.bans()} == {
            "bob": BanReason.OPERATOR,
            BOBS_KEY.hex(): BanReason.OPERATOR,
        }
        assert [ban.until for ban in alice.operator.bans()] == pytest.approx([until] * 2, abs=1)
        with pytest.raises(HandshakeRefusedError):
            await bob.operator.add("alice")
        await trio.sleep(7 * 24 * 3600)
        assert alice.peers() == []
        assert not await alice.operator.remove(subject)


async def test_a_removal_without_a_ban(autojump_clock: MockClock) -> None:
    async with alice_and_bob() as (alice, bob):
        await alice.operator.add("bob")
        assert await alice.operator.remove("bob", ban_s=0)
        assert alice.operator.bans() == []
        await bob.operator.add("alice")


@pytest.mark.parametrize("subject", ["bob", BOBS_KEY], ids=["text", "key"])
async def test_a_removal_ends_the_reconnection_of_a_lost_peer(
    subject: str | bytes, autojump_clock: MockClock
) -> None:
    hub = ConditionedHub(latency_s=0.02)
    async with alice_and_bob(hub) as (alice, _):
        await alice.operator.add("bob")
        hub.cut("alice", "bob")
        await trio.sleep(1)
        assert BOB in alice._context.lost_peers.table
        assert not await alice.operator.remove(subject, ban_s=0)
        assert BOB not in alice._context.lost_peers.table
        await trio.sleep(3600)
        assert alice.peers() == []


async def test_on_loopback_the_key_is_banned_and_not_every_neighbour(
    autojump_clock: MockClock,
) -> None:
    hub = ConditionedHub()
    async with (
        open_test_node(hub, "127.0.0.1", 1) as alice,
        open_test_node(hub, "127.0.0.2", 2),
        open_test_node(hub, "127.0.0.3", 3),
    ):
        await alice.operator.add("127.0.0.2")
        await alice.operator.remove("127.0.0.2")
        assert [ban.subject for ban in alice.operator.bans()] == [BOBS_KEY.hex()]
        await alice.operator.add("127.0.0.3")


async def test_a_removal_of_nonsense() -> None:
    async with alice_and_bob() as (alice, _):
        with pytest.raises(MalformedError):
            await alice.operator.remove("a:b:c:")
        assert not await alice.operator.remove(b"no key")


# --- listing --------------------------------------------------------------------------------------


async def test_the_list(autojump_clock: MockClock) -> None:
    chain = make_chain(12)
    async with alice_and_bob(store=await stored(chain, lib=3)) as (alice, bob):
        assert alice.operator.peers() == []
        peer = await alice.operator.add("bob")
        await peer.request_block(chain[2].hash)
        await peer.request_blocks(chain[2].hash, 5)
        alice.network.broadcast_transaction(make_transaction())
        await trio.sleep(1)
        [report] = alice.operator.peers()
        assert report.info is peer.info
        assert (report.status, report.best_height, report.lib_height) == (PeerStatus.READY, 12, 3)
        assert report.statistics == peer.statistics()
        assert report.statistics.acknowledged[BroadcastKind.TRANSACTION] == 1
        assert report.round_trips == ()
        [with_metrics] = alice.operator.peers(with_metrics=True)
        told = {each.asked_for: each for each in with_metrics.round_trips}  # the sync's among them
        one, some = told[chain[2].hash.hex()], told[f"5 after {chain[2].hash.hex()}"]
        assert (one.method, some.method) == ("GetBlock", "GetBlocks")
        assert one.seconds == pytest.approx(0.04)
        [seen_by_bob] = bob.operator.peers()
        assert seen_by_bob.info.inbound


async def test_one_that_is_not_confirmed_is_listed(autojump_clock: MockClock) -> None:
    hub = ConditionedHub()
    async with open_test_node(hub) as node, ForeignNode().connect(hub, confirm=False):
        [report] = node.operator.peers()
        assert report.status is PeerStatus.UNCONFIRMED


# --- bans -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject", ["bob", "BOB", BOB, BOBS_KEY, BOBS_KEY.hex(), BOBS_KEY.hex().upper()]
)
async def test_a_ban_ends_the_connection_and_keeps_it_out_until_it_is_lifted(
    subject: str | Endpoint | bytes, autojump_clock: MockClock
) -> None:
    async with alice_and_bob() as (alice, bob):
        peer = await alice.operator.add("bob")
        by_key = isinstance(subject, bytes) or (isinstance(subject, str) and len(subject) > 9)
        name = BOBS_KEY.hex() if by_key else "bob"
        began_s = alice._context.environment.wall_s()
        ban = alice.operator.ban(subject, for_s=50)
        assert ban == Ban(name, BanReason.OPERATOR, began_s + 50)
        await peer.wait_closed()
        assert peer.close_reason is CloseReason.BANNED
        await trio.sleep(1)
        assert bob.peers() == []  # it was told
        with pytest.raises(HandshakeRefusedError):
            await bob.operator.add("alice")
        assert alice.operator.lift(subject)
        assert not alice.operator.lift(subject)
        await bob.operator.add("alice")


async def test_a_ban_of_an_ipv6_address_is_its_networks(autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=0.02)
    async with (
        open_test_node(hub, "2001:db8:1::1", 1, options=QUIET) as alice,
        open_test_node(hub, "2001:db8::1", 2) as bob,
    ):
        peer = await alice.operator.add("[2001:db8::1]:6800")
        assert alice.operator.ban("2001:db8::2", for_s=50).subject == "2001:db8::/64"
        await peer.wait_closed()
        assert peer.close_reason is CloseReason.BANNED
        with pytest.raises(HandshakeRefusedError):
            await bob.operator.add("[2001:db8:1::1]:6800")
        assert alice.operator.lift("2001:db8::2")
        await bob.operator.add("[2001:db8:1::1]:6800")
        assert await alice.operator.remove(bob.public_key)
        assert {ban.subject for ban in alice.operator.bans()} == {"2001:db8::/64", BOBS_KEY.hex()}
        assert (await alice.operator.add_trusted("[2001:db8::1]:6800")).close_reason is None
        assert alice.operator.bans() == []


async def test_a_ban_expires_and_is_listed_until_then(autojump_clock: MockClock) -> None:
    async with alice_and_bob() as (alice, bob):
        began_s = alice._context.environment.wall_s()
        alice.operator.ban("192.0.2.7", for_s=100)
        alice.operator.ban("bob", for_s=50)
        alice.operator.ban("bob", for_s=20)  # a longer one stays
        assert [(ban.subject, ban.until) for ban in alice.operator.bans()] == [
            ("bob", began_s + 50),
            ("192.0.2.7", began_s + 100),
        ]
        await trio.sleep(51)
        assert [ban.subject for ban in alice.operator.bans()] == ["192.0.2.7"]
        await bob.operator.add("alice")


@pytest.mark.parametrize("subject", ["", "a b", "[::1]", "host:6800", "04" + "0" * 127])
async def test_who_cannot_be_banned(subject: str, autojump_clock: MockClock) -> None:
    async with alice_and_bob() as (alice, _):
        with pytest.raises(MisuseError):
            alice.operator.ban(subject, for_s=1)
        with pytest.raises(MisuseError):
            alice.operator.lift(subject)


@pytest.mark.parametrize("for_s", [0, -1, float("inf"), float("nan")])
async def test_no_time_at_all(for_s: float, autojump_clock: MockClock) -> None:
    async with alice_and_bob() as (alice, _):
        with pytest.raises(MisuseError, match="a ban for"):
            alice.operator.ban("bob", for_s=for_s)
