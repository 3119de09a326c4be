"""``PureRpcTransport``: purerpc's connections on sockets and TLS of ours."""

import logging
from importlib import import_module, metadata

import trio

from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.transports.grpc.receive_windows import LEAST_WINDOW_BYTES
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.net.server import AcceptedConnection, OnCall, OnTrust
from aelf_p2p.transports.net.transport import DialedConnection, SocketTransport

log = logging.getLogger(__name__)

ALPN = "h2"
NEEDED = {"purerpc": ("0.8", None), "anyio": ("4", None), "h2": ("3.1", "4")}
"""From which version on, and below which: with an h2 of another kind, purerpc is not even imported,
since it changes what it finds there."""


class PureRpcTransport(SocketTransport):
    """gRPC over HTTP/2 and TLS as ``GrpcTransport`` speaks it, by the package purerpc; ``insecure``
    leaves TLS out, for benchmarks on one machine.

    For who has purerpc in the program already, and to compare: use it among nodes that you know,
    since ``stranger_bytes``, ``max_unread_bytes`` and ``late_frames`` of ``limits`` are not kept.
    ``options`` should be those of the node: they hold the limits of messages. Raises MisuseError
    when purerpc cannot be used, and for a ``call_window_bytes`` below HTTP/2's own.
    """

    def __init__(
        self,
        *,
        options: NetworkOptions | None = None,
        limits: WireLimits | None = None,
        insecure: bool = False,
    ) -> None:
        check_purerpc()
        limits = limits or WireLimits()
        if limits.call_window_bytes < LEAST_WINDOW_BYTES:  # callers fill that unasked
            raise MisuseError(f"call_window_bytes must be at least {LEAST_WINDOW_BYTES}")
        if insecure:
            log.warning("purerpc without TLS: for benchmarks only, AElf's nodes do not speak it")
        self._scheme = "http" if insecure else "https"
        super().__init__(
            options=options or NetworkOptions(), limits=limits, alpn=ALPN, secure=not insecure
        )

    def _client_connection(self, stream: trio.abc.Stream, endpoint: Endpoint) -> DialedConnection:
        from aelf_p2p.transports.purerpc.connection import Connection  # noqa: PLC0415 - purerpc

        return Connection(
            stream,
            settings=self._settings,
            is_client=True,
            remote=str(endpoint),
            scheme=self._scheme,
        )

    def _server_connection(
        self, stream: trio.abc.Stream, caller: Endpoint, on_call: OnCall, on_trust: OnTrust
    ) -> AcceptedConnection:
        from aelf_p2p.transports.purerpc.connection import Connection  # noqa: PLC0415 - purerpc

        return Connection(
            stream,
            settings=self._settings,
            is_client=False,
            remote=str(caller),
            on_call=on_call,
            on_trust=on_trust,
        )


def check_purerpc() -> None:
    """Import purerpc, for the first time. Raises MisuseError, which says what to do."""
    what, remedy = "the purerpc transport", "install aelf-p2p[purerpc] in an environment of its own"
    for name, (least, below) in NEEDED.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError as exc:
            raise MisuseError(f"{what} needs the package {name}: {remedy}") from exc
        if _numbers(found) < _numbers(least):
            raise MisuseError(f"{what} needs {name} {least} or newer, not {found}: {remedy}")
        if below is not None and _numbers(found) >= _numbers(below):
            raise MisuseError(f"{what} needs {name} below {below}, not {found}: {remedy}")
    try:
        import_module("aelf_p2p.transports.purerpc.binding")
    except ImportError as exc:
        raise MisuseError(f"{what} cannot be used: {exc}; {remedy}") from exc


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
