"""The memory transport: plain in-process pairs, for tests, simulations and embedders.

A :class:`MemoryHub` is a network of its own: hosts are names, listeners are found by endpoint, and
nothing leaves the process. ``aelf_p2p.testing`` lays latency, stalls, cuts and partitions over it.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count, cycle

import trio

from aelf_p2p.contracts import CallHandler, IncomingCall, Metadata, OnFault, ignore_fault
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
from aelf_p2p.core.message_sizes import (
    MAX_MESSAGE_BYTES,
    before_trust,
    max_reply_bytes,
    max_request_bytes,
)
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.transports.handlers import run_handler
from aelf_p2p.transports.memory_pipe import MemoryPipe
from aelf_p2p.transports.unary import call_unary
from aelf_p2p.wire.methods import Method

_EPHEMERAL_PORTS = range(49152, 65536)


@dataclass(eq=False)
class _End:
    """One end of a call: a MessageStream."""

    incoming: MemoryPipe
    outgoing: MemoryPipe
    trusted_max_bytes: int
    """What a message may weigh once the other side has proved who it is."""
    max_bytes: int
    """What it may weigh now."""
    refuse: Callable[[CallFailedError], None]
    """Ends what is to end when a message weighs more."""
    _arrived: list[bytes] = field(default_factory=list)
    """Out of the pipe and not read: it begins with a message that was over the limit."""

    async def send_many(self, messages: Sequence[bytes]) -> None:
        sendable = next((n for n, m in enumerate(messages) if len(m) > MAX_MESSAGE_BYTES), None)
        await self.outgoing.send_many(messages[:sendable])
        if sendable is not None:
            raise _too_large(messages[sendable], MAX_MESSAGE_BYTES)

    def send_nowait(self, message: bytes) -> bool:
        return len(message) <= MAX_MESSAGE_BYTES and self.outgoing.send_nowait(message)

    async def receive_many(self) -> list[bytes]:
        if self._arrived:
            await trio.lowlevel.checkpoint()
        else:
            self._arrived = await self.incoming.receive_many()
        messages, self._arrived = self._arrived, []
        for number, message in enumerate(messages):
            if len(message) > self.max_bytes:
                if number == 0:
                    error = _too_large(message, self.max_bytes)
                    self.refuse(error)
                    raise error
                messages, self._arrived = messages[:number], messages[number:]
                break
        return messages

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        self.outgoing.end()

    def trust(self) -> None:
        self.max_bytes = self.trusted_max_bytes

    def limit_messages(self, max_bytes: int) -> None:
        self.max_bytes = self.trusted_max_bytes = max_bytes


def _too_large(message: bytes, max_bytes: int) -> CallFailedError:
    return CallFailedError(
        StatusCode.RESOURCE_EXHAUSTED, f"a message of {len(message)} bytes, over {max_bytes}"
    )


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

    def caller_end(self, options: NetworkOptions) -> _End:
        """The caller's MessageStream; a reply that is too large resets the call."""
        most = max_reply_bytes(self.method, options)
        reset = ConnectionLostError(f"{self.method.name} was reset by its caller")
        return _End(
            incoming=self.response,
            outgoing=self.request,
            trusted_max_bytes=most,
            max_bytes=before_trust(self.method, most, options),
            refuse=lambda error: self.abort(error, reset),
        )

    def handler_end(self, options: NetworkOptions) -> _End:
        """The handler's MessageStream; after a request that is too large it can still answer."""
        most = max_request_bytes(self.method, options)
        unread = ConnectionLostError(f"{self.method.name} is not read any more")
        return _End(
            incoming=self.request,
            outgoing=self.response,
            trusted_max_bytes=most,
            max_bytes=before_trust(self.method, most, options),
            refuse=lambda error: self.request.fail(error, sender_error=unread, discard=True),
        )

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
    draining: bool = False
    ending: trio.Event = field(default_factory=trio.Event)

    @property
    def is_open(self) -> bool:
        """Whether new calls can still be made."""
        return self.lost is None and not self.listener.closing

    @property
    def certificate_hash(self) -> None:
        """There is no TLS."""

    async def wait_draining(self) -> None:
        """Wait until the listener closes. Raises what the connection was lost by instead."""
        await self.ending.wait()
        if self.lost is not None and not self.draining:
            raise self.lost.with_traceback(None)  # it may be raised many times

    async def call(
        self, method: Method, request: bytes, *, metadata: Metadata, timeout_s: float
    ) -> bytes:
        """One unary call."""
        opening = self.open_stream(method, metadata=metadata)
        return await call_unary(method, opening, request, timeout_s)

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
            yield call.caller_end(self.hub.options)
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
        stream = call.handler_end(self.hub.options)
        incoming = IncomingCall(call.method, call.metadata, self.caller, stream)
        try:
            outcome = await run_handler(self.listener.handler, incoming, call.scope)
            if outcome is not None:
                code, details = outcome
                if code is StatusCode.OK:
                    call.response.end()
                else:
                    call.response.fail(CallFailedError(code, details))
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
            self.ending.set()
            for call in list(self.calls.values()):
                if in_flight or not call.handled:
                    call.abort(caller_error, handler_error)


class MemoryHub:
    """An in-process network. ``transport(host)`` is what a node on that host is given.

    Of the ``options`` it needs what a message may weigh, the same for all its hosts.
    """

    def __init__(self, options: NetworkOptions | None = None) -> None:
        self.options = NetworkOptions() if options is None else options
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
        for connection in self.connections:
            if connection.listener is listener:
                connection.draining = True
                connection.ending.set()
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
        on_fault: OnFault = ignore_fault,
        task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen on this transport's own host, whatever ``host`` says; no rules to break."""
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
