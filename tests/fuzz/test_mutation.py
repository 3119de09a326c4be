"""Mutations give other inputs, never too long, the same ones for a seed, and never fail."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import rules
from tests.fuzz.harness import load, names
from tests.fuzz.inputs import join_list, split_list

MUTATED = [name for name in names() if load(name).mutate is not None]


def mutated(name: str, data: bytes, most: int, seed: int) -> bytes:
    rng = Random(seed)

    def change(piece: bytes, most: int) -> bytes:
        """As libFuzzer's, which may do anything within the length."""
        at = rng.randrange(len(piece) + 1)
        return (piece[:at] + rng.randbytes(rng.randrange(3)) + piece[at + 1 :])[:most]

    mutate = load(name).mutate
    assert mutate is not None
    return mutate(data, most, rng, change)


@pytest.mark.parametrize("name", MUTATED)
def test_what_comes_out_is_another_input(name: str) -> None:
    most = load(name).max_bytes
    for data in load(name).seeds():
        outcomes = {mutated(name, data, most, seed) for seed in range(40)}
        assert len(outcomes) > 2
        assert max(map(len, outcomes)) <= most
        assert mutated(name, data, most, 1) == mutated(name, data, most, 1)


@pytest.mark.parametrize("name", MUTATED)
@given(data=st.binary(max_size=60), most=st.integers(1, 60), seed=st.integers(0, 1000))
def test_any_bytes_can_be_mutated(name: str, data: bytes, most: int, seed: int) -> None:
    assert len(mutated(name, data, most, seed)) <= most


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_a_list_is_split_as_it_was_joined(elements: list[bytes]) -> None:
    assert split_list(join_list(*elements)) == elements


def test_a_slow_input_breaks_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(100))
    monkeypatch.setattr("time.thread_time", lambda: next(times) / 20)  # 50 ms a look
    assert rules.check(lambda data: True, b"quick")
    with pytest.raises(rules.BrokenRuleError, match="5 bytes take 50 ms of CPU"):
        rules.check(lambda data: True, b"tardy", max_cpu_s=0.04)


def test_an_input_that_fills_the_memory_breaks_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter((100_000_000, 170_000_000))
    monkeypatch.setattr(rules, "_peak_bytes", lambda: next(peaks))
    with pytest.raises(rules.BrokenRuleError, match="3 bytes take 67 MiB of memory"):
        rules.check(lambda data: True, b"big")


@pytest.mark.parametrize("seed", range(40))
def test_half_of_a_surrogate_pair_can_be_changed_too(seed: int) -> None:
    assert isinstance(mutated("key_file", b'{"scheme": "\\ud83d"}', 200, seed), bytes)
