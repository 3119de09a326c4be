"""Frames of the tcp transport of a caller into our server, and its answers into a client."""

from collections.abc import Iterator

from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.transports.tcp import frames as f
from aelf_p2p.transports.tcp.codec import FrameCodec
from aelf_p2p.transports.tcp.frames import FrameKind
from aelf_p2p.wire.methods import PING
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
    greeting = f.encode_settings(65_535, 0)
    end = f.encode_header(FrameKind.END, 1, 0)
    unary = tcp_input.opening(1, PING.path) + tcp_input.data(1, MESSAGE) + end
    yield greeting + unary
    yield greeting + unary + tcp_input.opening(2) + f.encode_reset(2, f.ResetCause.ENDED)
    yield greeting + tcp_input.opening(1) + tcp_input.opening(2) + tcp_input.opening(3)
    yield greeting + tcp_input.opening(1, "/nothing") + f.encode_goaway(0, "bye")
    yield greeting + tcp_input.opening(1) + f.encode_credit(1, 2**31 - 1)
    yield b""
    yield bytes(9) + b"\xff" * 9
    client = FrameCodec(is_client=True, limits=LIMITS)
    open_calls(client)
    yield client.data_to_send().removeprefix(f.PREFACE)


def target(data: bytes) -> bool:
    data = data if data.startswith(f.PREFACE[:3]) else f.PREFACE + data
    server = FrameCodec(is_client=False, limits=LIMITS)
    error = receive(server, random_cuts(data), server_reaction(server))
    answer = server.data_to_send() + finish(server, error, is_client=False)
    list(f.FrameReader().read_untrusted(answer))

    client = FrameCodec(is_client=True, limits=LIMITS)
    open_calls(client)
    error_there = receive(client, random_cuts(answer), client_reaction(client))
    finish(client, error_there, is_client=True)

    whole, cut = (FrameCodec(is_client=False, limits=LIMITS) for _ in range(2))
    assert_same_however_cut(whole, cut, data)
    return not error
