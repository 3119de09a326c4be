"""Cases about listening, dialing, and what the end of a connection does to those that wait."""

from contextlib import suppress
from functools import partial

import trio

from aelf_p2p.contracts import IncomingCall
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    MisuseError,
    TransportError,
)
from aelf_p2p.testing.conformance.harness import (
    PATIENT_S,
    ConformanceError,
    Net,
    Witness,
    check,
    echo,
    never_end,
    proves,
    raises,
    streaming,
    wait_stuck,
)
from aelf_p2p.wire.methods import PING


@proves("port 0 asks for a free port: each of two listeners gets one of its own")
async def port_zero_is_any_free_port(net: Net) -> None:
    async with net.listening(echo) as one, net.listening(echo) as other:
        for listening in one, other:
            check(listening.endpoint.port != 0, "the port that was reported is 0")
            async with net.dial(listening.endpoint) as channel:
                reply = await channel.call(PING, b"x", metadata={}, timeout_s=PATIENT_S)
                check(reply == b"x", f"{listening.endpoint} is not where it listens")
        check(one.endpoint != other.endpoint, f"both listen on {one.endpoint}")


@proves("listening where another listens is MisuseError, and leaves the other alone")
async def a_taken_port_is_misuse(net: Net) -> None:
    async with net.listening(echo) as listening:
        endpoint = listening.endpoint
        with raises(MisuseError, "listening on a taken port"):
            # Awaited in no nursery, which would wrap the error.
            await net.server.serve(net.fixture.server_host, endpoint.port, echo)
        async with net.dial(endpoint) as channel:
            reply = await channel.call(PING, b"x", metadata={}, timeout_s=PATIENT_S)
            check(reply == b"x", "the listener that was there answers no more")


@proves("a stopped listener leaves its port free to listen on again")
async def a_port_is_free_after_its_listener(net: Net) -> None:
    async with net.listening(echo) as listening:
        endpoint = listening.endpoint
        async with net.dial(endpoint) as channel:
            await channel.call(PING, b"", metadata={}, timeout_s=PATIENT_S)
            await listening.stop()
    async with net.listening(echo, port=endpoint.port) as again:
        check(again.endpoint == endpoint, f"listens on {again.endpoint} instead of {endpoint}")
        async with net.dial(endpoint) as channel:
            await channel.call(PING, b"", metadata={}, timeout_s=PATIENT_S)


@proves("dialing where nobody listens is ConnectionLostError")
async def dialing_nobody_is_lost(net: Net) -> None:
    async with net.listening(echo) as listening:
        pass
    with raises(ConnectionLostError, "dialing where nobody listens"):
        async with net.dial(listening.endpoint):
            raise ConformanceError("dialing where nobody listens succeeded")


@proves("leaving a channel's block cancels the handlers of all its calls")
async def a_client_that_vanishes_cancels_its_handlers(net: Net) -> None:
    witnesses = [Witness() for _ in range(3)]
    waiting = iter(witnesses)

    async def handle(call: IncomingCall) -> None:
        await next(waiting)(call)

    async def open_and_wait(channel_scope: trio.CancelScope) -> None:
        with channel_scope:
            async with net.dial(listening.endpoint) as channel, trio.open_nursery() as calls:
                for _ in witnesses:
                    calls.start_soon(
                        partial(channel.call, PING, b"", metadata={}, timeout_s=PATIENT_S)
                    )

    async with net.listening(handle) as listening, trio.open_nursery() as nursery:
        channel_scope = trio.CancelScope()
        nursery.start_soon(open_and_wait, channel_scope)
        for witness in witnesses:
            await witness.began.wait()
        channel_scope.cancel()
        for witness in witnesses:
            await witness.ended.wait()
            check(witness.cancelled, "a handler ended, but was not cancelled")


@proves("when the server stops, whoever waits for it gets ConnectionLostError")
async def a_server_that_stops_ends_every_wait(net: Net) -> None:
    began = trio.Event()
    waiting = 2

    async def handle(call: IncomingCall) -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            began.set()
        await trio.sleep_forever()

    async with (
        net.listening(handle) as listening,
        net.dial(listening.endpoint) as channel,
        trio.open_nursery() as nursery,
    ):

        async def wait_on_a_stream() -> None:
            async with streaming(channel) as stream:
                await stream.send_many([b"x"])
                with raises(ConnectionLostError, "receiving from a server that stops"):
                    await stream.receive_many()

        async def wait_on_a_call() -> None:
            with raises(ConnectionLostError, "a call to a server that stops"):
                await channel.call(PING, b"", metadata={}, timeout_s=PATIENT_S)

        nursery.start_soon(wait_on_a_stream)
        nursery.start_soon(wait_on_a_call)
        await began.wait()
        await listening.stop()


@proves("a server that stops ends a sender's wait for room")
async def a_server_that_stops_ends_a_blocked_send(net: Net) -> None:
    async with (
        net.listening(never_end) as listening,
        net.dial(listening.endpoint) as channel,
        trio.open_nursery() as nursery,
    ):

        async def send() -> None:
            async with streaming(channel) as stream:
                with raises(ConnectionLostError, "sending to a server that stops"):
                    await net.overfill(stream)

        nursery.start_soon(send)
        await trio.sleep(net.fixture.settle_s)  # until it waits; correct whenever it does
        await listening.stop()


@proves("is_open is True, turns False once the server is gone, and calls then fail at once")
async def is_open_tells_whether_calls_can_be_made(net: Net) -> None:
    async with net.listening(echo) as listening, net.dial(listening.endpoint) as channel:
        await channel.call(PING, b"", metadata={}, timeout_s=PATIENT_S)
        check(channel.is_open, "is_open is False while the server is there")
        async with streaming(channel) as stream:
            await stream.send_many([b"x"])
            await stream.receive_many()
            await listening.stop()
            with raises(TransportError, "reading from a server that is gone"):
                while await stream.receive_many():
                    pass
        # A socket may tell a little later than the stream.
        await wait_stuck(lambda: channel.is_open, net.fixture.settle_s)
        check(not channel.is_open, "is_open is still True after the server was gone")
        with raises(TransportError, "a call after the server was gone") as caught:
            await channel.call(PING, b"", metadata={}, timeout_s=PATIENT_S)
        check(
            not isinstance(caught.value, DeadlineExceededError),
            "a call after the server was gone waited for its deadline",
        )
        with raises(TransportError, "a stream after the server was gone"):
            async with streaming(channel) as stream:
                await stream.send_many([b"x"])
                await stream.receive_many()


@proves("one connection's end leaves the server's others alone")
async def connections_are_independent(net: Net) -> None:
    async with net.listening(echo) as listening, net.dial(listening.endpoint) as staying:
        async with net.dial(listening.endpoint) as leaving:
            await leaving.call(PING, b"", metadata={}, timeout_s=PATIENT_S)
        check(staying.is_open, "closing one connection closed another")
        reply = await staying.call(PING, b"x", metadata={}, timeout_s=PATIENT_S)
        check(reply == b"x", "a connection is damaged by another's end")


@proves("a server that stops says so: wait_draining ends, or tells that the connection is lost")
async def wait_draining_tells_of_a_stop(net: Net) -> None:
    async with net.listening(echo) as listening, trio.open_nursery() as nursery:
        told = trio.Event()

        async def wait() -> None:
            async with net.dial(listening.endpoint) as channel:
                with suppress(ConnectionLostError):
                    await channel.wait_draining()
                check(not channel.is_open, "is_open is still True")
                told.set()

        nursery.start_soon(wait)
        with trio.move_on_after(net.fixture.settle_s):
            await told.wait()
        check(not told.is_set(), "it ended before the server did")
        await listening.stop()
        await told.wait()


@proves("all calls of a channel come from one caller, whom no other channel has meanwhile")
async def all_calls_of_a_channel_have_one_caller(net: Net) -> None:
    callers: list[Endpoint] = []

    async def handle(call: IncomingCall) -> None:
        callers.append(call.caller)
        await echo(call)

    async with (
        net.listening(handle) as listening,
        net.dial(listening.endpoint) as one,
        net.dial(listening.endpoint) as other,
    ):
        for channel in one, other, one, other:
            await channel.call(PING, b"", metadata={}, timeout_s=PATIENT_S)
    check(callers[::2] == [callers[0]] * 2, f"one channel's calls came from {callers[::2]}")
    check(callers[1::2] == [callers[1]] * 2, f"one channel's calls came from {callers[1::2]}")
    check(callers[0] != callers[1], f"two channels have the caller {callers[0]}")
    hosts = {caller.host for caller in callers}
    check(hosts == {net.fixture.client_host}, f"they came from {hosts}")


CASES = (
    port_zero_is_any_free_port,
    a_taken_port_is_misuse,
    a_port_is_free_after_its_listener,
    dialing_nobody_is_lost,
    a_client_that_vanishes_cancels_its_handlers,
    a_server_that_stops_ends_every_wait,
    a_server_that_stops_ends_a_blocked_send,
    is_open_tells_whether_calls_can_be_made,
    wait_draining_tells_of_a_stop,
    connections_are_independent,
    all_calls_of_a_channel_have_one_caller,
)
