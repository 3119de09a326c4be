"""Whatever is cancelled, wherever it waits, leaves no task, no handler and no socket behind.

Over real sockets, so in real time: unlike ``aelf_p2p.testing.cancellation``, which counts the same
steps in each run, these sweep over the steps that there are, some at a time.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio

from aelf_p2p.contracts import IncomingCall, MessageStream
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import TransportError
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.purerpc import PureRpcTransport
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM

WAIT_S = 10.0
LIMITS = WireLimits(goodbye_timeout_s=0.2, drain_timeout_s=0.1)
TRIES = 40
"""Of as many steps as there are."""


@dataclass(eq=False)
class CancelAt(trio.abc.Instrument):
    """Counts the steps of all tasks while it has a scope, and cancels it before one of them."""

    cancel_at: int | None
    steps: int = 0
    scope: trio.CancelScope | None = field(default=None)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.scope is not None:
            self.steps += 1
            if self.steps == self.cancel_at:
                self.scope.cancel()


class Handler:
    """Echoes, and counts the handlers that run."""

    running = 0

    async def __call__(self, call: IncomingCall) -> None:
        self.running += 1
        try:
            call.stream.trust()
            while messages := await call.stream.receive_many():
                await call.stream.send_many(messages)
        finally:
            self.running -= 1


async def use(transport: PureRpcTransport, endpoint: Endpoint) -> None:
    """Dial, call, talk on a stream in both directions at once, and leave."""
    large = [bytes(30_000)] * 20

    async def send(stream: MessageStream) -> None:
        await stream.send_many(large)
        await stream.send_eof()

    async with transport.dial(endpoint, timeout_s=WAIT_S) as channel:
        assert await channel.call(PING, b"x", metadata={}, timeout_s=WAIT_S) == b"x"
        async with (
            channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
            trio.open_nursery() as nursery,
        ):
            stream.trust()
            nursery.start_soon(send, stream)
            received: list[bytes] = []
            while messages := await stream.receive_many():
                received += messages
        assert received == large
        with suppress(TransportError):  # a stream that is left while both sides send
            async with channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
                await stream.send_many(large)


async def wait_until(happened: Callable[[], bool], what: str) -> None:
    until = trio.current_time() + WAIT_S
    while True:
        if happened():
            return
        assert trio.current_time() < until, what
        await trio.sleep(0.01)


def sockets() -> int:
    links = (entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink())
    return sum(str(link).startswith("socket:") for link in links)


def open_sockets() -> int:
    with suppress(FileNotFoundError):  # the directory's own descriptor, which is gone again
        return sockets()
    return open_sockets()


async def client_is_cancelled(canceller: CancelAt, transport: PureRpcTransport) -> None:
    handler = Handler()
    async with trio.open_nursery() as nursery:
        endpoint = await nursery.start(transport.serve, "127.0.0.1", 0, handler)
        await trio.testing.wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        with trio.CancelScope() as scope:
            canceller.scope = scope
            await use(transport, endpoint)
        canceller.scope = None
        assert trio.lowlevel.current_statistics().tasks_living - tasks <= 16  # the server's
        await wait_until(lambda: not handler.running, "a handler outlives its caller")
        await wait_until(
            lambda: trio.lowlevel.current_statistics().tasks_living == tasks,
            "the server's connection outlives its caller",
        )
        await use(transport, endpoint)
        nursery.cancel_scope.cancel()


async def server_is_cancelled(canceller: CancelAt, transport: PureRpcTransport) -> None:
    handler = Handler()

    async def call_in_vain(endpoint: Endpoint) -> None:
        try:
            await use(transport, endpoint)
        except* TransportError:
            pass

    async def serve(*, task_status: trio.TaskStatus[Endpoint]) -> None:
        with trio.CancelScope() as scope:
            canceller.scope = scope
            await transport.serve("127.0.0.1", 0, handler, task_status=task_status)

    tasks = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as nursery:
        with suppress(RuntimeError):  # it was cancelled before it had begun
            endpoint = await nursery.start(serve)
            with trio.fail_after(WAIT_S):
                await call_in_vain(endpoint)
        if canceller.scope is not None:
            canceller.scope.cancel()
        canceller.scope = None
    assert handler.running == 0
    assert trio.lowlevel.current_statistics().tasks_living == tasks


Scenario = Callable[[CancelAt, PureRpcTransport], Awaitable[None]]


def run(scenario: Scenario, cancel_at: int | None, *, insecure: bool) -> int:
    """One run in its own ``trio.run``; returns the steps that it took."""
    canceller = CancelAt(cancel_at)
    before = open_sockets()

    async def main() -> None:
        with trio.fail_after(3 * WAIT_S):
            await scenario(canceller, PureRpcTransport(limits=LIMITS, insecure=insecure))

    trio.run(main, instruments=(canceller,))
    assert open_sockets() == before
    return canceller.steps


@pytest.mark.parametrize("insecure", [True, False], ids=["plain", "tls"])
@pytest.mark.parametrize("scenario", [client_is_cancelled, server_is_cancelled])
def test_a_cancellation_leaves_nothing_behind(scenario: Scenario, insecure: bool) -> None:
    run_once = partial(run, scenario, insecure=insecure)
    steps = run_once(None)
    assert steps > TRIES
    for cancel_at in range(1, steps, max(1, steps // TRIES)):
        try:
            run_once(cancel_at)
        except BaseException as exc:
            exc.add_note(f"cancelled at step {cancel_at} of {steps}")
            raise
