"""Idle peers: many of them in one process, each with a key and a connection of its own.

They answer what a node sends, and otherwise keep still. On our transports, but no nodes: what
their own process uses of memory is not what is measured.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from aelf_p2p import Endpoint, NetworkOptions, Transport, TransportError
from aelf_p2p.contracts import MessageStream
from aelf_p2p.core.envelope import (
    META_PUBLIC_KEY,
    decode_envelope_untrusted,
    envelope_body,
    reply_prefix,
    request_prefix,
)
from aelf_p2p.core.stream_handshake import encode_opening, parse_answer_untrusted
from aelf_p2p.wire import MessageType, StreamType
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from benchmarks.greeter import Greeter
from benchmarks.memory_use import allow_open_files
from benchmarks.our_nodes import answer_each
from benchmarks.transports import make_transport
from benchmarks.worker import Parent
from benchmarks.workload import HOST

CONNECT_TIMEOUT_S = 10.0
ANSWERING_TIMEOUT_S = 30.0
AT_ONCE = 16
"""So many connect at the same time: those who wait longer than a handshake may take are sent off.
"""


class IdlePeers:
    """All of them, in a nursery that is given."""

    def __init__(self, transport: Transport, port: int, nursery: trio.Nursery) -> None:
        self.connected = 0
        self.acknowledged = 0
        """Requests that they answered, all together."""
        self._transport = transport
        self._endpoint = Endpoint(HOST, port)
        self._nursery = nursery
        self._answered = trio.Event()

    async def grow(self, count: int) -> int:
        """Connect more, some at a time, until there are so many; all are ready then."""
        missing = count - self.connected
        limiter = trio.CapacityLimiter(AT_ONCE)

        async def connect() -> None:
            async with limiter:
                await self._nursery.start(self._live)

        async with trio.open_nursery() as nursery:
            for _ in range(missing):
                nursery.start_soon(connect)
        self.connected += missing
        return self.connected

    async def wait_acknowledged(self, total: int) -> int:
        """Wait until so many requests are answered; how many are."""
        with trio.move_on_after(ANSWERING_TIMEOUT_S):
            while self.acknowledged < total:
                await self._answered.wait()
        return self.acknowledged

    async def _live(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with _ready(self._transport, self._endpoint) as (stream, prefix):
            task_status.started()
            with suppress(TransportError):  # the node is gone, and counts its peers itself
                while messages := await stream.receive_many():
                    await self._answer(stream, prefix, messages)

    async def _answer(self, stream: MessageStream, prefix: bytes, messages: list[bytes]) -> None:
        replies = [
            prefix + envelope_body(message.message_type, message.request_id)
            for message in map(decode_envelope_untrusted, messages)
            if message.stream_type == StreamType.REQUEST
        ]
        await stream.send_many(replies)
        self.acknowledged += len(replies)
        self._answered.set()
        self._answered = trio.Event()


@asynccontextmanager
async def _ready(
    transport: Transport, endpoint: Endpoint
) -> AsyncIterator[tuple[MessageStream, bytes]]:
    """A stream whose handshake is exchanged and confirmed, and what replies on it begin with."""
    greeter = Greeter()
    key = greeter.public_key
    metadata = {META_PUBLIC_KEY: key.hex()}
    async with (
        transport.dial(endpoint, timeout_s=CONNECT_TIMEOUT_S) as channel,
        channel.open_stream(REQUEST_BY_STREAM, metadata=metadata) as stream,
    ):
        request_id = greeter.new_request_id()
        handshake = greeter.new_handshake().as_request()
        await stream.send_many([encode_opening(key, request_id, handshake)])
        answer, _ = parse_answer_untrusted(
            await stream.receive_many(), request_id, greeter.max_opening_bytes
        )
        remote = greeter.rules.check_reply_untrusted(answer, time.time_ns())
        confirmation = envelope_body(MessageType.CONFIRM_HAND_SHAKE, greeter.new_request_id())
        await stream.send_many([request_prefix(key, remote.session_id) + confirmation])
        await stream.receive_many()
        yield stream, reply_prefix(remote.session_id)


async def _run(parent: Parent) -> None:
    """Connect as many as it is asked, ``["connect", count]``, or wait until so many requests were
    answered, ``["answered", count]``; the answer is how many there are then."""
    transport, tls, port = map(parent.setup.get, ("transport", "tls", "port"))
    wire = make_transport(transport, NetworkOptions(), tls=tls)
    async with trio.open_nursery() as nursery:
        peers = IdlePeers(wire, port, nursery)

        async def answer(question: tuple[str, int]) -> int:
            what, count = question
            if what == "connect":
                return await peers.grow(count)
            return await peers.wait_acknowledged(count)

        await answer_each(parent, answer)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    allow_open_files()
    trio.run(_run, Parent())
