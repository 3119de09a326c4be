"""A call of the transports that carry bytes only, from its opening to its end: the messages do not
depend on how the bytes were cut."""

import struct
from collections.abc import Iterable, Iterator

import trio

from aelf_p2p.core.errors import MalformedError, TransportError
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.transports.byte_call import ByteCall, _encode_opening
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM
from tests.fuzz.inputs import random_cuts
from tests.fuzz.mutation import Framing

_head = struct.Struct(">BI")
_MESSAGE = 255
MAX_BYTES = 16_384
OPTIONS = NetworkOptions(max_message_before_handshake_bytes=1000)

mutate = Framing(
    head_bytes=_head.size,
    length_of=lambda head: int.from_bytes(head[1:]),
    with_length=lambda head, length: _head.pack(head[0], length),
)


def _framed(kind: int, payload: bytes) -> bytes:
    return _head.pack(kind, len(payload)) + payload


def seeds() -> Iterator[bytes]:
    opening = _framed(_MESSAGE, _encode_opening(REQUEST_BY_STREAM, {"public-key": "04ab"}))
    some = _framed(_MESSAGE, b"one") + _framed(_MESSAGE, b"") + _framed(_MESSAGE, bytes(900))
    yield opening + some + _framed(0, b"")
    yield opening + some + _framed(13, b"why")
    yield opening + _framed(_MESSAGE, bytes(1001)) + some
    yield _framed(_MESSAGE, _encode_opening(PING, {"session-id-bin": b"\1"})) + some
    yield _framed(_MESSAGE, _encode_opening(None, {})) + _framed(7, bytes(2000))
    yield _framed(_MESSAGE, b"nothing")
    yield b""


class _Fed(ByteCall):
    """Receives what it was made with, and then finds the other side gone."""

    def __init__(self, reads: Iterable[bytes]) -> None:
        super().__init__("a call", OPTIONS)
        self._reads = iter(reads)

    async def send_some(self, data: bytearray) -> int:
        await trio.lowlevel.checkpoint()
        return len(data)

    async def receive_some(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return next(self._reads, b"")

    async def wait_left(self) -> None:
        await trio.sleep_forever()

    def close(self) -> None:
        pass


def target(data: bytes) -> bool:
    told = trio.run(_served, [data])
    assert told == trio.run(_served, random_cuts(data)), "it matters how the bytes were cut"
    return told[-1] == "the end"


async def _served(reads: Iterable[bytes]) -> list[object]:
    """What the call says, and its messages, and how it ended."""
    call = _Fed(reads)
    told: list[object] = []
    try:
        told.append(await call.receive_opening())
        while messages := await call.receive_many():
            told += messages
        told.append("the end")
    except (MalformedError, TransportError) as exc:
        told.append(f"{type(exc).__name__}: {exc}")
    return told
