"""The targets: each a module in ``tests.fuzz.targets``, named as the target is.

A module has ``target(data) -> bool``, which takes any bytes, says whether what it tries accepted
them, and raises for a finding only; and ``seeds()``, inputs to begin with, among them some that are
accepted. It may have ``mutate``, a ``Mutation``, ``WORDS`` to be put into inputs where it has none,
and ``MAX_BYTES``.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tests.fuzz.mutation import Mutation
from tests.fuzz.rules import Run

_HERE = Path(__file__).parent
_FOREIGN = str(_HERE.parent / "foreign")
CORPUS = _HERE / "corpus"
"""A directory for each target, an input a file; kept in the repository."""
DEFAULT_MAX_BYTES = 4096


@dataclass(frozen=True)
class Harness:
    """A target, and how it is fuzzed."""

    name: str
    run: Run
    seeds: Callable[[], Iterable[bytes]]
    mutate: Mutation | None
    words: tuple[bytes, ...]
    max_bytes: int

    @property
    def kept(self) -> Path:
        """Where its corpus is kept."""
        return CORPUS / self.name

    def corpus(self) -> Iterator[tuple[str, bytes]]:
        """Every input that it is replayed with, and what it is called: the seeds, what is kept."""
        for number, data in enumerate(self.seeds()):
            yield f"seed {number}", data
        for path in sorted(self.kept.glob("*")):
            yield path.name, path.read_bytes()


def names() -> list[str]:
    """Of all targets."""
    return sorted(path.stem for path in (_HERE / "targets").glob("[a-z]*.py"))


def load(name: str) -> Harness:
    """The target of this name, which is one of ``names()``; its module is imported now."""
    if _FOREIGN not in sys.path:  # as in pytest's settings: modules that tests import
        sys.path.append(_FOREIGN)
    module = import_module(f"tests.fuzz.targets.{name}")
    return Harness(
        name=name,
        run=module.target,
        seeds=module.seeds,
        mutate=getattr(module, "mutate", None),
        words=getattr(module, "WORDS", ()),
        max_bytes=getattr(module, "MAX_BYTES", DEFAULT_MAX_BYTES),
    )


def write_inputs(directory: Path, inputs: Iterable[bytes]) -> list[Path]:
    """Each as a file that is named as libFuzzer names it, by its SHA-1."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for data in inputs:
        path = directory / hashlib.sha1(data, usedforsecurity=False).hexdigest()
        path.write_bytes(data)
        paths.append(path)
    return paths
