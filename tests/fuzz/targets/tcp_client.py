"""Frames of the tcp transport of a server into our client, which has calls under way."""

from collections.abc import Iterator

from aelf_p2p.core.errors import StatusCode
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.tcp import frames as f
from aelf_p2p.transports.tcp.codec import FrameCodec
from tests.fuzz import tcp_input
from tests.fuzz.feeding import (
    MESSAGE,
    assert_same_however_cut,
    client_reaction,
    finish,
    open_calls,
    receive,
    server_reaction,
)
from tests.fuzz.inputs import random_cuts

LIMITS = WireLimits()
MAX_BYTES = 16_384

mutate = tcp_input.mutate_frames


def seeds() -> Iterator[bytes]:
    greeting = f.encode_settings(65_535, 100)
    ok = f.encode_status(1, StatusCode.OK, "")
    yield greeting + f.encode_reply(1, gzip=True) + tcp_input.data(1, MESSAGE) + ok
    yield greeting + f.encode_status(1, StatusCode.INTERNAL, "no") + f.encode_goaway(3, "bye")
    yield greeting + f.encode_reply(2, gzip=False) + tcp_input.data(2, MESSAGE * 400)
    yield greeting + f.encode_credit(2, 40_000) + f.encode_reset(3, f.ResetCause.NEVER_STARTED)
    yield b""
    yield bytes(9) + b"\xff" * 9


def target(data: bytes) -> bool:
    data = data if data.startswith(f.PREFACE[:3]) else f.PREFACE + data
    client = _opened()
    error = receive(client, random_cuts(data), client_reaction(client))
    said = client.data_to_send() + finish(client, error, is_client=True)

    server = FrameCodec(is_client=False, limits=LIMITS)
    assert not receive(server, random_cuts(said), server_reaction(server)), "ours refuses ours"

    assert_same_however_cut(_opened(), _opened(), data)
    return not error


def _opened() -> FrameCodec:
    client = FrameCodec(is_client=True, limits=LIMITS)
    open_calls(client)
    return client
