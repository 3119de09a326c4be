"""Two codecs that talk to each other, told what to do by an input: neither may ever be surprised.

All commands are right ones, in any order; what was said comes in any pieces, late and early.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aelf_p2p.core.errors import CallFailedError, ConnectionLostError, StatusCode
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
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM
from tests.fuzz.inputs import Choices

_SIZES = (1, 9, 100, 5000, 20_000, 70_000)
_PATTERN = bytes(range(251)) * 300


@dataclass
class _Side:
    """A codec, and what a connection would know of its calls."""

    codec: Codec
    is_client: bool
    now_s: float = 1.0
    on_its_way: bytearray = field(default_factory=bytearray)
    """Said by the other side, not received yet."""
    calls: set[int] = field(default_factory=set)
    """Under way, as far as it knows."""
    ended: set[int] = field(default_factory=set)
    """Of these, the ones whose half of ours is complete."""
    broken: set[int] = field(default_factory=set)
    """Reset, by either side: what was on its way may be lost."""
    sent: dict[int, int] = field(default_factory=dict)
    """How many bytes of each call; every one of them tells where it stands."""
    received: dict[int, int] = field(default_factory=dict)
    owed: list[tuple[int, int]] = field(default_factory=list)
    """Credit to be given back: the call, and how much."""

    def take(self, event: Event) -> None:
        match event:
            case CallOpened(call_id):
                self.calls.add(call_id)
            case BytesReceived(call_id, data, credit):
                assert call_id in self.calls, "bytes of a call that is over"
                at = self.received.get(call_id, 0)
                assert data == _bytes_at(at, len(data)), "other bytes than were sent"
                self.received[call_id] = at + len(data)
                self.owed.append((call_id, credit))
            case RequestEnded(call_id) | ReplyBegan(call_id):
                assert call_id in self.calls
            case StatusReceived(call_id):
                assert call_id in self.calls, "a call ends twice"
                self.calls.discard(call_id)
            case CallReset(call_id):
                assert call_id in self.calls, "a call ends twice"
                self.calls.discard(call_id)
                self.broken.add(call_id)

    def receive(self, count: int) -> None:
        data = bytes(self.on_its_way[:count])
        del self.on_its_way[:count]
        self.now_s += 1.0
        for event in self.codec.receive_untrusted(data, self.now_s):
            if event is not None:
                self.take(event)


def converse(make: Callable[[bool], Codec], data: bytes) -> bool:
    """Run the conversation of an input; whether anything was received."""
    choices = Choices(data)
    client, server = _Side(make(True), True), _Side(make(False), False)
    while choices:
        side, other = (client, server) if choices.below(2) else (server, client)
        _step(side, other, choices)
    for _ in range(3):
        for side, other in ((client, server), (server, client)):
            _carry(side, other)
            side.receive(len(side.on_its_way))
    broken = client.broken | server.broken
    _check_received(client, server, broken)
    _check_received(server, client, broken | server.ended)  # what it has answered it reads no more
    return bool(server.received)


def _check_received(side: _Side, other: _Side, broken: set[int]) -> None:
    for call_id, count in other.sent.items():
        received = side.received.get(call_id, 0)
        assert received == count or (received < count and call_id in broken), "bytes are lost"


def _bytes_at(at: int, count: int) -> bytes:
    return _PATTERN[at % 251 :][:count]


def _carry(side: _Side, other: _Side) -> None:
    for one, another in ((side, other), (other, side)):
        another.on_its_way += one.codec.data_to_send()


def _step(side: _Side, other: _Side, choices: Choices) -> None:
    codec = side.codec
    call_id = _one_of(sorted(side.calls), choices)
    match choices.below(13):
        case 0 | 1 | 2:
            _carry(side, other)
            side.receive(_SIZES[choices.below(len(_SIZES))])
        case 3 if side.is_client:
            method = PING if choices.below(2) else REQUEST_BY_STREAM
            with suppress(CallFailedError, ConnectionLostError):
                side.calls.add(codec.open_call(method, {"public-key": "04ab"}, 1.0))
        case 4 | 5 | 6 if call_id is not None and call_id not in side.ended:
            if not side.is_client:
                codec.begin_reply(call_id, gzip=False)
            count = min(codec.send_window(call_id), _SIZES[choices.below(len(_SIZES))])
            at = side.sent.get(call_id, 0)
            codec.send(call_id, _bytes_at(at, count))
            side.sent[call_id] = at + count
        case 7 if call_id is not None:
            side.ended.add(call_id)
            if side.is_client:
                codec.end_request(call_id)
            else:
                code = list(StatusCode)[choices.below(len(StatusCode))]
                codec.end_reply(call_id, code, "why: ü")
                side.calls.discard(call_id)
        case 8 if call_id is not None:
            codec.reset(call_id)
            side.calls.discard(call_id)
            side.broken.add(call_id)
        case 9 | 10 if side.owed:
            codec.consumed(*side.owed.pop(choices.below(len(side.owed))))
        case 11 if call_id is not None:
            codec.trust(call_id)
        case 12 if not choices.below(20):
            codec.drain("enough")


def _one_of(call_ids: list[int], choices: Choices) -> int | None:
    return call_ids[choices.below(len(call_ids))] if call_ids else None
