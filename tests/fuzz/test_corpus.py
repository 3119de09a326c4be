"""Every target runs on its seeds and on what its corpus keeps; no atheris needed."""

import pytest

from tests.fuzz.harness import CORPUS, load, names
from tests.fuzz.rules import check

MAX_CORPUS_BYTES = 300_000


@pytest.mark.parametrize("name", names())
def test_the_corpus_holds(name: str) -> None:
    harness = load(name)
    outcomes: set[bool] = set()
    for called, data in harness.corpus():
        try:
            outcomes.add(check(harness.run, data))
        except Exception as exc:
            exc.add_note(f"target {name}, {called}: {data[:200]!r}")
            raise
    assert outcomes == {True, False}, "a corpus in which nothing is accepted, or all, tries little"


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*")) <= MAX_CORPUS_BYTES


def test_no_corpus_is_left_behind() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(names())
