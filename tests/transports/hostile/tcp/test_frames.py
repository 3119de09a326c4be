"""Frames against their rules, to our server: whoever breaks them is dropped, and told why."""

from random import Random

import pytest

from tests.transports.hostile.tcp.raw_tcp import WINDOW, open_target, random_frames, request
from tests.transports.tcp.by_hand import (
    BYTES,
    CREDIT,
    GOAWAY,
    OPEN,
    PREFACE,
    RESET,
    SETTINGS,
    STATUS,
    credit,
    data,
    end,
    frame,
    goaway,
    greeting,
    opening,
    pair,
    reply,
    reset,
    settings,
    status,
    u32,
)

# --- bytes that are no frames ---------------------------------------------------------------------


@pytest.mark.fault(14, 15)
@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(bytes(64), id="zeros"),
        pytest.param(bytes(range(256)) * 64, id="16 KiB of bytes"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="HTTP/1.1"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", id="HTTP/1.1 POST"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="a TLS hello"),
        pytest.param(b"aelf-p2p/2\n" + settings(WINDOW, 0), id="another version"),
        pytest.param(settings(WINDOW, 0), id="no preface"),
    ],
)
async def test_what_does_not_begin_as_it_should_is_dropped(garbage: bytes) -> None:
    async with open_target() as target, target.attacker() as peer:
        last_call_id, why = (await peer.attack([garbage])).goaway
        assert last_call_id == 0
        assert why.startswith("expected 'aelf-p2p/1\\n', got ")
        assert why.isprintable()  # it comes to stand in logs
        assert target.handlers.most_running == 0


@pytest.mark.fault(14)
async def test_random_bytes_are_dropped() -> None:
    async with open_target() as target:
        for seed in range(20):
            async with target.attacker() as peer:
                await peer.attack([Random(seed).randbytes(2_000)])
            async with target.greeted_attacker() as peer:
                await peer.attack([Random(seed).randbytes(2_000)])
        await target.wait_no_handlers()
        await target.wait_faults(40)


@pytest.mark.fault(14)
async def test_random_frames_are_dropped() -> None:
    async with open_target() as target:
        for seed in range(50):
            async with target.greeted_attacker() as peer:
                await peer.send(request(1, "echo"))
                ending = await peer.attack(random_frames(seed))
                assert ending.goaway[0] == 1
        await target.wait_no_handlers()
        await target.wait_faults(50)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(opening(1), id="OPEN"),
        pytest.param(goaway(0, ""), id="GOAWAY"),
        pytest.param(credit(1, 1), id="CREDIT"),
        pytest.param(data(1, b"x"), id="BYTES"),
    ],
)
async def test_who_does_not_greet_is_dropped(first: bytes) -> None:
    async with open_target() as target, target.attacker() as peer:
        ending = await peer.attack([PREFACE + first])
        assert ending.goaway[1].endswith(" before SETTINGS")
        assert target.handlers.most_running == 0


@pytest.mark.fault(24)
async def test_a_window_beyond_the_largest_ends_the_connection() -> None:
    async with open_target() as target, target.attacker() as peer:
        ending = await peer.attack([greeting(2**31, 0)])
        assert ending.goaway == (0, "a window of 2147483648 bytes")
        assert target.handlers.most_running == 0


# --- frames that break a rule ---------------------------------------------------------------------

NEVER_OPENED = "which was never opened"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        pytest.param(frame(0, 0), "a frame of the unknown kind 0", id="kind 0"),
        pytest.param(frame(10, 1), "a frame of the unknown kind 10", id="kind 10"),
        pytest.param(frame(255, 1), "a frame of the unknown kind 255", id="kind 255"),
        pytest.param(
            frame(BYTES, 1, length=0xFFFFFFFF),
            "BYTES of 4294967295 bytes, over 65536",
            id="BYTES of 4 GiB announced",
            marks=pytest.mark.fault(32),
        ),
        pytest.param(
            frame(OPEN, 2, length=2**20), "OPEN of 1048576 bytes, over 16645", id="OPEN of 1 MiB"
        ),
        pytest.param(frame(BYTES, 1, length=65_537), "BYTES of 65537 bytes", id="BYTES too long"),
        pytest.param(
            settings(1, 0), "SETTINGS twice", id="SETTINGS twice", marks=pytest.mark.fault(19)
        ),
        pytest.param(frame(SETTINGS, 0, bytes(7)), "SETTINGS of 7 bytes", id="SETTINGS cut short"),
        pytest.param(reply(1), "REPLY from the wrong side", id="REPLY"),
        pytest.param(status(1), "STATUS from the wrong side", id="STATUS"),
        pytest.param(opening(1), "OPEN of call 1 after call 1", id="OPEN twice"),
        pytest.param(opening(0), "OPEN of call 0 after call 1", id="OPEN of call 0"),
        pytest.param(opening(3), "OPEN of call 3 after call 1", id="OPEN leaves one out"),
        pytest.param(frame(OPEN, 2, bytes(4)), "OPEN ends too early", id="OPEN cut short"),
        pytest.param(
            frame(OPEN, 2, b"\2" + bytes(5)), "unknown flags 0x2", id="OPEN with an unknown flag"
        ),
        pytest.param(
            frame(OPEN, 2, bytes(5) + b"\xff/"), "OPEN ends too early", id="OPEN within its path"
        ),
        pytest.param(data(2, b"x"), NEVER_OPENED, id="BYTES of no call"),
        pytest.param(data(0, b"x"), NEVER_OPENED, id="BYTES of call 0"),
        pytest.param(data(2**32 - 1, b"x"), NEVER_OPENED, id="BYTES of the last call there is"),
        pytest.param(end(2), NEVER_OPENED, id="END of no call"),
        pytest.param(end(1) * 2, "END twice", id="END twice"),
        pytest.param(
            end(1) + data(1, b"x"),
            "bytes before or after their half of a call",
            id="BYTES after END",
        ),
        pytest.param(frame(5, 1, b"x"), "END of 1 bytes, over 0", id="END that says something"),
        pytest.param(reset(2), NEVER_OPENED, id="RESET of no call"),
        pytest.param(
            reset(1, 2),
            "the unknown cause 2 of a reset",
            id="RESET for cause 2",
            marks=pytest.mark.fault(28),
        ),
        pytest.param(
            reset(1, 255),
            "the unknown cause 255 of a reset",
            id="RESET for cause 255",
            marks=pytest.mark.fault(28),
        ),
        pytest.param(frame(RESET, 1), "RESET of 0 bytes", id="RESET for no cause"),
        pytest.param(
            credit(1, 0), "CREDIT of 0 bytes", id="CREDIT of 0", marks=pytest.mark.fault(24)
        ),
        pytest.param(
            credit(1, 2**31 - WINDOW),
            "CREDIT of 2147418113 bytes overflows the window",
            id="CREDIT that overflows",
            marks=pytest.mark.fault(24),
        ),
        pytest.param(
            credit(1, 2**31 - 1 - WINDOW) + credit(1, 1),
            "CREDIT of 1 bytes overflows the window",
            id="CREDIT that overflows in two steps",
            marks=pytest.mark.fault(24),
        ),
        pytest.param(credit(2, 1), NEVER_OPENED, id="CREDIT of no call"),
        pytest.param(credit(0, 1), NEVER_OPENED, id="CREDIT of the connection"),
        pytest.param(frame(CREDIT, 1, bytes(3)), "CREDIT of 3 bytes", id="CREDIT cut short"),
        pytest.param(frame(GOAWAY, 0, bytes(3)), "GOAWAY of 3 bytes", id="GOAWAY cut short"),
        pytest.param(frame(GOAWAY, 1, u32(0)), "GOAWAY for call 1", id="GOAWAY of a call"),
        pytest.param(
            frame(GOAWAY, 0, u32(0) + b"\xff"), "text that is not UTF-8", id="GOAWAY of no text"
        ),
        pytest.param(
            frame(GOAWAY, 0, length=2_000), "GOAWAY of 2000 bytes", id="GOAWAY that is a speech"
        ),
    ],
)
async def test_a_broken_frame_ends_its_connection(broken: bytes, why: str) -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        await peer.send(request(1, "sleep"))
        await target.handlers.wait_until(lambda: target.handlers.running)
        last_call_id, told = (await peer.attack([broken])).goaway
        assert last_call_id == 1
        assert why in told
        assert await target.told_of_fault() == told
        await target.wait_no_handlers()
        assert target.handlers.most_running == 1
        assert not peer.has(STATUS, 1)


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param(pair(b"x", b"a\r\nb"), id="line ends in a value"),
        pytest.param(pair(b"x", b"a\nb"), id="a line feed in a value"),
        pytest.param(pair(b"x", b"a\0b"), id="a zero in a value"),
        pytest.param(pair(b"x\r\ny", b"z"), id="line ends in a key"),
        pytest.param(pair(b"x", b"\xff\xfe"), id="a value that is no text"),
        pytest.param(pair(b"\xff", b"x"), id="a key that is no text"),
        pytest.param(pair(b"X-Upper", b"case"), id="a key in upper case"),
        pytest.param(pair(b"", b"x"), id="an empty key"),
        pytest.param(pair(b"x", b"y") * 2, id="a key twice"),
        pytest.param(pair(b"x", b"y")[:-1], id="cut short"),
        pytest.param(b"".join(pair(b"x%d" % at, bytes(60)) for at in range(300)), id="too many"),
    ],
)
async def test_metadata_that_break_the_rules_end_the_connection(metadata: bytes) -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        ending = await peer.attack([opening(1, metadata=metadata)])
        assert ending.goaway[0] == 0
        assert target.handlers.most_running == 0
        assert (await target.told_of_fault()).isprintable()


async def test_a_path_that_is_no_text_ends_the_connection() -> None:
    async with open_target() as target, target.greeted_attacker() as peer:
        ending = await peer.attack([opening(1, b"/PeerService/\xff")])
        assert ending.goaway == (0, "text that is not UTF-8: invalid start byte")
        assert target.handlers.most_running == 0
