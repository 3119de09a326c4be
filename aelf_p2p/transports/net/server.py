"""The accepting side: connections, strangers among them, and the handlers of their calls."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Protocol

import trio

from aelf_p2p.contracts import CallHandler, IncomingCall
from aelf_p2p.core.endpoint import Endpoint, counted_host, is_loopback_host
from aelf_p2p.core.errors import ClosedByUsError, StatusCode, TransportError
from aelf_p2p.transports.handlers import run_handler
from aelf_p2p.transports.net.calls import Call
from aelf_p2p.transports.net.codec import CallOpened
from aelf_p2p.transports.net.limits import WireLimits


class Strangers:
    """Connections without a call on which the caller has proved who it is: those on which it never
    did, or those on which it did once. When there are too many, the oldest goes; where hosts have a
    limit of their own, loopback excepted, the oldest of a host that is beyond it."""

    def __init__(self, most: int, most_of_a_host: int | None = None) -> None:
        self._most = most
        self._most_of_a_host = most_of_a_host
        self._scopes: OrderedDict[trio.CancelScope, str | None] = OrderedDict()  # of which host

    def add(self, scope: trio.CancelScope, host: str | None = None) -> None:
        """Count a connection that ``scope`` ends; ``host`` is the caller's, if it is to count."""
        counted = None if host is None or is_loopback_host(host) else counted_host(host)
        self._scopes[scope] = counted
        if counted is not None and self._most_of_a_host is not None:
            of_host = [each for each, its_host in self._scopes.items() if its_host == counted]
            if len(of_host) > self._most_of_a_host:
                self._end(of_host[0])
        if len(self._scopes) > self._most:
            self._end(next(iter(self._scopes)))

    def discard(self, scope: trio.CancelScope) -> None:
        """It is none any more, or gone."""
        self._scopes.pop(scope, None)

    def _end(self, scope: trio.CancelScope) -> None:
        del self._scopes[scope]
        scope.cancel()


class AcceptedConnection(Protocol):
    """What is asked of an accepted connection, of whichever transport."""

    @property
    def calls(self) -> Mapping[int, Call]:
        """Those that are not over, by number."""

    @property
    def lost(self) -> TransportError | None:
        """Why nothing works any more."""

    @property
    def ended(self) -> trio.Event:
        """Set when nothing works any more."""

    async def run_io(self) -> None:
        """Read and write until the other side is gone, or ``shut_down`` is called."""

    def drain(self) -> None:
        """Tell the other side that we take no more calls."""

    async def shut_down(self, *, deadline: float) -> None:
        """End it politely, by a deadline in trio's time."""

    def leave(self, call: Call, error: TransportError) -> None:
        """Its handler has ended; ``error`` is what others that wait on it get."""

    def distrust(self, call: Call) -> bool:
        """A call has ended. True when it was the last one that made the other side no stranger."""


OnCall = Callable[[Call, CallOpened], None]
OnTrust = Callable[[], None]


class ServerConnection:
    """An accepted connection: its I/O and the tasks of its handlers, until either side ends it.

    ``accept`` makes the connection, and is given whom it tells of calls, and of a caller that has
    proved who it is. ``scope`` is the connection's own: its deadline ends a stranger; whoever has
    proved who it is on a call is none while that call lasts.
    """

    def __init__(
        self,
        accept: Callable[[OnCall, OnTrust], AcceptedConnection],
        *,
        limits: WireLimits,
        caller: Endpoint,
        handler: CallHandler,
        certificate_hash: bytes | None,
        scope: trio.CancelScope,
        strangers: Strangers,
        idlers: Strangers,
    ) -> None:
        self._limits = limits
        self._caller = caller
        self._handler = handler
        self._certificate_hash = certificate_hash
        self._scope = scope
        self._strangers = strangers
        self._idlers = idlers
        self._ending = False
        self._gone_by = math.inf
        self._served: dict[Call, None] = {}  # calls whose handlers' tasks are there
        self._handler_ended = trio.lowlevel.ParkingLot()
        self._nursery: trio.Nursery | None = None
        self._connection = accept(self._begin_call, self._trust)

    @property
    def lost(self) -> TransportError | None:
        """Why nothing works any more."""
        return self._connection.lost

    async def run(self) -> None:
        """Until the other side is gone, or we are cancelled; then calls end as they should."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._connection.run_io)
            try:
                await self._connection.ended.wait()
            finally:
                await self._end()

    async def _end(self) -> None:
        """Handlers of streams are cancelled at once, unary ones may still end; then we go.

        Takes ``goodbye_timeout_s`` at most, unless a handler does not let go.
        """
        self._ending = True
        now = trio.current_time()
        drained_by = now + self._limits.drain_timeout_s
        self._gone_by = now + self._limits.goodbye_timeout_s
        with trio.CancelScope(shield=True):
            self._connection.drain()
            self._cancel_handlers(unary_too=False)
            with trio.CancelScope(deadline=drained_by):
                while any(call.is_unary for call in self._served):
                    await self._handler_ended.park()
            self._cancel_handlers(unary_too=True)
            while self._served:
                await self._handler_ended.park()
            await self._connection.shut_down(deadline=self._gone_by)

    def _cancel_handlers(self, *, unary_too: bool) -> None:
        for call in list(self._served):
            if unary_too or not call.is_unary:
                call.scope.cancel()

    def _trust(self) -> None:
        self._scope.deadline = math.inf
        self._strangers.discard(self._scope)
        self._idlers.discard(self._scope)

    def _let_idle(self, call: Call) -> None:
        """The last call on which the caller had proved who it is has ended."""
        # Whose stream ended is no peer any more; one of the old kind makes calls now and then.
        was_stream = call.method.server_streaming
        limits = self._limits
        timeout_s = limits.stranger_timeout_s if was_stream else limits.idle_timeout_s
        self._scope.deadline = trio.current_time() + timeout_s
        (self._strangers if was_stream else self._idlers).add(self._scope, self._caller.host)

    def _begin_call(self, call: Call, opened: CallOpened) -> None:
        if self._ending:
            self._connection.leave(call, ClosedByUsError(f"{call.method.name} came too late"))
            return
        assert self._nursery is not None
        self._served[call] = None
        self._nursery.start_soon(self._run_call, call, opened, name=f"serve {call.method.name}")

    async def _run_call(self, call: Call, opened: CallOpened) -> None:
        """The handler's task, which lasts until the caller has its answer or is gone."""
        try:
            await self._answer(call, opened)
        finally:
            # At the end what a cancelled handler said last is still to be sent, and not reset.
            if not (self._ending and call.call_id in self._connection.calls):
                self._connection.leave(call, ClosedByUsError(f"{call.method.name} was answered"))
            del self._served[call]
            self._handler_ended.unpark_all()
            if self._connection.distrust(call):
                self._let_idle(call)

    async def _answer(self, call: Call, opened: CallOpened) -> None:
        call.compresses = call.method.compressed_reply and opened.accepts_gzip
        if opened.timeout_s is not None:
            call.scope.deadline = trio.current_time() + opened.timeout_s
        incoming = IncomingCall(
            call.method, opened.metadata, self._caller, call, self._certificate_hash
        )
        outcome = await run_handler(self._handler, incoming, call.scope)
        if outcome is None:
            if call.error is not None or trio.current_time() < call.scope.deadline:
                return
            outcome = StatusCode.DEADLINE_EXCEEDED, ""
        call.end(*outcome)
        # From here on only a caller that does not read is waited for.
        with trio.CancelScope(deadline=self._gone_by, shield=True) as call.scope:
            await call.wait_sent(self._limits.write_timeout_s)
