"""Rows, ratios and targets."""

import pytest

from benchmarks.results import Row, Target, ratio


def row(contender: str, *rounds: float, unit: str = "1/s") -> Row:
    return Row(
        contender=contender,
        parameters={"wire": "TLS", "peers": 16},
        figure="deliveries",
        unit=unit,
        rounds=rounds,
    )


def test_a_row_has_the_median_of_its_rounds() -> None:
    assert row("ours", 1.0, 9.0, 4.0).median == 4.0


def test_a_ratio_is_made_round_by_round() -> None:
    found = ratio(row("ours", 10.0, 40.0, 90.0), row("rival", 10.0, 20.0, 30.0))
    assert found.rounds == (1.0, 2.0, 3.0)
    assert found.median == 2.0
    assert (found.first, found.second) == ("ours", "rival")
    assert found.parameters == {"wire": "TLS", "peers": 16}


def test_a_ratio_may_have_names_of_its_own() -> None:
    found = ratio(row("ours", 1.0), row("ours", 2.0), names=("512 peers", "8 peers"), parameters={})
    assert (found.first, found.second, found.parameters) == ("512 peers", "8 peers", {})


def test_only_the_same_figure_in_the_same_unit_is_compared() -> None:
    with pytest.raises(ValueError, match="deliveries in 1/s beside deliveries in ms"):
        ratio(row("ours", 1.0), row("rival", 1.0, unit="ms"))


def test_as_many_rounds_are_compared() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio(row("ours", 1.0, 2.0), row("rival", 1.0))


@pytest.mark.parametrize(
    ("target", "met", "missed", "text"),
    [
        (Target(at_least=18), 18.0, 17.99, ">= 18"),
        (Target(at_most=1.5), 1.5, 1.51, "<= 1.5"),
        (Target(at_least=0.5, at_most=2), 2.0, 0.4, ">= 0.5 and <= 2"),
    ],
)
def test_a_target_is_met_up_to_its_bound(
    target: Target, met: float, missed: float, text: str
) -> None:
    assert target.is_met(met)
    assert not target.is_met(missed)
    assert str(target) == text
