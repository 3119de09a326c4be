"""Cases about unary calls."""

import trio

from aelf_p2p.contracts import CallHandler, IncomingCall
from aelf_p2p.core.errors import CallFailedError, DeadlineExceededError, StatusCode
from aelf_p2p.core.options import KIB
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
)
from aelf_p2p.wire.methods import CHECK_HEALTH, PING, REQUEST_BLOCK, REQUEST_BLOCKS, Method

SHORT_S = 0.1
"""A deadline that is meant to pass."""

MAX_REQUEST_BYTES = 64 * KIB
"""The largest request that any unary method takes: that of Ping."""


@proves("a call brings method, request, metadata (text and bytes) and caller; its reply comes back")
async def a_call_makes_its_round_trip(net: Net) -> None:
    metadata: dict[str, str | bytes] = {
        "public-key": "04aabb",
        "empty": "",
        "session-id-bin": bytes(range(256)),
        "empty-bin": b"",
    }
    seen: list[IncomingCall] = []

    async def handle(call: IncomingCall) -> None:
        seen.append(call)
        requests = await read_all(call.stream)
        await call.stream.send_many([b"reply to " + b"".join(requests)])

    async with net.connected(handle) as channel:
        reply = await channel.call(PING, b"request", metadata=metadata, timeout_s=PATIENT_S)
    check(reply == b"reply to request", f"the reply is {reply!r}")
    [call] = seen
    check(call.method == PING, f"the method is {call.method}")
    for key, value in metadata.items():
        check(call.metadata.get(key) == value, f"{key} is {call.metadata.get(key)!r}")
    check(call.caller.host == net.fixture.client_host, f"the caller is at {call.caller.host}")
    check(call.caller.port > 0, "the caller has no port")


@proves("an empty request and an empty reply are messages too")
async def an_empty_message_passes(net: Net) -> None:
    requests: list[bytes] = []

    async def handle(call: IncomingCall) -> None:
        requests.extend(await read_all(call.stream))
        await call.stream.send_many([b""])

    async with net.connected(handle) as channel:
        reply = await channel.call(PING, b"", metadata={}, timeout_s=PATIENT_S)
    check(requests == [b""], f"the handler read {requests}")
    check(reply == b"", f"the reply is {reply!r}")


@proves("a reply of 1 MiB passes, unchanged")
async def a_large_reply_passes(net: Net) -> None:
    large = bytes(range(256)) * 4096

    async def handle(call: IncomingCall) -> None:
        await read_all(call.stream)
        await call.stream.send_many([large])

    async with net.connected(handle) as channel:
        for method in REQUEST_BLOCK, REQUEST_BLOCKS:
            reply = await channel.call(method, b"x", metadata={}, timeout_s=PATIENT_S)
            check(reply == large, f"{len(reply)} bytes came, not those that were sent")


@proves("a handler's CallFailedError gives its code and details to the caller, however early")
async def a_status_comes_with_its_details(net: Net) -> None:
    details = 'height 5 is unknown: 100% "nö"'

    async def refuse_unread(call: IncomingCall) -> None:
        raise CallFailedError(StatusCode.NOT_FOUND, details)

    async def refuse_read(call: IncomingCall) -> None:
        await read_all(call.stream)
        raise CallFailedError(StatusCode.UNAUTHENTICATED)

    handlers = {PING.name: refuse_unread, CHECK_HEALTH.name: refuse_read}
    async with net.connected(by_method(handlers)) as channel:
        for size in 0, MAX_REQUEST_BYTES:  # the refusal can overtake a large request
            with raises(CallFailedError, "a call that is refused") as caught:
                await channel.call(PING, bytes(size), metadata={}, timeout_s=PATIENT_S)
            check(caught.value.code is StatusCode.NOT_FOUND, f"the code is {caught.value.code}")
            check(caught.value.details == details, f"the details are {caught.value.details!r}")
        with raises(CallFailedError, "a call that is refused") as caught:
            await channel.call(CHECK_HEALTH, b"", metadata={}, timeout_s=PATIENT_S)
        check(caught.value.code is StatusCode.UNAUTHENTICATED, f"the code is {caught.value.code}")
        check(caught.value.details == "", f"the details are {caught.value.details!r}")


@proves("a handler that replies without reading is heard")
async def a_reply_without_reading_arrives(net: Net) -> None:
    async def handle(call: IncomingCall) -> None:
        await call.stream.send_many([b"unread"])

    async with net.connected(handle) as channel:
        for size in 0, MAX_REQUEST_BYTES:
            reply = await channel.call(PING, bytes(size), metadata={}, timeout_s=PATIENT_S)
            check(reply == b"unread", f"the reply is {reply!r}")


@proves("a handler's other exceptions are UNKNOWN without details, and hurt no other call")
async def a_failing_handler_tells_nothing(net: Net) -> None:
    async def fail(call: IncomingCall) -> None:
        raise ValueError("a secret of the server")

    async def fail_in_a_group(call: IncomingCall) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, call)

    async def fail_after_a_reply(call: IncomingCall) -> None:
        await call.stream.send_many([b"reply"])
        raise KeyError("another secret")

    async with net.listening(echo) as other, net.dial(other.endpoint) as healthy:
        for handler in fail, fail_in_a_group, fail_after_a_reply:
            handlers: dict[str, CallHandler] = {PING.name: handler, CHECK_HEALTH.name: echo}
            async with net.connected(by_method(handlers)) as channel:
                with raises(CallFailedError, "a call whose handler fails") as caught:
                    await channel.call(PING, b"", metadata={}, timeout_s=PATIENT_S)
                code, told = caught.value.code, caught.value.details
                check(code is StatusCode.UNKNOWN, f"the code is {code}")
                check(told == "", f"the failure is told to the caller: {told!r}")
                reply = await channel.call(CHECK_HEALTH, b"x", metadata={}, timeout_s=PATIENT_S)
                check(reply == b"x", f"the next call gives {reply!r}")
        reply = await healthy.call(PING, b"x", metadata={}, timeout_s=PATIENT_S)
        check(reply == b"x", f"a call to another listener gives {reply!r}")


@proves("no reply, or more than one, to a unary call is an error")
async def a_unary_call_has_one_reply(net: Net) -> None:
    def replying(count: int) -> CallHandler:
        async def handle(call: IncomingCall) -> None:
            await read_all(call.stream)
            await call.stream.send_many([b"reply"] * count)

        return handle

    handlers = {PING.name: replying(0), CHECK_HEALTH.name: replying(2)}
    async with net.connected(by_method(handlers)) as channel:
        with raises(CallFailedError, "a call without a reply"):
            await channel.call(PING, b"", metadata={}, timeout_s=PATIENT_S)
        with raises(CallFailedError, "a call with two replies"):
            await channel.call(CHECK_HEALTH, b"", metadata={}, timeout_s=PATIENT_S)


@proves("a call ends at its deadline with DeadlineExceededError, and its handler is cancelled")
async def a_deadline_ends_both_sides(net: Net) -> None:
    witness = Witness()
    async with net.connected(by_method({PING.name: witness, CHECK_HEALTH.name: echo})) as channel:
        began_at = trio.current_time()
        with raises(DeadlineExceededError, "a call that is never answered"):
            await channel.call(PING, b"", metadata={}, timeout_s=SHORT_S)
        took_s = trio.current_time() - began_at
        # A little early is the rounding of a deadline that travels in whole milliseconds.
        check(SHORT_S * 0.9 <= took_s < PATIENT_S / 2, f"it took {took_s:.3f} s")
        if witness.began.is_set():
            await witness.ended.wait()
            check(witness.cancelled, "the handler ended, but was not cancelled")
        reply = await channel.call(CHECK_HEALTH, b"x", metadata={}, timeout_s=PATIENT_S)
        check(reply == b"x", f"the next call gives {reply!r}")


@proves("a caller that is cancelled leaves at once, and its handler is cancelled")
async def a_cancelled_call_cancels_its_handler(net: Net) -> None:
    witness = Witness()
    async with net.connected(by_method({PING.name: witness, CHECK_HEALTH.name: echo})) as channel:
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                await channel.call(PING, b"", metadata={}, timeout_s=PATIENT_S)

            nursery.start_soon(call)
            await witness.began.wait()
            nursery.cancel_scope.cancel()
        await witness.ended.wait()
        check(witness.cancelled, "the handler ended, but was not cancelled")
        reply = await channel.call(CHECK_HEALTH, b"x", metadata={}, timeout_s=PATIENT_S)
        check(reply == b"x", f"the next call gives {reply!r}")


@proves("50 concurrent calls on one channel each get their own reply, answered last to first")
async def calls_share_a_channel(net: Net) -> None:
    count = 50
    arrived = 0
    turns = [trio.Event() for _ in range(count + 1)]

    async def handle(call: IncomingCall) -> None:
        nonlocal arrived
        [request] = await read_all(call.stream)
        arrived += 1
        if arrived == count:
            turns[count].set()
        number = int(request)
        await turns[number + 1].wait()
        await call.stream.send_many([b"reply %d" % number])
        turns[number].set()

    async with net.connected(handle) as channel, trio.open_nursery() as nursery:

        async def call(number: int, method: Method) -> None:
            reply = await channel.call(method, b"%d" % number, metadata={}, timeout_s=PATIENT_S)
            check(reply == b"reply %d" % number, f"call {number} got {reply!r}")

        for number in range(count):
            nursery.start_soon(call, number, PING if number % 2 else CHECK_HEALTH)


CASES = (
    a_call_makes_its_round_trip,
    an_empty_message_passes,
    a_large_reply_passes,
    a_status_comes_with_its_details,
    a_reply_without_reading_arrives,
    a_failing_handler_tells_nothing,
    a_unary_call_has_one_reply,
    a_deadline_ends_both_sides,
    a_cancelled_call_cancels_its_handler,
    calls_share_a_channel,
)
