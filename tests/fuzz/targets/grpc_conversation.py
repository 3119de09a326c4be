"""A client and a server of the grpc transport, and all that they may do to each other."""

from collections.abc import Iterator
from random import Random

from aelf_p2p.transports.grpc.codec import GrpcCodec
from aelf_p2p.transports.net.limits import WireLimits
from tests.fuzz.conversation import converse

LIMITS = WireLimits()


def seeds() -> Iterator[bytes]:
    yield from (Random(seed).randbytes(400) for seed in range(4))
    yield b""


def target(data: bytes) -> bool:
    return converse(_codec, data)


def _codec(is_client: bool) -> GrpcCodec:
    return GrpcCodec(is_client=is_client, limits=LIMITS, authority="test", scheme="http")
