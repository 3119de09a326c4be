"""What one read brings is taken in turns, between which other tasks have theirs."""

import trio
import trio.testing
from hyperframe.frame import GoAwayFrame
from purerpc.grpclib.config import GRPCConfiguration

from aelf_p2p import WireLimits
from aelf_p2p.transports.net.codec import FRAMES_A_TURN
from aelf_p2p.transports.purerpc.http2 import Http2
from aelf_p2p.transports.purerpc.pipe import Pipe
from tests.transports.hostile.raw_http2 import PREFACE, settings, window_update


async def test_a_read_ends_after_some_turns() -> None:
    config = GRPCConfiguration(client_side=False)
    http2 = Http2(config, WireLimits(), on_goaway=lambda frame: None)
    for greeting in PREFACE, b"":
        turns = [http2.receive_data(greeting + settings() + window_update(0, 1) * 200)]
        while http2.goes_on:
            turns.append(http2.receive_data(b""))
        sizes = [len(events) for events in turns]  # each frame is an event
        assert sum(sizes) == 201
        assert len(sizes) == 4
        assert max(sizes) == FRAMES_A_TURN


async def test_a_goaway_ends_its_turn() -> None:
    told: list[GoAwayFrame] = []
    http2 = Http2(GRPCConfiguration(client_side=True), WireLimits(), on_goaway=told.append)
    goaway = GoAwayFrame(0, last_stream_id=1).serialize()
    assert len(http2.receive_data(settings() + goaway + window_update(0, 1))) == 1
    assert len(told) == 1
    assert http2.goes_on
    assert len(http2.receive_data(b"")) == 1
    assert not http2.goes_on


async def test_nothing_is_read_before_its_last_turn() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"more")
    left = [True, True, False]
    pipe = Pipe(
        ours,
        write_timeout_s=1,
        goes_on=lambda: left.pop(0),
        on_progress=lambda: None,
        on_broken=lambda exc: None,
    )
    for expected in b"", b"", b"more":
        with trio.testing.assert_checkpoints():
            assert await pipe.receive(9) == expected
