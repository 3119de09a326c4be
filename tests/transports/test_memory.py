"""What is special to the memory transport: its hubs, its windows, and that nothing stays behind."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from aelf_p2p.contracts import CallHandler, IncomingCall
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import (
    CallFailedError,
    ClosedByUsError,
    ConnectionLostError,
    MisuseError,
    StatusCode,
    TransportError,
)
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.testing.cancellation import cancel_at_every_step
from aelf_p2p.transports.memory import MemoryConnection, MemoryHub
from aelf_p2p.transports.memory_pipe import (
    DEFAULT_WINDOW_BYTES,
    MESSAGE_OVERHEAD_BYTES,
    MemoryPipe,
)
from aelf_p2p.wire.methods import GET_NODES, PING, REQUEST_BY_STREAM

T = 10.0


async def echo(call: IncomingCall) -> None:
    while batch := await call.stream.receive_many():
        await call.stream.send_many(batch)


@asynccontextmanager
async def serving(hub: MemoryHub, handler: CallHandler, port: int = 0) -> AsyncIterator[Endpoint]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(hub.transport("server").serve, "ignored", port, handler)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(hub: MemoryHub, handler: CallHandler) -> AsyncIterator[MemoryConnection]:
    async with (
        serving(hub, handler) as endpoint,
        hub.transport("client").dial(endpoint, timeout_s=T) as channel,
    ):
        yield channel


# --- hubs and ports -------------------------------------------------------------------------------


async def test_a_hub_is_a_network_of_its_own() -> None:
    here, elsewhere = MemoryHub(), MemoryHub()
    async with serving(here, echo, 6800) as endpoint:
        with pytest.raises(ConnectionLostError, match="nobody listens on server:6800"):
            async with elsewhere.transport("client").dial(endpoint, timeout_s=T):
                pytest.fail("reached another hub")  # pragma: no cover
        async with serving(elsewhere, echo, 6800) as other:
            assert other == endpoint == Endpoint("server", 6800)


async def test_a_port_is_taken_on_one_host_only() -> None:
    hub = MemoryHub()
    async with serving(hub, echo, 6800), trio.open_nursery() as nursery:
        await nursery.start(hub.transport("another").serve, "", 6800, echo)
        with pytest.raises(MisuseError, match="server:6800 is in use"):
            await hub.transport("server").serve("", 6800, echo)
        nursery.cancel_scope.cancel()


async def test_a_host_may_be_an_address_and_is_normalised() -> None:
    hub = MemoryHub()
    callers: list[Endpoint] = []

    async def remember(call: IncomingCall) -> None:
        callers.append(call.caller)
        await call.stream.send_many([b""])

    async with serving(hub, remember, 6800):
        transport = hub.transport("::FFFF:10.0.0.1")
        async with transport.dial(Endpoint("SERVER", 6800), timeout_s=T) as channel:
            await channel.call(PING, b"", metadata={}, timeout_s=T)
    assert [caller.host for caller in callers] == ["10.0.0.1"]


async def test_free_ports_come_round_and_avoid_those_in_use() -> None:
    hub = MemoryHub()
    first = hub.free_endpoint("server").port
    async with serving(hub, echo, first + 1), serving(hub, echo) as endpoint:
        assert endpoint.port == first + 2
        async with hub.transport("client").dial(endpoint, timeout_s=T):
            taken = {first + 1, first + 2}
            ports = [hub.free_endpoint("server").port for _ in range(2 * 16384)]
            assert not taken & set(ports)
            assert len(set(ports)) == 16384 - 2
            [calling] = hub.callers
            assert calling.port not in {hub.free_endpoint("client").port for _ in range(16384)}


async def test_a_host_without_a_free_port_is_misuse() -> None:
    hub = MemoryHub()
    hub.callers = {Endpoint("client", port) for port in range(49152, 65536)}
    with pytest.raises(MisuseError, match="client has no free port"):
        hub.free_endpoint("client")
    assert hub.free_endpoint("another").host == "another"


# --- pipes ----------------------------------------------------------------------------------------


async def test_the_window_counts_empty_messages_too() -> None:
    pipe = MemoryPipe()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipe.send_many, [b""] * 1_000_000)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert pipe.unread_bytes == DEFAULT_WINDOW_BYTES
    assert len(await pipe.receive_many()) == DEFAULT_WINDOW_BYTES // MESSAGE_OVERHEAD_BYTES
    assert pipe.unread_bytes == 0


async def test_a_message_larger_than_the_window_passes_alone() -> None:
    pipe = MemoryPipe(window_bytes=10)
    await pipe.send_many([bytes(1000)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pipe.send_many, [bytes(2000)])
        await trio.testing.wait_all_tasks_blocked()
        assert await pipe.receive_many() == [bytes(1000)]
        await trio.testing.wait_all_tasks_blocked()
        assert await pipe.receive_many() == [bytes(2000)]


async def test_sending_after_the_end_is_misuse() -> None:
    pipe = MemoryPipe()
    pipe.end()
    with pytest.raises(MisuseError, match="after the end"):
        await pipe.send_many([b"x"])
    assert await pipe.receive_many() == []


async def test_an_error_does_not_grow_each_time_it_is_raised() -> None:
    pipe = MemoryPipe()
    pipe.fail(ConnectionLostError("gone"))
    lengths = set()
    for _ in range(3):
        with pytest.raises(ConnectionLostError) as caught:
            await pipe.receive_many()
        lengths.add(len(caught.traceback))
    assert len(lengths) == 1


# --- whose fault it is ----------------------------------------------------------------------------


async def test_each_end_of_a_call_that_was_left_gets_its_own_error() -> None:
    hub = MemoryHub()
    seen_by_handler: list[type[Exception]] = []
    began, ended = trio.Event(), trio.Event()

    async def handle(call: IncomingCall) -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for action in call.stream.receive_many(), call.stream.send_many([b"bye"]):
                    try:
                        await action
                    except TransportError as exc:
                        seen_by_handler.append(type(exc))
            ended.set()

    async with serving(hub, handle) as endpoint:
        async with hub.transport("client").dial(endpoint, timeout_s=T) as channel:
            async with channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
                await began.wait()
            with pytest.raises(ClosedByUsError):
                await stream.send_many([b"x"])
            with pytest.raises(ClosedByUsError):
                await stream.receive_many()
            await ended.wait()
        with pytest.raises(ClosedByUsError):
            await channel.call(PING, b"", metadata={}, timeout_s=T)
    assert seen_by_handler == [ConnectionLostError, ConnectionLostError]


async def test_a_handler_that_waits_on_a_stream_that_is_left_is_cancelled_and_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = MemoryHub()
    cancelled = trio.Event()
    began = trio.Event()

    async def handle(call: IncomingCall) -> None:
        try:
            began.set()
            await call.stream.receive_many()
        except trio.Cancelled:
            cancelled.set()
            with trio.CancelScope(shield=True):
                await call.stream.send_many([b"bye"])  # raises, and is no news to anyone
            raise

    async with connected(hub, handle) as channel:
        async with channel.open_stream(REQUEST_BY_STREAM, metadata={}):
            await began.wait()
        await cancelled.wait()
    assert caplog.records == []


async def test_a_handler_that_fails_while_its_listener_stops_is_only_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = MemoryHub()

    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("ours")

    async def handle(call: IncomingCall) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_when_cancelled)
            nursery.start_soon(trio.sleep_forever)

    async with connected(hub, handle) as channel, trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(TransportError):
                await channel.call(PING, b"", metadata={}, timeout_s=T)

        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        [listener] = hub.listeners.values()
        listener.nursery.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.getMessage() == "the handler of Ping failed"


async def test_a_status_brings_nothing_of_the_handler_with_it() -> None:
    hub = MemoryHub()

    async def handle(call: IncomingCall) -> None:
        try:
            raise ValueError("a secret")
        except ValueError as exc:
            raise CallFailedError(StatusCode.ABORTED, "told") from exc

    async with connected(hub, handle) as channel:
        with pytest.raises(CallFailedError, match="ABORTED: told") as caught:
            await channel.call(PING, b"", metadata={}, timeout_s=T)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_endless_replies_to_a_unary_call_are_not_collected() -> None:
    hub = MemoryHub()

    async def handle(call: IncomingCall) -> None:
        while True:
            await call.stream.send_many([bytes(1000)])

    async with connected(hub, handle) as channel:
        with pytest.raises(CallFailedError, match="several replies"):
            await channel.call(PING, b"", metadata={}, timeout_s=T)


async def test_a_goodbye_is_read_after_the_listener_has_stopped() -> None:
    hub = MemoryHub()
    began = trio.Event()

    async def handle(call: IncomingCall) -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await call.stream.send_many([b"bye"])

    async with trio.open_nursery() as nursery:
        async with serving(hub, handle) as endpoint:
            dialing = hub.transport("client").dial(endpoint, timeout_s=T)
            channel = await dialing.__aenter__()
            opening = channel.open_stream(REQUEST_BY_STREAM, metadata={})
            stream = await opening.__aenter__()
            await began.wait()
        assert await stream.receive_many() == [b"bye"]
        with pytest.raises(ConnectionLostError):
            await stream.receive_many()
        await opening.__aexit__(None, None, None)
        await dialing.__aexit__(None, None, None)
        nursery.cancel_scope.cancel()


# --- what a message may weigh ---------------------------------------------------------------------


async def test_the_limits_of_a_hub_are_its_options() -> None:
    hub = MemoryHub(NetworkOptions(max_request_bytes=10, max_message_before_handshake_bytes=20))

    async def refuse_strangers(call: IncomingCall) -> None:
        if call.metadata:
            call.stream.trust()
        await echo(call)

    async with connected(hub, refuse_strangers) as channel:
        for method, most in (GET_NODES, 10), (PING, 20):
            assert await channel.call(method, bytes(most), metadata={}, timeout_s=T) == bytes(most)
            with pytest.raises(CallFailedError, match=f"of {most + 1} bytes, over {most}"):
                await channel.call(method, bytes(most + 1), metadata={}, timeout_s=T)
        for metadata, code in ({}, StatusCode.RESOURCE_EXHAUSTED), ({"known": "yes"}, None):
            async with channel.open_stream(REQUEST_BY_STREAM, metadata=metadata) as stream:
                stream.trust()
                await stream.send_many([bytes(21)])
                if code is None:
                    assert await stream.receive_many() == [bytes(21)]
                    continue
                with pytest.raises(CallFailedError) as caught:
                    await stream.receive_many()
                assert caught.value.code is code


async def test_a_message_is_measured_when_it_is_read() -> None:
    hub = MemoryHub()
    small, large = b"handshake", bytes(64 * 1024 + 1)

    async def handle(call: IncomingCall) -> None:
        await call.stream.send_many([small, large, small])

    async with (
        connected(hub, handle) as channel,
        channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
    ):
        await trio.testing.wait_all_tasks_blocked()
        assert await stream.receive_many() == [small]  # all of them have arrived
        stream.trust()
        assert await stream.receive_many() == [large, small]
        assert await stream.receive_many() == []


async def test_a_limit_of_its_own_outlives_trust() -> None:
    hub = MemoryHub()

    async def handle(call: IncomingCall) -> None:
        await call.stream.send_many([bytes(11)])

    async with (
        connected(hub, handle) as channel,
        channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
    ):
        stream.limit_messages(10)
        stream.trust()
        with pytest.raises(CallFailedError, match="of 11 bytes, over 10"):
            await stream.receive_many()


async def test_a_sender_that_waits_is_told_that_it_is_read_no_more() -> None:
    hub = MemoryHub()
    go = trio.Event()

    async def handle(call: IncomingCall) -> None:
        await go.wait()
        call.stream.limit_messages(10)
        with pytest.raises(CallFailedError):
            await call.stream.receive_many()
        await trio.sleep_forever()  # and says nothing

    async with (
        connected(hub, handle) as channel,
        channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
        trio.open_nursery() as nursery,
    ):

        async def send() -> None:
            with pytest.raises(ConnectionLostError, match="not read any more"):
                await stream.send_many([bytes(DEFAULT_WINDOW_BYTES)] * 2)

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        go.set()


async def test_a_limit_on_a_call_that_is_over_is_without_effect() -> None:
    hub = MemoryHub()
    async with connected(hub, echo) as channel:
        async with channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
            pass
        stream.trust()
        stream.limit_messages(5)
        with pytest.raises(ClosedByUsError):
            await stream.receive_many()


# --- nothing stays behind -------------------------------------------------------------------------


class Network:
    """A hub that remembers the connections that it had."""

    def __init__(self) -> None:
        self.seen: list[MemoryConnection] = []
        remember = self.seen.append

        class Connections(dict[MemoryConnection, None]):
            def __setitem__(self, connection: MemoryConnection, value: None) -> None:
                remember(connection)
                super().__setitem__(connection, value)

        self.hub = MemoryHub()
        self.hub.connections = Connections()

    def leftovers(self) -> list[object]:
        calls = [call for connection in self.seen for call in connection.calls.values()]
        return [*self.hub.listeners, *self.hub.connections, *self.hub.callers, *calls]


async def busy(call: IncomingCall) -> None:
    """Handlers of all kinds: quick ones, failing ones, and ones that say goodbye."""
    match call.metadata["do"]:
        case "echo":
            await echo(call)
        case "fail":
            raise CallFailedError(StatusCode.ABORTED)
        case "goodbye":
            try:
                await echo(call)
            finally:
                with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
                    await call.stream.send_many([b"bye"])


async def talk(hub: MemoryHub, endpoint: Endpoint) -> None:
    """Calls and streams that end in every way."""

    async def flood(connection: MemoryConnection) -> None:
        with trio.move_on_after(1):
            async with connection.open_stream(PING, metadata={"do": "fail"}) as stream:
                with pytest.raises(TransportError):
                    await stream.send_many([bytes(DEFAULT_WINDOW_BYTES)] * 3)

    async with hub.transport("client").dial(endpoint, timeout_s=T) as channel:
        assert await channel.call(PING, b"x", metadata={"do": "echo"}, timeout_s=T) == b"x"
        with pytest.raises(CallFailedError):
            await channel.call(PING, b"x", metadata={"do": "fail"}, timeout_s=T)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood, channel)
            async with channel.open_stream(PING, metadata={"do": "goodbye"}) as stream:
                await stream.send_many([b"a", b"b"])
                await stream.receive_many()
                await stream.send_eof()
                while await stream.receive_many():
                    pass
        async with channel.open_stream(PING, metadata={"do": "goodbye"}) as stream:
            await stream.send_many([b"left"])


@asynccontextmanager
async def empty_network() -> AsyncIterator[Network]:
    yield Network()


@asynccontextmanager
async def served_network() -> AsyncIterator[Network]:
    network = Network()
    async with serving(network.hub, busy, 6800):
        yield network


async def serve_and_talk(network: Network) -> None:
    async with serving(network.hub, busy) as endpoint:
        await talk(network.hub, endpoint)


async def talk_to_server(network: Network) -> None:
    await talk(network.hub, Endpoint("server", 6800))


async def nothing_is_left(network: Network) -> None:
    assert network.leftovers() == []


async def only_the_server_is_left(network: Network) -> None:
    await trio.sleep(2)  # for goodbyes
    assert network.leftovers() == [Endpoint("server", 6800)]
    await talk_to_server(network)  # and it serves the next one


def test_nothing_stays_behind_wherever_all_is_cancelled() -> None:
    report = cancel_at_every_step(serve_and_talk, around=empty_network, check=nothing_is_left)
    assert report.steps > 40


@pytest.mark.parametrize("seed", range(3))
def test_a_server_outlives_a_client_that_is_cancelled_anywhere(seed: int) -> None:
    report = cancel_at_every_step(
        talk_to_server, around=served_network, check=only_the_server_is_left, seed=seed
    )
    assert report.steps > 30
