"""A transport over sockets: TCP, TLS and connections; what differs is the codec."""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from ssl import SSLContext
from typing import Protocol

import trio

from aelf_p2p.contracts import CallHandler, OnFault, RpcChannel, ignore_fault
from aelf_p2p.core.budgets import ByteBudget
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    RulesBrokenError,
    TransportError,
)
from aelf_p2p.core.host_rates import HostRates
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.single_error import single_error_as_itself
from aelf_p2p.transports.net import sockets, tls
from aelf_p2p.transports.net.call_table import Settings
from aelf_p2p.transports.net.channel import ClientConnection, SocketChannel
from aelf_p2p.transports.net.codec import Codec
from aelf_p2p.transports.net.connection import Connection
from aelf_p2p.transports.net.eager_stream import EagerStream
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.net.server import (
    AcceptedConnection,
    OnCall,
    OnTrust,
    ServerConnection,
    Strangers,
)

log = logging.getLogger(__name__)


class DialedConnection(ClientConnection, Protocol):
    """What is asked of a dialed connection, of whichever transport."""

    async def run_io(self) -> None:
        """Read and write until the other side is gone, or ``shut_down`` is called."""

    async def wait_begun(self) -> None:
        """Wait until calls can be made, or never."""

    async def shut_down(self) -> None:
        """End it politely."""


class SocketTransport(ABC):
    """Listens and dials. A transport says what its connections are made of."""

    def __init__(
        self,
        *,
        options: NetworkOptions,
        limits: WireLimits,
        alpn: str | None,
        secure: bool,
    ) -> None:
        self._limits = limits
        held = ByteBudget(limits.all_held_bytes)
        self._settings = Settings(
            options=options,
            limits=limits,
            held=held,
            held_for_strangers=ByteBudget(limits.all_strangers_bytes, held),
        )
        self._strangers = Strangers(limits.max_strangers)
        self._idlers = Strangers(limits.max_strangers, limits.max_idle_per_host)
        self._host_rates = HostRates(limits.connections_per_host)
        self._connections = 0
        self._alpn = alpn
        self._server_tls: SSLContext | None = None
        self._client_tls: SSLContext | None = None
        self._certificate_hash: bytes | None = None
        if secure:
            identity = tls.process_identity()
            self._certificate_hash = hashlib.sha256(identity.certificate).digest()
            offered = () if alpn is None else (alpn,)
            self._server_tls = identity.server_context(offered)
            self._client_tls = identity.client_context(offered)

    @abstractmethod
    def _client_connection(self, stream: trio.abc.Stream, endpoint: Endpoint) -> DialedConnection:
        """A connection on what was dialed."""

    @abstractmethod
    def _server_connection(
        self, stream: trio.abc.Stream, caller: Endpoint, on_call: OnCall, on_trust: OnTrust
    ) -> AcceptedConnection:
        """A connection on what was accepted."""

    # --- dialing ---

    @asynccontextmanager
    async def dial(self, endpoint: Endpoint, *, timeout_s: float) -> AsyncIterator[RpcChannel]:
        """Connect. See ``Transport``."""
        stream: trio.abc.Stream | None = None
        with trio.move_on_after(timeout_s):
            stream = await self._connect(endpoint)
        if stream is None:
            raise DeadlineExceededError(f"{endpoint} did not answer within {timeout_s:g} s")
        connection = self._client_connection(stream, endpoint)
        with single_error_as_itself():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.run_io)
                try:
                    await connection.wait_begun()
                    yield SocketChannel(connection, tls.shown_certificate_hash(stream))
                finally:
                    await connection.shut_down()

    async def _connect(self, endpoint: Endpoint) -> trio.abc.Stream:
        stream = await sockets.connect(endpoint)
        if self._client_tls is None:
            return EagerStream(stream)
        return await tls.handshake_client(
            stream, self._client_tls, alpn_required=self._alpn, endpoint=endpoint
        )

    # --- listening ---

    async def serve(
        self,
        host: str,
        port: int,
        handler: CallHandler,
        *,
        on_fault: OnFault = ignore_fault,
        task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen until cancelled. See ``Transport``."""
        listeners, endpoint = await sockets.open_listeners(host, port)
        with single_error_as_itself():
            async with trio.open_nursery() as nursery:
                task_status.started(endpoint)
                serve = partial(self._serve_connection, handler, on_fault)
                await sockets.accept_forever(listeners, partial(self._accept, nursery, serve))

    def _accept(
        self,
        nursery: trio.Nursery,
        serve: Callable[[trio.SocketStream, Endpoint], Awaitable[None]],
        stream: trio.SocketStream,
    ) -> None:
        caller = sockets.caller_of(stream)
        if caller is not None and self._admits(caller):
            self._connections += 1
            nursery.start_soon(serve, stream, caller)
        else:
            stream.socket.close()

    def _admits(self, caller: Endpoint) -> bool:
        if self._connections >= self._limits.max_connections:
            log.debug("a connection over %d was not accepted", self._limits.max_connections)
            return False
        if not self._host_rates.spend(caller.host, trio.current_time()):
            log.debug("%s connects too often", caller)
            return False
        return True

    async def _serve_connection(
        self, handler: CallHandler, on_fault: OnFault, stream: trio.SocketStream, caller: Endpoint
    ) -> None:
        """An accepted connection, from its first byte to its last."""
        deadline = trio.current_time() + self._limits.stranger_timeout_s
        scope = trio.CancelScope(deadline=deadline)
        self._strangers.add(scope)
        try:
            with scope:
                lost = await self._serve_caller(stream, caller, handler, scope)
                if isinstance(lost, RulesBrokenError):
                    on_fault(caller.host, str(lost))
        except Exception:  # a fault of ours on one connection is no reason to drop the others
            log.exception("serving a connection failed")
        finally:
            self._strangers.discard(scope)
            self._idlers.discard(scope)
            self._connections -= 1
            stream.socket.close()

    async def _serve_caller(
        self,
        stream: trio.SocketStream,
        caller: Endpoint,
        handler: CallHandler,
        scope: trio.CancelScope,
    ) -> TransportError | None:
        """Returns what the connection was lost by."""
        secured: trio.abc.Stream = EagerStream(stream)
        if self._server_tls is not None:
            try:
                secured = await tls.handshake_server(stream, self._server_tls)
            except ConnectionLostError as exc:
                log.debug("%s: %s", caller, exc)
                return exc
        connection = ServerConnection(
            partial(self._server_connection, secured, caller),
            limits=self._limits,
            caller=caller,
            handler=handler,
            certificate_hash=self._certificate_hash,
            scope=scope,
            strangers=self._strangers,
            idlers=self._idlers,
        )
        with single_error_as_itself():
            await connection.run()
        return connection.lost


class CodecTransport(SocketTransport):
    """One of our own wire formats: ``grpc`` and ``tcp`` say which codec serves a connection."""

    def __init__(
        self,
        *,
        server_codec: Callable[[], Codec],
        client_codec: Callable[[Endpoint], Codec],
        options: NetworkOptions,
        limits: WireLimits,
        alpn: str,
        secure: bool,
    ) -> None:
        super().__init__(options=options, limits=limits, alpn=alpn, secure=secure)
        self._server_codec = server_codec
        self._client_codec = client_codec

    def _client_connection(self, stream: trio.abc.Stream, endpoint: Endpoint) -> Connection:
        return Connection(
            stream,
            self._client_codec(endpoint),
            settings=self._settings,
            is_client=True,
            remote=str(endpoint),
        )

    def _server_connection(
        self, stream: trio.abc.Stream, caller: Endpoint, on_call: OnCall, on_trust: OnTrust
    ) -> Connection:
        return Connection(
            stream,
            self._server_codec(),
            settings=self._settings,
            is_client=False,
            remote=str(caller),
            on_call=on_call,
            on_trust=on_trust,
        )
