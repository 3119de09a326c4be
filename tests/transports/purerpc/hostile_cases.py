"""Cases about peers that mean no good, beside those of the conformance suite.

Our grpc transport passes them all, within the same limits (``tests/transports/test_purerpc.py``).
"""

import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import count

import trio
from hyperframe.frame import PingFrame, RstStreamFrame

from aelf_p2p.contracts import IncomingCall
from aelf_p2p.core.options import KIB, MIB
from aelf_p2p.testing.conformance import Net
from aelf_p2p.testing.conformance.harness import check, proves
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from tests.transports.hostile.raw_connection import message
from tests.transports.hostile.raw_http2 import (
    PREFACE,
    RawPeer,
    data,
    frame,
    ping,
    request_pairs,
    reset,
    settings,
    window_update,
)

LIMITS = WireLimits(
    stranger_timeout_s=1.5, write_timeout_s=0.5, goodbye_timeout_s=0.3, drain_timeout_s=0.1
)
"""The usual limits, but nobody is waited for long."""

RESOURCE_EXHAUSTED = "8"
SLEEP = request_pairs(REQUEST_BY_STREAM.path, do="sleep")
_LAST = b"the last"  # of what is sent; as long as a PING's payload must be


async def _handle(call: IncomingCall) -> None:
    """Whatever the caller's ``do`` asks for."""
    match call.metadata.get("do"):
        case "sleep":
            await trio.sleep_forever()
        case "trust":
            call.stream.trust()
            await call.stream.send_many([b"trusted"])
            await trio.sleep_forever()
        case "pour":
            call.stream.trust()
            while True:
                await call.stream.send_many([bytes(16 * KIB)])
        case _:
            while await call.stream.receive_many():
                pass
            await call.stream.send_many([b""])


@asynccontextmanager
async def _attacker(net: Net, *, greets: bool = True) -> AsyncIterator[RawPeer]:
    async with net.listening(_handle, trusting=False) as listening:
        stream = await trio.open_tcp_stream(listening.endpoint.host, listening.endpoint.port)
        async with stream:
            peer = RawPeer(stream)
            if greets:
                await peer.send(PREFACE, settings())
            yield peer


async def _is_dropped(peer: RawPeer, pieces: Iterable[bytes]) -> bool:
    """Whether the connection ends before everything that is sent was looked at."""

    def looked_at() -> bool:
        return any(
            isinstance(each, PingFrame) and each.opaque_data == _LAST for each in peer.frames
        )

    ended = False
    async with trio.open_nursery() as nursery:
        last = frame(PingFrame.type, 0, 0, _LAST)
        nursery.start_soon(peer.send_while_taken, [*pieces, last])
        with suppress(trio.BrokenResourceError):
            while not looked_at() and await peer.read_some():
                pass
        ended = not looked_at()
        nursery.cancel_scope.cancel()
    return ended


async def _check_dropped(net: Net, make: Callable[[RawPeer], Iterable[bytes]]) -> None:
    """For what it sends, and not because it is a stranger for long: call 1 is trusted."""
    async with _attacker(net) as peer:
        await peer.send(peer.headers(1, request_pairs(REQUEST_BY_STREAM.path, do="trust")))
        await peer.read_until(lambda: bool(peer.body(1)))
        check(await _is_dropped(peer, make(peer)), "the connection goes on as if nothing was")


def _opened(peer: RawPeer, call_id: int) -> bytes:
    return peer.headers(call_id, SLEEP)


@proves("over 400 calls that are opened and reset at once end the connection")
async def a_flood_of_resets_is_ended(net: Net) -> None:
    await _check_dropped(
        net, lambda peer: (_opened(peer, at) + reset(at) for at in range(3, 1203, 2))
    )


@proves("over 100 calls at once that cannot begin end the connection")
async def a_flood_of_unknown_calls_is_ended(net: Net) -> None:
    pairs = request_pairs("/PeerService/Nothing")
    await _check_dropped(net, lambda peer: (peer.headers(at, pairs) for at in range(3, 603, 2)))


@proves("over 100 PINGs at once end the connection")
async def a_flood_of_pings_is_ended(net: Net) -> None:
    await _check_dropped(net, lambda peer: [ping()] * 300)


@proves("over 50 SETTINGS at once end the connection")
async def a_flood_of_settings_is_ended(net: Net) -> None:
    await _check_dropped(net, lambda peer: [settings()] * 200)


@proves("over 100 empty DATA frames at once end the connection")
async def a_flood_of_empty_frames_is_ended(net: Net) -> None:
    await _check_dropped(net, lambda peer: [_opened(peer, 3), data(3, b"") * 300])


@proves("over 20,000 small frames at once end the connection")
async def a_flood_of_small_frames_is_ended(net: Net) -> None:
    await _check_dropped(net, lambda peer: [window_update(0, 1) * 40_000])


@proves("over 10,000 frames at once of a call that is over end the connection")
async def a_flood_on_a_call_that_is_over_is_ended(net: Net) -> None:
    late = data(3, bytes(64)) * 15_000
    await _check_dropped(net, lambda peer: [_opened(peer, 3), reset(3), late])


@proves("headers of over 32 KiB end the connection")
async def large_headers_end_the_connection(net: Net) -> None:
    block = b"\0\1a\1b" * 3200  # literal headers, a: b
    rest = [frame(9, 0, 3, block)] * 8
    await _check_dropped(net, lambda peer: [frame(1, 0, 3, block), *rest, frame(9, 4, 3, block)])


@proves("over 100 calls under way at once end the connection")
async def too_many_calls_end_the_connection(net: Net) -> None:
    await _check_dropped(net, lambda peer: (_opened(peer, at) for at in range(3, 403, 2)))


@proves("over 128 KiB that a stranger leaves unread on several calls end the connection")
async def unread_bytes_of_a_stranger_are_bounded(net: Net) -> None:
    def fill(peer: RawPeer) -> Iterable[bytes]:
        for call_id in range(1, 13, 2):
            yield _opened(peer, call_id) + data(call_id, bytes(16_000)) * 3

    async with _attacker(net) as peer:
        began_at = trio.current_time()
        check(await _is_dropped(peer, fill(peer)), "the connection goes on as if nothing was")
        took_s = trio.current_time() - began_at
        check(took_s < LIMITS.stranger_timeout_s, f"that took {took_s:.1f} s")


@proves("a frame of over 16 KiB ends the connection, before it is there")
async def a_large_frame_ends_the_connection(net: Net) -> None:
    async with _attacker(net) as peer:
        announced = frame(0, 0, 1, length=0xFFFFFF)
        began_at = trio.current_time()
        check(await _is_dropped(peer, [_opened(peer, 1), announced, bytes(20 * KIB)]), "it goes on")
        took_s = trio.current_time() - began_at
        check(took_s < LIMITS.stranger_timeout_s, f"that took {took_s:.1f} s")


@proves("what is no HTTP/2 ends the connection")
async def garbage_ends_the_connection(net: Net) -> None:
    for garbage in bytes(64), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(range(256)) * 64:
        async with _attacker(net, greets=False) as peer:
            check(await _is_dropped(peer, [garbage]), f"it goes on after {garbage[:10]!r}")


@proves("who reads none of our answers to it is dropped")
async def unread_answers_end_the_connection(net: Net) -> None:
    async with _attacker(net) as peer:
        peer.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await peer.send_while_taken(ping() * 64 for _ in count())


@proves("who reads nothing of what it asks for is dropped")
async def who_never_reads_is_dropped(net: Net) -> None:
    large = (4, 2**31 - 1)  # INITIAL_WINDOW_SIZE
    async with _attacker(net, greets=False) as peer:
        peer.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        pour = peer.headers(1, request_pairs(REQUEST_BY_STREAM.path, do="pour"))
        await peer.send(PREFACE, settings(large), window_update(0, 2**31 - 1 - 65_535), pour)
        with suppress(trio.BrokenResourceError):  # which tells when nobody is there any more
            while True:
                await peer.send(frame(0xEE, 0, 0))
                await trio.sleep(0.05)


@proves("a stranger that says nothing is dropped in its time")
async def a_silent_stranger_is_dropped(net: Net) -> None:
    for greets in False, True:
        async with _attacker(net, greets=greets) as peer:
            began_at = trio.current_time()
            await peer.read_to_end()
            took_s = trio.current_time() - began_at
            check(took_s < 3 * LIMITS.stranger_timeout_s, f"it took {took_s:.1f} s")


async def _check_refused(net: Net, encoding: str, sent: bytes) -> None:
    """A unary call of these bytes fails with RESOURCE_EXHAUSTED, and the connection goes on."""
    async with _attacker(net) as peer:
        pairs = [*request_pairs(), ("grpc-encoding", encoding)]
        await peer.send(peer.headers(1, pairs))
        for at in range(0, len(sent), 16 * KIB):
            await peer.send(data(1, sent[at : at + 16 * KIB]))
        await peer.read_until(lambda: "grpc-status" in peer.last_block(1))
        status = peer.last_block(1)["grpc-status"]
        check(status == RESOURCE_EXHAUSTED, f"the status is {status}")
        check(not await _is_dropped(peer, []), "the connection is gone")


@proves("a message that announces 4 GiB fails its call alone, before any of it is there")
async def a_message_of_4_gib_fails_its_call(net: Net) -> None:
    await _check_refused(net, "identity", message(b"")[:1] + b"\xff" * 4 + bytes(100))


@proves("a gzipped message of 50 KB that would be 50 MiB fails its call alone")
async def a_gzip_bomb_fails_its_call(net: Net) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = packer.compress(bytes(50 * MIB)) + packer.flush()
    await _check_refused(net, "gzip", message(bomb, compressed=1))


async def _answer_to(peer: RawPeer, call_id: int, *extra: tuple[str, str | bytes]) -> str | None:
    """The status of a call with these headers too; None when it is reset."""
    await peer.send(peer.headers(call_id, [*request_pairs(), *extra], end_stream=True))
    await peer.read_until(
        lambda: "grpc-status" in peer.last_block(call_id) or peer.has(RstStreamFrame, call_id)
    )
    return peer.last_block(call_id).get("grpc-status")


@proves("a call that is malformed ends alone: another of its connection is answered")
async def a_malformed_call_ends_alone(net: Net) -> None:
    async with _attacker(net) as peer:
        for call_id, extra in enumerate([("grpc-timeout", "soon"), ("grpc-timeout", "1000H0")]):
            check(await _answer_to(peer, 4 * call_id + 1, extra) != "0", f"{extra} passes")
            check(await _answer_to(peer, 4 * call_id + 3) == "0", "a good call is not answered")


@proves("a call whose timeout is none is answered with a status")
async def a_malformed_call_is_answered(net: Net) -> None:
    async with _attacker(net) as peer:
        check(await _answer_to(peer, 1, ("grpc-timeout", "soon")) is not None, "it is reset")


@proves("a header that is no text ends its call alone: another of its connection is answered")
async def a_header_that_is_no_text_ends_its_call(net: Net) -> None:
    async with _attacker(net) as peer:
        check(await _answer_to(peer, 1, ("x", b"\xff\xfe")) != "0", "it passes")
        check(await _answer_to(peer, 3) == "0", "a good call is not answered")


HOSTILE_CASES = (
    a_flood_of_resets_is_ended,
    a_flood_of_unknown_calls_is_ended,
    a_flood_of_pings_is_ended,
    a_flood_of_settings_is_ended,
    a_flood_of_empty_frames_is_ended,
    a_flood_of_small_frames_is_ended,
    a_flood_on_a_call_that_is_over_is_ended,
    large_headers_end_the_connection,
    too_many_calls_end_the_connection,
    unread_bytes_of_a_stranger_are_bounded,
    a_large_frame_ends_the_connection,
    garbage_ends_the_connection,
    unread_answers_end_the_connection,
    who_never_reads_is_dropped,
    a_silent_stranger_is_dropped,
    a_message_of_4_gib_fails_its_call,
    a_gzip_bomb_fails_its_call,
    a_malformed_call_ends_alone,
    a_malformed_call_is_answered,
    a_header_that_is_no_text_ends_its_call,
)
