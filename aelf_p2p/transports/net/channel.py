"""The dialing side's view of a connection."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from aelf_p2p.contracts import MessageStream, Metadata
from aelf_p2p.core.errors import ClosedByUsError, TransportError
from aelf_p2p.transports.net.calls import Call
from aelf_p2p.transports.unary import call_unary
from aelf_p2p.wire.methods import Method


class ClientConnection(Protocol):
    """What a channel asks of the dialing side's connection, of whichever transport."""

    @property
    def is_open(self) -> bool:
        """Whether new calls can still be made."""

    async def wait_draining(self) -> None:
        """Wait until the other side takes no new calls. Raises TransportError."""

    def open_call(self, method: Method, metadata: Metadata, timeout_s: float | None) -> Call:
        """Begin a call. Raises TransportError."""

    def distrust(self, call: Call) -> bool:
        """The call has ended."""

    def leave(self, call: Call, error: TransportError) -> None:
        """Its user has gone; ``error`` is what others that wait on it get."""


class SocketChannel:
    """A dialed connection: an RpcChannel."""

    def __init__(self, connection: ClientConnection, certificate_hash: bytes | None = None) -> None:
        self._connection = connection
        self.certificate_hash = certificate_hash
        """See ``RpcChannel``."""

    @property
    def is_open(self) -> bool:
        """Whether new calls can still be made."""
        return self._connection.is_open

    async def wait_draining(self) -> None:
        """Wait for the server's GOAWAY. Raises TransportError when the connection is lost."""
        await self._connection.wait_draining()

    async def call(
        self, method: Method, request: bytes, *, metadata: Metadata, timeout_s: float
    ) -> bytes:
        """One unary call; the server is told how long we wait."""
        opening = self._open(method, metadata, timeout_s)
        return await call_unary(method, opening, request, timeout_s)

    @asynccontextmanager
    async def open_stream(
        self, method: Method, *, metadata: Metadata
    ) -> AsyncIterator[MessageStream]:
        """A long-lived call, without a deadline."""
        async with self._open(method, metadata, None) as stream:
            yield stream

    @asynccontextmanager
    async def _open(
        self, method: Method, metadata: Metadata, timeout_s: float | None
    ) -> AsyncIterator[MessageStream]:
        await trio.lowlevel.checkpoint()
        call = self._connection.open_call(method, metadata, timeout_s)
        try:
            yield call
        finally:
            self._connection.distrust(call)
            self._connection.leave(call, ClosedByUsError(f"{method.name} was left"))
