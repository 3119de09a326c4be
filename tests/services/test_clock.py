"""Watching the clock: who is told of a drift, and what keeps nobody from going on."""

import logging
import struct
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.contracts import DatagramReply
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import ConnectionLostError
from aelf_p2p.core.network_events import ClockDrift
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.services.clock import check_clock, watch_clock
from tests.services.support import Services, read_all

SERVER = Endpoint("clock.example", 123)
UNIX_IN_ERA_0_S = 2_208_988_800
HOUR_S = 3600


class FakeServer:
    """Answers at once, as a time server whose clock shows ``ahead_s`` more than ours."""

    def __init__(self, ahead_s: float = 0.0, *, round_trip_s: float = 0.0) -> None:
        self.ahead_s = ahead_s
        self.round_trip_s = round_trip_s
        self.requests: list[bytes] = []
        self.asked_at: list[float] = []
        self.first_byte = 0x24  # no leap, version 4, mode 4: a server
        self.stratum = 2
        self.originate: Callable[[bytes], bytes] = lambda request: request[40:]
        self.length = 48
        self.error: ConnectionLostError | None = None
        self.silent = False

    async def __call__(
        self, endpoint: Endpoint, request: bytes, *, wall_ns: Callable[[], int]
    ) -> DatagramReply:
        assert endpoint == SERVER
        self.requests.append(request)
        self.asked_at.append(trio.current_time())
        if self.silent:
            await trio.sleep_forever()
        if self.error is not None:
            raise self.error
        sent_ns = wall_ns()
        await trio.sleep(self.round_trip_s)
        there_s = sent_ns / 1e9 + self.round_trip_s / 2 + self.ahead_s + UNIX_IN_ERA_0_S
        stamp = struct.pack("!II", int(there_s), int(there_s % 1 * 2**32))
        reply = bytes([self.first_byte, self.stratum]) + bytes(22)
        reply += self.originate(request) + stamp + stamp
        return DatagramReply(reply[: self.length], sent_ns, wall_ns())


@pytest.mark.parametrize(
    ("ahead_s", "said", "is_wrong"),
    [
        (0.0, "0.000 s", False),
        (0.9, "0.900 s behind that of clock.example:123", False),
        (-0.9, "0.900 s ahead of that of clock.example:123", False),
        (1.1, "1.100 s behind", True),
        (-1.1, "1.100 s ahead of", True),
        (-86_400.0, "86400.000 s ahead of", True),
    ],
)
async def test_a_drift_over_a_second_is_a_warning_and_an_event(
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    ahead_s: float,
    said: str,
    is_wrong: bool,
) -> None:
    services = Services()
    with services.context.events.subscribe() as events, caplog.at_level(logging.INFO):
        server = FakeServer(ahead_s, round_trip_s=0.2)
        assert await check_clock(services.context, SERVER, server) == pytest.approx(
            ahead_s, abs=1e-5
        )
        told = await read_all(events)
    [record] = caplog.records
    assert said in record.getMessage()
    assert "(±0.100 s)" in record.getMessage()
    assert record.levelno == (logging.WARNING if is_wrong else logging.INFO)
    if is_wrong:
        [event] = told
        assert isinstance(event, ClockDrift)
        assert event.drift_s == pytest.approx(ahead_s, abs=1e-5)
    else:
        assert told == []


async def test_the_limit_is_an_option(autojump_clock: MockClock) -> None:
    services = Services(options=NetworkOptions(max_clock_drift_s=0.1))
    with services.context.events.subscribe() as events:
        await check_clock(services.context, SERVER, FakeServer(0.2))
        assert len(await read_all(events)) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"error": ConnectionLostError("nobody is there")},
        {"silent": True},
        {"stratum": 0},  # kiss-o'-death
        {"stratum": 16},
        {"first_byte": 0xE4},  # not synchronised
        {"first_byte": 0x23},  # a client
        {"originate": lambda request: bytes(8)},
        {"length": 47},
        {"length": 0},
    ],
    ids=str,
)
async def test_a_server_that_does_not_tell_is_no_failure(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, fault: dict[str, object]
) -> None:
    services = Services()
    server = FakeServer(5.0)
    for name, value in fault.items():
        setattr(server, name, value)
    began = trio.current_time()
    with services.context.events.subscribe() as events, caplog.at_level(logging.INFO):
        assert await check_clock(services.context, SERVER, server) is None
        took_s = trio.current_time() - began
        assert await read_all(events) == []
    [record] = [each for each in caplog.records if each.name.startswith("aelf_p2p")]
    assert record.levelno == logging.INFO
    assert took_s == pytest.approx(3.0 if "silent" in fault else 0.0)


async def test_each_request_has_a_nonce_of_its_own(autojump_clock: MockClock) -> None:
    services, server = Services(), FakeServer()
    for _ in range(3):
        await check_clock(services.context, SERVER, server)
    assert len({request[40:] for request in server.requests}) == 3
    assert {request[:40] for request in server.requests} == {b"\x23" + bytes(39)}


async def test_the_clock_is_checked_at_once_and_every_hour(autojump_clock: MockClock) -> None:
    services, server = Services(), FakeServer()
    began = trio.current_time()
    with trio.move_on_after(3 * HOUR_S + 1):
        await watch_clock(services.context, SERVER, server)
    hours = [(at - began) / HOUR_S for at in server.asked_at]
    assert hours == pytest.approx([0, 1, 2, 3])


async def test_a_server_that_was_silent_is_asked_again(autojump_clock: MockClock) -> None:
    services, server = Services(options=NetworkOptions(clock_check_period_s=10)), FakeServer(2.0)
    server.silent = True
    with services.context.events.subscribe() as events, trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_clock, services.context, SERVER, server)
            await trio.sleep(5)
            server.silent = False
            event = await anext(events)
            assert isinstance(event, ClockDrift)
            nursery.cancel_scope.cancel()
    assert len(server.asked_at) == 2
    assert server.asked_at[1] - server.asked_at[0] == pytest.approx(3 + 10)
