"""The time protocol's client: its request, and what replies tell or fail to."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.sntp import NONCE_BYTES, PACKET_BYTES, encode_request, parse_reply_untrusted

NONCE = bytes(range(1, 9))
SECOND_NS = 1_000_000_000
# RFC 5905 figure 4: the first day of UNIX, and the first day of NTP era 1.
UNIX_IN_ERA_0_S = 2_208_988_800
ERA_1_IN_UNIX_S = 2_085_978_496


def ntp(seconds: float) -> bytes:
    """A timestamp of the era that unix ``seconds`` are in."""
    whole = int(seconds // 1)
    return struct.pack("!II", (whole + UNIX_IN_ERA_0_S) % 2**32, int((seconds - whole) * 2**32))


def reply(
    *,
    leap: int = 0,
    mode: int = 4,
    stratum: int = 2,
    kiss: bytes = b"GPS\0",
    originate: bytes = NONCE,
    receive: bytes = b"\xe0" + bytes(7),
    transmit: bytes = b"\xe0" + bytes(7),
) -> bytes:
    first = leap << 6 | 4 << 3 | mode
    return (
        bytes([first, stratum, 6, 0xEC])
        + bytes(8)  # root delay and dispersion
        + kiss
        + bytes(8)  # reference timestamp
        + originate
        + receive
        + transmit
    )


def parse(packet: bytes, *, sent_s: float = 0, received_s: float = 0) -> Any:
    return parse_reply_untrusted(
        packet,
        nonce=NONCE,
        sent_ns=round(sent_s * SECOND_NS),
        received_ns=round(received_s * SECOND_NS),
    )


def test_a_request_holds_nothing_but_version_mode_and_nonce() -> None:
    # RFC 4330 §5: leap 0, version 4, mode 3 (client); the rest may be zero.
    assert encode_request(NONCE) == b"\x23" + bytes(39) + NONCE
    assert (len(encode_request(NONCE)), len(NONCE)) == (PACKET_BYTES, NONCE_BYTES)


def test_offset_and_round_trip() -> None:
    # RFC 4330 §5: t = ((T2 - T1) + (T3 - T4)) / 2 and d = (T4 - T1) - (T3 - T2), with
    # T1 = 1000, T2 = 1003.25, T3 = 1003.5, T4 = 1001.
    packet = reply(receive=ntp(1003.25), transmit=ntp(1003.5))
    reading = parse(packet, sent_s=1000, received_s=1001)
    assert reading.offset_s == (3.25 + 2.5) / 2
    assert reading.round_trip_s == 1 - 0.25


@pytest.mark.parametrize(("ours_s", "theirs_s"), [(-0.5, 0.5), (0.5, -0.5), (-10, -9), (9, 10)])
def test_the_era_rolls_over_in_2036(ours_s: float, theirs_s: float) -> None:
    ours_s, theirs_s = ERA_1_IN_UNIX_S + ours_s, ERA_1_IN_UNIX_S + theirs_s
    packet = reply(receive=ntp(theirs_s), transmit=ntp(theirs_s))
    assert parse(packet, sent_s=ours_s, received_s=ours_s).offset_s == theirs_s - ours_s


def test_the_first_second_of_an_era() -> None:
    assert ntp(ERA_1_IN_UNIX_S + 0.5) == struct.pack("!II", 0, 2**31)
    packet = reply(receive=ntp(ERA_1_IN_UNIX_S + 0.5), transmit=ntp(ERA_1_IN_UNIX_S + 0.5))
    assert parse(packet, sent_s=ERA_1_IN_UNIX_S, received_s=ERA_1_IN_UNIX_S).offset_s == 0.5


MILLISECONDS = st.integers(0, 10_000)


@given(
    began_ms=st.integers(0, 4_000_000_000_000),  # to the year 2096
    offset_ms=st.integers(-2_000_000_000_000, 2_000_000_000_000),  # 63 years
    there_ms=MILLISECONDS,
    served_ms=MILLISECONDS,
    back_ms=MILLISECONDS,
)
def test_what_is_found_is_the_offset_give_or_take_half_the_round_trip(
    began_ms: int, offset_ms: int, there_ms: int, served_ms: int, back_ms: int
) -> None:
    receive_ms = began_ms + there_ms + offset_ms
    packet = reply(receive=ntp_ms(receive_ms), transmit=ntp_ms(receive_ms + served_ms))
    reading = parse_reply_untrusted(
        packet,
        nonce=NONCE,
        sent_ns=began_ms * 1_000_000,
        received_ns=(began_ms + there_ms + served_ms + back_ms) * 1_000_000,
    )
    assert reading.round_trip_s == pytest.approx((there_ms + back_ms) / 1000, abs=1e-5)
    wrong_by = (there_ms - back_ms) / 2000
    assert reading.offset_s == pytest.approx(offset_ms / 1000 + wrong_by, abs=1e-5)


def ntp_ms(milliseconds: int) -> bytes:
    seconds, rest = divmod(milliseconds, 1000)
    # A whole timestamp of zero means that there is none.
    return struct.pack("!II", (seconds + UNIX_IN_ERA_0_S) % 2**32, rest * 2**32 // 1000 or 1)


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b"", "0 bytes, under 48"),
        (reply()[:47], "47 bytes, under 48"),
        (reply(mode=3), "mode 3"),
        (reply(mode=5), "mode 5"),
        (reply(originate=bytes(8)), "another request"),
        (reply(originate=NONCE[:7] + b"\x09"), "another request"),
        (reply(stratum=0, kiss=b"RATE"), "b'RATE'"),
        (reply(stratum=0, kiss=b"\n\xff\0\0"), r"b'\\n\\xff\\x00\\x00'"),
        (reply(stratum=16), "no time itself"),
        (reply(stratum=255), "no time itself"),
        (reply(leap=3), "no time itself"),
        (reply(transmit=bytes(8)), "without its times"),
        (reply(receive=bytes(8)), "without its times"),
    ],
)
def test_replies_that_tell_nothing(packet: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        parse(packet)


@pytest.mark.parametrize("packet", [reply(), reply(stratum=1), reply(stratum=15), reply(leap=1)])
@pytest.mark.parametrize("behind", [b"", bytes(20)])
def test_replies_that_tell(packet: bytes, behind: bytes) -> None:
    # 0xe0000000 s from 1900 are 1,549,107,200 s from 1970.
    assert parse(packet + behind).offset_s == 0xE0000000 - UNIX_IN_ERA_0_S


@given(st.binary(max_size=80))
def test_whatever_comes_is_malformed_or_read(packet: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(packet)  # nobody guesses the nonce


@given(
    first=st.sampled_from([0x24, 0x1C, 0xE4, 0x23]) | st.integers(0, 255),
    stratum=st.integers(0, 255),
    times=st.binary(min_size=16, max_size=16),
    behind=st.binary(max_size=4),
)
def test_whatever_comes_with_the_nonce_is_read_from_a_server_that_has_the_time(
    first: int, stratum: int, times: bytes, behind: bytes
) -> None:
    packet = bytes([first, stratum]) + bytes(22) + NONCE + times + behind
    if first % 8 == 4 and first < 0xC0 and 1 <= stratum <= 15 and any(times[:8]) and any(times[8:]):
        assert abs(parse(packet).offset_s) <= 2**31  # half an era
    else:
        with pytest.raises(MalformedError):
            parse(packet)
