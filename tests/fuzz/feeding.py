"""Bytes into a codec, read by read, and what a connection does meanwhile."""

from collections.abc import Callable, Iterable
from contextlib import suppress

from aelf_p2p.core.errors import (
    CallFailedError,
    ConnectionLostError,
    MalformedError,
    ProtocolViolationError,
    StatusCode,
)
from aelf_p2p.transports.net.codec import (
    BytesReceived,
    CallOpened,
    CallReset,
    Codec,
    Event,
    ReplyBegan,
    RequestEnded,
    StatusReceived,
)
from aelf_p2p.transports.net.messages import frame_messages
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM
from tests.fuzz.inputs import random_cuts

NOW_S = 1.0
"""All reads come at once: so no budget of events depends on how the bytes were cut."""

MESSAGE = frame_messages([b"some message"])


def receive(codec: Codec, reads: Iterable[bytes], react: Callable[[Event], None]) -> str:
    """Read by read, as a connection does; the error that ended it, or nothing.

    Only the two errors that end a connection may come.
    """
    for data in reads:
        try:
            for event in codec.receive_untrusted(data, NOW_S):
                if event is not None:
                    react(event)
        except (MalformedError, ProtocolViolationError) as exc:
            return f"{type(exc).__name__}: {exc}"
    return ""


def server_reaction(codec: Codec) -> Callable[[Event], None]:
    """As a connection and its handlers: what comes of a call is decided by its number."""
    opened = 0

    def react(event: Event) -> None:
        nonlocal opened
        match event:
            case CallOpened(call_id):
                opened += 1
                match opened % 4:
                    case 1:
                        codec.trust(call_id)
                        codec.begin_reply(call_id, gzip=event.accepts_gzip)
                        _send_what_fits(codec, call_id)
                    case 2:
                        codec.end_reply(call_id, StatusCode.INTERNAL, "no: ü")
                    case 3:
                        codec.reset(call_id)
            case RequestEnded(call_id):
                codec.begin_reply(call_id, gzip=False)
                _send_what_fits(codec, call_id)
                codec.end_reply(call_id, StatusCode.OK, "")
            case BytesReceived(call_id, _, credit):
                codec.consumed(call_id, credit)

    return react


def client_reaction(codec: Codec) -> Callable[[Event], None]:
    """Reads what comes."""

    def react(event: Event) -> None:
        match event:
            case BytesReceived(call_id, _, credit):
                codec.consumed(call_id, credit)

    return react


def _send_what_fits(codec: Codec, call_id: int) -> None:
    codec.send(call_id, MESSAGE[: codec.send_window(call_id)])


def open_calls(codec: Codec) -> None:
    """Three of a client: one that has said all, and two that go on."""
    for method in (PING, REQUEST_BY_STREAM, REQUEST_BY_STREAM):
        call_id = codec.open_call(method, {"public-key": "04ab", "session-id-bin": b"\1\2"}, 1.0)
        _send_what_fits(codec, call_id)
        if method is PING:
            codec.end_request(call_id)


def finish(codec: Codec, error: str, *, is_client: bool) -> bytes:
    """All that a connection may still do; what there is to send. One that is lost gives no
    commands: its codec may have failed half-way."""
    if not error:
        for call_id in range(1, 12):
            codec.send_window(call_id)
            if not is_client:
                codec.end_reply(call_id, StatusCode.OK, "")
            codec.reset(call_id)
        if is_client:
            with suppress(ConnectionLostError, CallFailedError):
                codec.open_call(PING, {}, 1.0)
    codec.drain("the end")
    return codec.data_to_send()


class Listener:
    """Takes what comes and does nothing but read it; so it does not matter when."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._told: list[str] = []
        self._data: dict[int, bytes] = {}

    def __call__(self, event: Event) -> None:
        """React to an event."""
        match event:
            case BytesReceived(call_id, piece, credit):
                self._data[call_id] = self._data.get(call_id, b"") + piece
                self._codec.consumed(call_id, credit)
            case CallOpened() | CallReset() | StatusReceived() | RequestEnded() | ReplyBegan():
                self._told.append(repr(event))

    @property
    def heard(self) -> tuple[list[str], dict[int, bytes]]:
        """What does not depend on where the reads were cut."""
        return self._told, self._data


def assert_same_however_cut(
    whole: Codec, cut: Codec, data: bytes, *, same_errors: bool = True
) -> None:
    """Two codecs in the same state hear the same of the same bytes.

    Without ``same_errors`` either may find an error where the other has ended the call already.
    """
    listeners = Listener(whole), Listener(cut)
    errors = receive(whole, [data], listeners[0]), receive(cut, random_cuts(data), listeners[1])
    if same_errors:
        assert bool(errors[0]) == bool(errors[1]), f"an error when cut otherwise: {errors}"
    if not any(errors):  # else what was heard before the error is lost with its read
        assert listeners[0].heard == listeners[1].heard, "cut otherwise it says something else"
