"""``TcpTransport``: length-prefixed frames on the connections of the socket transports."""

from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.net.transport import CodecTransport
from aelf_p2p.transports.tcp.codec import FrameCodec

ALPN = "aelf-p2p"


class TcpTransport(CodecTransport):
    """For networks of our own nodes: simpler than HTTP/2, and the fastest.

    Without ``tls`` everyone on the way can read and change what is sent; signatures still tell who
    is who. ``options`` should be those of the node: they hold the limits of messages.
    """

    def __init__(
        self,
        *,
        options: NetworkOptions | None = None,
        limits: WireLimits | None = None,
        tls: bool = True,
    ) -> None:
        limits = limits or WireLimits()
        super().__init__(
            server_codec=lambda: FrameCodec(is_client=False, limits=limits),
            client_codec=lambda endpoint: FrameCodec(is_client=True, limits=limits),
            options=options or NetworkOptions(),
            limits=limits,
            alpn=ALPN,
            secure=tls,
        )
