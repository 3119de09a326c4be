"""Our own transports, by the names that contenders give to their workers."""

from aelf_p2p import (
    GrpcTransport,
    NetworkOptions,
    PureRpcTransport,
    TcpTransport,
    Transport,
    WireLimits,
)


def make_transport(
    name: str, options: NetworkOptions, *, tls: bool, limits: WireLimits | None = None
) -> Transport:
    """The transport ``grpc``, ``tcp`` or ``purerpc``. Raises ValueError for another name."""
    match name:
        case "grpc":
            return GrpcTransport(options=options, limits=limits, insecure=not tls)
        case "tcp":
            return TcpTransport(options=options, limits=limits, tls=tls)
        case "purerpc":  # in an environment of its own: see ``benchmarks.environments``
            return PureRpcTransport(options=options, limits=limits, insecure=not tls)
    raise ValueError(f"no transport {name!r}: grpc, tcp or purerpc")
