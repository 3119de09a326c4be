"""HTTP/2 frames of a server into our client, which has calls under way."""

from collections.abc import Iterator

from hyperframe.frame import DataFrame, GoAwayFrame, RstStreamFrame, SettingsFrame

from aelf_p2p.core.errors import StatusCode
from aelf_p2p.transports.grpc.codec import GrpcCodec
from aelf_p2p.transports.net.limits import WireLimits
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
    REPLY,
    TRAILERS,
    frames,
    headers,
    mutate_frames,
    whole_frames,
)
from tests.fuzz.inputs import random_cuts

LIMITS = WireLimits()
MAX_BYTES = 8192

mutate = mutate_frames


def seeds() -> Iterator[bytes]:
    greeting = SettingsFrame(0)
    answer = [headers(1, REPLY), DataFrame(1, MESSAGE), headers(1, TRAILERS, end=True)]
    failed = [*REPLY, ("grpc-status", "13"), ("grpc-message", "no%20")]
    yield frames(greeting, *answer)
    yield frames(greeting, headers(3, REPLY), DataFrame(3, MESSAGE * 400), RstStreamFrame(5))
    yield frames(greeting, headers(1, failed, end=True), GoAwayFrame(0, 5, 0, b"bye"))
    yield frames(greeting, headers(1, [(":status", "404")], end=True))
    yield b""
    yield bytes(9) + b"\xff" * 9
    server = GrpcCodec(is_client=False, limits=LIMITS)
    receive(server, [_opened().data_to_send()], server_reaction(server))
    for call_id in (1, 3, 5):
        server.end_reply(call_id, StatusCode.OK, "")
    yield server.data_to_send()


def target(data: bytes) -> bool:
    client = _opened()
    error = receive(client, random_cuts(data), client_reaction(client))
    said = client.data_to_send() + finish(client, error, is_client=True)
    list(whole_frames(said[24:]))  # behind the preface

    server = GrpcCodec(is_client=False, limits=LIMITS)
    # It may refuse what other SETTINGS than its own have led the client to say.
    receive(server, random_cuts(said), server_reaction(server))

    # h2 reads on while a call is refused: a fault in it is one of the connection then.
    assert_same_however_cut(_opened(), _opened(), data, same_errors=False)
    return not error


def _opened() -> GrpcCodec:
    client = GrpcCodec(is_client=True, limits=LIMITS, authority="test", scheme="http")
    open_calls(client)
    return client
