"""What a stranger can make us hold stays small, whatever it sends."""

from dataclasses import replace

from hpack import Decoder
from hyperframe.frame import Frame, HeadersFrame

from aelf_p2p.core.budgets import Rate
from aelf_p2p.core.errors import CallFailedError, StatusCode
from aelf_p2p.core.options import KIB, MIB
from aelf_p2p.transports.grpc.codec import GrpcCodec
from aelf_p2p.transports.net.connection import READ_BYTES
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from tests.transports.hostile.growth import growth_at_most
from tests.transports.hostile.raw_http2 import (
    PREFACE,
    Headers,
    data,
    open_target,
    request_pairs,
    reset,
    settings,
)
from tests.transports.hostile.target import HURRIED

HEADER_TABLE_SIZE = 1  # RFC 9113 §6.5.2


def greeted(limits: WireLimits, *pairs: tuple[int, int]) -> GrpcCodec:
    codec = GrpcCodec(is_client=False, limits=limits)
    feed(codec, PREFACE + settings(*pairs))
    return codec


def feed(codec: GrpcCodec, sent: bytes, now: float = 1.0) -> bytes:
    """Read by read; returns what the codec says."""
    said = b""
    for at in range(0, len(sent), READ_BYTES):
        for _ in codec.receive_untrusted(sent[at : at + READ_BYTES], now):
            pass
        said += codec.data_to_send()
    return said


def test_settings_that_mean_nothing_are_not_kept() -> None:
    """There are 65,536 of them, and h2 keeps 0.8 KiB for each that it was told."""
    codec = greeted(WireLimits())
    feed(codec, settings((0xFFFF, 1)))
    with growth_at_most(256 * KIB):
        for first in range(100, 2600, 500):
            feed(codec, settings(*[(code, 1) for code in range(first, first + 500)]))


def test_our_header_table_stays_small() -> None:
    """Each answer that differs adds to the table, through which every header is then searched."""
    codec = greeted(WireLimits(), (HEADER_TABLE_SIZE, 2**32 - 1))
    headers = Headers()
    decoder = Decoder()
    decoder.max_allowed_table_size = 2**32 - 1
    for call_id in range(1, 401, 2):
        pairs = request_pairs(content_type=f"not gRPC {call_id}")
        said = memoryview(feed(codec, headers(call_id, pairs, end_stream=True)))
        while said:
            each, length = Frame.parse_frame_header(said[:9])
            if isinstance(each, HeadersFrame):
                each.parse_body(said[9 : 9 + length])
                block = {str(name): str(value) for name, value in decoder.decode(each.data)}
                assert block["grpc-status"] == "3"
            said = said[9 + length :]
    assert decoder.header_table_size == 4 * KIB
    assert decoder.header_table._current_size > 3 * KIB  # they were there to be kept


def test_calls_that_are_over_are_forgotten() -> None:
    endless = Rate(1e9, 1e9)
    codec = greeted(WireLimits(resets=endless))
    headers = Headers()

    def cycles(first: int, count: int) -> None:
        for call_id in range(first, first + 2 * count, 2):
            feed(codec, headers(call_id, request_pairs()) + reset(call_id))

    cycles(1, 50)
    with growth_at_most(128 * KIB):  # of each h2 remembers how it ended, until 65,536 are
        cycles(101, 300)


async def test_what_all_strangers_hold_is_bounded() -> None:
    """Messages that are never complete, on many calls of many connections."""
    limits = replace(HURRIED, all_strangers_bytes=256 * KIB)
    incomplete = b"\0" + (60_000).to_bytes(4, "big") + bytes(32_000)
    async with open_target(limits) as target:
        async with target.http2_attacker() as one, target.http2_attacker() as other:
            for call_id in range(1, 21, 2):
                for peer in (one, other):
                    pairs = request_pairs(REQUEST_BY_STREAM.path, do="echo")
                    await peer.send_while_taken([peer.headers(call_id, pairs)])
                    await peer.send_while_taken(
                        [data(call_id, incomplete[:16_000]), data(call_id, incomplete[16_000:])]
                    )
                    await target.ask_neighbour()
            await target.handlers.wait_until(lambda: target.handlers.errors)
        await target.wait_no_handlers()
        refused = [each for each in target.handlers.errors if isinstance(each, CallFailedError)]
        assert refused
        assert {each.code for each in refused} == {StatusCode.RESOURCE_EXHAUSTED}


async def test_a_flood_leaves_no_memory_behind() -> None:
    """Measured on the second attack, since the first fills caches."""
    headers = Headers()
    pieces = [
        headers(call_id, request_pairs(do="sleep")) + reset(call_id) for call_id in range(1, 501, 2)
    ]
    async with open_target(replace(HURRIED, resets=Rate(100, 1))) as target:

        async def attack() -> None:
            async with target.http2_attacker() as peer:
                await peer.attack(pieces)
            await target.wait_no_handlers()

        await attack()
        with growth_at_most(4 * MIB):
            await attack()
