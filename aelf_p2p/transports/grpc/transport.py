"""``GrpcTransport``: the codec of gRPC on the connections of the socket transports."""

import logging

import h2

from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.transports.grpc.codec import GrpcCodec
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.net.transport import CodecTransport

log = logging.getLogger(__name__)

LEAST_H2 = (4, 4, 1)
"""Older ones lack limits that hold off floods; purerpc's extra would bring such a one."""


class GrpcTransport(CodecTransport):
    """What AElf's nodes speak. Always over TLS; ``insecure`` is for benchmarks on one machine.

    ``options`` should be those of the node: they hold the limits of messages. Raises MisuseError
    with an h2 older than 4.4.1.
    """

    def __init__(
        self,
        *,
        options: NetworkOptions | None = None,
        limits: WireLimits | None = None,
        insecure: bool = False,
    ) -> None:
        check_h2_version(h2.__version__)
        limits = limits or WireLimits()
        scheme = "http" if insecure else "https"
        if insecure:
            log.warning("grpc without TLS: for benchmarks only, AElf's nodes do not speak it")

        def client_codec(endpoint: Endpoint) -> GrpcCodec:
            return GrpcCodec(is_client=True, limits=limits, authority=str(endpoint), scheme=scheme)

        super().__init__(
            server_codec=lambda: GrpcCodec(is_client=False, limits=limits),
            client_codec=client_codec,
            options=options or NetworkOptions(),
            limits=limits,
            alpn="h2",
            secure=not insecure,
        )


def check_h2_version(version: str) -> None:
    """Raises MisuseError for an h2 that is too old to face strangers."""
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    if numbers < LEAST_H2:
        least = ".".join(map(str, LEAST_H2))
        raise MisuseError(f"the grpc transport needs h2 {least} or newer, not {version}")
