"""Who gets a place: bans, the limits of peers and hosts, handshakes under way."""

from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.admission import Admission, PoolCount
from aelf_p2p.core.bans import BanList, BanReason
from aelf_p2p.core.errors import RefusalReason
from aelf_p2p.core.options import NetworkOptions

KEYS = [bytes([number]) * 32 for number in range(8)]
HOST = "192.0.2.1"
OTHER_HOST = "192.0.2.2"
EMPTY = PoolCount(peers=0, on_host=0)
NOW = 1000.0


def admission(bans: BanList | None = None, *, max_guests: int = 0, **limits: Any) -> Admission:
    options = NetworkOptions(max_guests=max_guests, **limits)
    return Admission(options, bans or BanList())


def test_the_networks_limits() -> None:
    rules = admission()
    assert rules.refuse_inbound(HOST, KEYS[0], PoolCount(24, 0), NOW) is None
    assert rules.refuse_inbound(HOST, KEYS[0], PoolCount(25, 0), NOW) is RefusalReason.POOL_FULL
    assert rules.refuse_inbound(HOST, KEYS[0], PoolCount(1, 1), NOW) is RefusalReason.HOST_FULL


def test_each_host_shakes_hands_so_often_and_all_together_so_often() -> None:
    rules = admission(
        max_handshakes_at_once=5,
        handshakes_per_s=1.0,
        max_handshakes_at_once_per_host=3,
        handshakes_per_host_per_s=0.25,
    )

    def looks(host: str, now: float) -> int:
        return [rules.refuse_handshake(host, now) for _ in range(9)].count(None)

    assert [looks(HOST, NOW), looks(OTHER_HOST, NOW), looks("127.0.0.1", NOW)] == [3, 2, 0]
    assert rules.refuse_handshake(HOST, NOW) is RefusalReason.TOO_OFTEN
    assert [looks(HOST, NOW + 4), looks("127.0.0.1", NOW + 4)] == [1, 3]


def test_no_limit_of_peers() -> None:
    rules = admission(max_peers=0)
    assert rules.refuse_inbound(HOST, KEYS[0], PoolCount(10_000, 0), NOW) is None
    assert rules.refuse_inbound(HOST, KEYS[0], PoolCount(1, 1), NOW) is RefusalReason.HOST_FULL


def test_no_limit_of_peers_a_host() -> None:
    rules = admission(max_peers_per_host=0)
    assert rules.refuse_inbound(HOST, KEYS[0], PoolCount(24, 24), NOW) is None
    assert rules.refuse_inbound(HOST, KEYS[0], PoolCount(25, 0), NOW) is RefusalReason.POOL_FULL


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
def test_loopback_has_no_limit_a_host(host: str) -> None:
    rules = admission()
    assert rules.refuse_inbound(host, KEYS[0], PoolCount(24, 24), NOW) is None
    with rules.mark_handshaking(host, KEYS[1]):
        assert rules.refuse_inbound(host, KEYS[0], PoolCount(5, 5), NOW) is None
    assert rules.refuse_inbound(host, KEYS[0], PoolCount(25, 0), NOW) is RefusalReason.POOL_FULL


@pytest.mark.parametrize("host", ["localhost", "128.0.0.1", "10.0.0.1", "::2"])
def test_what_is_not_loopback_has_one(host: str) -> None:
    refused = admission().refuse_inbound(host, KEYS[0], PoolCount(1, 1), NOW)
    assert refused is RefusalReason.HOST_FULL


# --- handshakes under way -------------------------------------------------------------------------


def test_a_handshake_under_way_counts_for_its_host() -> None:
    rules = admission()
    with rules.mark_handshaking(HOST, KEYS[0]) as marked:
        assert marked
        assert rules.handshaking == 1
        assert rules.refuse_inbound(HOST, KEYS[0], EMPTY, NOW) is None  # itself does not count
        assert rules.refuse_inbound(HOST, KEYS[1], EMPTY, NOW) is RefusalReason.HOST_FULL
        assert rules.refuse_inbound(OTHER_HOST, KEYS[1], EMPTY, NOW) is None
        # the same key from another host is another handshake
        assert rules.refuse_inbound(OTHER_HOST, KEYS[0], EMPTY, NOW) is None
    assert rules.handshaking == 0
    assert rules.refuse_inbound(HOST, KEYS[1], EMPTY, NOW) is None


def test_ipv6_addresses_of_one_network_are_one_host() -> None:
    rules = admission()
    with rules.mark_handshaking("2001:db8::1", KEYS[0]):
        assert rules.refuse_inbound("2001:db8::1", KEYS[0], EMPTY, NOW) is None
        neighbour = rules.refuse_inbound("2001:db8::2", KEYS[1], EMPTY, NOW)
        assert neighbour is RefusalReason.HOST_FULL
        assert rules.refuse_inbound("2001:db8:0:1::2", KEYS[1], EMPTY, NOW) is None
        with rules.mark_handshaking("2001:db8::2", KEYS[0]) as elsewhere:
            assert not elsewhere


def test_handshakes_under_way_cannot_overfill_the_pool() -> None:
    rules = admission(max_peers=3)
    with rules.mark_handshaking(HOST, KEYS[0]), rules.mark_handshaking(OTHER_HOST, KEYS[1]):
        assert rules.refuse_inbound(HOST, KEYS[0], PoolCount(1, 0), NOW) is None
        full = rules.refuse_inbound("192.0.2.3", KEYS[2], PoolCount(1, 0), NOW)
        assert full is RefusalReason.POOL_FULL


def test_the_same_handshake_is_marked_once() -> None:
    rules = admission()
    with rules.mark_handshaking(HOST, KEYS[0]) as first:
        with rules.mark_handshaking(HOST, KEYS[0]) as second:
            assert (first, second) == (True, False)
        assert rules.handshaking == 1  # who was refused does not take the mark along
        with rules.mark_handshaking(OTHER_HOST, KEYS[0]) as elsewhere:
            assert elsewhere
            assert rules.handshaking == 2
    assert rules.handshaking == 0


def test_a_mark_goes_after_a_failure() -> None:
    rules = admission()
    with pytest.raises(RuntimeError, match="broke"), rules.mark_handshaking(HOST, KEYS[0]):
        raise RuntimeError("broke")
    assert rules.handshaking == 0
    with rules.mark_handshaking(HOST, KEYS[0]) as marked:
        assert marked
        with pytest.raises(RuntimeError), rules.mark_handshaking(HOST, KEYS[0]):
            raise RuntimeError("the refused one breaks")
        assert rules.handshaking == 1


# --- bans -----------------------------------------------------------------------------------------


def test_bans_keep_out_before_anything_else() -> None:
    bans = BanList()
    rules = admission(bans)
    bans.ban(HOST, BanReason.ABNORMAL_PEER, NOW + 300)
    bans.ban(KEYS[3].hex(), BanReason.OPERATOR, NOW + 600)
    full = PoolCount(25, 1)
    for host, key in ((HOST, KEYS[0]), (OTHER_HOST, KEYS[3]), (HOST, KEYS[3])):
        assert rules.refuse_inbound(host, key, full, NOW) is RefusalReason.BANNED
        assert rules.refuse_dial(host, key, NOW) is RefusalReason.BANNED
    assert rules.refuse_dial(OTHER_HOST, KEYS[0], NOW) is None
    assert rules.refuse_inbound(HOST, KEYS[0], full, NOW + 300) is RefusalReason.POOL_FULL
    assert rules.refuse_dial(HOST, KEYS[0], NOW + 300) is None


def test_a_ban_while_shaking_hands() -> None:
    bans = BanList()
    rules = admission(bans)
    with rules.mark_handshaking(HOST, KEYS[0]):
        assert rules.refuse_inbound(HOST, KEYS[0], EMPTY, NOW) is None
        bans.ban(HOST, BanReason.OPERATOR, NOW + 1)
        assert rules.refuse_inbound(HOST, KEYS[0], EMPTY, NOW) is RefusalReason.BANNED
    assert rules.handshaking == 0


def test_limits_do_not_bind_dials() -> None:
    rules = admission(max_peers=1)
    with rules.mark_handshaking(HOST, KEYS[1]), rules.mark_handshaking(HOST, KEYS[2]):
        assert rules.refuse_dial(HOST, KEYS[0], NOW) is None


# --- halves and guests ----------------------------------------------------------------------------


def test_half_of_the_places_are_for_those_who_dial_us() -> None:
    rules = admission()  # 25 places
    assert rules.refuse_inbound(HOST, KEYS[0], PoolCount(20, 0, 12), NOW) is None
    full = rules.refuse_inbound(HOST, KEYS[0], PoolCount(20, 0, 13), NOW)
    assert full is RefusalReason.POOL_FULL
    assert rules.refuse_inbound(HOST, KEYS[0], PoolCount(13, 0, 13), NOW) is full


def test_the_only_place_is_anyones() -> None:
    rules = admission(max_peers=1)
    assert rules.refuse_inbound(HOST, KEYS[0], EMPTY, NOW) is None
    assert rules.has_room(EMPTY, 0)
    assert not rules.has_room(PoolCount(1, 0, 1), 0)


def test_a_full_pool_takes_in_a_few_guests() -> None:
    rules = admission(max_guests=2)
    for inbound, is_guest in ((12, False), (13, True), (14, True)):
        count = PoolCount(inbound, 0, inbound)
        assert rules.refuse_inbound(HOST, KEYS[0], count, NOW) is None
        assert rules.is_guest(count) is is_guest
    third = PoolCount(15, 0, 15)
    assert rules.refuse_inbound(HOST, KEYS[0], third, NOW) is RefusalReason.POOL_FULL
    # those that we dialed leave as little room
    assert rules.refuse_inbound(HOST, KEYS[0], PoolCount(26, 0, 1), NOW) is None
    assert rules.is_guest(PoolCount(26, 0, 1))
    full = rules.refuse_inbound(HOST, KEYS[0], PoolCount(27, 0, 1), NOW)
    assert full is RefusalReason.POOL_FULL


def test_a_handshake_under_way_takes_a_guests_place() -> None:
    rules = admission(max_guests=1)
    count = PoolCount(13, 0, 13)
    with rules.mark_handshaking(OTHER_HOST, KEYS[1]):
        full = rules.refuse_inbound(HOST, KEYS[0], count, NOW)
        assert full is RefusalReason.POOL_FULL
    assert rules.refuse_inbound(HOST, KEYS[0], count, NOW) is None


def test_a_guest_is_nobody_else() -> None:
    """A ban and the limit of its host keep it out as any other."""
    bans = BanList()
    rules = admission(bans, max_guests=2)
    assert rules.refuse_inbound(HOST, KEYS[0], PoolCount(13, 1, 13), NOW) is RefusalReason.HOST_FULL
    bans.ban(HOST, BanReason.OPERATOR, NOW + 1)
    assert rules.refuse_inbound(HOST, KEYS[0], PoolCount(13, 0, 13), NOW) is RefusalReason.BANNED


def test_without_a_limit_nobody_is_a_guest() -> None:
    rules = admission(max_peers=0, max_guests=2)
    assert not rules.is_guest(PoolCount(10_000, 0, 10_000))
    assert rules.refuse_inbound(HOST, KEYS[0], PoolCount(10_000, 0, 10_000), NOW) is None


@pytest.mark.parametrize(
    ("peers", "inbound", "dialing", "room"),
    [
        (0, 0, 0, True),
        (7, 0, 0, True),
        (8, 0, 0, False),  # enough that we chose
        (4, 0, 3, True),
        (4, 0, 4, False),  # those under way count
        (20, 13, 0, True),
        (20, 12, 0, False),
        (24, 17, 0, True),  # four of the inbound ones are guests
    ],
)
def test_what_discovery_may_dial(peers: int, inbound: int, dialing: int, room: bool) -> None:
    assert admission().has_room(PoolCount(peers, 0, inbound), dialing) is room


def test_discovery_leaves_a_full_pool_alone() -> None:
    rules = admission(max_peers=4)
    assert rules.has_room(PoolCount(3, 0, 2), 0)
    assert not rules.has_room(PoolCount(4, 0, 2), 0)
    with rules.mark_handshaking(HOST, KEYS[0]):
        assert not rules.has_room(PoolCount(3, 0, 1), 0)
    assert admission(max_peers=0).has_room(PoolCount(1007, 0, 1000), 0)


# --- all of it ------------------------------------------------------------------------------------

hosts = st.sampled_from([HOST, OTHER_HOST, "127.0.0.1"])
keys = st.sampled_from(KEYS)


@given(
    limits=st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 2)),
    marks=st.sets(st.tuples(hosts, keys), max_size=6),
    counts=st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 5)),
    newcomer=st.tuples(hosts, keys),
    banned=st.sets(hosts | keys.map(bytes.hex), max_size=2),
    own_mark=st.booleans(),
)
def test_against_the_rules_in_words(
    limits: tuple[int, int, int],
    marks: set[tuple[str, bytes]],
    counts: tuple[int, int, int],
    newcomer: tuple[str, bytes],
    banned: set[str],
    own_mark: bool,
) -> None:
    max_peers, max_per_host, max_guests = limits
    outbound, on_host, inbound = counts
    host, key = newcomer
    bans = BanList()
    for subject in banned:
        bans.ban(subject, BanReason.OPERATOR, NOW + 1)
    rules = admission(
        bans, max_peers=max_peers, max_peers_per_host=max_per_host, max_guests=max_guests
    )
    all_marks = marks | ({newcomer} if own_mark else set())
    others = all_marks - {newcomer}
    count = PoolCount(outbound + inbound, on_host, inbound)
    inbound += len(others)
    on_host += len([1 for each, _ in others if each == host])
    expected: RefusalReason | None = None
    if host in banned or key.hex() in banned:
        expected = RefusalReason.BANNED
    elif max_peers != 0 and (
        outbound + inbound >= max_peers + max_guests or inbound >= -(-max_peers // 2) + max_guests
    ):
        expected = RefusalReason.POOL_FULL
    elif max_per_host != 0 and host != "127.0.0.1" and on_host >= max_per_host:
        expected = RefusalReason.HOST_FULL
    with ExitStack() as stack:
        for mark in sorted(all_marks):
            assert stack.enter_context(rules.mark_handshaking(*mark))
        assert rules.refuse_inbound(host, key, count, NOW) is expected
    assert rules.handshaking == 0
