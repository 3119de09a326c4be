"""Cases about long-lived streams: order, ends, leaving."""

import random
from collections.abc import Sequence
from contextlib import suppress

import trio

from aelf_p2p.contracts import IncomingCall, MessageStream
from aelf_p2p.core.errors import CallFailedError, StatusCode, TransportError
from aelf_p2p.testing.conformance.harness import (
    PATIENT_S,
    Net,
    Witness,
    check,
    echo,
    proves,
    raises,
    read_all,
    streaming,
)
from aelf_p2p.wire.methods import BLOCK_BROADCAST_STREAM

MANY = 1000


def _messages(seed: int) -> list[bytes]:
    """Numbered messages of random sizes: mostly small, some empty but for their number."""
    rng = random.Random(seed)
    sizes = [rng.choice([0, 1, 100, rng.randrange(20_000)]) for _ in range(MANY)]
    return [b"%d:" % number + rng.randbytes(size) for number, size in enumerate(sizes)]


def _batches(messages: list[bytes], seed: int) -> list[list[bytes]]:
    """The messages in order, cut into batches of random lengths, some of them empty."""
    rng = random.Random(seed)
    batches = []
    while messages:
        length = rng.choice([0, 1, 2, rng.randrange(100)])
        batches.append(messages[:length])
        messages = messages[length:]
    return batches


def _check_same(got: Sequence[bytes], sent: Sequence[bytes], who: str) -> None:
    check(len(got) == len(sent), f"{who} got {len(got)} messages of {len(sent)}")
    wrong = next((n for n, (a, b) in enumerate(zip(got, sent, strict=True)) if a != b), None)
    check(wrong is None, f"{who} got another message {wrong} than was sent")


@proves("1,000 messages each way at the same time arrive in order, whatever their sizes")
async def order_is_kept_both_ways(net: Net) -> None:
    to_server, to_client = _messages(1), _messages(2)
    at_server: list[bytes] = []

    async def send(stream: MessageStream, messages: list[bytes], seed: int) -> None:
        for batch in _batches(messages, seed):
            await stream.send_many(batch)

    async def handle(call: IncomingCall) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, call.stream, to_client, 3)
            at_server.extend(await read_all(call.stream))

    async with net.streaming(handle) as stream, trio.open_nursery() as nursery:

        async def send_to_server() -> None:
            await send(stream, to_server, 4)
            await stream.send_eof()

        nursery.start_soon(send_to_server)
        at_client = await read_all(stream)
    _check_same(at_server, to_server, "the server")
    _check_same(at_client, to_client, "the client")


@proves("many messages sent in one go arrive each by itself, empty ones too")
async def many_in_one_go(net: Net) -> None:
    sent = [b"%d" % number if number % 3 else b"" for number in range(10 * MANY)]
    received: list[bytes] = []

    async def handle(call: IncomingCall) -> None:
        received.extend(await read_all(call.stream))
        await call.stream.send_many(received)

    async with net.streaming(handle) as stream:
        await stream.send_many(sent)
        await stream.send_eof()
        returned = await read_all(stream)
    _check_same(received, sent, "the server")
    _check_same(returned, sent, "the client")


@proves("what is sent without waiting, if it is, keeps its place among the others")
async def a_send_without_waiting_keeps_its_place(net: Net) -> None:
    sent = [b"%d" % number for number in range(10 * MANY)]
    received: list[bytes] = []

    async def handle(call: IncomingCall) -> None:
        received.extend(await read_all(call.stream))
        for message in received:
            if not call.stream.send_nowait(message):
                await call.stream.send_many([message])

    async with net.streaming(handle) as stream:
        for number, message in enumerate(sent):
            if number % 3 == 0 or not stream.send_nowait(message):
                await stream.send_many([message])
        await stream.send_eof()
        check(not stream.send_nowait(b"late"), "a message was sent after the end of its half")
        returned = await read_all(stream)
    _check_same(received, sent, "the server")
    _check_same(returned, sent, "the client")


@proves("a message of 1 MiB passes both ways, unchanged")
async def a_large_message_passes(net: Net) -> None:
    large = bytes(range(256)) * 4096
    async with net.streaming(echo) as stream:
        await stream.send_many([large])
        check(await stream.receive_many() == [large], "another message came back")
    received: list[bytes] = []

    async def handle(call: IncomingCall) -> None:
        received.extend(await read_all(call.stream))
        await call.stream.send_many([b""])

    async with (
        net.connected(handle) as channel,
        streaming(channel, BLOCK_BROADCAST_STREAM) as stream,
    ):
        await stream.send_many([large, large])
        await stream.send_eof()
        check(await read_all(stream) == [b""], "the stream is not answered")
    _check_same(received, [large, large], "the server")


@proves("a handler that answers a large message without reading it is heard")
async def a_reply_overtakes_a_large_message(net: Net) -> None:
    async def handle(call: IncomingCall) -> None:
        if call.metadata["role"] == "refuse":
            raise CallFailedError(StatusCode.NOT_FOUND, "unread")
        await call.stream.send_many([b"unread"])

    async def send(stream: MessageStream) -> None:
        with suppress(TransportError):  # the call can end under it
            await stream.send_many([bytes(1024 * 1024)])

    async with net.connected(handle) as channel:
        for role in "refuse", "answer":
            async with (
                streaming(channel, BLOCK_BROADCAST_STREAM, role=role) as stream,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(send, stream)
                if role == "answer":
                    check(await read_all(stream) == [b"unread"], "another answer than was sent")
                    continue
                with raises(CallFailedError, "a stream that is refused") as caught:
                    await stream.receive_many()
                check(caught.value.code is StatusCode.NOT_FOUND, f"it is {caught.value!r}")


@proves("a message waits for no other to follow it: each is answered before the next is sent")
async def messages_are_not_held_back(net: Net) -> None:
    async with net.streaming(echo) as stream:
        for number in range(20):
            await stream.send_many([b"%d" % number])
            got = await stream.receive_many()
            check(got == [b"%d" % number], f"message {number} came back as {got}")


@proves("a server can speak first")
async def the_server_speaks_first(net: Net) -> None:
    async def handle(call: IncomingCall) -> None:
        await call.stream.send_many([b"hello"])
        await read_all(call.stream)

    async with net.streaming(handle) as stream:
        check(await stream.receive_many() == [b"hello"], "another message than was sent")
        await stream.send_eof()
        check(await read_all(stream) == [], "messages after the last")


@proves("after send_eof the server reads the empty list, and can still answer")
async def a_client_ends_its_half(net: Net) -> None:
    async def handle(call: IncomingCall) -> None:
        messages = await read_all(call.stream)
        for message in messages:
            await call.stream.send_many([b"late " + message])

    async with net.streaming(handle) as stream:
        await stream.send_many([b"a", b"b"])
        await stream.send_eof()
        got = await read_all(stream)
    check(got == [b"late a", b"late b"], f"the answers are {got}")


@proves("after a handler returned, the client reads all that was sent and then the empty list")
async def a_server_ends_well(net: Net) -> None:
    sent = [b"%d" % number for number in range(100)]

    async def handle(call: IncomingCall) -> None:
        await call.stream.send_many(sent)

    async with net.connected(handle) as channel:
        async with streaming(channel) as stream:
            _check_same(await read_all(stream), sent, "the client")
            with raises(TransportError, "sending on a call that has ended"):
                await net.overfill(stream)
        async with streaming(channel) as stream:  # leaving early what has ended already
            check(bool(await stream.receive_many()), "the second call gives nothing")
        check(channel.is_open, "the end of a call closed its connection")


@proves("after a handler failed, the client reads all that was sent and then CallFailedError")
async def a_server_ends_with_a_status(net: Net) -> None:
    sent = [b"%d" % number for number in range(100)]

    async def handle(call: IncomingCall) -> None:
        await call.stream.send_many(sent)
        raise CallFailedError(StatusCode.RESOURCE_EXHAUSTED, "enough")

    async with net.connected(handle) as channel:
        async with streaming(channel) as stream:
            received: list[bytes] = []
            with raises(CallFailedError, "reading to a status") as caught:
                while batch := await stream.receive_many():
                    received += batch
            _check_same(received, sent, "the client")
            code, details = caught.value.code, caught.value.details
            check(code is StatusCode.RESOURCE_EXHAUSTED, f"the code is {code}")
            check(details == "enough", f"the details are {details!r}")
        check(channel.is_open, "the end of a call closed its connection")


@proves("leaving a stream early cancels its handler, whose goodbyes fail; the channel stays")
async def leaving_early_cancels_the_handler(net: Net) -> None:
    witness = Witness()
    goodbye_failed = trio.Event()

    async def handle(call: IncomingCall) -> None:
        first = await call.stream.receive_many()
        if first == [b"echo"]:
            await call.stream.send_many(first)
            return
        try:
            await witness(call)
        finally:
            with trio.CancelScope(deadline=trio.current_time() + PATIENT_S, shield=True):
                with raises(TransportError, "saying goodbye"):
                    await net.overfill(call.stream)
                goodbye_failed.set()

    async with net.connected(handle) as channel:
        async with streaming(channel) as stream:
            await stream.send_many([b"wait"])
            await witness.began.wait()
        await goodbye_failed.wait()
        check(witness.cancelled, "the handler ended, but was not cancelled")
        async with streaming(channel) as stream:
            await stream.send_many([b"echo"])
            check(await stream.receive_many() == [b"echo"], "the channel is damaged")


@proves("leaving a stream by an exception raises that exception, and cancels the handler")
async def leaving_by_an_exception(net: Net) -> None:
    witness = Witness()
    ours = RuntimeError("ours")
    async with net.connected(witness) as channel:
        try:
            async with streaming(channel):
                await witness.began.wait()
                raise ours
        except RuntimeError as exc:
            check(exc is ours, f"another exception came out: {exc!r}")
        await witness.ended.wait()
        check(witness.cancelled, "the handler ended, but was not cancelled")


@proves("a receive that is cancelled loses nothing")
async def a_cancelled_receive_loses_nothing(net: Net) -> None:
    sent = [b"%d" % number for number in range(200)]

    async def handle(call: IncomingCall) -> None:
        for message in sent:
            await call.stream.send_many([message])

    received: list[bytes] = []
    async with net.streaming(handle) as stream:
        ended = False
        while not ended:
            # Cancelled before it can receive, then once given the chance to.
            for timeout_s in 0, net.fixture.settle_s:
                with trio.move_on_after(timeout_s):
                    batch = await stream.receive_many()
                    received += batch
                    ended = ended or not batch
    _check_same(received, sent, "the client")


CASES = (
    order_is_kept_both_ways,
    many_in_one_go,
    a_send_without_waiting_keeps_its_place,
    a_large_message_passes,
    a_reply_overtakes_a_large_message,
    messages_are_not_held_back,
    the_server_speaks_first,
    a_client_ends_its_half,
    a_server_ends_well,
    a_server_ends_with_a_status,
    leaving_early_cancels_the_handler,
    leaving_by_an_exception,
    a_cancelled_receive_loses_nothing,
)
