"""A server of ours under attack, a neighbour that keeps calling it; and a hostile server."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from aelf_p2p.contracts import IncomingCall, RpcChannel, Transport
from aelf_p2p.core.budgets import Rate
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import CallFailedError, StatusCode, TransportError
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM, Method
from tests.transports.hostile.raw_connection import PATIENCE_S, RawConnection

HURRIED = WireLimits(
    goodbye_timeout_s=0.3, drain_timeout_s=0.1, stranger_calls=Rate(20_000, 20_000)
)
"""The usual limits, but nobody is waited for long at the end, and strangers may make many calls,
since that limit would come before most others."""
NEIGHBOUR_PATIENCE_S = 3.0
NEIGHBOURS = {"do": "keep trust"}
"""The metadata of the call by which the neighbour is no stranger."""

TargetT = TypeVar("TargetT", bound="AnyTarget")
PeerT = TypeVar("PeerT", bound=RawConnection[Any])

# --- the server under attack ----------------------------------------------------------------------


@dataclass
class Handlers:
    """What the server's handlers do, as the caller's ``do`` says, and what became of them.

    Those of the neighbour, which says nothing, are not counted.
    """

    running: int = 0
    cancelled: int = 0
    most_running: int = 0
    sent_bytes: int = 0
    received: list[bytes] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    release: trio.Event = field(default_factory=trio.Event)
    _changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    async def __call__(self, call: IncomingCall) -> None:
        counted = _is_attackers(call)
        self.running += counted
        self.most_running = max(self.most_running, self.running)
        self._changed.unpark_all()
        try:
            await self._act(call, str(call.metadata.get("do", "answer")))
        except trio.Cancelled:
            self.cancelled += counted
            raise
        except TransportError as exc:
            self.errors.append(exc)
            raise
        finally:
            self.running -= counted
            self._changed.unpark_all()

    async def wait_until(self, happened: Callable[[], object]) -> None:
        """Look after each beginning and end of a call, of which the neighbour makes many."""
        with trio.fail_after(PATIENCE_S):
            while not happened():
                await self._changed.park()

    async def _act(self, call: IncomingCall, do: str) -> None:
        stream = call.stream
        match do:
            case "trust":
                stream.trust()
                await self._answer(call)
            case "keep trust":  # NEIGHBOURS
                stream.trust()
                await stream.send_many([b"trusted"])
                await trio.sleep_forever()
            case "sleep":
                await trio.sleep_forever()
            case "wait":
                await self.release.wait()
                await self._answer(call)
            case "pour":
                while True:
                    await stream.send_many([bytes(16 * 1024)])
                    self.sent_bytes += 16 * 1024
            case "end and sleep":
                await stream.send_eof()
                await trio.sleep_forever()
            case "refuse":
                raise CallFailedError(StatusCode.PERMISSION_DENIED, "no")
            case "echo":
                while messages := await stream.receive_many():
                    await stream.send_many(messages)
            case "fail":
                raise ValueError("a secret")
            case _:
                await self._answer(call)

    async def _answer(self, call: IncomingCall) -> None:
        """As a unary handler: what comes in, and one message out."""
        while messages := await call.stream.receive_many():
            if _is_attackers(call):
                self.received += messages
        await call.stream.send_many([b"pong"])


def _is_attackers(call: IncomingCall) -> bool:
    return call.metadata.get("do", "trust") not in ("trust", NEIGHBOURS["do"])


@dataclass
class AnyTarget:
    """A server of whichever transport, and a neighbour of whoever attacks it."""

    endpoint: Endpoint
    handlers: Handlers
    neighbour: RpcChannel
    _serving: trio.CancelScope
    faults: list[tuple[str, str]]
    """What was told of callers that broke the rules: their host, and what they did."""
    _asking: trio.CancelScope = field(default_factory=trio.CancelScope)
    neighbour_calls_s: list[float] = field(default_factory=list)
    """How long each took."""

    async def connect(self) -> trio.SocketStream:
        """As whoever attacks."""
        return await trio.open_tcp_stream(self.endpoint.host, self.endpoint.port)

    async def ask_neighbour(self, method: Method = PING) -> None:
        """The neighbour makes a call, and gets its answer in time."""
        began = trio.current_time()
        with trio.fail_after(NEIGHBOUR_PATIENCE_S):
            timeout_s = 2 * NEIGHBOUR_PATIENCE_S
            reply = await self.neighbour.call(method, b"", metadata={}, timeout_s=timeout_s)
        assert reply == b"pong"
        self.neighbour_calls_s.append(trio.current_time() - began)

    async def told_of_fault(self) -> str:
        """By what an attacker has broken the rules: once, and one of them alone."""
        await self.wait_faults(1)
        [(host, told)] = self.faults
        assert host == "127.0.0.1"
        return told.rpartition("broke the protocol: ")[2]

    async def wait_faults(self, count: int) -> None:
        """They are told a moment after their connections end."""
        with trio.fail_after(PATIENCE_S):
            while len(self.faults) < count:
                await self.ask_neighbour()

    @property
    def neighbour_p99(self) -> str:
        """Of what the neighbour waited for its calls, for a report."""
        calls_s = sorted(self.neighbour_calls_s)
        return f"{calls_s[len(calls_s) * 99 // 100] * 1000:.0f} ms"

    def stop_serving(self) -> None:
        """The server ends, and the neighbour's calls with it."""
        self._asking.cancel()
        self._serving.cancel()

    async def wait_no_handlers(self) -> None:
        """Until only the neighbour could still be served."""
        await self.handlers.wait_until(lambda: not self.handlers.running)

    async def _keep_asking(self) -> None:
        with self._asking:
            while True:
                await self.ask_neighbour()
                await trio.sleep(0.005)


@asynccontextmanager
async def serve_target(
    target_type: type[TargetT], transport: Callable[[WireLimits], Transport], limits: WireLimits
) -> AsyncIterator[TargetT]:
    """Serve, and have a neighbour call all the time; at the end nothing may be left over."""
    handlers = Handlers()
    server = transport(limits)
    # A neighbour is not one of those that are timed or counted out.
    client = transport(replace(limits, stranger_timeout_s=60.0))
    descriptors = open_descriptors()
    with trio.fail_after(20):
        async with trio.open_nursery() as outer:
            serving = trio.CancelScope()

            faults: list[tuple[str, str]] = []

            async def serve(*, task_status: trio.TaskStatus[Endpoint]) -> None:
                with serving:
                    await server.serve(
                        "127.0.0.1",
                        0,
                        handlers,
                        on_fault=lambda host, why: faults.append((host, why)),
                        task_status=task_status,
                    )

            endpoint: Endpoint = await outer.start(serve)
            async with client.dial(endpoint, timeout_s=5) as neighbour:
                target = target_type(endpoint, handlers, neighbour, serving, faults)
                async with (
                    neighbour.open_stream(REQUEST_BY_STREAM, metadata=NEIGHBOURS) as trusted,
                    trio.open_nursery() as asking,
                ):
                    await trusted.receive_many()
                    asking.start_soon(target._keep_asking)
                    yield target
                    if not serving.cancel_called:
                        await target.ask_neighbour()
                    asking.cancel_scope.cancel()
            serving.cancel()
    assert handlers.running == 0
    assert open_descriptors() == descriptors


def open_descriptors() -> int:
    """How many file descriptors this process has; those of finished threads may lag behind."""
    return len(list(Path("/proc/self/fd").iterdir()))


# --- a server that does anything ------------------------------------------------------------------


@asynccontextmanager
async def serve_script(
    make_peer: Callable[[trio.SocketStream], PeerT],
    script: Callable[[PeerT], Awaitable[object]],
) -> AsyncIterator[Endpoint]:
    """Does what ``script`` says to each caller, and then reads until the caller goes."""

    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await script(make_peer(stream))
            while await stream.receive_some():
                pass

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            serving = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
            [listener] = await nursery.start(serving)
            port = listener.socket.getsockname()[1]
            yield Endpoint("127.0.0.1", port)
            nursery.cancel_scope.cancel()
