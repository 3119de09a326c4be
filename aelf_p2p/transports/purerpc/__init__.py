"""The purerpc transport: a thin layer over another project's gRPC for trio.

Nothing here imports purerpc until a ``PureRpcTransport`` is made: it needs an h2 below 4, and so an
environment of its own.
"""

from aelf_p2p.transports.purerpc.transport import PureRpcTransport

__all__ = ["PureRpcTransport"]
