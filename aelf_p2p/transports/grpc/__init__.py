"""The grpc transport: gRPC over HTTP/2 and TLS, the wire of AElf's nodes."""

from aelf_p2p.transports.grpc.transport import GrpcTransport

__all__ = ["GrpcTransport"]
