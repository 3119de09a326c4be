"""What the documentation shows, runs; what it links to, is there; its tables leave nothing out."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from aelf_p2p import CloseReason, DropReason, NetworkOptions
from aelf_p2p.core import options
from aelf_p2p.core.admission import refused
from aelf_p2p.core.errors import RefusalReason
from aelf_p2p.core.options import KIB, MIB
from aelf_p2p.wire import HandshakeError, MessageType
from aelf_p2p.wire.methods import METHODS

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
    env = {**os.environ, "PYTHONPATH": str(ROOT / "docs/examples")}  # pages import from there
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env=env,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_headings(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", page.read_text()):
        there = page.parent / target if target else page
        headings = re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)
        # as GitHub makes them
        anchors = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
        assert anchor in anchors, f"{target}#{anchor}"


def table(page: str, head: str) -> dict[str, list[str]]:
    """The other cells of each row, by its first one, of the table whose head begins so."""
    text = (ROOT / "docs" / page).read_text()
    [rows] = re.findall(rf"^\| {head} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows.splitlines()]
    assert len({row[0] for row in cells}) == len(cells)
    return {row[0]: row[1:] for row in cells}


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ("method", [method.name for method in METHODS.values()]),
        ("type", [f"{number} {name}" for name, number in MessageType.items()]),
        ("CloseReason", [reason.name for reason in CloseReason]),
        ("DropReason", [reason.name for reason in DropReason]),
    ],
)
def test_the_protocol_page_tells_of_all(head: str, names: Iterable[str]) -> None:
    assert set(table("protocol.md", head)) == set(names)


def test_the_protocol_page_tells_how_handshakes_are_refused() -> None:
    told = {name: cells[-1] for name, cells in table("protocol.md", "RefusalReason").items()}
    assert told == {why.name: HandshakeError.Name(refused(why).code) for why in RefusalReason}
    words = re.findall(r"\w+", (ROOT / "docs/protocol.md").read_text())
    assert set(HandshakeError.keys()) <= set(words)


def test_the_page_of_differences_has_our_options_and_their_defaults() -> None:
    told = {name: cells[0] for name, cells in table("differences.md", "option").items()}
    defaults = NetworkOptions()
    assert told == {f"`{name}`": as_told(name, getattr(defaults, name)) for name in our_options()}


def our_options() -> set[str]:
    """The fields that their comment, or that of their section, calls ours."""
    names: set[str] = set()
    section = ""
    for line in Path(options.__file__).read_text().splitlines():
        if line.startswith("    # "):
            section = line
        elif (field := re.match(r"    (\w+): \w+ = ", line)) and (
            "(ours" in section or re.search(r"#.*\bours\b", line)
        ):
            names.add(field[1])
    return names


def as_told(name: str, value: float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_bytes"):
        return f"{value / MIB:g} MiB" if value >= MIB else f"{value / KIB:g} KiB"
    if name.endswith("_per_s"):
        return f"{value:g}/s"
    return f"{value:g} s" if name.endswith("_s") else f"{value:g}"
