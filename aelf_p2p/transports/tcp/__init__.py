"""The tcp transport: length-prefixed frames, for networks of our own nodes."""

from aelf_p2p.transports.tcp.transport import TcpTransport

__all__ = ["TcpTransport"]
