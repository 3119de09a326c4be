"""What the cases are written with: a net of one server and one client, and checks."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from aelf_p2p.contracts import (
    CallHandler,
    IncomingCall,
    MessageStream,
    RpcChannel,
    Transport,
)
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.testing.conformance.fixture import TransportFixture
from aelf_p2p.wire.methods import REQUEST_BY_STREAM, Method

LIMIT_S = 30.0
"""What a case may take, in seconds of the fixture's clock; whatever waits longer hangs."""

PATIENT_S = 20.0
"""The deadline of calls and dials that are not about deadlines."""

E = TypeVar("E", bound=Exception)


class ConformanceError(AssertionError):
    """A transport does not show what a case asks for."""


@dataclass(frozen=True)
class Listening:
    """A server that runs: where, and how to stop it."""

    endpoint: Endpoint
    _scope: trio.CancelScope
    _stopped: trio.Event

    async def stop(self) -> None:
        """Cancel ``serve``, and wait until it has ended."""
        self._scope.cancel()
        await self._stopped.wait()


@dataclass(frozen=True)
class Net:
    """What a case is given: transports of a server and of a client, and their fixture."""

    fixture: TransportFixture
    server: Transport
    client: Transport

    @asynccontextmanager
    async def listening(
        self, handler: CallHandler, *, port: int = 0, trusting: bool = True
    ) -> AsyncIterator[Listening]:
        """Serve while the block runs; every caller is trusted from the beginning, or none is."""
        async with trio.open_nursery() as nursery:
            handle = _trusting(handler) if trusting else handler
            listening = await nursery.start(self._serve, handle, port)
            yield listening
            nursery.cancel_scope.cancel()

    async def _serve(
        self,
        handler: CallHandler,
        port: int,
        *,
        task_status: trio.TaskStatus[Listening],
    ) -> None:
        stopped = trio.Event()
        try:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    endpoint = await nursery.start(
                        self.server.serve, self.fixture.server_host, port, handler
                    )
                    task_status.started(Listening(endpoint, scope, stopped))
        finally:
            stopped.set()

    def dial(self, endpoint: Endpoint) -> AbstractAsyncContextManager[RpcChannel]:
        """Dial, patiently."""
        return self.client.dial(endpoint, timeout_s=PATIENT_S)

    @asynccontextmanager
    async def connected(self, handler: CallHandler) -> AsyncIterator[RpcChannel]:
        """A channel to a server of ``handler``, while the block runs."""
        async with self.listening(handler) as listening, self.dial(listening.endpoint) as channel:
            yield channel

    @asynccontextmanager
    async def streaming(self, handler: CallHandler) -> AsyncIterator[MessageStream]:
        """A stream to a server of ``handler``, the only one of its channel."""
        async with self.connected(handler) as channel, streaming(channel) as stream:
            yield stream

    async def overfill(self, stream: MessageStream) -> None:
        """Send more than a stream can hold; for sends that should fail, which may take a while."""
        chunk = bytes(16 * 1024)
        for _ in range(4 * self.fixture.max_in_flight_bytes // len(chunk)):
            await stream.send_many([chunk])


@dataclass(frozen=True)
class ConformanceCase:
    """One behaviour: a name, what it proves, and the function that tries it on a net."""

    name: str
    proves: str
    run: Callable[[Net], Awaitable[None]]

    def __str__(self) -> str:
        return self.name


def proves(what: str) -> Callable[[Callable[[Net], Awaitable[None]]], ConformanceCase]:
    """Make a case, named as the function is."""

    def as_case(run: Callable[[Net], Awaitable[None]]) -> ConformanceCase:
        return ConformanceCase(run.__name__, what, run)

    return as_case


def check(condition: bool, what: str) -> None:
    """An assertion that ``python -O`` keeps."""
    if not condition:
        raise ConformanceError(what)


@dataclass
class Caught(Generic[E]):
    """The error that a ``raises`` block ended with; ``value`` is only there after it."""

    errors: list[E] = field(default_factory=list)

    @property
    def value(self) -> E:
        return self.errors[0]


@contextmanager
def raises(kind: type[E], what: str) -> Iterator[Caught[E]]:
    """The block must raise an error of this kind; ``what`` says what it tries."""
    caught: Caught[E] = Caught()
    try:
        yield caught
    except kind as exc:
        caught.errors.append(exc)
    except Exception as exc:
        raise ConformanceError(f"{what} raised {exc!r} instead of {kind.__name__}") from exc
    else:
        raise ConformanceError(f"{what} raised nothing instead of {kind.__name__}")


@asynccontextmanager
async def streaming(
    channel: RpcChannel, method: Method = REQUEST_BY_STREAM, **metadata: str
) -> AsyncIterator[MessageStream]:
    """A stream to a server that is trusted."""
    async with channel.open_stream(method, metadata=metadata) as stream:
        stream.trust()
        yield stream


def _trusting(handler: CallHandler) -> CallHandler:
    async def handle(call: IncomingCall) -> None:
        call.stream.trust()
        await handler(call)

    return handle


async def read_all(stream: MessageStream) -> list[bytes]:
    """All messages to the end of the other side's half. No batch but the end may be empty."""
    messages: list[bytes] = []
    while batch := await stream.receive_many():
        messages += batch
    check(await stream.receive_many() == [], "the end of a stream was not there to read again")
    return messages


async def echo(call: IncomingCall) -> None:
    """A handler that sends back what it reads, as it comes."""
    while batch := await call.stream.receive_many():
        await call.stream.send_many(batch)


async def never_end(call: IncomingCall) -> None:
    """A handler that reads nothing and waits until it is cancelled."""
    await trio.sleep_forever()


def by_method(handlers: Mapping[str, CallHandler]) -> CallHandler:
    """A handler that gives each call to that of its method's name."""

    async def handle(call: IncomingCall) -> None:
        await handlers[call.method.name](call)

    return handle


@dataclass
class Witness:
    """A handler that waits for ever, and tells when it began and when it was cancelled."""

    began: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)
    cancelled: bool = False

    async def __call__(self, call: IncomingCall) -> None:
        self.began.set()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            self.cancelled = True
            raise
        finally:
            self.ended.set()


async def wait_stuck(progress: Callable[[], int], settle_s: float) -> int:
    """Wait until a number has not moved for ``settle_s``; returns it."""
    seen = progress()
    while True:
        await trio.sleep(settle_s)
        if progress() == seen:
            return seen
        seen = progress()
