"""Cases about what a message may weigh: by method, before trust, and as a call sets it."""

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from aelf_p2p.contracts import CallHandler, IncomingCall, MessageStream
from aelf_p2p.core.errors import CallFailedError, StatusCode, TransportError
from aelf_p2p.core.message_sizes import MAX_MESSAGE_BYTES
from aelf_p2p.core.options import KIB, MIB
from aelf_p2p.testing.conformance.harness import (
    PATIENT_S,
    Net,
    Witness,
    by_method,
    check,
    echo,
    proves,
    raises,
    read_all,
    streaming,
)
from aelf_p2p.wire.methods import (
    ANNOUNCEMENT_BROADCAST_STREAM,
    BLOCK_BROADCAST_STREAM,
    GET_NODES,
    PING,
    REQUEST_BLOCK,
    REQUEST_BLOCKS,
    REQUEST_BY_STREAM,
    Method,
)

LIMIT = 1000
"""What the cases let a message weigh that set a limit of their own."""


def check_too_large(error: CallFailedError, size: int, limit: int) -> None:
    """That an error says what was too large for what."""
    check(error.code is StatusCode.RESOURCE_EXHAUSTED, f"the code is {error.code}")
    for number in size, limit:
        check(str(number) in error.details, f"{number} is not in the details {error.details!r}")


async def _check_alive(echoing: MessageStream, call: Callable[[], Awaitable[bytes]]) -> None:
    """That a connection goes on: a stream of it that was open before, and a new call."""
    await echoing.send_many([b"still"])
    check(await echoing.receive_many() == [b"still"], "another stream of the connection is damaged")
    check(await call() == b"x", "a call on the connection is damaged")


async def _read_until_refused(stream: MessageStream) -> tuple[list[bytes], CallFailedError]:
    """The messages before one that is too large, and what it raised."""
    received: list[bytes] = []
    with raises(CallFailedError, "reading a message over the limit") as caught:
        while batch := await stream.receive_many():
            received += batch
    return received, caught.value


@proves("a server that reads too large a message gets RESOURCE_EXHAUSTED and ends its call with it")
async def a_request_over_the_limit_ends_its_call(net: Net) -> None:
    received: list[bytes] = []

    async def refuse(call: IncomingCall) -> None:
        call.stream.limit_messages(LIMIT)
        before, error = await _read_until_refused(call.stream)
        received.extend(before)
        check_too_large(error, LIMIT + 1, LIMIT)
        with raises(CallFailedError, "reading on") as again:
            await call.stream.receive_many()
        check_too_large(again.value, LIMIT + 1, LIMIT)
        raise error

    async def handle(call: IncomingCall) -> None:
        await (refuse if call.metadata.get("role") == "refuse" else echo)(call)

    async with net.connected(handle) as channel, streaming(channel) as echoing:
        async with streaming(channel, role="refuse") as stream:
            await stream.send_many([b"", bytes(LIMIT), bytes(LIMIT + 1), b"behind"])
            with raises(CallFailedError, "the call of a message over the limit") as caught:
                await stream.receive_many()
            check_too_large(caught.value, LIMIT + 1, LIMIT)
            with raises(TransportError, "sending on a call that has ended"):
                await net.overfill(stream)
        await _check_alive(
            echoing, partial(channel.call, PING, b"x", metadata={}, timeout_s=PATIENT_S)
        )
    check(received == [b"", bytes(LIMIT)], "the messages before it were not read as they were sent")


@proves("a client that reads too large a message gets RESOURCE_EXHAUSTED, and the call is reset")
async def a_reply_over_the_limit_ends_its_call(net: Net) -> None:
    witness = Witness()

    async def flood(call: IncomingCall) -> None:
        await call.stream.send_many([b"", bytes(LIMIT), bytes(LIMIT + 1), b"behind"])
        await witness(call)

    async def handle(call: IncomingCall) -> None:
        await (flood if call.metadata.get("role") == "flood" else echo)(call)

    async with net.connected(handle) as channel, streaming(channel) as echoing:
        async with streaming(channel, role="flood") as stream:
            stream.limit_messages(LIMIT)
            received, error = await _read_until_refused(stream)
            check(received == [b"", bytes(LIMIT)], "the messages before it are not what was sent")
            check_too_large(error, LIMIT + 1, LIMIT)
            await witness.ended.wait()
            check(witness.cancelled, "the handler ended, but was not cancelled")
            with raises(TransportError, "reading on a call that was reset"):
                await stream.receive_many()
            with raises(TransportError, "sending on a call that was reset"):
                await net.overfill(stream)
        await _check_alive(
            echoing, partial(channel.call, PING, b"x", metadata={}, timeout_s=PATIENT_S)
        )


@proves("limit_messages counts for what is read from then on, both ways, up and down again")
async def a_limit_can_be_moved(net: Net) -> None:
    async def handle(call: IncomingCall) -> None:
        for limit in LIMIT, 20 * LIMIT, LIMIT:
            call.stream.limit_messages(limit)
            await call.stream.send_many(await call.stream.receive_many())
        await call.stream.receive_many()

    async with net.streaming(handle) as stream:
        for limit in LIMIT, 20 * LIMIT, LIMIT:
            stream.limit_messages(limit)
            await stream.send_many([bytes(limit)])
            check(await stream.receive_many() == [bytes(limit)], f"{limit} bytes do not pass")
        await stream.send_many([bytes(LIMIT + 1)])
        with raises(CallFailedError, "a message over a limit that was lowered") as caught:
            await stream.receive_many()
        check_too_large(caught.value, LIMIT + 1, LIMIT)


@proves("an announcement stream takes messages of 1 KiB, and more only when it is told to")
async def a_stream_has_its_methods_limit(net: Net) -> None:
    async def handle(call: IncomingCall) -> None:
        if call.metadata["role"] == "raised":
            call.stream.limit_messages(2 * KIB)
        await call.stream.send_many([b"%d" % len(await read_all(call.stream))])

    async with net.connected(handle) as channel:
        for role, size, passes in (
            ("usual", KIB, True),
            ("usual", KIB + 1, False),
            ("raised", 2 * KIB, True),
            ("raised", 2 * KIB + 1, False),
        ):
            async with streaming(channel, ANNOUNCEMENT_BROADCAST_STREAM, role=role) as stream:
                await stream.send_many([bytes(size)])
                await stream.send_eof()
                if passes:
                    check(await read_all(stream) == [b"1"], f"{size} bytes do not pass")
                    continue
                with raises(CallFailedError, f"an announcement of {size} bytes") as caught:
                    await stream.receive_many()
                check_too_large(caught.value, size, size - 1)


@proves("a client's messages on a stream may weigh 64 KiB until it is trusted, or is allowed more")
async def a_strange_client_may_send_64_kib(net: Net) -> None:
    async def handle(call: IncomingCall) -> None:
        stream = call.stream
        check(await stream.receive_many() == [bytes(64 * KIB)], "64 KiB of a stranger do not pass")
        if call.metadata["role"] == "trusted":
            stream.trust()
        elif call.metadata["role"] == "allowed":
            stream.limit_messages(64 * KIB + 1)
        await stream.send_many([b""])
        check(await stream.receive_many() == [bytes(64 * KIB + 1)], "more than that does not pass")
        await stream.send_many([b""])

    async with net.listening(handle, trusting=False) as listening:
        for method in REQUEST_BY_STREAM, BLOCK_BROADCAST_STREAM:
            for role in "stranger", "trusted", "allowed":
                async with (
                    net.dial(listening.endpoint) as channel,
                    streaming(channel, method, role=role) as stream,
                ):
                    await stream.send_many([bytes(64 * KIB)])
                    check(await stream.receive_many() == [b""], "the first message is not answered")
                    await stream.send_many([bytes(64 * KIB + 1)])
                    if role != "stranger":
                        check(await stream.receive_many() == [b""], "nor is the second")
                        continue
                    with raises(CallFailedError, "a stranger's 64 KiB and one byte") as caught:
                        await stream.receive_many()
                    check_too_large(caught.value, 64 * KIB + 1, 64 * KIB)


@proves("a server's messages on a stream may weigh 64 KiB until it is trusted, or is allowed more")
async def a_strange_server_may_send_64_kib(net: Net) -> None:
    async def handle(call: IncomingCall) -> None:
        for size in 64 * KIB, 64 * KIB + 1:
            await call.stream.send_many([bytes(size)])
            await call.stream.receive_many()

    async with net.connected(handle) as channel:
        for role in "stranger", "trusted", "allowed":
            async with channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
                check(await stream.receive_many() == [bytes(64 * KIB)], "64 KiB do not pass")
                if role == "trusted":
                    stream.trust()
                elif role == "allowed":
                    stream.limit_messages(64 * KIB + 1)
                await stream.send_many([b"next"])
                if role != "stranger":
                    check(await stream.receive_many() == [bytes(64 * KIB + 1)], "nor does more")
                    continue
                with raises(CallFailedError, "a stranger's 64 KiB and one byte") as caught:
                    await stream.receive_many()
                check_too_large(caught.value, 64 * KIB + 1, 64 * KIB)


def _unary_handler(reply_bytes: int) -> CallHandler:
    async def handle(call: IncomingCall) -> None:
        await read_all(call.stream)
        await call.stream.send_many([bytes(reply_bytes)])

    return handle


@proves("a unary request and reply may weigh what their method allows, trusted or not, and no more")
async def a_unary_call_has_its_methods_limits(net: Net) -> None:
    async def check_call(method: Method, request_bytes: int, reply_bytes: int, limit: int) -> None:
        handlers = {method.name: _unary_handler(reply_bytes)}
        what = f"{method.name} of {request_bytes} bytes, answered by {reply_bytes}"
        async with (
            net.listening(by_method(handlers), trusting=False) as listening,
            net.dial(listening.endpoint) as channel,
        ):

            async def call() -> bytes:
                request = bytes(request_bytes)
                return await channel.call(method, request, metadata={}, timeout_s=PATIENT_S)

            if not limit:
                check(len(await call()) == reply_bytes, f"{what}: another reply")
                return
            with raises(CallFailedError, what) as caught:
                await call()
            check_too_large(caught.value, limit + 1, limit)
            check(channel.is_open, f"{what}: the connection was closed")

    for method, max_request, max_reply in (
        (PING, 64 * KIB, 64 * KIB),
        (GET_NODES, 8 * KIB, 64 * KIB),
    ):
        await check_call(method, max_request, max_reply, 0)
        await check_call(method, max_request + 1, 0, max_request)
        await check_call(method, 0, max_reply + 1, max_reply)
    for method in REQUEST_BLOCK, REQUEST_BLOCKS:
        await check_call(method, 0, MIB, 0)


@proves("a message over 100 MiB is not sent: RESOURCE_EXHAUSTED, and the call goes on")
async def a_message_over_100_mib_is_not_sent(net: Net) -> None:
    too_large = bytes(MAX_MESSAGE_BYTES + 1)  # of zeros: no memory is touched for it

    async def handle(call: IncomingCall) -> None:
        if call.method == PING:
            await read_all(call.stream)
            await call.stream.send_many([too_large])
            return
        with raises(CallFailedError, "a handler's message over 100 MiB") as refused:
            await call.stream.send_many([b"before", too_large])
        check_too_large(refused.value, len(too_large), MAX_MESSAGE_BYTES)
        await call.stream.send_many(await read_all(call.stream))

    async with net.connected(handle) as channel:
        async with streaming(channel) as stream:
            with raises(CallFailedError, "a client's message over 100 MiB") as caught:
                await stream.send_many([b"before", too_large, b"behind"])
            check_too_large(caught.value, len(too_large), MAX_MESSAGE_BYTES)
            await stream.send_many([b"next"])
            await stream.send_eof()
            received = await read_all(stream)
            check(received == [b"before", b"before", b"next"], f"what passed is {received}")
        for request in b"", too_large:
            with trio.fail_after(PATIENT_S), raises(CallFailedError, "a call of it") as caught:
                await channel.call(PING, request, metadata={}, timeout_s=2 * PATIENT_S)
            check_too_large(caught.value, len(too_large), MAX_MESSAGE_BYTES)


CASES = (
    a_request_over_the_limit_ends_its_call,
    a_reply_over_the_limit_ends_its_call,
    a_limit_can_be_moved,
    a_stream_has_its_methods_limit,
    a_strange_client_may_send_64_kib,
    a_strange_server_may_send_64_kib,
    a_unary_call_has_its_methods_limits,
    a_message_over_100_mib_is_not_sent,
)
