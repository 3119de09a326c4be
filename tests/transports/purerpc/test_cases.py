"""The purerpc transport conforms, but for what ``gaps.py`` lists; and the page tells just that."""

import pytest

from aelf_p2p.testing.conformance import CASES, ConformanceCase, run_case
from tests.transports.purerpc.gaps import GAPS
from tests.transports.purerpc.table import ALL_CASES, PAGE, PLAIN, failure_of, parts, table


@pytest.mark.parametrize("case", ALL_CASES, ids=str)
def test_it_does_what_is_told_of_it(case: ConformanceCase) -> None:
    """A gap that is there no more is as wrong as one that is not listed."""
    failure = failure_of(case)
    if case.name in GAPS:
        assert failure is not None, f"{case} passes: take it out of the gaps"
    else:
        assert failure is None


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_conforms_without_tls(case: ConformanceCase) -> None:
    run_case(PLAIN, case)


def test_gaps_are_cases() -> None:
    assert set(GAPS) <= {case.name for case in ALL_CASES}
    assert len({case.name for case in ALL_CASES}) == len(ALL_CASES)


def test_the_page_tells_what_a_run_gives() -> None:
    """``python -m tests.transports.purerpc.table --write`` writes it."""
    assert parts(PAGE.read_text(encoding="utf-8"))[1] == table()
