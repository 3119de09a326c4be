"""The Pythons that contenders run on: some rivals need packages that do not go with ours."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_PROBE = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Environment:
    """One Python and what is installed for it."""

    name: str
    """The directory's, below the project's root."""
    python: Path
    packages: tuple[str, ...]
    """Those that matter for the figures."""
    target: str
    """What make is asked for to have it installed."""

    def missing(self, packages: Sequence[str]) -> str | None:
        """Why what needs these packages cannot run here; None when it can."""
        found = versions(self)
        lacking = [name for name in packages if name not in found]
        if not lacking:
            return None
        return f"{', '.join(lacking)} not installed in {self.name} (make {self.target})"


def _beside(name: str, *packages: str) -> Environment:
    return Environment(name, ROOT / name / "bin" / "python", packages, f"{name}/installed")


MAIN = Environment(
    ".venv",
    Path(sys.executable),
    ("trio", "h2", "protobuf", "cryptography", "grpcio", "grpclib", "matplotlib"),
    ".venv/installed-bench",
)
PURERPC = _beside(".venv-bench-purerpc", "trio", "h2", "protobuf", "purerpc", "anyio")
LIBP2P = _beside(".venv-bench-libp2p", "trio", "protobuf", "libp2p")

ALL = (MAIN, PURERPC, LIBP2P)


@cache
def versions(environment: Environment) -> dict[str, str]:
    """Those of Python and of the packages that are there; empty when there is no such Python."""
    if not environment.python.exists():
        return {}
    probe = subprocess.run(
        [environment.python, "-c", _PROBE, *environment.packages],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if probe.returncode:
        return {}
    found: dict[str, str] = json.loads(probe.stdout)
    return found
