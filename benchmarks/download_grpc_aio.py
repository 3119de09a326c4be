"""The same download on grpc.aio at both ends.

The server holds the reply's bytes, made once: it has no store to look into. The client parses the
reply with protobuf; that it then computes the hashes that a node needs, of each block and each
transaction, is left out or not, as it is asked.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from aelf_p2p import Block
from aelf_p2p.core.chain_status import GENESIS_PREVIOUS_HASH
from aelf_p2p.core.envelope import envelope_body, reply_prefix, request_prefix
from aelf_p2p.core.payloads import encode_block_list, encode_blocks_request
from aelf_p2p.wire import BlockList, MessageType, StreamMessage
from aelf_p2p.wire.methods import REQUEST_BLOCKS, REQUEST_BY_STREAM
from benchmarks.aio_peer import aio_channel, aio_server, answer_each, server_certificate
from benchmarks.download_chain import make_blocks
from benchmarks.download_ours import PLAIN, TIMEOUT_S, Expected
from benchmarks.greeter import Greeter
from benchmarks.our_nodes import cpu_seconds
from benchmarks.worker import Parent
from benchmarks.workload import Stopwatch

_SESSION = bytes(16)


@asynccontextmanager
async def serving(blocks: Sequence[Block], *, tls: bool) -> AsyncIterator[int]:
    """The server; gives its port."""
    reply = encode_block_list(block.encode() for block in blocks)

    async def answer_on_stream(_requests: object, context: grpc.aio.ServicerContext) -> None:
        prefix = reply_prefix(_SESSION)
        while (data := await context.read()) is not grpc.aio.EOF:
            asked = StreamMessage.FromString(data)
            body = envelope_body(asked.message_type, asked.request_id, reply)
            await context.write(prefix + body)

    async def answer(_request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        context.set_compression(grpc.Compression.Gzip)
        await context.send_initial_metadata(())  # else it compresses nothing
        return reply

    handlers = {
        REQUEST_BY_STREAM.name: grpc.stream_stream_rpc_method_handler(answer_on_stream),
        REQUEST_BLOCKS.name: grpc.unary_unary_rpc_method_handler(answer),
    }
    async with aio_server(handlers, tls=tls) as port:
        yield port


class Downloader:
    """The client, on one channel."""

    def __init__(self, channel: grpc.aio.Channel, expected: Expected) -> None:
        self._greeter = Greeter()
        self._stream = channel.stream_stream(REQUEST_BY_STREAM.path)()
        self._unary = channel.unary_unary(REQUEST_BLOCKS.path)
        self._expected = expected

    async def download(self, encoding: str, *, hashing: bool) -> None:
        """Once. Raises RuntimeError when something else came than what is there."""
        expected = self._expected
        request = encode_blocks_request(GENESIS_PREVIOUS_HASH, expected.blocks)
        if encoding == PLAIN:
            reply = await self._ask_on_stream(request)
        else:
            reply = await self._unary(request, timeout=TIMEOUT_S)
        blocks = BlockList.FromString(reply).blocks
        if hashing:
            hashes = [hashes_of(block) for block in blocks]
            if hashes[-1][0].hex() != expected.tip_hash:
                raise RuntimeError("another chain came than what is there")
        if sum(len(block.transactions) for block in blocks) != expected.transactions:
            raise RuntimeError(f"{len(blocks)} blocks came instead of {expected}")

    def close(self) -> None:
        """End the stream."""
        self._stream.cancel()

    async def _ask_on_stream(self, request: bytes) -> bytes:
        prefix = request_prefix(self._greeter.public_key, _SESSION)
        request_id = self._greeter.new_request_id()
        await self._stream.write(
            prefix + envelope_body(MessageType.REQUEST_BLOCKS, request_id, request)
        )
        return StreamMessage.FromString(await self._stream.read()).message


@asynccontextmanager
async def connected(port: int, expected: Expected, *, tls: bool) -> AsyncIterator[Downloader]:
    """A client on a channel of its own."""
    async with aio_channel(port, server_certificate(port, tls=tls)) as channel:
        downloader = Downloader(channel, expected)
        yield downloader
        downloader.close()


def hashes_of(block: Any) -> list[bytes]:
    """The block's hash, and its transactions' ids: each of the message without its signature."""
    return [_hash(block.header), *(_hash(transaction) for transaction in block.transactions)]


def _hash(message: Any) -> bytes:
    message.ClearField("signature")
    return sha256(message.SerializeToString(deterministic=True)).digest()


async def serve(parent: Parent, blocks: Sequence[Block], *, tls: bool) -> None:
    """Serve the chain and say where, until the parent wants no more."""
    async with serving(blocks, tls=tls) as port:
        parent.send({"port": port, "expected": asdict(Expected.of(blocks))})
        await answer_each(parent, cpu_seconds)


async def _download(parent: Parent, port: int, *, tls: bool) -> None:
    async with connected(port, Expected(**parent.setup["expected"]), tls=tls) as downloader:

        async def repeat(question: tuple[str, int]) -> dict[str, Any]:
            encoding, count = question
            stopwatch = Stopwatch()
            with stopwatch.running():
                for _ in range(count):
                    await downloader.download(encoding, hashing=parent.setup["hashing"])
            return stopwatch.round.as_answer()

        parent.send("connected")
        await answer_each(parent, repeat)


async def _run(parent: Parent) -> None:
    """Serve; or connect, and download as it is asked: ``[encoding, count]``. The answer is what all
    of them took together, a ``Round``."""
    tls, port = map(parent.setup.get, ("tls", "port"))
    if port is None:
        await serve(parent, make_blocks(**parent.setup["chain"]), tls=tls)
    else:
        await _download(parent, port, tls=tls)


if __name__ == "__main__":
    asyncio.run(_run(Parent()))
