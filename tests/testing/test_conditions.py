"""Links are slow, stalled, cut and parted as told, and never lose or repeat a message."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from aelf_p2p.contracts import CallHandler, IncomingCall, MessageStream, Transport
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import (
    ClosedByUsError,
    ConnectionLostError,
    DeadlineExceededError,
    MisuseError,
    TransportError,
)
from aelf_p2p.testing.cancellation import cancel_at_every_step
from aelf_p2p.testing.conditions import ConditionedHub, Latency
from aelf_p2p.testing.conformance import CASES, ConformanceCase, MemoryFixture, run_case
from aelf_p2p.testing.determinism import run_deterministic
from aelf_p2p.transports.memory import MemoryConnection
from aelf_p2p.transports.memory_pipe import MESSAGE_OVERHEAD_BYTES
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM

T = 1000.0


async def echo(call: IncomingCall) -> None:
    while batch := await call.stream.receive_many():
        await call.stream.send_many(batch)


@asynccontextmanager
async def serving(
    hub: ConditionedHub, *hosts: str, handler: CallHandler = echo
) -> AsyncIterator[list[Endpoint]]:
    async with trio.open_nursery() as nursery:
        yield [await nursery.start(hub.transport(host).serve, "", 6800, handler) for host in hosts]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(
    hub: ConditionedHub, handler: CallHandler = echo
) -> AsyncIterator[MemoryConnection]:
    async with (
        serving(hub, "bob", handler=handler) as [bob],
        hub.transport("alice").dial(bob, timeout_s=T) as channel,
    ):
        yield channel


@asynccontextmanager
async def streaming(
    hub: ConditionedHub, handler: CallHandler = echo
) -> AsyncIterator[tuple[MemoryConnection, MessageStream]]:
    async with (
        connected(hub, handler) as channel,
        channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
    ):
        yield channel, stream


async def duration_s(async_fn: Callable[[], Awaitable[object]]) -> float:
    began_at = trio.current_time()
    await async_fn()
    return trio.current_time() - began_at


async def ping(channel: MemoryConnection, timeout_s: float = T) -> None:
    assert await channel.call(PING, b"x", metadata={}, timeout_s=timeout_s) == b"x"


# --- a reliable stream under bad conditions is still one ------------------------------------------


class ConditionedFixture(MemoryFixture):
    """The conformance suite over a hub whose latencies are drawn between 0 and 10 ms."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Transport, Transport]]:
        hub = ConditionedHub(latency_s=lambda rng: rng.uniform(0, 0.01), rng=random.Random(1))
        yield hub.transport(self.server_host), hub.transport(self.client_host)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_slow_links_conform(case: ConformanceCase) -> None:
    run_case(ConditionedFixture(), case)


# --- latency --------------------------------------------------------------------------------------


async def test_without_conditions_nothing_takes_time(autojump_clock: MockClock) -> None:
    async with connected(ConditionedHub()) as channel:
        await ping(channel)
        assert trio.current_time() == 0


async def test_each_way_of_a_link_has_its_latency(autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=0.1)
    hub.set_latency("Alice", "bob", 0.5)  # a host is the same in any spelling
    arrivals: list[float] = []

    async def handle(call: IncomingCall) -> None:
        await call.stream.receive_many()
        arrivals.append(trio.current_time())
        await call.stream.send_many([b""])

    async with connected(hub, handle) as channel:
        assert trio.current_time() == pytest.approx(0.6)  # a dial goes there and back
        await channel.call(PING, b"x", metadata={}, timeout_s=T)
        assert arrivals == [pytest.approx(1.1)]
        assert trio.current_time() == pytest.approx(1.2)


async def test_messages_are_under_way_at_the_same_time(autojump_clock: MockClock) -> None:
    async with streaming(ConditionedHub(latency_s=1)) as (_, stream):
        for number in range(5):
            await stream.send_many([b"%d" % number])
            await trio.sleep(0.1)
        got: list[tuple[bytes, float]] = []
        while len(got) < 5:
            for message in await stream.receive_many():
                got.append((message, round(trio.current_time() - 2, 6)))
    # dialed at 2 s; there and back takes two more
    assert got == [(b"%d" % n, round(2 + 0.1 * n, 6)) for n in range(5)]


async def test_a_message_never_overtakes_another(autojump_clock: MockClock) -> None:
    hub = ConditionedHub()
    async with streaming(hub) as (_, stream):
        hub.set_latency("alice", "bob", 5)
        await stream.send_many([b"slow"])
        hub.set_latency("alice", "bob", 1)
        await stream.send_many([b"fast"])
        assert await stream.receive_many() == [b"slow", b"fast"]
        assert trio.current_time() == 5
        await stream.send_many([b"next"])
        assert await stream.receive_many() == [b"next"]
        assert trio.current_time() == 6


async def test_the_end_and_a_status_travel_behind_the_messages(autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=1)

    async def handle(call: IncomingCall) -> None:
        await call.stream.send_many([b"last"])

    async with streaming(hub, handle) as (_, stream):
        hub.set_latency("bob", "alice", 0)
        began_at = trio.current_time()
        assert await stream.receive_many() == [b"last"]
        assert await stream.receive_many() == []
        assert trio.current_time() - began_at == 0


async def test_latency_is_drawn_for_each_message_from_the_given_randomness(
    autojump_clock: MockClock,
) -> None:
    def draw(rng: random.Random) -> float:
        return rng.uniform(1, 2)

    hub = ConditionedHub(latency_s=draw, rng=random.Random(5))
    expected = random.Random(5)
    async with connected(hub) as channel:
        assert trio.current_time() == pytest.approx(expected.uniform(1, 2) + expected.uniform(1, 2))
        async with channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
            for _ in range(3):
                began_at = trio.current_time()
                await stream.send_many([b"x"])
                await stream.receive_many()
                took_s = expected.uniform(1, 2) + expected.uniform(1, 2)
                assert trio.current_time() - began_at == pytest.approx(took_s)


@pytest.mark.parametrize("latency_s", [-1, float("nan"), float("inf"), lambda rng: -0.1])
async def test_an_impossible_latency_is_misuse(
    autojump_clock: MockClock, latency_s: Latency
) -> None:
    with pytest.raises(MisuseError, match="latency"):
        ConditionedHub(latency_s=latency_s).draw_latency("a", "b")


async def test_what_is_under_way_fills_the_window(autojump_clock: MockClock) -> None:
    async def sink(call: IncomingCall) -> None:
        while await call.stream.receive_many():
            pass

    hub = ConditionedHub()
    message = bytes(1024 - MESSAGE_OVERHEAD_BYTES)
    async with streaming(hub, sink) as (_, stream):
        hub.set_latency("alice", "bob", 1)
        # 256 KiB of window: a quarter of 1 MiB leaves at once, the others a second apart
        assert await duration_s(lambda: stream.send_many([message] * 1024)) == 3


# --- stalls ---------------------------------------------------------------------------------------


async def test_a_stalled_host_reads_nothing_until_it_goes_on(autojump_clock: MockClock) -> None:
    hub = ConditionedHub()
    received: list[tuple[float, int]] = []

    async def handle(call: IncomingCall) -> None:
        while batch := await call.stream.receive_many():
            received.append((trio.current_time(), len(batch)))

    async def go_on() -> None:
        await trio.sleep(60)
        assert received == []
        hub.unstall("bob")

    async with trio.open_nursery() as nursery, streaming(hub, handle) as (_, stream):
        await trio.testing.wait_all_tasks_blocked()
        hub.stall("bob")
        assert hub.is_stalled("BOB")
        nursery.start_soon(go_on)
        await stream.send_many([b"x"] * 100)
        await stream.send_eof()
        assert trio.current_time() == 0
        assert await stream.receive_many() == []
    assert received == [(60, 100)]


async def test_senders_to_a_stalled_host_wait_for_room(autojump_clock: MockClock) -> None:
    hub = ConditionedHub()
    async with streaming(hub) as (_, stream):
        hub.stall("bob")
        with trio.move_on_after(10) as scope:
            await stream.send_many([bytes(1024)] * 1024)
        assert scope.cancelled_caught
        hub.unstall("bob")
        assert await duration_s(stream.receive_many) == 0


async def test_a_stalled_host_can_send_but_hears_no_answer(autojump_clock: MockClock) -> None:
    hub = ConditionedHub()
    async with connected(hub) as channel:
        hub.stall("alice")
        with pytest.raises(DeadlineExceededError):
            await ping(channel, timeout_s=5)
        assert channel.is_open
        hub.unstall("alice")
        await ping(channel)


@pytest.mark.parametrize("stalled", ["alice", "bob"])
async def test_a_dial_waits_while_either_side_is_stalled(
    autojump_clock: MockClock, stalled: str
) -> None:
    hub = ConditionedHub()
    hub.stall(stalled)
    async with serving(hub, "bob") as [bob]:
        with pytest.raises(DeadlineExceededError):
            async with hub.transport("alice").dial(bob, timeout_s=5):
                pytest.fail("reached a stalled host")
        async with trio.open_nursery() as nursery:

            async def go_on() -> None:
                await trio.sleep(2)
                hub.unstall(stalled)

            nursery.start_soon(go_on)
            async with hub.transport("alice").dial(bob, timeout_s=5) as channel:
                assert trio.current_time() == 7
                await ping(channel)


async def test_a_connection_of_a_stalled_host_can_be_cut(autojump_clock: MockClock) -> None:
    hub = ConditionedHub()
    async with streaming(hub) as (_, stream):
        hub.stall("alice")
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(ConnectionLostError):
                    await stream.receive_many()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            hub.cut("alice", "bob")


# --- cuts -----------------------------------------------------------------------------------------


async def test_a_cut_breaks_both_ends_and_loses_what_is_in_flight(
    autojump_clock: MockClock,
) -> None:
    hub = ConditionedHub(latency_s=1)
    seen_by_handler: list[object] = []
    began, ended = trio.Event(), trio.Event()

    async def handle(call: IncomingCall) -> None:
        await call.stream.send_many([b"never arrives"])
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                try:
                    seen_by_handler.append(await call.stream.receive_many())
                except TransportError as exc:
                    seen_by_handler.append(type(exc))
            ended.set()

    async with streaming(hub, handle) as (channel, stream):
        await stream.send_many([b"never arrives"])
        await began.wait()
        hub.cut("bob", "alice")
        assert not channel.is_open
        with pytest.raises(ConnectionLostError, match="was cut"):
            await stream.receive_many()
        with pytest.raises(ConnectionLostError, match="was cut"):
            await stream.send_many([b"x"])
        await ended.wait()
        with pytest.raises(ConnectionLostError, match="was cut"):
            await ping(channel)
    assert seen_by_handler == [ConnectionLostError]


async def test_a_cut_loses_the_reply_of_a_handler_that_has_ended(autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=1)

    async def handle(call: IncomingCall) -> None:
        await call.stream.send_many([b"reply"])

    async with streaming(hub, handle) as (_, stream):
        await trio.sleep(0.5)
        hub.cut("alice", "bob")
        with pytest.raises(ConnectionLostError):
            await stream.receive_many()


async def test_a_cut_is_between_two_hosts_and_is_over_at_once(autojump_clock: MockClock) -> None:
    hub = ConditionedHub()
    async with serving(hub, "bob", "carol") as [bob, carol]:
        alice = hub.transport("alice")
        async with (
            alice.dial(bob, timeout_s=T) as to_bob,
            alice.dial(carol, timeout_s=T) as to_carol,
        ):
            hub.cut("bob", "carol")
            hub.cut("alice", "nobody")
            await ping(to_bob)
            hub.cut("alice", "bob")
            assert not to_bob.is_open
            await ping(to_carol)
        async with alice.dial(bob, timeout_s=T) as to_bob:
            await ping(to_bob)


# --- partitions -----------------------------------------------------------------------------------


async def test_a_partition_cuts_across_groups_only(autojump_clock: MockClock) -> None:
    hub = ConditionedHub()
    async with serving(hub, "bob", "carol") as [bob, carol]:
        async with (
            hub.transport("alice").dial(bob, timeout_s=T) as alice_bob,
            hub.transport("alice").dial(carol, timeout_s=T) as alice_carol,
            hub.transport("dave").dial(carol, timeout_s=T) as dave_carol,
        ):
            hub.partition([["Alice", "bob"]])  # carol and dave are the rest, one group
            await ping(alice_bob)
            await ping(dave_carol)
            with pytest.raises(ConnectionLostError, match="partition"):
                await ping(alice_carol)
        assert hub.can_reach("carol", "erin")
        assert not hub.can_reach("bob", "erin")


async def test_a_dial_across_hangs_until_its_timeout_or_until_it_heals(
    autojump_clock: MockClock,
) -> None:
    hub = ConditionedHub(latency_s=1)
    hub.partition([["alice"], ["bob"]])
    async with serving(hub, "bob") as [bob]:
        alice = hub.transport("alice")
        with pytest.raises(DeadlineExceededError):
            async with alice.dial(bob, timeout_s=5):
                pytest.fail("crossed a partition")
        assert trio.current_time() == 5
        async with trio.open_nursery() as nursery:

            async def heal() -> None:
                await trio.sleep(10)
                hub.heal()

            nursery.start_soon(heal)
            async with alice.dial(bob, timeout_s=20) as channel:
                assert 15 <= trio.current_time() <= 17
                await ping(channel)


async def test_a_partition_stops_a_dial_that_is_on_its_way(autojump_clock: MockClock) -> None:
    hub = ConditionedHub(latency_s=1)
    async with serving(hub, "bob") as [bob], trio.open_nursery() as nursery:

        async def part() -> None:
            await trio.sleep(1.5)  # the way there is done, that back is not
            hub.partition([["alice"]])

        nursery.start_soon(part)
        with pytest.raises(DeadlineExceededError):
            async with hub.transport("alice").dial(bob, timeout_s=5):
                pytest.fail("crossed a partition")


async def test_another_partition_replaces_the_one_before(autojump_clock: MockClock) -> None:
    hub = ConditionedHub()
    hub.partition([["alice"], ["bob", "carol"]])
    async with serving(hub, "bob") as [bob], trio.open_nursery() as nursery:

        async def regroup() -> None:
            await trio.sleep(3)
            hub.partition([["alice", "bob"], ["carol"]])

        nursery.start_soon(regroup)
        async with hub.transport("alice").dial(bob, timeout_s=5):
            assert trio.current_time() == 3
        assert not hub.can_reach("bob", "carol")


async def test_a_host_in_two_groups_is_misuse_and_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    hub = ConditionedHub()
    with pytest.raises(MisuseError, match="bob is in two groups"):
        hub.partition([["alice", "bob"], ["BOB"]])
    assert hub.can_reach("alice", "carol")


# --- kills ----------------------------------------------------------------------------------------


async def test_a_killed_host_is_gone_at_once_and_can_come_back(autojump_clock: MockClock) -> None:
    hub = ConditionedHub()
    goodbye: list[str] = []

    async def handle(call: IncomingCall) -> None:
        try:
            await echo(call)
        finally:
            with trio.CancelScope(shield=True):
                try:
                    await call.stream.send_many([b"bye"])
                except ConnectionLostError as exc:
                    goodbye.append(str(exc))

    async with serving(hub, "carol") as [carol], trio.open_nursery() as old_life:
        bob = await old_life.start(hub.transport("bob").serve, "", 6800, handle)
        alice = hub.transport("alice")
        async with (
            alice.dial(bob, timeout_s=T) as to_bob,
            hub.transport("bob").dial(carol, timeout_s=T) as from_bob,
            alice.dial(carol, timeout_s=T) as to_carol,
            to_bob.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
        ):
            await stream.send_many([b"x"])
            await stream.receive_many()
            hub.kill("bob")
            old_life.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                with pytest.raises(ConnectionLostError, match="was killed"):
                    await stream.receive_many()
                assert not to_bob.is_open
                assert not from_bob.is_open
                await ping(to_carol)
                with pytest.raises(ConnectionLostError, match="nobody listens"):
                    async with alice.dial(bob, timeout_s=T):
                        pytest.fail("reached a host that was killed")
                # It can listen on the same port before its old life has quite ended.
                async with serving(hub, "bob") as [again]:
                    assert again == bob
                    async with alice.dial(bob, timeout_s=T) as channel:
                        await ping(channel)
    assert len(goodbye) == 1
    assert hub.listeners == {}
    assert hub.connections == {}


async def test_the_end_of_a_killed_listener_leaves_its_successor_alone(
    autojump_clock: MockClock,
) -> None:
    hub = ConditionedHub()
    async with trio.open_nursery() as new_life:
        async with serving(hub, "bob") as [bob]:
            hub.kill("bob")
            assert hub.listeners == {}
            await new_life.start(hub.transport("bob").serve, "", 6800, echo)
        async with hub.transport("alice").dial(bob, timeout_s=T) as channel:
            await ping(channel)
        new_life.cancel_scope.cancel()


async def test_leaving_is_still_ours_under_conditions(autojump_clock: MockClock) -> None:
    async with connected(ConditionedHub(latency_s=1)) as channel:
        pass
    with pytest.raises(ClosedByUsError):
        await ping(channel)


# --- replay, and nothing left behind --------------------------------------------------------------


def test_the_same_seed_gives_the_same_day_of_bad_network() -> None:
    async def day(seed: int) -> list[tuple[float, str, bytes]]:
        rng = random.Random(seed)
        hub = ConditionedHub(latency_s=lambda rng: rng.expovariate(10), rng=rng)
        hosts = ["a", "b", "c", "d"]
        trace: list[tuple[float, str, bytes]] = []

        async def handle(call: IncomingCall) -> None:
            while batch := await call.stream.receive_many():
                trace.extend((trio.current_time(), call.caller.host, m) for m in batch)

        async def talk(host: str, to: Endpoint) -> None:
            for number in range(5):
                try:
                    async with (
                        hub.transport(host).dial(to, timeout_s=3) as channel,
                        channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
                    ):
                        for _ in range(5):
                            await stream.send_many([b"%d" % number])
                            await trio.sleep(rng.uniform(0, 1))
                except TransportError:
                    trace.append((trio.current_time(), host, b"broken"))

        async with (
            serving(hub, *hosts, handler=handle) as endpoints,
            trio.open_nursery() as nursery,
        ):
            for host in hosts:
                for endpoint in endpoints:
                    nursery.start_soon(talk, host, endpoint)
            for _ in range(10):
                await trio.sleep(1)
                changes: list[Callable[[], None]] = [
                    lambda: hub.cut("a", "b"),
                    lambda: hub.partition([["a", "c"]]),
                    hub.heal,
                    lambda: hub.stall("d"),
                    lambda: hub.unstall("d"),
                ]
                rng.choice(changes)()
        return trace

    def replay(seed: int) -> list[tuple[float, str, bytes]]:
        return run_deterministic(day, seed, seed=seed)

    traces = [replay(seed) for seed in (1, 2, 1)]
    assert traces[0] == traces[2] != traces[1]
    assert any(message == b"broken" for _, _, message in traces[0])


def test_no_waiting_reader_or_dialer_is_left_behind() -> None:
    @asynccontextmanager
    async def new_hub() -> AsyncIterator[ConditionedHub]:
        yield ConditionedHub(latency_s=0.1)

    async def scenario(hub: ConditionedHub) -> None:
        async with connected(hub) as channel, trio.open_nursery() as nursery:
            nursery.start_soon(ping, channel)
            await ping(channel)
            hub.stall("bob")
            with trio.move_on_after(1):
                await ping(channel)
            hub.partition([["bob"]])
            with pytest.raises(DeadlineExceededError):
                async with hub.transport("alice").dial(channel.callee, timeout_s=1):
                    pytest.fail("crossed a partition")

    async def check(hub: ConditionedHub) -> None:
        assert (hub.listeners, hub.connections, hub.callers) == ({}, {}, set())
        assert not hub._readers
        assert not hub._dialers

    cancel_at_every_step(scenario, around=new_hub, check=check)
