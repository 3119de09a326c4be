"""A client and a server of the tcp transport, and all that they may do to each other."""

from collections.abc import Iterator
from random import Random

from aelf_p2p.core.options import MIB
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.tcp.codec import FrameCodec
from tests.fuzz.conversation import converse

LIMITS = WireLimits(stranger_bytes=12 * MIB)  # whoever keeps to the windows is right then


def seeds() -> Iterator[bytes]:
    yield from (Random(seed).randbytes(400) for seed in range(4))
    yield b""


def target(data: bytes) -> bool:
    return converse(_codec, data)


def _codec(is_client: bool) -> FrameCodec:
    return FrameCodec(is_client=is_client, limits=LIMITS)
