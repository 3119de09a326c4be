"""Each layer of aelf_p2p imports only downward."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "aelf_p2p"

# Each layer, lowest first, and the layers of ours that it may import beside itself. "" is the
# package root, which re-exports what embedders use.
BELOW_NODE = {"wire", "core", "contracts", "peers", "services", "transports", "chain"}
LAYERS: dict[str, set[str]] = {
    "wire": set(),
    "core": {"wire"},
    "contracts": {"core", "wire"},
    "peers": {"contracts", "core", "wire"},
    "services": {"contracts", "core", "wire"},
    "transports": {"contracts", "core", "wire"},
    "chain": {"contracts", "core", "wire"},
    "node": BELOW_NODE,
    "": BELOW_NODE | {"node"},
    "testing": BELOW_NODE | {"node", ""},
    "ops": BELOW_NODE | {"node", "", "testing"},
}

# core is synchronous and pure: time comes in as an argument, bytes go out as a result
FORBIDDEN_OUTSIDE = {"core": {"trio", "socket", "ssl", "time"}}


def faults(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What a module of ours imports and may not, as lines for a reader; empty when all is well."""
    layer = layer_of(module)
    if layer not in LAYERS:
        return [f"{module}: {layer} is not in the table of layers; say what it may import"]
    found = []
    for line, imported in imports(module, source, is_package=is_package):
        if imported.partition(".")[0] != PACKAGE:
            forbidden = imported.partition(".")[0] in FORBIDDEN_OUTSIDE.get(layer, set())
        else:
            forbidden = layer_of(imported) not in LAYERS[layer] | {layer}
        if forbidden:
            found.append(f"{module}:{line} imports {imported}")
    return found


def layer_of(module: str) -> str:
    """``aelf_p2p.core.bans`` is in ``core``, ``aelf_p2p`` itself and its names are in ``""``."""
    return ".".join(module.split(".")[1:2])


def imports(module: str, source: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, absolute name) of every import, wherever it stands in the source."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            if base == PACKAGE:
                # `from aelf_p2p import core` imports a layer, `… import open_node` the root
                for alias in node.names:
                    yield node.lineno, f"{PACKAGE}.{alias.name}" if alias.name in LAYERS else base
            else:
                yield node.lineno, base


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), path


@pytest.mark.parametrize(
    ("module", "path"), [pytest.param(module, path, id=module) for module, path in modules()]
)
def test_a_module_imports_only_downward(module: str, path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert faults(module, source, is_package=path.name == "__init__.py") == []


def test_the_walk_finds_modules() -> None:
    found = {layer_of(module) for module, _ in modules()}
    assert {"wire", "core"} <= found


# --- the walk itself ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("aelf_p2p.core.bans", "from aelf_p2p.services.pool import Pool"),
        ("aelf_p2p.core.bans", "import aelf_p2p.services.pool"),
        ("aelf_p2p.core.bans", "from ..services.pool import Pool"),
        ("aelf_p2p.core.bans", "from .. import services"),
        ("aelf_p2p.core.bans", "from aelf_p2p import contracts"),
        ("aelf_p2p.core.bans", "from aelf_p2p import open_node"),
        ("aelf_p2p.core.bans", "def f():\n    from aelf_p2p import node"),
        ("aelf_p2p.core.bans", "if TYPE_CHECKING:\n    from aelf_p2p.peers import StreamPeer"),
        ("aelf_p2p.core.bans", "import trio"),
        ("aelf_p2p.core.bans", "import trio.testing as testing"),
        ("aelf_p2p.core.bans", "from time import monotonic"),
        ("aelf_p2p.core.bans", "import os, socket"),
        ("aelf_p2p.core.bans", "import ssl"),
        ("aelf_p2p.wire.methods", "from aelf_p2p.core import errors"),
        ("aelf_p2p.contracts", "from .peers import StreamPeer"),
        ("aelf_p2p.peers.stream", "from aelf_p2p.transports import grpc"),
        ("aelf_p2p.services.pool", "from ..peers import stream"),
        ("aelf_p2p.transports.grpc.channel", "from ...services import pool"),
        ("aelf_p2p.chain.memory", "from aelf_p2p.node import open_node"),
        ("aelf_p2p.node", "from aelf_p2p.testing import fakes"),
        ("aelf_p2p.node", "from .ops import cli"),
        ("aelf_p2p.testing.fakes", "from aelf_p2p.ops.cli import main"),
        ("aelf_p2p.brand_new", ""),
    ],
)
def test_an_upward_import_is_found(module: str, source: str) -> None:
    assert len(faults(module, source)) == 1


@pytest.mark.parametrize("source", ["from .services import pool", "from . import services"])
def test_a_package_is_the_base_of_its_own_relative_imports(source: str) -> None:
    assert faults("aelf_p2p", source, is_package=True) == []
    inside_core = source.replace("from .", "from ..", 1)
    assert len(faults("aelf_p2p.core", inside_core, is_package=True)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("aelf_p2p.core.bans", "from .errors import MisuseError\nfrom aelf_p2p.wire import Hash"),
        ("aelf_p2p.core.bans", "import dataclasses, random\nfrom . import errors"),
        ("aelf_p2p.contracts", "import trio\nfrom aelf_p2p import core, wire"),
        ("aelf_p2p.transports.grpc.channel", "import trio\nfrom ..memory import Pair"),
        ("aelf_p2p.node", "from . import chain, peers, services, transports"),
        ("aelf_p2p.testing.fakes", "from aelf_p2p import open_node\nfrom ..node import Node"),
        ("aelf_p2p.ops.cli", "from aelf_p2p.testing import network\nfrom ..node import Node"),
    ],
)
def test_a_downward_import_is_allowed(module: str, source: str) -> None:
    assert faults(module, source) == []
