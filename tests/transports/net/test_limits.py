"""Limits that would limit nothing, or everything, are refused where they are written."""

import math
from dataclasses import fields, replace
from typing import Any

import pytest

from aelf_p2p.core.budgets import Rate
from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.transports.net.limits import WireLimits

LIMITS = WireLimits()
NUMBERS = [each.name for each in fields(LIMITS) if not isinstance(getattr(LIMITS, each.name), Rate)]


def changed(name: str, value: Any) -> WireLimits:
    return replace(LIMITS, **{name: value})


@pytest.mark.parametrize("value", [0, -1, math.nan, -math.inf])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_limit_must_be_above_zero(name: str, value: float) -> None:
    with pytest.raises(MisuseError, match=name):
        changed(name, value)


@pytest.mark.parametrize("value", [0, -1, math.nan, -math.inf])
def test_a_rate_must_be_above_zero_in_both(value: float) -> None:
    with pytest.raises(MisuseError, match="above zero"):
        Rate(value, 1)
    with pytest.raises(MisuseError, match="above zero"):
        Rate(1, value)


def test_a_part_has_no_more_than_its_whole() -> None:
    limits, options = LIMITS, NetworkOptions()
    # Strangers, all at once, with all that may be held of each: none shuts out the next.
    assert limits.stranger_bytes < limits.stranger_held_bytes
    assert limits.max_strangers * limits.stranger_held_bytes <= limits.all_strangers_bytes
    assert limits.all_strangers_bytes < limits.all_held_bytes
    assert limits.max_strangers < limits.max_connections
    # Every call of a connection with its first window full, and one with its large one.
    unread = limits.max_calls * limits.call_window_bytes + limits.trusted_call_window_bytes
    assert unread <= limits.max_unread_bytes
    # A stranger is there long enough to shake hands.
    assert options.first_message_timeout_s <= limits.stranger_timeout_s
