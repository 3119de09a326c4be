"""What the documentation shows, runs; what it links to, is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = [
    (page, program)
    for page in PAGES
    for program in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
]


def test_the_example_runs() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "docs/examples/two_nodes.py"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = ran.stdout.splitlines()
    assert lines[0].endswith("at alice:6800")
    assert lines[1:] == [
        "bob accepted block 1",
        "it holds 560f44f346b23eb455fb43b37f8ae1ef28636c5a1fc3a9aed3c55f475c82d0aa",
    ]


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_programs_in_pages_run(number: int, tmp_path: Path) -> None:
    page, program = PROGRAMS[number]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target
