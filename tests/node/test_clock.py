"""A node that was given a time server asks it, over a real socket; what it answers is only told."""

import logging
import struct
import time

import pytest
import trio

from aelf_p2p import ClockDrift, Identity, MemoryHub, NetworkOptions, Subscription, open_node

NODE = Identity.generate()
UNIX_IN_ERA_0_S = 2_208_988_800
WAIT_S = 5


async def serve_time(
    server: trio.socket.SocketType,
    ahead_s: float,
    *,
    stratum: int = 2,
    originate: bytes | None = None,
    length: int = 48,
) -> None:
    """Answer one request as a time server would whose clock is ``ahead_s`` ahead."""
    request, caller = await server.recvfrom(100)
    seconds, rest_ns = divmod(time.time_ns() + round(ahead_s * 1e9), 1_000_000_000)
    stamp = struct.pack("!II", seconds + UNIX_IN_ERA_0_S, rest_ns * 2**32 // 1_000_000_000)
    reply = b"\x24" + bytes([stratum]) + bytes(22) + (originate or request[40:]) + stamp + stamp
    await server.sendto(reply[:length], caller)


async def wait_drift(events: Subscription) -> float:
    """The next one that is told."""
    async for event in events:
        if isinstance(event, ClockDrift):
            return event.drift_s
    raise AssertionError("the node ended")


@pytest.mark.parametrize("ahead_s", [7.0, -7.0])
async def test_a_drift_is_told_to_subscribers(ahead_s: float) -> None:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as server, trio.fail_after(WAIT_S):
        await server.bind(("127.0.0.1", 0))
        async with open_node(
            identity=NODE,
            transport=MemoryHub().transport("here"),
            ntp_server=f"127.0.0.1:{server.getsockname()[1]}",
        ) as node:
            with node.subscribe() as events:
                await serve_time(server, ahead_s)
                drift_s = await wait_drift(events)
    assert drift_s == pytest.approx(ahead_s, abs=2)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"originate": b"forged!!"}, "another request"),
        ({"stratum": 0}, "refuses"),
        ({"length": 47}, "47 bytes"),
        (None, "did not answer"),
    ],
)
async def test_a_server_that_does_not_tell_is_asked_again(
    caplog: pytest.LogCaptureFixture, fault: dict[str, object] | None, said: str
) -> None:
    options = NetworkOptions(clock_check_timeout_s=0.1, clock_check_period_s=0.1)
    caplog.set_level(logging.INFO, "aelf_p2p.services.clock")
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as server, trio.fail_after(WAIT_S):
        await server.bind(("127.0.0.1", 0))
        async with open_node(
            identity=NODE,
            transport=MemoryHub().transport("here"),
            options=options,
            ntp_server=f"127.0.0.1:{server.getsockname()[1]}",
        ) as node:
            with node.subscribe() as events:
                if fault is None:
                    await server.recvfrom(100)
                else:
                    await serve_time(server, 7, **fault)  # type: ignore[arg-type]
                await serve_time(server, 7)
                await wait_drift(events)
    first = caplog.records[0]
    assert first.levelno == logging.INFO
    assert said in first.getMessage()


async def test_a_server_that_is_not_there_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    options = NetworkOptions(clock_check_period_s=0.05)
    caplog.set_level(logging.INFO, "aelf_p2p.services.clock")
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as server, trio.fail_after(WAIT_S):
        await server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        server.close()
        async with open_node(
            identity=NODE,
            transport=MemoryHub().transport("here"),
            options=options,
            ntp_server=f"127.0.0.1:{port}",
        ):
            with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as later:
                await later.bind(("127.0.0.1", port))
                await serve_time(later, 0)
