"""Two ends of one connection in one process and in virtual time: no sockets, the real codec."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio
import trio.testing

from aelf_p2p.contracts import CallHandler, IncomingCall
from aelf_p2p.core.budgets import ByteBudget
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.transports.grpc.codec import GrpcCodec
from aelf_p2p.transports.net.call_table import Settings
from aelf_p2p.transports.net.channel import SocketChannel
from aelf_p2p.transports.net.codec import Codec
from aelf_p2p.transports.net.connection import Connection
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.net.server import OnCall, OnTrust, ServerConnection, Strangers

CALLER = Endpoint("10.0.0.7", 40_000)
SERVER = Endpoint("10.0.0.1", 6800)
HANG_S = 100_000.0
"""Virtual seconds after which a test counts as hanging."""


def make_settings(
    limits: WireLimits | None = None, options: NetworkOptions | None = None
) -> Settings:
    """Of a transport of its own."""
    limits = limits or WireLimits()
    held = ByteBudget(limits.all_held_bytes)
    return Settings(
        options=options or NetworkOptions(),
        limits=limits,
        held=held,
        held_for_strangers=ByteBudget(limits.all_strangers_bytes, held),
    )


class Wire(trio.abc.HalfCloseableStream):
    """One end of a pair of streams. It counts what is sent, and stalls on demand."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self.sent: list[bytes] = []
        """What was given to ``send_all``, each by itself."""
        self.closed_at: float | None = None
        self.pause_s = 0.0
        """How long it takes until anything is taken from the sender, each time."""
        self._flows = trio.Event()
        self._flows.set()

    def stall(self) -> None:
        """From now on nothing is taken from the sender."""
        self._flows = trio.Event()

    def flow(self) -> None:
        """Go on."""
        self._flows.set()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))
        await trio.sleep(self.pause_s)
        await self._flows.wait()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        self.closed_at = self.closed_at or trio.current_time()
        await self._stream.aclose()


class EagerWire(Wire):
    """One that takes what it can at once, as sockets do: nothing while it stalls or pauses."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        super().__init__(stream)
        self.far: trio.testing.MemoryReceiveStream | None = None
        """Where what is sent arrives."""
        self._kept = b""

    @property
    def has_rest(self) -> bool:
        return bool(self._kept)

    def send_nowait(self, data: bytes) -> bool:
        self._kept += data
        if self.pause_s or not self._flows.is_set():
            return False
        assert self.far is not None
        data, self._kept = self._kept, b""
        self.sent.append(data)
        try:
            self.far.put_data(data)
        except trio.ClosedResourceError as exc:
            raise trio.BrokenResourceError from exc
        return True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        kept, self._kept = self._kept, b""
        await super().send_all(kept + bytes(data))


wire_type: type[Wire] = Wire
"""Of which ``wires`` makes both ends; the fixture ``each_kind_of_wire`` sets it."""


def wires() -> tuple[Wire, Wire]:
    """The two ends; each takes any number of bytes at once."""
    one, other = trio.testing.memory_stream_pair()
    near, far = wire_type(one), wire_type(other)
    if isinstance(near, EagerWire) and isinstance(far, EagerWire):
        near.far, far.far = other.receive_stream, one.receive_stream
    return near, far


def server_codec(limits: WireLimits) -> GrpcCodec:
    return GrpcCodec(is_client=False, limits=limits)


def client_codec(limits: WireLimits) -> GrpcCodec:
    return GrpcCodec(is_client=True, limits=limits, authority=str(SERVER))


def accept(
    wire: Wire, codec: Codec, settings: Settings, on_call: OnCall, on_trust: OnTrust
) -> Connection:
    return Connection(
        wire,
        codec,
        settings=settings,
        is_client=False,
        remote=str(CALLER),
        on_call=on_call,
        on_trust=on_trust,
    )


class Served(Strangers):
    """An accepted connection, as a transport runs it, and the only one that may be a stranger's."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(1)
        self.settings = settings
        self.scope = trio.CancelScope()
        """Of the connection; ``scope.cancel()`` is a server that stops."""
        self.trusted = False
        self.counted_for: str | None = None
        """The host that it counted for when it was trusted no more."""
        self.ended = trio.Event()
        self.ended_at: float | None = None

    async def run(self, wire: Wire, codec: Codec, handler: CallHandler) -> None:
        with self.scope:
            await ServerConnection(
                partial(accept, wire, codec, self.settings),
                limits=self.settings.limits,
                caller=CALLER,
                handler=handler,
                certificate_hash=None,
                scope=self.scope,
                strangers=self,
                idlers=self,
            ).run()
        self.ended_at = trio.current_time()
        self.ended.set()

    def add(self, scope: trio.CancelScope, host: str | None = None) -> None:
        self.trusted = False
        self.counted_for = host

    def discard(self, scope: trio.CancelScope) -> None:
        self.trusted = True


@dataclass
class Pair:
    """A dialed connection and the one that was accepted."""

    channel: SocketChannel
    connection: Connection
    """The client's."""
    served: Served
    client_wire: Wire
    server_wire: Wire


@asynccontextmanager
async def serving(
    handler: CallHandler,
    *,
    limits: WireLimits | None = None,
    options: NetworkOptions | None = None,
    make_codec: Callable[[WireLimits], Codec] = server_codec,
) -> AsyncIterator[tuple[Wire, Served, Wire]]:
    """A server, to a client that the test plays by itself on the first wire.

    At the end the server's connection is over, and holds nothing any more.
    """
    settings = make_settings(limits, options)
    served = Served(settings)
    ours, theirs = wires()
    with trio.fail_after(HANG_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.run, theirs, make_codec(settings.limits), handler)
            try:
                yield ours, served, theirs
            finally:
                served.scope.cancel()
    assert theirs.closed_at is not None
    assert_nothing_held(settings)


@asynccontextmanager
async def dialing(
    *,
    limits: WireLimits | None = None,
    options: NetworkOptions | None = None,
    make_codec: Callable[[WireLimits], Codec] = client_codec,
) -> AsyncIterator[tuple[Connection, Wire, Wire]]:
    """A client, to a server that the test plays by itself on the last wire."""
    settings = make_settings(limits, options)
    ours, theirs = wires()
    connection = Connection(
        ours, make_codec(settings.limits), settings=settings, is_client=True, remote=str(SERVER)
    )
    with trio.fail_after(HANG_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run_io)
            try:
                yield connection, ours, theirs
            finally:
                await connection.shut_down()
    assert ours.closed_at is not None
    assert connection.calls == {}
    assert_nothing_held(settings)


@asynccontextmanager
async def open_pair(
    handler: CallHandler,
    *,
    limits: WireLimits | None = None,
    options: NetworkOptions | None = None,
    client_limits: WireLimits | None = None,
) -> AsyncIterator[Pair]:
    """A client and a server. At the end both are over, and neither holds anything."""
    settings = make_settings(client_limits or limits, options)
    async with serving(handler, limits=limits, options=options) as (ours, served, theirs):
        connection = Connection(
            ours,
            client_codec(settings.limits),
            settings=settings,
            is_client=True,
            remote=str(SERVER),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run_io)
            try:
                yield Pair(SocketChannel(connection), connection, served, ours, theirs)
            finally:
                await connection.shut_down()
    assert ours.closed_at is not None
    assert connection.calls == {}
    assert_nothing_held(settings)


def assert_nothing_held(settings: Settings) -> None:
    assert settings.held.held_bytes == 0
    assert settings.held_for_strangers.held_bytes == 0


async def echo(call: IncomingCall) -> None:
    """A handler that sends back what it gets."""
    while messages := await call.stream.receive_many():
        await call.stream.send_many(messages)


async def trusting_echo(call: IncomingCall) -> None:
    """The same, to a caller that it trusts."""
    call.stream.trust()
    await echo(call)


async def never_end(call: IncomingCall) -> None:
    """A handler that only a cancellation ends."""
    await trio.sleep_forever()
