"""The network's own limits and periods, and which values make no sense."""

from dataclasses import fields

import pytest

from aelf_p2p.core.errors import MisuseError
from aelf_p2p.core.options import KIB, MIB, PROTOCOL_VERSION, NetworkOptions

NUMBERS = [field for field in fields(NetworkOptions) if not isinstance(field.default, bool)]
NAMES = [field.name for field in NUMBERS]
MAY_BE_ZERO = [
    "max_peers",
    "max_guests",
    "max_peers_per_host",
    "handshake_max_ahead_s",
    "worker_jitter",
]
PARTS = ["worker_jitter"]  # of a whole, without a unit


def test_units() -> None:
    assert (PROTOCOL_VERSION, KIB, MIB) == (1, 1024, 1_048_576)


@pytest.mark.parametrize(
    ("name", "value"),
    [  # protocol §3, §4 and faults that the stack withstands
        ("max_peers", 25),
        ("max_peers_per_host", 1),
        ("abnormal_ban_s", 300),
        ("dial_timeout_s", 3),
        ("handshake_timeout_s", 6),
        ("stream_handshake_timeout_s", 3),
        ("unconfirmed_timeout_s", 10),
        ("first_message_timeout_s", 10),
        ("max_message_before_handshake_bytes", 65536),
        ("handshake_max_age_s", 1.5),
        ("handshake_max_ahead_s", 1.5),
        ("request_timeout_s", 2),
        ("blocks_timeout_s", 5),
        ("max_blocks_per_request", 50),
        ("max_nodes_per_reply", 10),
        ("max_queued_announcements", 200),
        ("max_queued_transactions", 100),
        ("max_queued_blocks", 50),
        ("acknowledgement_timeout_s", 3),
        ("known_blocks", 1024),
        ("known_blocks_ttl_s", 100),
        ("known_transactions", 10_000),
        ("known_transactions_ttl_s", 10),
        ("max_broadcast_age_s", 600),
        ("near_tip_blocks", 12),
        ("download_batch", 10),
        ("download_round", 50),
        ("sync_lib_distance", 512),
        ("max_invalid_transactions", 50),
        ("invalid_transactions_window_s", 10),
        ("max_clock_drift_s", 1),
        ("clock_check_period_s", 3600),
        ("clock_check_timeout_s", 3),
        ("health_check_period_s", 60),
        ("reconnection_period_s", 60),
        ("reconnection_give_up_s", 86_400),
        ("discovery_period_s", 60),
        ("discovery_peers", 5),
        ("discovery_dials", 10),
        ("max_discovery_pings", 5),
        ("ping_timeout_s", 3),
        ("max_known_nodes", 512),
        ("dial_private", False),
        ("silence_probe_s", 20),
        ("silence_probe_timeout_s", 10),
    ],
)
def test_the_values_of_the_network(name: str, value: float) -> None:
    assert getattr(NetworkOptions(), name) == value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-1, -0.001, float("nan"), float("-inf")])
def test_no_negative_values(name: str, value: float) -> None:
    with pytest.raises(MisuseError, match=name):
        NetworkOptions(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_zero_is_no_limit_for_some_only(name: str) -> None:
    if name in MAY_BE_ZERO:
        assert getattr(NetworkOptions(**{name: 0}), name) == 0  # type: ignore[arg-type]
    else:
        with pytest.raises(MisuseError, match=name):
            NetworkOptions(**{name: 0})  # type: ignore[arg-type]


def test_every_duration_and_size_names_its_unit() -> None:
    for field in NUMBERS:
        if field.name not in PARTS:
            assert isinstance(field.default, float) is field.name.endswith("_s")
        if isinstance(field.default, int) and field.default >= 64 * KIB:
            assert field.name.endswith("_bytes")


@pytest.mark.parametrize(
    ("message_type", "most"),
    [(8, 4 * 2**20), (9, 5 * 2**20), (10, 1024), (11, 1024)],
    ids=["block", "transaction", "announcement", "LIB announcement"],
)
def test_each_kind_of_broadcast_has_its_own_size(message_type: int, most: int) -> None:
    assert NetworkOptions().max_broadcast_bytes(message_type) == most
