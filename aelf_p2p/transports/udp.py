"""One question and one answer over UDP."""

from collections.abc import Callable

import trio

from aelf_p2p.contracts import DatagramReply
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import ConnectionLostError

MAX_REPLY_BYTES = 1024


async def ask_over_udp(
    endpoint: Endpoint, request: bytes, *, wall_ns: Callable[[], int]
) -> DatagramReply:
    """Send a datagram, and wait for the first that comes back from where it went, cut at 1 KiB.

    Bring a deadline: what is lost is not sent again. It also bounds the resolution of a name. The
    addresses of a host are tried in turn while none can be sent to. Raises ConnectionLostError.
    """
    try:
        addresses = await trio.socket.getaddrinfo(
            endpoint.host, endpoint.port, type=trio.socket.SOCK_DGRAM
        )
    except OSError as exc:
        raise ConnectionLostError(f"{endpoint}: {exc}") from exc
    error: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        try:
            with trio.socket.socket(family, kind, protocol) as socket:
                await socket.connect(address)  # from now on the kernel drops what others send
                sent_ns = wall_ns()
                await socket.send(request)
                payload = await socket.recv(MAX_REPLY_BYTES)
                return DatagramReply(payload, sent_ns, wall_ns())
        except OSError as exc:  # such as no route to IPv6, or nobody at the port
            error = exc
    raise ConnectionLostError(f"{endpoint}: {error or 'it has no address'}") from error
