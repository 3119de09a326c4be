"""The calls of one connection, and what is held for whoever is at its other end.

What the connections of all socket transports have in common; how one reads and writes is its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import trio

from aelf_p2p.core.budgets import ByteBudget, EventBudget
from aelf_p2p.core.errors import (
    CallFailedError,
    ConnectionLostError,
    ProtocolViolationError,
    TransportError,
)
from aelf_p2p.core.message_sizes import before_trust, max_request_bytes
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.transports.net.calls import Call
from aelf_p2p.transports.net.codec import CallOpened
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.net.messages import MessageBuffer
from aelf_p2p.wire.methods import Method


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all connections of one transport share."""

    options: NetworkOptions
    limits: WireLimits
    held: ByteBudget
    """For everyone."""
    held_for_strangers: ByteBudget
    """Within it."""


class CallTable(ABC):
    """A connection as its calls see it, either side: their ``CallOwner``, but for how it sends."""

    def __init__(
        self,
        *,
        settings: Settings,
        is_client: bool,
        remote: str,
        on_call: Callable[[Call, CallOpened], None],
        on_trust: Callable[[], None],
    ) -> None:
        self.remote = remote
        """Who is at the other end, for messages."""
        self.calls: dict[int, Call] = {}
        """Those that are not over, by number."""
        self.lost: TransportError | None = None
        """Why nothing works any more."""
        self.draining: str | None = None
        """Why the other side takes no new calls."""
        self.ended = trio.Event()
        """Set when ``lost`` is."""
        self._settings = settings
        self._limits = settings.limits
        self._options = settings.options
        self._is_client = is_client
        self._on_call = on_call
        self._on_trust = on_trust
        self._trusting: dict[Call, None] = {}  # calls on which the other side proved who it is
        self._was_trusted = False
        self._stranger_calls = EventBudget(settings.limits.stranger_calls)
        self._sending: dict[Call, None] = {}  # calls with something that their windows let out
        self._closing = trio.lowlevel.ParkingLot()  # what waits for the other side to drain
        self._budget = ByteBudget(settings.limits.connection_bytes, settings.held)

    # --- what a transport adds ---

    @abstractmethod
    def drain(self, why: str = "") -> None:
        """Tell the other side that we take no more calls."""

    @abstractmethod
    def send_soon(self, call: Call) -> None:
        """See ``CallOwner``."""

    @abstractmethod
    def consumed(self, call: Call, count: int, credit: int) -> None:
        """See ``CallOwner``."""

    @abstractmethod
    def _reset(self, call_id: int) -> None:
        """Tell the other side that a call ends at once."""

    @abstractmethod
    def _widen(self, call_id: int) -> None:
        """Give a call the large window of those that are trusted."""

    # --- its end ---

    def _lose(self, error: TransportError) -> None:
        """Nothing works any more: whoever waits for anything gets the error."""
        if self.lost is not None:
            return
        self.lost = error
        for call in list(self.calls.values()):
            call.fail(error)
        self.calls.clear()
        self._sending.clear()
        self._closing.unpark_all()
        self.ended.set()

    async def wait_draining(self) -> None:
        """Wait until the other side takes no new calls. Raises what the connection was lost by."""
        while self.draining is None:
            if self.lost is not None:
                raise self.lost.with_traceback(None)  # it may be raised many times
            await self._closing.park()

    def _take_draining(self, last_call_id: int, why: str) -> list[Call]:
        """The other side takes no new calls; returns those of ours that it never saw."""
        self.draining = self.draining or why
        self._closing.unpark_all()
        if not self._is_client:
            return []
        never_seen = [call for call in self.calls.values() if call.call_id > last_call_id]
        for call in never_seen:
            self._forget(call.call_id)
            call.fail(ConnectionLostError(f"{self.remote} takes no more calls: {why!a}"))
        return never_seen

    # --- calls ---

    def _add_call(self, call_id: int, method: Method, limit_bytes: int) -> Call:
        call = self.calls[call_id] = Call(
            self,
            call_id,
            method,
            MessageBuffer(self._budget),
            send_buffer_bytes=self._limits.send_buffer_bytes,
            limit_bytes=before_trust(method, limit_bytes, self._options),
            trusted_limit_bytes=limit_bytes,
        )
        return call

    def _take_call(self, opened: CallOpened) -> None:
        """A caller's call. Raises ProtocolViolationError for one too many of a stranger's."""
        if not (self._was_trusted or self._stranger_calls.spend(trio.current_time())):
            raise ProtocolViolationError("too many calls before a handshake")
        limit = max_request_bytes(opened.method, self._options)
        call = self._add_call(opened.call_id, opened.method, limit)
        call.inbox.encoding = opened.encoding
        self._on_call(call, opened)

    def _forget(self, call_id: int) -> Call | None:
        """It is over by itself; returns it, unless it was left before."""
        call = self.calls.pop(call_id, None)
        if call is not None:
            self._sending.pop(call, None)
        return call

    def leave(self, call: Call, error: TransportError) -> None:
        """Its user has gone: unless it is over, the other side is told, and ``error`` remains."""
        if self._forget(call.call_id) is not None:
            self._reset(call.call_id)
        call.fail(error)

    def refused(self, call: Call, error: CallFailedError) -> None:
        """See ``CallOwner``. A server's handler is told, and ends the call with that status."""
        if self._is_client:
            self.leave(call, error)

    # --- strangers, and those that are none ---

    def trust(self, call: Call) -> None:
        """See ``CallOwner``."""
        if self.lost is not None:
            return
        self._widen(call.call_id)
        if not self._trusting and not self._is_client:
            self._budget.limit_bytes = self._limits.connection_bytes
            self._hold_in(self._settings.held)
            self._on_trust()
        self._trusting[call] = None
        self._was_trusted = True

    def distrust(self, call: Call) -> bool:
        """A call has ended. True when it was the last one that made the other side no stranger."""
        if call not in self._trusting:
            return False
        del self._trusting[call]
        if self._trusting or self._is_client:
            return False
        self._hold_as_stranger()
        return True

    def _hold_as_stranger(self) -> None:
        self._budget.limit_bytes = self._limits.stranger_held_bytes
        self._hold_in(self._settings.held_for_strangers)

    def _hold_in(self, budget: ByteBudget) -> None:
        if not self._budget.move(budget):
            self.drain("no room for what is unread")
            self._lose(ConnectionLostError(f"no room for what {self.remote} sends"))
