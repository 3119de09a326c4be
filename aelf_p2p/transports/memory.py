"""The memory transport: plain in-process pairs, for tests, simulations and embedders.

A :class:`MemoryHub` is a network of its own: hosts are names, listeners are found by endpoint, and
nothing leaves the process. ``aelf_p2p.testing`` lays latency, stalls, cuts and partitions over it.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count, cycle

import trio

from aelf_p2p.contracts import CallHandler, IncomingCall, Metadata
from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import (
    CallFailedError,
    ClosedByUsError,
    ConnectionLostError,
    DeadlineExceededError,
    MisuseError,
    StatusCode,
    TransportError,
)
from aelf_p2p.wire.methods import Method

log = logging.getLogger(__name__)

DEFAULT_WINDOW_BYTES = 256 * 1024

MESSAGE_OVERHEAD_BYTES = 64
"""What a message takes of the window beside its own bytes, so that empty ones are bounded too."""

_EPHEMERAL_PORTS = range(49152, 65536)


class MemoryPipe:
    """One way of one call: whole messages in order, about ``window_bytes`` of them unread.

    A sender that finds the window full waits for the reader, which is how a transport pushes back.
    The last message to enter may be of any size, so that one larger than the window still passes.
    """

    def __init__(self, window_bytes: int = DEFAULT_WINDOW_BYTES) -> None:
        self._window_bytes = window_bytes
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._ended = False
        self._error: TransportError | None = None
        self._sender_error: TransportError | None = None
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def unread_bytes(self) -> int:
        """What was sent and is not read yet, with MESSAGE_OVERHEAD_BYTES for each message."""
        return self._bytes

    async def send_many(self, messages: Sequence[bytes]) -> None:
        """Append messages, waiting for room; raises what the pipe was broken with."""
        await trio.lowlevel.checkpoint()
        for message in messages:
            while self._bytes >= self._window_bytes and self._sender_error is None:
                await self._changed.park()
            if self._sender_error is not None:
                raise self._sender_error.with_traceback(None)  # it may be raised many times
            if self._ended:
                raise MisuseError("a message sent after the end of its stream")
            self._put(message)
            self._bytes += len(message) + MESSAGE_OVERHEAD_BYTES
            self._changed.unpark_all()

    async def receive_many(self) -> list[bytes]:
        """All unread messages; an empty list at the end."""
        await trio.lowlevel.checkpoint()
        await self._wait_readable()
        if messages := self._take():
            self._bytes -= sum(len(message) + MESSAGE_OVERHEAD_BYTES for message in messages)
            self._changed.unpark_all()
            return messages
        if self._error is not None:
            raise self._error.with_traceback(None)
        return []

    def _put(self, message: bytes) -> None:
        """Append a message; ``testing`` overrides this, ``_take`` and ``_wait_readable``."""
        self._messages.append(message)

    def _take(self) -> list[bytes]:
        """Remove what can be read now."""
        messages = list(self._messages)
        self._messages.clear()
        return messages

    async def _wait_readable(self) -> None:
        """Wait until a message, the end or an error can be read."""
        while not self._messages and self._error is None and not self._ended:
            await self._changed.park()

    def end(self) -> None:
        """The sender's half is complete."""
        self._ended = True
        self._changed.unpark_all()

    def fail(
        self,
        error: TransportError,
        *,
        sender_error: TransportError | None = None,
        discard: bool = False,
    ) -> None:
        """Break the pipe, unless it ended before; ``discard`` what is unread, as a reset does.

        The reader gets ``error``; the sender ``sender_error``, when the two ends know it as
        different things.
        """
        if discard:
            self._messages.clear()
            self._bytes = 0
        if self._error is None and (discard or not self._ended):
            self._error = error
            self._sender_error = sender_error or error
        self._changed.unpark_all()


@dataclass(frozen=True)
class _End:
    """One end of a call: a MessageStream."""

    incoming: MemoryPipe
    outgoing: MemoryPipe

    async def send_many(self, messages: Sequence[bytes]) -> None:
        await self.outgoing.send_many(messages)

    async def receive_many(self) -> list[bytes]:
        return await self.incoming.receive_many()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        self.outgoing.end()


@dataclass(eq=False)
class _Call:
    """A call: both its pipes, and the scope that its handler runs in.

    It lasts until the caller has left it and its handler has ended, in whichever order.
    """

    method: Method
    metadata: Metadata
    request: MemoryPipe
    response: MemoryPipe
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    left: bool = False
    handled: bool = False

    def abort(self, caller_error: TransportError, handler_error: TransportError) -> None:
        """End it at once: the handler is cancelled, whoever waits on either end gets its error."""
        self.scope.cancel()  # first, so that a handler that waits on its stream is cancelled too
        self.request.fail(handler_error, sender_error=caller_error, discard=True)
        self.response.fail(caller_error, sender_error=handler_error, discard=True)


@dataclass(eq=False)
class MemoryListener:
    """What a transport serves: where, and the nursery that runs its handlers."""

    endpoint: Endpoint
    handler: CallHandler
    nursery: trio.Nursery
    closing: bool = False


@dataclass(eq=False)
class MemoryConnection:
    """A dialed connection between two hosts of the hub: an RpcChannel to the one that dialed."""

    hub: "MemoryHub"
    caller: Endpoint
    callee: Endpoint
    listener: MemoryListener
    calls: dict[int, _Call] = field(default_factory=dict)
    lost: TransportError | None = None

    @property
    def is_open(self) -> bool:
        """Whether new calls can still be made."""
        return self.lost is None and not self.listener.closing

    async def call(
        self, method: Method, request: bytes, *, metadata: Metadata, timeout_s: float
    ) -> bytes:
        """One unary call."""
        with trio.move_on_after(timeout_s):
            async with self.open_stream(method, metadata=metadata) as stream:
                # A handler may answer without reading; what became of the call is read below.
                with suppress(TransportError):
                    await stream.send_many([request])
                    await stream.send_eof()
                replies: list[bytes] = []
                while len(replies) < 2 and (batch := await stream.receive_many()):
                    replies += batch
            if len(replies) != 1:
                many = "several replies" if replies else "no reply"
                raise CallFailedError(StatusCode.INTERNAL, f"{many} to a unary call")
            return replies[0]
        raise DeadlineExceededError(f"{method.name} was not answered within {timeout_s:g} s")

    @asynccontextmanager
    async def open_stream(self, method: Method, *, metadata: Metadata) -> AsyncIterator[_End]:
        """A long-lived call."""
        await trio.lowlevel.checkpoint()
        if self.lost is not None:
            raise self.lost.with_traceback(None)  # it may be raised many times
        if self.listener.closing:
            raise ConnectionLostError(f"{self.callee} stopped listening")
        call = _Call(
            method,
            dict(metadata),
            self.hub.make_pipe(self.caller.host, self.callee.host),
            self.hub.make_pipe(self.callee.host, self.caller.host),
        )
        number = next(self.hub.numbers)
        self.calls[number] = call
        self.listener.nursery.start_soon(self._serve, number, call, name=f"serve {method.name}")
        try:
            yield _End(incoming=call.response, outgoing=call.request)
        finally:
            call.left = True
            if call.handled:
                del self.calls[number]
            else:
                call.abort(
                    ClosedByUsError(f"{method.name} was left"),
                    ConnectionLostError(f"{method.name} was left by its caller"),
                )

    async def _serve(self, number: int, call: _Call) -> None:
        """Run the handler of one call, and end the call as the handler ended."""
        stream = _End(incoming=call.request, outgoing=call.response)
        incoming = IncomingCall(call.method, call.metadata, self.caller, stream)
        try:
            with call.scope:
                await self.listener.handler(incoming)
                call.response.end()
        except CallFailedError as exc:
            # Its own copy: a cause or a context stays on this side.
            call.response.fail(CallFailedError(exc.code, exc.details))
        except Exception as exc:  # whatever a handler does, its neighbours live on
            if not (isinstance(exc, TransportError) and call.scope.cancel_called):
                log.exception("the handler of %s failed", call.method.name)
            call.response.fail(CallFailedError(StatusCode.UNKNOWN))
        except BaseExceptionGroup as group:
            # It failed in several tasks while it was cancelled: only the cancellation goes on.
            failures, others = group.split(Exception)
            if failures is not None:
                log.error("the handler of %s failed", call.method.name, exc_info=failures)
            if others is not None:
                raise others from None
        finally:
            gone = ConnectionLostError(f"{call.method.name} was ended by the other side")
            call.response.fail(gone)  # without effect when it ended above
            call.request.fail(gone, discard=True)
            call.handled = True
            if call.left:
                del self.calls[number]

    def abort(
        self,
        caller_error: TransportError,
        handler_error: TransportError,
        *,
        in_flight: bool = False,
    ) -> None:
        """Break the connection and all its calls.

        What a handler said before it ended can still be read, unless ``in_flight`` is lost too.
        """
        self.hub.connections.pop(self, None)
        if self.lost is None:
            self.lost = caller_error
            for call in list(self.calls.values()):
                if in_flight or not call.handled:
                    call.abort(caller_error, handler_error)


class MemoryHub:
    """An in-process network. ``transport(host)`` is what a node on that host is given."""

    def __init__(self) -> None:
        self.listeners: dict[Endpoint, MemoryListener] = {}
        self.connections: dict[MemoryConnection, None] = {}  # a dict: iteration in order of dialing
        self.callers: set[Endpoint] = set()
        self.numbers = count(1)
        self._ports = cycle(_EPHEMERAL_PORTS)

    def transport(self, host: str) -> "MemoryTransport":
        """The transport of a host; any host name or address will do."""
        return MemoryTransport(self, host)

    def make_pipe(self, sender: str, receiver: str) -> MemoryPipe:
        """A pipe between two hosts; ``testing`` overrides this."""
        return MemoryPipe()

    async def reach(self, caller: Endpoint, callee: Endpoint) -> MemoryListener:
        """Find who listens; ``testing`` overrides this."""
        await trio.lowlevel.checkpoint()
        listener = self.listeners.get(callee)
        if listener is None:
            raise ConnectionLostError(f"nobody listens on {callee}")
        return listener

    def free_endpoint(self, host: str) -> Endpoint:
        """An endpoint of a host that neither listens nor calls."""
        for _ in _EPHEMERAL_PORTS:
            endpoint = Endpoint(host, next(self._ports))
            if endpoint not in self.listeners and endpoint not in self.callers:
                return endpoint
        raise MisuseError(f"{host} has no free port")

    def close_listener(self, listener: MemoryListener) -> None:
        """No more connections and calls to it; without effect when it is closed."""
        listener.closing = True
        if self.listeners.get(listener.endpoint) is listener:
            del self.listeners[listener.endpoint]


class MemoryTransport:
    """A host's way into its hub."""

    def __init__(self, hub: MemoryHub, host: str) -> None:
        self._hub = hub
        self._host = host

    @asynccontextmanager
    async def dial(
        self, endpoint: Endpoint, *, timeout_s: float
    ) -> AsyncIterator[MemoryConnection]:
        """Connect to a listener of the hub."""
        caller = self._hub.free_endpoint(self._host)
        self._hub.callers.add(caller)
        try:
            listener: MemoryListener | None = None
            with trio.move_on_after(timeout_s):
                listener = await self._hub.reach(caller, endpoint)
            if listener is None:
                raise DeadlineExceededError(f"{endpoint} did not answer within {timeout_s:g} s")
            connection = MemoryConnection(self._hub, caller, endpoint, listener)
            self._hub.connections[connection] = None
            try:
                yield connection
            finally:
                connection.abort(
                    ClosedByUsError(f"the connection to {endpoint} was closed"),
                    ConnectionLostError(f"the connection from {caller} was closed"),
                )
        finally:
            self._hub.callers.discard(caller)

    async def serve(
        self,
        host: str,
        port: int,
        handler: CallHandler,
        *,
        task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen on this transport's own host, whatever ``host`` says."""
        bound = Endpoint(self._host, port) if port else self._hub.free_endpoint(self._host)
        if bound in self._hub.listeners:
            raise MisuseError(f"{bound} is in use")
        listener: MemoryListener | None = None
        try:
            async with trio.open_nursery() as nursery:
                listener = MemoryListener(bound, handler, nursery)
                self._hub.listeners[bound] = listener
                try:
                    task_status.started(bound)
                    await trio.sleep_forever()
                finally:
                    # No new calls; those under way end themselves, and may still say goodbye.
                    self._hub.close_listener(listener)
        finally:
            lost = ConnectionLostError(f"{bound} stopped listening")
            closed = ClosedByUsError(f"{bound} stopped listening")
            for connection in list(self._hub.connections):
                if connection.listener is listener:
                    connection.abort(lost, closed)
