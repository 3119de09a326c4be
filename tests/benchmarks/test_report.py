"""Tables and JSON of results."""

import json

import pytest

from benchmarks import report
from benchmarks.results import Note, Ratio, Result, Row, Target

ROWS: list[Result] = [
    Row(
        contender="aelf-p2p grpc",
        parameters={"wire": "TLS", "peers": 16},
        figure="deliveries",
        unit="1/s",
        rounds=(40_000.0, 42_000.0, 48_000.0),
        samples=(0.1, 0.2),
    ),
    Row(
        contender="grpc.aio",
        parameters={"wire": "TLS", "payload": 300},
        figure="deliveries",
        unit="1/s",
        rounds=(6000.0, 6200.0, 6300.0),
    ),
]
RATIO = Ratio(
    first="aelf-p2p grpc",
    second="grpc.aio",
    parameters={"wire": "TLS"},
    figure="deliveries",
    rounds=(6.0, 7.0, 8.0),
    target=Target(at_least=15),
)
NOTE = Note("purerpc", "left out: not installed")


def test_a_table_has_rows_then_ratios_then_notes() -> None:
    rows, ratios, notes = report.table([NOTE, RATIO, *ROWS, NOTE]).split("\n\n")
    assert rows.splitlines() == [
        "contender      wire  peers  payload  figure      median     min     max  unit",
        "aelf-p2p grpc  TLS      16           deliveries  42,000  40,000  48,000  1/s",
        "grpc.aio       TLS              300  deliveries   6,200   6,000   6,300  1/s",
    ]
    assert ratios.splitlines()[1] == (
        "aelf-p2p grpc / grpc.aio  TLS   deliveries   7.00x  6.00x  8.00x  >= 15   not met"
    )
    assert notes == "purerpc: left out: not installed"  # once, however often it is found


def test_a_ratio_without_a_target_is_not_judged() -> None:
    free = Ratio(first="a", second="b", parameters={}, figure="pings", rounds=(2.0,))
    assert report.table([free]).splitlines()[1].endswith("2.00x")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.00123, "0.00123"), (14.1, "14.1"), (99.96, "100"), (123_456.7, "123,457")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert report.number(value) == text


def test_json_has_everything_and_the_machine() -> None:
    text = report.as_json({"fanout": [*ROWS, RATIO, NOTE]}, {"cores": 2})
    found = json.loads(text)
    assert found["machine"] == {"cores": 2}
    fanout = found["benchmarks"]["fanout"]
    assert fanout["rows"][0]["rounds"] == [40_000, 42_000, 48_000]
    assert fanout["rows"][0]["samples"] == [0.1, 0.2]
    assert fanout["ratios"][0] | {"rounds": []} == {
        "first": "aelf-p2p grpc",
        "second": "grpc.aio",
        "parameters": {"wire": "TLS"},
        "figure": "deliveries",
        "median": 7.0,
        "min": 6.0,
        "max": 8.0,
        "rounds": [],
        "target": ">= 15",
        "met": False,
    }
    assert fanout["notes"] == [{"about": "purerpc", "text": "left out: not installed"}]


def test_the_machine_is_told_with_the_versions_of_this_environment() -> None:
    found = report.machine()
    environments = found["environments"]
    assert isinstance(environments, dict)
    assert set(environments[".venv"]) >= {"python", "trio", "h2", "protobuf"}
    assert found["cpu"]
