"""Cases about who waits for whom: full windows, stalled readers, cancelled senders."""

from dataclasses import dataclass, field

import trio

from aelf_p2p.contracts import IncomingCall, MessageStream
from aelf_p2p.testing.conformance.harness import (
    PATIENT_S,
    Net,
    check,
    echo,
    proves,
    read_all,
    streaming,
    wait_stuck,
)
from aelf_p2p.wire.methods import PING

CHUNK = 16 * 1024


def _chunk(number: int) -> bytes:
    """A message that is told from all others, at either end of it."""
    return b"%08d" % number + bytes(CHUNK - 16) + b"%08d" % number


@dataclass
class _Sender:
    """Sends numbered chunks, one by one, until it has sent far more than a stream may hold."""

    most: int
    sent: int = 0

    async def __call__(self, stream: MessageStream) -> None:
        while self.sent < self.most:
            await stream.send_many([_chunk(self.sent)])
            self.sent += 1


@dataclass
class _LazyReader:
    """A handler that reads nothing until it is told to, then everything."""

    go: trio.Event = field(default_factory=trio.Event)
    received: list[bytes] = field(default_factory=list)

    async def __call__(self, call: IncomingCall) -> None:
        await self.go.wait()
        self.received = await read_all(call.stream)


def _check_chunks(received: list[bytes], count: int) -> None:
    check(len(received) == count, f"{len(received)} chunks were received of {count}")
    wrong = [n for n, chunk in enumerate(received) if chunk != _chunk(n)]
    check(not wrong, f"chunks {wrong[:5]} are not what was sent")


def _new_sender(net: Net) -> _Sender:
    return _Sender(most=4 * net.fixture.max_in_flight_bytes // CHUNK)


async def _check_held_back(net: Net, sender: _Sender) -> None:
    sent = await wait_stuck(lambda: sender.sent, net.fixture.settle_s)
    check(sent > 0, "nothing could be sent at all")
    limit = net.fixture.max_in_flight_bytes // CHUNK
    check(sent <= limit, f"{sent} unread chunks of {CHUNK} bytes were taken, over {limit}")


@proves("a server that does not read makes the client wait; reading goes on with nothing lost")
async def a_client_waits_for_the_reader(net: Net) -> None:
    reader, sender = _LazyReader(), _new_sender(net)
    async with net.streaming(reader) as stream:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender, stream)
            await _check_held_back(net, sender)
            reader.go.set()
        await stream.send_eof()
        await read_all(stream)
    _check_chunks(reader.received, sender.most)


@proves("a client that does not read makes the handler wait; reading goes on with nothing lost")
async def a_handler_waits_for_the_reader(net: Net) -> None:
    sender = _new_sender(net)

    async def handle(call: IncomingCall) -> None:
        await sender(call.stream)

    async with net.streaming(handle) as stream:
        await _check_held_back(net, sender)
        received = await read_all(stream)
    _check_chunks(received, sender.most)


@proves("cancelling a sender that waits leaves whole messages, in order, and a usable stream")
async def a_cancelled_sender_leaves_the_stream_whole(net: Net) -> None:
    reader = _LazyReader()
    many = [_chunk(n) for n in range(4 * net.fixture.max_in_flight_bytes // CHUNK)]
    async with net.streaming(reader) as stream:
        for _ in range(2):  # the second finds no room from the beginning
            with trio.move_on_after(net.fixture.settle_s) as scope:
                await stream.send_many(many)
            check(scope.cancelled_caught, "a send of many bytes that nobody reads did not wait")
        reader.go.set()
        await stream.send_many([b"last"])
        await stream.send_eof()
        await read_all(stream)
    *chunks, last = reader.received
    check(last == b"last", "what was sent after the cancellation is not the last that was read")
    restart = next((n for n, chunk in enumerate(chunks) if n and chunk == many[0]), len(chunks))
    for prefix in chunks[:restart], chunks[restart:]:
        check(prefix == many[: len(prefix)], "a message is cut, lost or out of order")


@proves("a stalled stream holds up neither another stream of its channel nor a unary call")
async def a_stalled_stream_stalls_no_other(net: Net) -> None:
    reader, sender = _LazyReader(), _new_sender(net)

    async def handle(call: IncomingCall) -> None:
        await (reader if call.metadata.get("role") == "lazy" else echo)(call)

    async with net.connected(handle) as channel, streaming(channel, role="lazy") as stalled:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender, stalled)
            await _check_held_back(net, sender)
            async with streaming(channel, role="busy") as stream:
                for number in range(200):
                    await stream.send_many([_chunk(number)])
                    echoed = await stream.receive_many()
                    check(echoed == [_chunk(number)], f"chunk {number} came back changed")
                await stream.send_eof()
                check(await read_all(stream) == [], "messages after the last")
            reply = await channel.call(PING, b"x", metadata={}, timeout_s=PATIENT_S)
            check(reply == b"x", f"a unary call gives {reply!r}")
            check(sender.sent < sender.most, "the stalled stream was not stalled meanwhile")
            reader.go.set()
        await stalled.send_eof()
        await read_all(stalled)
    _check_chunks(reader.received, sender.most)


CASES = (
    a_client_waits_for_the_reader,
    a_handler_waits_for_the_reader,
    a_cancelled_sender_leaves_the_stream_whole,
    a_stalled_stream_stalls_no_other,
)
