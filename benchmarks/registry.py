"""The benchmarks that there are, and what each one is made of.

To add one, write a module with a ``BENCHMARK`` and put its name into ``MODULES``. Such a module is
imported for every command line, so it leaves packages that may be missing to the workers it starts.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module

from benchmarks.results import Result

MODULES: Sequence[str] = (
    "fanout",
    "bothends",
    "payloads",
    "peers",
    "stalled",
    "latency",
    "download",
    "connect",
    "memory",
    "propagation",
)
"""In the order in which ``all`` runs them: names of modules in this package."""


@dataclass(frozen=True)
class Benchmark:
    """One subcommand."""

    name: str
    help: str
    """One line, for the list of all."""
    add_options: Callable[[ArgumentParser], None]
    """Its options, see ``benchmarks.arguments``; their defaults are what ``all`` runs it with."""
    run: Callable[[Namespace], Iterator[Result]]
    """Measures, tells of its progress (``benchmarks.progress``), and yields what it finds. It has
    no process left when it ends, whatever ends it; a failed process of its raises ChildError."""


def benchmarks() -> dict[str, Benchmark]:
    """All of them, by name."""
    found = [import_module(f"benchmarks.{name}").BENCHMARK for name in MODULES]
    return {each.name: each for each in found}
