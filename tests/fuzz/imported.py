"""What a target tries, told by what it imports: only that is instrumented.

Instrumenting all of a package takes seconds, and what else it does would count as coverage.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_OURS = ("aelf_p2p.", "tests.fuzz.", "tests.peers.")
_NOT_TRIED = ("aelf_p2p.testing",)
_BELOW = ("h2", "hpack", "hyperframe")
"""Parsers of others that ours stand on."""


def instrumented(name: str) -> list[str]:
    """The modules that a target's module imports, and these import, from ours and from below."""
    seen: set[str] = set()
    left = [f"tests.fuzz.targets.{name}"]
    while left:
        module = left.pop()
        if module not in seen:
            seen.add(module)
            left += _imports(module)
    return sorted(module for module in seen if not module.startswith("tests."))


def left_alone(name: str) -> list[str]:
    """All other modules of ours: atheris takes whole packages, and then leaves modules out."""
    tried = set(instrumented(name))
    paths = (_ROOT / "aelf_p2p").rglob("*.py")
    modules = (".".join(path.relative_to(_ROOT).with_suffix("").parts) for path in paths)
    return sorted({module.removesuffix(".__init__") for module in modules} - tried)


def _imports(module: str) -> Iterator[str]:
    path = _path(module)
    if path is None:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # What is imported from a package may be a module of it.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.partition(".")[0] in _BELOW:
                yield name.partition(".")[0]
            elif name.startswith(_OURS) and not name.startswith(_NOT_TRIED) and _path(name):
                yield name


def _path(module: str) -> Path | None:
    place = _ROOT.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None
