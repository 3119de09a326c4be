"""Floods against a whole node, over TLS, with its default limits: when they end and what they cost.

The node and a healthy peer are processes of their own; the attacker is this one. Each flood is made
twice in one connection after another, and the second is looked at: so memory that the first made
the node keep for all times does not count.
"""

import gzip
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle, repeat
from pathlib import Path

import trio
from hyperframe.frame import SettingsFrame

from aelf_p2p import Endpoint, GrpcTransport, Identity, Transaction, TransportError, open_node
from aelf_p2p.core.encoders import encode_varint
from aelf_p2p.core.envelope import envelope_body
from aelf_p2p.core.options import MIB
from aelf_p2p.peers.stream_peer import StreamPeer
from aelf_p2p.testing.vectors import load_vectors
from aelf_p2p.wire import BlocksRequest, MessageType
from tests.faults.processes import other_process, read_line
from tests.transports.hostile.floods import FLOODS, Flood
from tests.transports.hostile.raw_connection import for_ever, message
from tests.transports.hostile.raw_http2 import PREFACE, RawPeer, data, request_pairs, settings

LASTING_S = 2.0
"""How long a flood is gone on with that nobody ends."""
AFTER_S = 5.0
"""Behind a flood, until it is looked at what the node still holds."""
_SAMPLE_S = 0.01
_MB = 1e6


@dataclass(frozen=True)
class Figures:
    """What the second of two floods came to."""

    name: str
    ended_s: float | None
    """When the node dropped the attacker; None when it bore it for ``LASTING_S``."""
    neighbour_p99_s: float
    """Of a healthy peer's health checks meanwhile."""
    growth_mb: float
    """Of the node's resident memory, at most."""
    kept_mb: float
    """Of that, ``AFTER_S`` later."""


Attack = Callable[[Endpoint], Awaitable[bool]]
"""Makes one flood; whether the node ended it."""


# --- attacks --------------------------------------------------------------------------------------


async def flood_of_frames(flood: Flood, at: Endpoint) -> bool:
    """By a stranger."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    stream = await trio.open_tcp_stream(at.host, at.port)
    secured = trio.SSLStream(stream, context, https_compatible=True)
    async with secured:
        peer = RawPeer(secured)
        await peer.send(PREFACE, settings())
        await peer.read_until(lambda: peer.has(SettingsFrame, 0))
        with trio.move_on_after(LASTING_S):
            await peer.attack(flood(peer))
            return True
    return False


async def flood_of_messages(
    make: Callable[[], Iterator[bytes]], at: Endpoint, *, batch: int = 64
) -> bool:
    """By a peer on its stream, which reads what it is answered."""
    async with open_node(
        identity=Identity.generate(), transport=GrpcTransport(), host="127.0.0.1", port=0
    ) as node:
        node.workers.discovery.pause()
        peer = await node.connect(at)
        assert isinstance(peer, StreamPeer)
        bodies = make()
        with trio.move_on_after(LASTING_S):
            try:
                while True:
                    await peer._stream.send_many(
                        [peer._prefix + next(bodies) for _ in range(batch)]
                    )
            except TransportError:
                return True
    return False


def bodies_of(message_type: int, messages: Iterator[bytes]) -> Iterator[bytes]:
    for number, each in zip(count(), messages, strict=False):
        yield envelope_body(message_type, f"1700000000000_{number:036}", each)


def other_transactions() -> Iterator[bytes]:
    """Well-formed, each another, and all with a wrong signature."""
    for number in count():
        yield Transaction.build(
            from_address=bytes(32),
            to_address=bytes(32),
            method_name="m",
            params=number.to_bytes(8, "big"),
            signature=bytes(65),
        ).raw


def asked_blocks() -> bytes:
    message = BlocksRequest(count=50)
    message.previous_block_hash.value = bytes(32)
    return message.SerializeToString()


def bombs(peer: RawPeer) -> Iterator[bytes]:
    """Calls, each with 14 MiB in a frame."""
    bomb = message(gzip.compress(bytes(14 * MIB)), compressed=1)
    pairs = [*request_pairs(), ("grpc-encoding", "gzip")]
    return for_ever(lambda at: peer.headers(2 * at + 1, pairs) + data(2 * at + 1, bomb))


def full_of_unknown_fields() -> Iterator[bytes]:
    """Transactions of 4 MiB that are well-formed, and take most of a second to walk over."""
    first = next(other_transactions())
    field = encode_varint(100_000 << 3) + bytes(1)
    yield from repeat(first + field * (MIB))


def messages(message_type: int, raws: Callable[[], Iterator[bytes]], *, batch: int = 64) -> Attack:
    return partial(flood_of_messages, lambda: bodies_of(message_type, raws()), batch=batch)


REAL = [vector.raw for vector in load_vectors().transactions]
ATTACKS: dict[str, Attack] = {
    **{name: partial(flood_of_frames, known.flood) for name, known in FLOODS.items()},
    "calls with gzip bombs": partial(flood_of_frames, bombs),
    "a peer: pings": messages(MessageType.PING, lambda: cycle([b""])),
    "a peer: requests for blocks": messages(
        MessageType.REQUEST_BLOCKS, lambda: cycle([asked_blocks()])
    ),
    "a peer: the same transactions": messages(
        MessageType.TRANSACTION_BROADCAST, lambda: cycle(REAL)
    ),
    "a peer: other invalid transactions": messages(
        MessageType.TRANSACTION_BROADCAST, other_transactions
    ),
    "a peer: transactions of 4 MiB of tiny fields": messages(
        MessageType.TRANSACTION_BROADCAST, full_of_unknown_fields, batch=1
    ),
    "a peer: malformed transactions": messages(
        MessageType.TRANSACTION_BROADCAST, lambda: cycle([b"malformed"])
    ),
}


# --- measuring ------------------------------------------------------------------------------------


class Pinger:
    """The healthy peer."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process

    async def p99_s(self) -> float:
        """Since it was last asked."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(b"\n")
        return float(json.loads(await read_line(self._process))["p99"])


@asynccontextmanager
async def healthy_peer(at: Endpoint) -> AsyncIterator[Pinger]:
    async with other_process("tests.faults.pinger", str(at)) as process:
        assert await read_line(process) == "connected"
        yield Pinger(process)


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MB


class _Peak:
    def __init__(self) -> None:
        self.mb = 0.0


@contextmanager
def sampling(pid: int, nursery: trio.Nursery) -> Iterator[_Peak]:
    """The most that is resident while the block runs."""
    peak = _Peak()
    scope = trio.CancelScope()

    async def sample() -> None:
        with scope:
            while True:
                peak.mb = max(peak.mb, resident_mb(pid))
                await trio.sleep(_SAMPLE_S)

    nursery.start_soon(sample)
    try:
        yield peak
    finally:
        peak.mb = max(peak.mb, resident_mb(pid))
        scope.cancel()


async def measure(tell: Callable[[Figures], object]) -> None:
    """Make all floods, one after another, and tell of each."""
    async with (
        other_process("tests.faults.other_node", "127.0.0.1") as victim,
        trio.open_nursery() as nursery,
    ):
        at = Endpoint("127.0.0.1", int(await read_line(victim)))
        async with healthy_peer(at) as pinger:
            for name, attack in ATTACKS.items():
                await attack(at)
                await trio.sleep(0.5)
                before = resident_mb(victim.pid)
                await pinger.p99_s()
                began = trio.current_time()
                with sampling(victim.pid, nursery) as peak:
                    ended = await attack(at)
                    took_s = trio.current_time() - began
                p99_s = await pinger.p99_s()
                await trio.sleep(AFTER_S)
                kept = resident_mb(victim.pid) - before
                tell(Figures(name, took_s if ended else None, p99_s, peak.mb - before, kept))


if __name__ == "__main__":
    trio.run(measure, print)
