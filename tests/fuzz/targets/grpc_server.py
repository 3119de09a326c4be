"""HTTP/2 frames of a caller into our server, and its answers into a client of ours."""

from collections.abc import Iterator

from hyperframe.frame import DataFrame, PingFrame, RstStreamFrame, SettingsFrame

from aelf_p2p.transports.grpc.codec import GrpcCodec
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from tests.fuzz.feeding import (
    MESSAGE,
    assert_same_however_cut,
    client_reaction,
    finish,
    open_calls,
    receive,
    server_reaction,
)
from tests.fuzz.http2_input import (
    PREFACE,
    frames,
    mutate_frames,
    request,
    whole_frames,
)
from tests.fuzz.inputs import random_cuts

LIMITS = WireLimits()
MAX_BYTES = 8192

mutate = mutate_frames


def seeds() -> Iterator[bytes]:
    greeting = SettingsFrame(0)
    unary = [request(1, end=False), DataFrame(1, MESSAGE, flags=["END_STREAM"])]
    stream = REQUEST_BY_STREAM.path
    yield frames(greeting, *unary)
    yield frames(greeting, request(1, stream, ("session-id-bin", "AQI"), ("grpc-timeout", "1S")))
    yield frames(
        greeting, request(1, "/PeerService/Nothing"), request(3, stream), RstStreamFrame(3)
    )
    yield frames(greeting, *unary, request(3, stream), request(5, stream), request(7, stream))
    yield frames(greeting, PingFrame(0, bytes(8)), request(1, stream), DataFrame(1, MESSAGE * 400))
    yield b""
    yield bytes(9) + b"\xff" * 9
    codec = GrpcCodec(is_client=True, limits=LIMITS, authority="test", scheme="http")
    open_calls(codec)
    yield codec.data_to_send().removeprefix(PREFACE)


def target(data: bytes) -> bool:
    data = data if data.startswith(PREFACE[:3]) else PREFACE + data
    server = GrpcCodec(is_client=False, limits=LIMITS)
    error = receive(server, random_cuts(data), server_reaction(server))
    answer = server.data_to_send() + finish(server, error, is_client=False)
    list(whole_frames(answer))

    client = GrpcCodec(is_client=True, limits=LIMITS, authority="test", scheme="http")
    open_calls(client)
    error_there = receive(client, random_cuts(answer), client_reaction(client))
    finish(client, error_there, is_client=True)

    whole, cut = (GrpcCodec(is_client=False, limits=LIMITS) for _ in range(2))
    # h2 reads on while a call is refused: a fault in it is one of the connection then.
    assert_same_however_cut(whole, cut, data, same_errors=False)
    return not error
