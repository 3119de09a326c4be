"""Floods of the tcp transport's frames, each with the budget that it overruns."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import pytest
import trio

from aelf_p2p.core.budgets import Rate
from aelf_p2p.core.errors import StatusCode
from aelf_p2p.core.options import MIB
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from tests.faults.marks import OF_CASE
from tests.transports.hostile.growth import growth_at_most
from tests.transports.hostile.raw_connection import for_ever
from tests.transports.hostile.target import HURRIED
from tests.transports.hostile.tcp.raw_tcp import open_target, request
from tests.transports.tcp.by_hand import (
    RESET,
    credit,
    data,
    end,
    goaway,
    greeting,
    opening,
    reset,
)

Flood = Callable[[], Iterator[bytes]]


def calls(make: Callable[[int], bytes]) -> Flood:
    """One call after another: ``make(1)``, ``make(2)``, …"""
    return lambda: for_ever(lambda at: make(at + 1))


def on_a_call(repeat: bytes) -> Flood:
    return lambda: chain([request(1, "sleep")], for_ever(lambda at: repeat))


def behind_a_call(repeat: bytes) -> Flood:
    return lambda: chain([request(1, "sleep") + reset(1)], for_ever(lambda at: repeat))


def unknown(call_id: int) -> bytes:
    return opening(call_id, b"/PeerService/Nothing")


TOO_MANY_REFUSED = "too many calls that had to be refused"
TOO_SMALL = "too many small frames"


class KnownFlood(NamedTuple):
    """A flood, the case that it is of (0 for none), and what its GOAWAY says."""

    case: int
    flood: Flood
    why: str


FLOODS = {
    "rapid reset (CVE-2023-44487)": KnownFlood(
        16,
        calls(lambda at: request(at, "sleep") + reset(at)),
        "too many resets",
    ),
    "rapid reset, each call complete": KnownFlood(
        16,
        calls(lambda at: request(at, "sleep") + end(at) + reset(at)),
        "too many resets",
    ),
    # of CVE-2025-8671: calls that the server is made to end, and their requests go on
    "unknown methods, their requests outstanding": KnownFlood(17, calls(unknown), TOO_MANY_REFUSED),
    "unknown methods, and bytes of them": KnownFlood(
        17,
        calls(lambda at: unknown(at) + data(at, bytes(100)) + end(at)),
        TOO_MANY_REFUSED,
    ),
    "more calls at once than allowed": KnownFlood(
        23, calls(lambda at: request(at, "sleep")), TOO_MANY_REFUSED
    ),
    "BYTES of a call that is over": KnownFlood(
        17,
        behind_a_call(data(1, b"123456789")),
        "too many frames of calls that are over",
    ),
    "empty BYTES": KnownFlood(20, on_a_call(data(1, b"")), "too many empty frames"),
    "empty BYTES of a call that is over": KnownFlood(
        20, behind_a_call(data(1, b"")), "too many empty frames"
    ),
    "BYTES of one byte": KnownFlood(20, on_a_call(data(1, b"x")), TOO_SMALL),
    "CREDIT": KnownFlood(0, on_a_call(credit(1, 1)), TOO_SMALL),
    "CREDIT of a call that is over": KnownFlood(0, behind_a_call(credit(1, 1)), TOO_SMALL),
    "END of a call that is over": KnownFlood(0, behind_a_call(end(1)), TOO_SMALL),
    "RESET of a call that is over": KnownFlood(0, behind_a_call(reset(1)), TOO_SMALL),
    "GOAWAY": KnownFlood(0, lambda: for_ever(lambda at: goaway(0, "")), TOO_SMALL),
}
FLOODED = replace(HURRIED, small_frames=Rate(2_000, 500), late_frames=Rate(500, 50))


@pytest.mark.fault(16, 17, 20, 23)
@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_ends_its_connection(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    case, flood, why = FLOODS[name]
    record_property(OF_CASE, case)
    async with open_target(FLOODED) as target, target.greeted_attacker() as peer:
        began = trio.current_time()
        ending = await peer.attack(flood())
        record_property("on tcp, dropped after", f"{(trio.current_time() - began) * 1000:.0f} ms")
        record_property("on tcp, a neighbour's p99", target.neighbour_p99)
        assert ending.goaway[1] == why
        await target.wait_no_handlers()
        assert target.handlers.most_running <= FLOODED.resets.burst
        assert await target.told_of_fault() == why


@pytest.mark.fault(16, 17)
@pytest.mark.parametrize("make", [lambda at: request(at, "sleep") + reset(at), unknown])
async def test_a_flood_leaves_no_memory_behind(make: Callable[[int], bytes]) -> None:
    """Measured on the second attack, since the first fills caches."""
    async with open_target() as target:

        async def attack() -> None:
            async with target.greeted_attacker() as peer:
                await peer.attack(calls(make)())
            await target.wait_no_handlers()

        await attack()
        with growth_at_most(4 * MIB):
            await attack()


async def test_a_stranger_makes_so_many_calls() -> None:
    """However well they end."""
    limits = replace(HURRIED, stranger_calls=Rate(30, 0.001))
    async with open_target(limits) as target, target.greeted_attacker() as peer:
        for call_id in range(1, 31):
            await peer.send(request(call_id), end(call_id))
            assert await peer.read_status(call_id) == (0, "")
        ending = await peer.attack([request(31)])
        assert ending.goaway == (31, "too many calls before a handshake")


@pytest.mark.fault(23)
async def test_a_call_more_than_allowed_is_refused_alone() -> None:
    allowed = 8  # to the neighbour too, which may have two or three at once
    limits = replace(HURRIED, max_calls=allowed)
    async with open_target(limits) as target, target.greeted_attacker() as peer:
        await peer.send(*(request(call_id, "sleep") for call_id in range(1, allowed + 1)))
        await peer.send(request(9), end(9))
        assert await peer.read_status(9) == (
            StatusCode.RESOURCE_EXHAUSTED.value,
            "over 8 calls at once",
        )
        await target.handlers.wait_until(lambda: target.handlers.running == allowed)
        await peer.send(reset(1))
        await target.handlers.wait_until(lambda: target.handlers.cancelled)
        await peer.send(request(10), end(10))
        assert await peer.read_status(10) == (0, "")
        assert not peer.has(RESET, 2)


async def test_who_does_not_read_our_answers_is_dropped() -> None:
    endless = Rate(1e9, 1e9)
    limits = replace(
        HURRIED, provoked_resets=endless, max_unsent_control_bytes=4096, stranger_timeout_s=60.0
    )
    async with open_target(limits) as target, target.attacker() as peer:
        # A small buffer, so that not megabytes of answers vanish into it.
        peer.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 64 * 1024)
        await peer.send(greeting(0, 0))
        with trio.fail_after(10):
            await peer.send_while_taken(calls(unknown)())
        assert await target.told_of_fault() == "it does not read what it is answered"


async def test_more_bytes_of_a_call_than_its_window_end_the_connection() -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        ending = await peer.attack([request(1, "sleep"), *[data(1, bytes(32_768))] * 3])
        assert ending.goaway == (1, "more bytes than the window of a call")
        await target.wait_no_handlers()


async def test_more_bytes_of_all_calls_than_a_stranger_may_leave_unread_end_the_connection() -> (
    None
):
    async with open_target() as target, target.greeted_attacker() as peer:
        flood = [request(at, "sleep") + data(at, bytes(20_000)) for at in range(1, 10)]
        ending = await peer.attack(flood)
        last_call_id, why = ending.goaway
        assert last_call_id == 4
        assert why.startswith("a stranger with ")
        await target.wait_no_handlers()


async def test_what_a_stranger_holds_of_incomplete_messages_is_bounded() -> None:
    """Its handlers read them, so that nothing is left unread."""
    part = 10_000
    incomplete = (60_000).to_bytes(5, "big") + bytes(part)
    async with open_target() as target, target.greeted_attacker() as peer:
        for call_id in range(1, 21):
            await peer.send(request(call_id, "echo", REQUEST_BY_STREAM), data(call_id, incomplete))
            await target.ask_neighbour()  # it is read meanwhile
        code, why = await peer.read_status(20)
        assert code == StatusCode.RESOURCE_EXHAUSTED.value
        assert why.startswith("no room for ")
        assert 10 <= target.handlers.running <= HURRIED.stranger_held_bytes // part
