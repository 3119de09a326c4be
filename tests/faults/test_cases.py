"""Each case has a test, and the page of the docs tells of all of them."""

import re
from pathlib import Path

from tests.faults.__main__ import PAGE, Result, page
from tests.faults.cases import CASES
from tests.faults.floods import ATTACKS, Figures
from tests.faults.marks import TESTS, marked_tests


def test_the_cases_are_numbered_through() -> None:
    assert list(CASES) == list(range(1, 76))
    assert all(case.outcomes for case in CASES.values())


def test_each_case_has_a_test_and_each_mark_a_case() -> None:
    assert sorted(marked_tests()) == sorted(CASES)


def test_the_page_tells_of_each_case_and_the_tests_that_it_has() -> None:
    rows = re.findall(
        r"^\| (\d+) \| (.*?) \| ([A-Z ]+) \| (\w+) \| (.*?) \|", PAGE.read_text(), re.M
    )
    assert [(int(number), what, set(codes.split())) for number, what, codes, _, _ in rows] == [
        (case.number, case.what, {each.value for each in case.outcomes}) for case in CASES.values()
    ]
    assert {result for _, _, _, result, _ in rows} == {"passed"}
    marked = marked_tests()
    for number, _, _, _, names in rows:
        assert sorted(re.findall(r"`(.*?)`", names)) == sorted(marked[int(number)])
        assert all((TESTS / Path(name.split("::")[0])).exists() for name in marked[int(number)])


def test_the_page_tells_of_each_flood_and_it_is_as_it_should_be() -> None:
    rows = re.findall(
        r"^\| (.*?) \| (\d+ ms|it is borne) \| (\d+) ms \| (.*?) \| (.*?) \|$",
        PAGE.read_text(),
        re.M,
    )
    assert [name for name, *_ in rows] == list(ATTACKS)
    for name, ended, p99_ms, growth_mb, kept_mb in rows:
        assert ended != "it is borne" or name.startswith("a peer")
        assert ended == "it is borne" or int(ended.split()[0]) <= 2000
        assert int(p99_ms) <= 250
        assert float(growth_mb) <= (5 * 4.2 if "4 MiB" in name else 16)
        assert float(kept_mb) < 4


def test_a_case_passes_when_all_of_its_tests_do() -> None:
    results = {number: {"test.py::test": Result(["passed", "passed"])} for number in CASES}
    results[7] = {"one": Result(["passed", "failed"]), "other": Result(["skipped"])}
    results[8] = {"one": Result(["passed"], {"took": "3 ms"}), "other": Result(["skipped"])}
    floods = [Figures("a", 0.25, 0.01, 1.25, 0.5), Figures("b", None, 0.02, 0.0, -0.1)]
    lines = page(results, floods).splitlines()
    assert lines[-2:] == [
        "| a | 250 ms | 10 ms | 1.2 | 0.5 |",
        "| b | it is borne | 20 ms | 0.0 | -0.1 |",
    ]
    [seventh] = [line for line in lines if line.startswith("| 7 |")]
    assert "| failed | `one`<br>`other` |" in seventh
    [eighth] = [line for line in lines if line.startswith("| 8 |")]
    assert "| skipped | `one`<br>`other` | took 3 ms |" in eighth
    assert sum("| passed |" in line for line in lines) == 73
