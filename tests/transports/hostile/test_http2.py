"""HTTP/2 against its rules: whoever breaks them is dropped, and nobody else notices."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from hyperframe.frame import GoAwayFrame, PingFrame, RstStreamFrame, SettingsFrame

from aelf_p2p.core.budgets import Rate
from aelf_p2p.wire.methods import REQUEST_BY_STREAM
from tests.faults.marks import OF_CASE
from tests.transports.hostile.floods import (
    FLOODS,
    Flood,
    calls,
    in_a_header_block,
    opened,
    repeated,
)
from tests.transports.hostile.raw_connection import PATIENCE_S, for_ever, message
from tests.transports.hostile.raw_http2 import (
    PREFACE,
    Pairs,
    data,
    frame,
    open_target,
    ping,
    request_pairs,
    reset,
    settings,
    window_update,
)
from tests.transports.hostile.target import HURRIED

NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 3  # RFC 9113 §7
FRAME_SIZE_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM = 6, 7, 11


# --- bytes that are no HTTP/2 ---------------------------------------------------------------------


@pytest.mark.fault(14, 15)
@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(bytes(64), id="zeros"),
        pytest.param(bytes(range(256)) * 64, id="16 KiB of bytes"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="HTTP/1.1"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", id="HTTP/1.1 POST"),
        pytest.param(b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n", id="almost the preface"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="a TLS hello"),
    ],
)
async def test_what_is_no_http2_is_dropped(garbage: bytes) -> None:
    async with open_target() as target, target.attacker() as peer:
        ending = await peer.attack([garbage])
        # RFC 9113 §3.4: no GOAWAY is needed for who does not speak HTTP/2.
        assert {type(each) for each in ending.frames} <= {SettingsFrame, GoAwayFrame}
        assert target.handlers.most_running == 0


# --- frames that break a rule ---------------------------------------------------------------------

BLOCK = b"\x82"  # HPACK (RFC 7541 §A): :method GET
SMALLEST_BOMB = b"\x40\x01a\x7f\xa1\x1e" + b"a" * 4000 + b"\xbe" * 12_000
"""A header of 4000 bytes, and 12,000 times the table's entry that it became: 48 MB."""


@pytest.mark.fault(22, 24)
@pytest.mark.parametrize(
    ("broken", "code"),
    [
        pytest.param(frame(0, 0, 0, b"x"), PROTOCOL_ERROR, id="DATA on stream 0"),
        pytest.param(frame(1, 5, 0, BLOCK), PROTOCOL_ERROR, id="HEADERS on stream 0"),
        pytest.param(frame(1, 5, 2, BLOCK), PROTOCOL_ERROR, id="HEADERS on an even stream"),
        pytest.param(frame(0, 0, 9, b"x"), PROTOCOL_ERROR, id="DATA on an idle stream"),
        pytest.param(frame(8, 0, 9, b"\0\0\0\1"), PROTOCOL_ERROR, id="WINDOW_UPDATE, idle stream"),
        pytest.param(frame(3, 0, 9, bytes(4)), PROTOCOL_ERROR, id="RST_STREAM of an idle stream"),
        pytest.param(frame(3, 0, 0, bytes(4)), PROTOCOL_ERROR, id="RST_STREAM on stream 0"),
        pytest.param(frame(3, 0, 1, bytes(3)), FRAME_SIZE_ERROR, id="RST_STREAM of 3 bytes"),
        pytest.param(frame(4, 0, 1), PROTOCOL_ERROR, id="SETTINGS on a stream"),
        pytest.param(frame(4, 0, 0, bytes(5)), FRAME_SIZE_ERROR, id="SETTINGS of 5 bytes"),
        # RFC 9113 §6.5 asks for FRAME_SIZE_ERROR here; this is h2's
        pytest.param(frame(4, 1, 0, bytes(6)), PROTOCOL_ERROR, id="SETTINGS ACK with settings"),
        pytest.param(settings((2, 2)), PROTOCOL_ERROR, id="ENABLE_PUSH 2"),
        pytest.param(settings((4, 1 << 31)), FLOW_CONTROL_ERROR, id="INITIAL_WINDOW_SIZE 2**31"),
        pytest.param(settings((5, 100)), PROTOCOL_ERROR, id="MAX_FRAME_SIZE 100"),
        pytest.param(frame(6, 0, 1, bytes(8)), PROTOCOL_ERROR, id="PING on a stream"),
        pytest.param(frame(6, 0, 0, bytes(7)), FRAME_SIZE_ERROR, id="PING of 7 bytes"),
        pytest.param(frame(5, 4, 1, bytes(4) + BLOCK), PROTOCOL_ERROR, id="PUSH_PROMISE"),
        pytest.param(frame(8, 0, 0, bytes(4)), PROTOCOL_ERROR, id="WINDOW_UPDATE of 0"),
        pytest.param(
            window_update(0, 2**31 - 1), FLOW_CONTROL_ERROR, id="WINDOW_UPDATE beyond 2**31"
        ),
        pytest.param(frame(9, 4, 1, BLOCK), PROTOCOL_ERROR, id="CONTINUATION of nothing"),
        pytest.param(
            frame(1, 0, 1, BLOCK) + ping(), PROTOCOL_ERROR, id="PING inside a header block"
        ),
        pytest.param(
            frame(1, 0xC, 1, b"\xff" + BLOCK), PROTOCOL_ERROR, id="more padding than frame"
        ),
        pytest.param(frame(1, 5, 1, b"\xff" * 20), PROTOCOL_ERROR, id="HPACK of nonsense"),
        pytest.param(frame(1, 5, 1, b"\xbf"), PROTOCOL_ERROR, id="HPACK index out of the table"),
        pytest.param(frame(1, 5, 1, b"\x3f\xe1\xff\x03"), PROTOCOL_ERROR, id="HPACK table too big"),
        pytest.param(frame(1, 5, 1, SMALLEST_BOMB[:16_000]), ENHANCE_YOUR_CALM, id="HPACK bomb"),
        pytest.param(frame(7, 0, 0, bytes(7)), ENHANCE_YOUR_CALM, id="GOAWAY of 7 bytes"),
        pytest.param(frame(7, 0, 1, bytes(8)), ENHANCE_YOUR_CALM, id="GOAWAY on a stream"),
        pytest.param(
            frame(0, 0, 1, length=0xFFFFFF), ENHANCE_YOUR_CALM, id="a frame of 16 MiB announced"
        ),
        pytest.param(
            frame(0x42, 0, 1, length=16 * 1024 + 1), ENHANCE_YOUR_CALM, id="a frame just too long"
        ),
    ],
)
async def test_a_broken_frame_ends_its_connection(broken: bytes, code: int) -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        ending = await peer.attack([broken])
        assert ending.goaway.error_code == code
        assert target.handlers.most_running == 0


# --- floods, each with a budget of its own --------------------------------------------------------

FLOODED = replace(
    HURRIED,
    max_calls=10_000,  # h2's limit is not to come before the budgets
    small_frames=Rate(2_000, 500),
    late_frames=Rate(500, 50),
)


@pytest.mark.fault(16, 17, 18, 19, 20, 21)
@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_ends_its_connection(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    case, flood, why = FLOODS[name]
    record_property(OF_CASE, case)
    async with open_target(FLOODED) as target, target.http2_attacker() as peer:
        began = trio.current_time()
        ending = await peer.attack(flood(peer))
        record_property("dropped after", f"{(trio.current_time() - began) * 1000:.0f} ms")
        record_property("a neighbour's p99", target.neighbour_p99)
        assert ending.goaway.error_code == ENHANCE_YOUR_CALM
        assert ending.goaway.additional_data.decode() == why
        await target.wait_no_handlers()
        assert target.handlers.most_running <= FLOODED.resets.burst
        assert await target.told_of_fault() == why


async def test_a_stranger_makes_so_many_calls() -> None:
    """However well they end."""
    limits = replace(HURRIED, stranger_calls=Rate(30, 0.001))
    async with open_target(limits) as target, target.http2_attacker() as peer:
        for number in range(30):
            call_id = 2 * number + 1
            await peer.send(peer.headers(call_id, request_pairs(), end_stream=True))
            assert await peer.read_status(call_id) == 0
        ending = await peer.attack(iter([peer.headers(61, request_pairs(), end_stream=True)]))
        assert ending.goaway.additional_data == b"too many calls before a handshake"


@pytest.mark.fault(21, 23)
@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(repeated(frame(1, 0, 1)), id="empty HEADERS"),
        pytest.param(in_a_header_block(frame(9, 0, 1)), id="empty CONTINUATION"),
        pytest.param(in_a_header_block(frame(9, 0, 1, b"\x82")), id="small CONTINUATION"),
        pytest.param(calls(opened), id="more calls at once than allowed"),
    ],
)
async def test_h2_ends_some_floods_itself(flood: Flood) -> None:
    """Whether its limit or ours is met first depends on how the bytes arrive."""
    async with open_target() as target, target.http2_attacker() as peer:
        ending = await peer.attack(flood(peer))
        assert ending.goaway.error_code in (PROTOCOL_ERROR, ENHANCE_YOUR_CALM)
        await target.wait_no_handlers()
        assert target.handlers.most_running <= HURRIED.max_calls


async def test_who_does_not_read_our_answers_is_dropped() -> None:
    limits = replace(
        HURRIED, pings=Rate(1e9, 1e9), max_unsent_control_bytes=4096, stranger_timeout_s=60.0
    )
    async with open_target(limits) as target, target.attacker() as peer:
        # A small buffer, so that not megabytes of answers vanish into it.
        peer.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 64 * 1024)
        await peer.send(PREFACE, settings())
        with trio.fail_after(10):
            await peer.send_while_taken(for_ever(lambda at: ping()))


# --- flow control ---------------------------------------------------------------------------------


@pytest.mark.fault(24)
async def test_a_window_that_overflows_resets_its_call() -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        await peer.send(opened(peer, 1), window_update(1, 2**31 - 1))
        await peer.read_until(lambda: peer.has(RstStreamFrame, 1))
        assert [each.error_code for each in peer.frames if isinstance(each, RstStreamFrame)] == [
            FLOW_CONTROL_ERROR
        ]
        await target.wait_no_handlers()
        await peer.send(peer.headers(3, request_pairs(), end_stream=True))
        assert await peer.read_status(3) == 0


@pytest.mark.fault(24)
async def test_settings_that_overflow_a_window_end_the_connection() -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        await peer.send(opened(peer, 1), window_update(1, 2**30))
        ending = await peer.attack([settings((4, 2**31 - 1))])
        assert ending.goaway.error_code == FLOW_CONTROL_ERROR
        await target.wait_no_handlers()


async def test_more_data_than_the_window_ends_the_connection() -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        ending = await peer.attack([opened(peer, 1), *[data(1, bytes(16_000))] * 5])
        assert ending.goaway.error_code == FLOW_CONTROL_ERROR
        await target.wait_no_handlers()


async def test_unread_bytes_of_who_breaks_a_rule_are_no_error_of_ours() -> None:
    """Their credit is not given back: h2 takes no more commands after its own GOAWAY."""
    async with open_target() as target, target.http2_attacker() as peer:
        await peer.send(opened(peer, 1), *[data(1, bytes(16_000))] * 4)
        ending = await peer.attack([frame(0, 0, 0, b"x")])
        assert ending.goaway.error_code == PROTOCOL_ERROR
        await target.wait_no_handlers()


@pytest.mark.fault(25)
async def test_who_never_reads_holds_a_handler_back(
    record_property: Callable[[str, object], None],
) -> None:
    """With the largest windows there are, the socket alone is what fills up."""
    async with open_target() as target, target.attacker() as peer:
        peer.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await peer.send(PREFACE, settings((4, 2**31 - 1)), window_update(0, 2**31 - 65536))
        await peer.send(peer.headers(1, request_pairs(REQUEST_BY_STREAM.path, do="pour")))
        with trio.fail_after(PATIENCE_S):
            sent_bytes = -1  # until nothing more is taken
            while sent_bytes != target.handlers.sent_bytes:
                sent_bytes = target.handlers.sent_bytes
                await trio.sleep(0.1)
        # What Linux takes into a socket's buffer (4 MiB by default), and our 64 KiB twice.
        assert 0 < sent_bytes < 5 * 1024 * 1024
        record_property("sent before it waited", f"{sent_bytes / 1e6:.1f} MB")


@pytest.mark.fault(25)
async def test_who_never_reads_is_dropped() -> None:
    limits = replace(HURRIED, write_timeout_s=0.3)
    async with open_target(limits) as target, target.attacker() as peer:
        await peer.send(PREFACE, settings((4, 2**31 - 1)), window_update(0, 2**31 - 65536))
        await peer.send(peer.headers(1, request_pairs(REQUEST_BY_STREAM.path, do="pour")))
        await target.handlers.wait_until(lambda: target.handlers.cancelled)


# --- calls that end in unusual ways ---------------------------------------------------------------


async def test_a_cancelled_unknown_call_and_another_in_one_flight() -> None:
    """h2 forgets the first when it sees the second, before we have looked at either."""
    async with open_target() as target, target.http2_attacker((3, 0)) as peer:
        flight = (
            peer.headers(1, request_pairs("/PeerService/Nothing"))
            + reset(1)
            + peer.headers(3, request_pairs(), end_stream=True)
        )
        await peer.send(flight)
        assert await peer.read_status(3) == 0


async def test_a_handler_that_outlives_its_call_ends_with_the_connection() -> None:
    async with open_target() as target:
        async with target.http2_attacker() as peer:
            await peer.send(peer.headers(1, request_pairs(do="end and sleep")))
            assert await peer.read_status(1) == 0
        await target.wait_no_handlers()


@pytest.mark.fault(28)
@pytest.mark.parametrize("code", [*range(14), 0xDEAD])
async def test_a_reset_of_any_code_cancels_the_handler(code: int) -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        await peer.send(peer.headers(1, request_pairs(do="sleep")))
        await target.handlers.wait_until(lambda: target.handlers.running)
        await peer.send(reset(1, code))
        await target.handlers.wait_until(lambda: target.handlers.cancelled)
        await peer.send(peer.headers(3, request_pairs(), end_stream=True))
        assert await peer.read_status(3) == 0
        assert not peer.has(GoAwayFrame, 0)


@pytest.mark.fault(30)
@pytest.mark.parametrize("crooked", ["a\r\nb", "a\nb", "a\0b"])
async def test_a_header_with_line_ends_ends_the_connection(crooked: str) -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        ending = await peer.attack([peer.headers(1, [*request_pairs(), ("x", crooked)])])
        assert ending.goaway.error_code == PROTOCOL_ERROR
        assert target.handlers.most_running == 0


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param([(":path", "/twice"), *request_pairs()], id="a path twice"),
        pytest.param([*request_pairs(), (":method", "POST")], id="a pseudo-header at the end"),
        pytest.param([*request_pairs(), ("connection", "close")], id="of the connection"),
        pytest.param([*request_pairs(), ("X-Upper", "case")], id="in upper case"),
        pytest.param([("x", "y")], id="no pseudo-headers"),
        pytest.param([], id="nothing"),
    ],
)
async def test_headers_that_http2_forbids_end_the_connection(pairs: Pairs) -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        ending = await peer.attack([peer.headers(1, pairs)])
        assert ending.goaway.error_code == PROTOCOL_ERROR
        assert target.handlers.most_running == 0


@pytest.mark.fault(30)
async def test_a_header_that_is_no_text_resets_its_call() -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        await peer.send(peer.headers(1, [*request_pairs(), ("x", b"\xff\xfe")]))
        await peer.read_until(lambda: peer.has(RstStreamFrame, 1))
        await peer.send(peer.headers(3, request_pairs(), end_stream=True))
        assert await peer.read_status(3) == 0


# --- GOAWAY ---------------------------------------------------------------------------------------


@pytest.mark.fault(26)
async def test_what_is_in_flight_at_a_callers_goaway_ends_well() -> None:
    async with open_target() as target, target.http2_attacker() as peer:
        await peer.send(peer.headers(1, request_pairs(do="wait"), end_stream=True))
        await target.handlers.wait_until(lambda: target.handlers.running)
        await peer.send(GoAwayFrame(0, last_stream_id=0, error_code=NO_ERROR))
        await peer.send(window_update(1, 1), ping())  # h2 itself would raise at these
        await peer.read_until(lambda: peer.has(PingFrame, 0))
        target.handlers.release.set()
        assert await peer.read_status(1) == 0
        assert peer.body(1) == message(b"pong")


@pytest.mark.fault(26)
async def test_what_is_in_flight_at_our_goaway_ends_well() -> None:
    limits = replace(HURRIED, drain_timeout_s=2.0)
    async with open_target(limits) as target, target.http2_attacker() as peer:
        await peer.send(peer.headers(1, request_pairs(do="wait"), end_stream=True))
        await target.handlers.wait_until(lambda: target.handlers.running)
        target.stop_serving()
        await peer.read_until(lambda: peer.has(GoAwayFrame, 0))
        await peer.send(peer.headers(3, request_pairs(), end_stream=True))
        await peer.read_until(lambda: peer.has(RstStreamFrame, 3))
        target.handlers.release.set()
        assert await peer.read_status(1) == 0
        assert peer.body(1) == message(b"pong")
        ending = await peer.read_to_end()
        assert (ending.goaway.error_code, ending.goaway.last_stream_id) == (NO_ERROR, 1)
        [refused] = ending.all(RstStreamFrame)
        assert refused.error_code == REFUSED_STREAM
