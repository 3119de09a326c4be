"""``PureRpcTransport``: purerpc's connections on sockets and TLS of ours."""

import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module, metadata
from ssl import SSLContext

import trio

from aelf_p2p.contracts import CallHandler, RpcChannel
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import ConnectionLostError, DeadlineExceededError, MisuseError
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.single_error import single_error_as_itself
from aelf_p2p.transports.grpc.codec import LEAST_WINDOW_BYTES
from aelf_p2p.transports.net import sockets, tls
from aelf_p2p.transports.net.budgets import ByteBudget
from aelf_p2p.transports.net.channel import SocketChannel
from aelf_p2p.transports.net.connection import Settings
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.net.server import Strangers

log = logging.getLogger(__name__)

ALPN = "h2"
NEEDED = {"purerpc": ("0.8", None), "anyio": ("4", None), "h2": ("3.1", "4")}
"""From which version on, and below which: with an h2 of another kind, purerpc is not even imported,
since it changes what it finds there."""


class PureRpcTransport:
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
        limits = self._limits = limits or WireLimits()
        if limits.call_window_bytes < LEAST_WINDOW_BYTES:  # callers fill that unasked
            raise MisuseError(f"call_window_bytes must be at least {LEAST_WINDOW_BYTES}")
        held = ByteBudget(limits.all_held_bytes)
        self._settings = Settings(
            options=options or NetworkOptions(),
            limits=limits,
            held=held,
            held_for_strangers=ByteBudget(limits.all_strangers_bytes, held),
        )
        self._strangers = Strangers(limits.max_strangers)
        self._idlers = Strangers(limits.max_strangers, limits.max_idle_per_host)
        self._connections = 0
        self._scheme = "http" if insecure else "https"
        self._server_tls: SSLContext | None = None
        self._client_tls: SSLContext | None = None
        self._certificate_hash: bytes | None = None
        if insecure:
            log.warning("purerpc without TLS: for benchmarks only, AElf's nodes do not speak it")
        else:
            identity = tls.process_identity()
            self._certificate_hash = hashlib.sha256(identity.certificate).digest()
            self._server_tls = identity.server_context((ALPN,))
            self._client_tls = identity.client_context((ALPN,))

    # --- dialing ---

    @asynccontextmanager
    async def dial(self, endpoint: Endpoint, *, timeout_s: float) -> AsyncIterator[RpcChannel]:
        """Connect. See ``Transport``."""
        from aelf_p2p.transports.purerpc.connection import Connection  # noqa: PLC0415 - purerpc

        stream: trio.abc.Stream | None = None
        with trio.move_on_after(timeout_s):
            stream = await self._connect(endpoint)
        if stream is None:
            raise DeadlineExceededError(f"{endpoint} did not answer within {timeout_s:g} s")
        connection = Connection(
            stream,
            settings=self._settings,
            is_client=True,
            remote=str(endpoint),
            scheme=self._scheme,
        )
        with single_error_as_itself():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.run)
                try:
                    await connection.begun.wait()
                    yield SocketChannel(connection, tls.shown_certificate_hash(stream))
                finally:
                    connection.shut_down()

    async def _connect(self, endpoint: Endpoint) -> trio.abc.Stream:
        stream = await sockets.connect(endpoint)
        if self._client_tls is None:
            return stream
        return await tls.handshake_client(
            stream, self._client_tls, alpn_required=ALPN, endpoint=endpoint
        )

    # --- listening ---

    async def serve(
        self,
        host: str,
        port: int,
        handler: CallHandler,
        *,
        task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen until cancelled. See ``Transport``."""
        listeners, endpoint = await sockets.open_listeners(host, port)
        with single_error_as_itself():
            async with trio.open_nursery() as nursery:
                task_status.started(endpoint)
                await sockets.accept_forever(listeners, partial(self._accept, nursery, handler))

    def _accept(
        self, nursery: trio.Nursery, handler: CallHandler, stream: trio.SocketStream
    ) -> None:
        if self._connections >= self._limits.max_connections:
            log.debug("a connection over %d was not accepted", self._limits.max_connections)
            stream.socket.close()
        else:
            self._connections += 1
            nursery.start_soon(self._serve_connection, stream, handler)

    async def _serve_connection(self, stream: trio.SocketStream, handler: CallHandler) -> None:
        """An accepted connection, from its first byte to its last."""
        deadline = trio.current_time() + self._limits.stranger_timeout_s
        scope = trio.CancelScope(deadline=deadline)
        self._strangers.add(scope)
        try:
            with scope:
                await self._serve_caller(stream, handler, scope)
        except Exception:  # a fault of ours on one connection is no reason to drop the others
            log.exception("serving a connection failed")
        finally:
            self._strangers.discard(scope)
            self._idlers.discard(scope)
            self._connections -= 1
            stream.socket.close()

    async def _serve_caller(
        self, stream: trio.SocketStream, handler: CallHandler, scope: trio.CancelScope
    ) -> None:
        from aelf_p2p.transports.purerpc.server import ServerConnection  # noqa: PLC0415 - purerpc

        caller = sockets.caller_of(stream)
        if caller is None:
            return
        secured: trio.abc.Stream = stream
        if self._server_tls is not None:
            try:
                secured = await tls.handshake_server(stream, self._server_tls)
            except ConnectionLostError as exc:
                log.debug("%s: %s", caller, exc)
                return
        connection = ServerConnection(
            secured,
            settings=self._settings,
            caller=caller,
            handler=handler,
            certificate_hash=self._certificate_hash,
            scope=scope,
            strangers=self._strangers,
            idlers=self._idlers,
        )
        with single_error_as_itself():
            await connection.run()


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
