"""The contract of a wire format: bytes in, events out; commands in, bytes out. No I/O, no clock.

A codec serves one connection. Calls have numbers, which the codec chooses; a call is over once both
halves have ended or either side has reset it, and its number is then never used again. Within a
call each half is a row of bytes (``messages`` cuts them into messages), held back by credit.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from aelf_p2p.contracts import Metadata
from aelf_p2p.core.errors import StatusCode
from aelf_p2p.wire.methods import Method

# --- what a codec tells its connection ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallOpened:
    """To a server: a call of a known method, its metadata in order."""

    call_id: int
    method: Method
    metadata: Metadata = field(repr=False)  # it may hold a session id
    timeout_s: float | None
    """How long the caller waits."""
    encoding: str
    """Of the caller's messages that are flagged compressed: ``identity`` or ``gzip``."""
    accepts_gzip: bool
    """Whether replies may be compressed."""


@dataclass(frozen=True, slots=True)
class ReplyBegan:
    """To a client: the server's half begins, with this encoding of its compressed messages."""

    call_id: int
    encoding: str


@dataclass(frozen=True, slots=True)
class BytesReceived:
    """The next bytes of the other side's half; ``credit`` is what they took of its window."""

    call_id: int
    data: bytes
    credit: int


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """To a server: the caller's half is complete."""

    call_id: int


@dataclass(frozen=True, slots=True)
class StatusReceived:
    """To a client: the server has ended the call, with this status. Nothing follows."""

    call_id: int
    code: StatusCode
    details: str


@dataclass(frozen=True, slots=True)
class CallReset:
    """The other side has ended the call at once, or broke it so that the codec did. Nothing
    follows."""

    call_id: int
    why: str


@dataclass(frozen=True, slots=True)
class WindowOpened:
    """More may be sent: on one call, or, with None, on any."""

    call_id: int | None


@dataclass(frozen=True, slots=True)
class Draining:
    """The other side takes no new calls; it never saw those numbered above ``last_call_id``."""

    last_call_id: int
    why: str


Event = (
    CallOpened
    | ReplyBegan
    | BytesReceived
    | RequestEnded
    | StatusReceived
    | CallReset
    | WindowOpened
    | Draining
)

# --- what a connection asks of its codec ----------------------------------------------------------


class Codec(Protocol):
    """One connection's wire format. Every command only appends to what ``data_to_send`` takes.

    Commands on a call that is over have no effect: ends cross on the wire.
    """

    def receive_untrusted(self, data: bytes, now: float) -> Iterable[Event | None]:
        """Take bytes of the other side at a monotonic time in seconds, event by event.

        None after every ``FRAMES_A_TURN`` frames, where other tasks may have their turn, and give
        commands. Raises MalformedError or ProtocolViolationError when the connection cannot go on;
        what ``data_to_send`` then gives tells the other side why.
        """

    def open_call(self, method: Method, metadata: Metadata, timeout_s: float | None) -> int:
        """A client begins a call; returns its number.

        Raises CallFailedError(RESOURCE_EXHAUSTED) when the server takes no more at once.
        """

    def send_window(self, call_id: int) -> int:
        """How many bytes ``send`` may take now; 0 for a call that is over."""

    def send(self, call_id: int, data: bytes | memoryview) -> None:
        """The next bytes of our half, at most ``send_window`` of them."""

    def end_request(self, call_id: int) -> None:
        """A client's half is complete."""

    def begin_reply(self, call_id: int, *, gzip: bool) -> None:
        """A server's half begins; must come before ``send``. ``gzip``: of flagged messages."""

    def end_reply(self, call_id: int, code: StatusCode, details: str) -> None:
        """A server ends the call, whether its half began or not; what the caller still sends is
        not read."""

    def reset(self, call_id: int) -> None:
        """End the call at once, both ways."""

    def consumed(self, call_id: int, credit: int) -> bool:
        """That much received credit is free again; also for a call that is over.

        Returns whether the other side is to be told: it is not told of every byte."""

    def trust(self, call_id: int) -> None:
        """The other side proved who it is on this call: the call gets a large window, and calls
        no longer share what a stranger may have unread on the connection."""

    def drain(self, why: str = "") -> None:
        """Tell the other side that no new calls are taken; those under way go on. A server resets
        what comes nevertheless."""

    def data_to_send(self) -> bytes:
        """Take the bytes that wait to be sent, empty when there are none."""


FRAMES_A_TURN = 64
"""Frames that a codec takes at most before other tasks have their turn. One read may bring
thousands, and the worst of them cost some 40 us each."""
