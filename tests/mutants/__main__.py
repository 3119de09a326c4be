"""Plant each bug of tests/mutants/*.patch in a copy; see which tests catch it: ``make mutants``.

A patch begins with a line on what it breaks and one that names the tests to run, files or folders;
they pass without it, or it would be no catch.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

ROOT = Path(__file__).parents[2]
COPIED = ("aelf_p2p", "tests", "proto", "docs", "benchmarks", "pyproject.toml", "setup.cfg")
TIMEOUT_S = 300
AT_ONCE = 2
"""How many are tried at once."""
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """One planted bug."""

    name: str
    what: str
    tests: tuple[str, ...]
    path: Path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Of a patch. Raises ValueError when its head does not say what it should."""
        what, tests, *_ = path.read_text().splitlines()
        if not tests.startswith("Tests: "):
            raise ValueError(f"{path}: its second line does not name the tests")
        return cls(path.stem, what, tuple(tests.removeprefix("Tests: ").split()), path)


def all_mutants() -> list[Mutant]:
    """By name."""
    return [Mutant.read(path) for path in sorted(Path(__file__).parent.glob("*.patch"))]


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of what the tests need, while the block runs."""
    with TemporaryDirectory(prefix="aelf-p2p-mutant-") as directory:
        copy = Path(directory)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        yield copy


def failing_tests(copy: Path, tests: Iterable[str]) -> list[str]:
    """The first that fail in a copy, of these; what pytest said, when it failed otherwise."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--maxfail=3", *tests]
    command += ["-p", "no:cacheprovider"]
    try:
        run = subprocess.run(
            command, cwd=copy, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return [f"(they hung for {TIMEOUT_S} s)"]
    if run.returncode == 0:
        return []
    return _FAILED.findall(run.stdout) or [f"(pytest failed: {run.stdout[-500:]})"]


def catch(mutant: Mutant) -> list[str]:
    """The tests that fail because of it. Raises RuntimeError when the patch does not fit."""
    with copied() as copy:
        patch = subprocess.run(
            ["patch", "-p1", "--fuzz=3", "-i", str(mutant.path)],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
        if patch.returncode:
            raise RuntimeError(f"{mutant.path} does not fit any more: {patch.stdout}")
        return failing_tests(copy, mutant.tests)


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 when all were caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these patches")
    options = parser.parse_args(arguments)
    mutants = {each.name: each for each in all_mutants()}
    unknown = set(options.names) - set(mutants)
    if unknown:
        parser.error(f"no patch {', '.join(sorted(unknown))}; there are {', '.join(mutants)}")
    chosen = [mutants[name] for name in options.names] or list(mutants.values())
    tests = sorted({test for each in chosen for test in each.tests})
    print(f"without any of them, {len(tests)} files and folders of tests:", end=" ", flush=True)
    with copied() as copy:
        failing = failing_tests(copy, tests)
    if failing:
        print("these fail already:", *failing)
        return 2
    print("all pass")
    survivors = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for mutant, caught in zip(chosen, pool.map(catch, chosen), strict=True):
            survivors += not caught
            print(f"{mutant.name}: {'caught' if caught else 'NOT CAUGHT'}. {mutant.what}")
            print("".join(f"    {test}\n" for test in caught), end="", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} caught")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
