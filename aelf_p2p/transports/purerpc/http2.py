"""HTTP/2 and gRPC's headers as purerpc reads and writes them, held to rules and limits of ours.

What breaks a rule that concerns a call ends the call; purerpc would let it end the connection.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h2.events
import h2.exceptions
import trio
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame
from purerpc.grpclib import events as e
from purerpc.grpclib.config import GRPCConfiguration
from purerpc.grpclib.connection import GRPCConnection

from aelf_p2p.core.budgets import EventBudget
from aelf_p2p.core.errors import MalformedError, ProtocolViolationError
from aelf_p2p.core.options import KIB
from aelf_p2p.transports.grpc.frames import MAX_FRAME_BYTES, DataPiece, FrameScanner
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.wire.methods import METHODS, Method


@dataclass(frozen=True)
class Reset:
    """An event that purerpc keeps to itself: a call is over, by the other side's fault or wish."""

    stream_id: int
    why: str


class Http2(GRPCConnection):
    """What comes in, as purerpc's events; what goes out, by purerpc's commands.

    GOAWAY never reaches h2, which would refuse every frame after one; ``on_goaway`` gets it.
    """

    MAX_HEADER_LIST_SIZE = 16 * KIB
    MAX_INBOUND_FRAME_SIZE = MAX_FRAME_BYTES

    def __init__(
        self,
        config: GRPCConfiguration,
        limits: WireLimits,
        *,
        on_goaway: Callable[[GoAwayFrame], None],
    ) -> None:
        self.MAX_CONCURRENT_STREAMS = limits.max_calls
        super().__init__(config)
        self._on_goaway = on_goaway
        self._said_goaway = False
        self._scanner = FrameScanner(limits, expects_preface=not config.client_side)
        self._pieces: Iterator[bytes | GoAwayFrame | DataPiece | None] = iter(())  # of this read
        self.goes_on = False
        """Whether another turn of what was received is due, and ``receive_data`` with nothing."""
        self._resets = EventBudget(limits.resets)
        self._refusals = EventBudget(limits.provoked_resets)

    def receive_data(self, data: bytes) -> list[Any]:
        """The events of one turn, behind which others have theirs: see ``goes_on``.

        Raises MalformedError for whatever breaks the rules of the connection, or our limits; what
        is then sent tells the other side why.
        """
        if not self.goes_on:
            self._pieces = self._scanner.scan_untrusted(data, trio.current_time())
        self.goes_on = False
        events: list[Any] = []
        try:
            for piece in self._pieces:
                if isinstance(piece, bytes):
                    events += super().receive_data(piece)
                    continue
                assert not isinstance(piece, DataPiece)  # h2 gets it, like the rest
                if piece is not None:
                    self._on_goaway(piece)  # whoever waits for it goes before what follows
                self.goes_on = True
                break
        except h2.exceptions.ProtocolError as exc:  # h2 has said GOAWAY
            raise MalformedError(f"{type(exc).__name__}: {exc}") from exc
        except Exception as exc:  # text that is none, and whatever else h2 and purerpc stumble over
            self.say_goaway(ErrorCodes.ENHANCE_YOUR_CALM, str(exc))
            raise MalformedError(f"{type(exc).__name__}: {exc}") from exc
        return events

    def say_goaway(self, code: ErrorCodes, why: str) -> None:
        """No new calls are taken; those under way go on. h2 would refuse every frame behind it."""
        if not self._said_goaway:
            self._said_goaway = True
            frame = GoAwayFrame(0)
            frame.last_stream_id = self.h2_connection.highest_inbound_stream_id
            frame.error_code = code
            frame.additional_data = why.encode()[:100]
            self.h2_connection._prepare_for_sending([frame])

    # --- h2's events as purerpc's ---

    def _request_received(self, event: h2.events.RequestReceived) -> list[Any]:
        event.stream_ended = None  # purerpc takes a call without a message for an error
        events = self._or_reset(self._request_of, event)
        if isinstance(events[0], e.RequestReceived) and method_of(events[0]) is None:
            self._refused()
        return events

    def _request_of(self, event: h2.events.RequestReceived) -> list[Any]:
        events: list[Any] = super()._request_received(event)
        for name, value in events[0].custom_metadata:
            if isinstance(value, str) and not (value.isascii() and value.isprintable()):
                raise MalformedError(f"{name[:40]!a} is no text")
        return events

    def _response_received(self, event: h2.events.ResponseReceived) -> list[Any]:
        return self._or_reset(super()._response_received, event)

    def _trailers_received(self, event: h2.events.TrailersReceived) -> list[Any]:
        return self._or_reset(super()._trailers_received, event)

    def _or_reset(self, parse: Callable[[Any], list[Any]], event: Any) -> list[Any]:
        """What headers say. What they lack makes purerpc raise nearly anything."""
        try:
            return parse(event)
        except Exception as exc:
            self._refused()
            with suppress(h2.exceptions.ProtocolError):  # both halves have ended already
                self.reset_stream(event.stream_id, ErrorCodes.PROTOCOL_ERROR)
            return [Reset(event.stream_id, f"malformed: {type(exc).__name__}: {exc}")]

    def _refused(self) -> None:
        if not self._refusals.spend(trio.current_time()):
            raise ProtocolViolationError("too many calls that had to be reset")

    def _data_received(self, event: h2.events.DataReceived) -> list[Any]:
        """The bytes of a call, uncut."""
        return [e.MessageReceived(event.stream_id, event.data, event.flow_controlled_length)]

    def _stream_ended(self, event: h2.events.StreamEnded) -> list[Any]:
        if self.config.client_side:  # behind a status it has no effect
            self.message_read_buffers.pop(event.stream_id, None)
            return [Reset(event.stream_id or 0, "ended without a status")]
        ended: list[Any] = super()._stream_ended(event)
        return ended

    def _stream_reset(self, event: h2.events.StreamReset) -> list[Any]:
        if not self._resets.spend(trio.current_time()):
            raise ProtocolViolationError("too many resets")
        why = f"reset by the other side, with code {event.error_code}"
        return [Reset(event.stream_id or 0, why)]

    def _push_stream_received(self, event: h2.events.PushedStreamReceived) -> list[Any]:
        raise ProtocolViolationError("it pushes")


def method_of(request: Any) -> Method | None:
    """What a RequestReceived calls; None for what we do not know."""
    return METHODS.get(f"/{request.service_name}/{request.method_name}")
