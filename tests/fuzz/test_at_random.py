"""Random inputs, not guided by coverage."""

import sys
from itertools import islice
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from tests.fuzz import at_random, campaign, cli
from tests.fuzz.at_random import Maker, Tally, try_batch
from tests.fuzz.harness import load, names

TARGET = "tests.fuzz.targets.version"


def some_inputs(name: str, seed: int, count: int = 200) -> list[bytes]:
    make = Maker(load(name), Random(seed))
    return [make() for _ in range(count)]


@pytest.mark.parametrize("name", names())
def test_a_seed_makes_its_own_inputs(name: str) -> None:
    inputs = some_inputs(name, 1)
    assert inputs == some_inputs(name, 1)
    assert inputs != some_inputs(name, 2)
    assert len(set(inputs)) > 100
    assert max(map(len, inputs)) <= load(name).max_bytes


@pytest.mark.parametrize("words", [(), (b"some", b"words")])
def test_a_change_is_small_and_fits(words: tuple[bytes, ...]) -> None:
    data = bytes(range(100))
    change = at_random.random_change(Random(1), words)
    changed = [change(data, 110) for _ in range(200)]
    assert {len(each) for each in changed} >= {99, 100, 101, 110}
    assert all(abs(len(each) - 100) <= 16 and len(each) <= 110 for each in changed)
    assert any(b"words" in each for each in changed) == bool(words)


@pytest.fixture
def faulty_target(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In place of ``version``: it takes all but what begins with a digit that is no 1."""
    module = ModuleType(TARGET)

    def target(data: bytes) -> bool:
        if data[:1] in b"023456789" and data:
            raise KeyError(data[:1])
        return data[:1] == b"1"

    vars(module).update(target=target, seeds=lambda: [b"1.4.0"])
    monkeypatch.setitem(sys.modules, TARGET, module)
    monkeypatch.setattr(campaign, "ROOT", tmp_path)
    monkeypatch.setattr(at_random, "WORK", tmp_path)


@pytest.mark.usefixtures("faulty_target")
def test_what_is_found_is_kept() -> None:
    tally = try_batch("version", "a seed", 3000)
    assert tally.inputs == 3000
    assert 0 < tally.accepted < 3000
    problem, path = next(iter(tally.found.items()))
    with pytest.raises(KeyError):
        load("version").run(path.read_bytes())
    assert problem == f"KeyError: {path.read_bytes()[:1]!r}"


def test_tallies_add_up() -> None:
    first = Tally("x", 2, 1, 0.5, 0.3, {"a": Path("1")})
    first.add(Tally("x", 3, 2, 0.25, 0.2, {"a": Path("2"), "b": Path("3")}))
    assert first == Tally("x", 5, 3, 0.75, 0.3, {"a": Path("1"), "b": Path("3")})


def test_processes_share_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version", "base58", "--inputs", "1500", "--jobs", "2", "--seed", "5"]) == 0
    told = capsys.readouterr()
    rows = [line.split() for line in told.out.splitlines()]
    assert [row[:2] for row in rows[1:]] == [["version", "1500"], ["base58", "1500"]]
    assert all(row[-1] == "nothing" for row in islice(rows, 1, None))
    assert "--seed 5" in told.err


@pytest.mark.usefixtures("faulty_target")
def test_the_table_says_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def in_this_process(tallies: list[Tally], inputs: int, **_: object) -> None:
        for tally in tallies:
            tally.add(try_batch(tally.name, "a seed", inputs))

    monkeypatch.setattr(at_random, "try_all", in_this_process)
    assert cli.main(["version", "--inputs", "3000"]) == cli.FOUND
    out = capfd.readouterr().out
    assert "problems" in out
    assert "KeyError: b'" in out
    assert "python -m tests.fuzz version --replay found/version/" in out
