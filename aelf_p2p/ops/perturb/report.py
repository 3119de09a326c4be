"""What a network under faults shows in the end."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from aelf_p2p.ops.output import tell
from aelf_p2p.ops.perturb.faults import Kind


@dataclass
class Report:
    """What was done and measured, and what went wrong."""

    inflicted: Counter[Kind] = field(default_factory=Counter)
    submitted: set[bytes] = field(default_factory=set)
    """The ids of the transactions that nodes were given."""
    settled: str = "was not reached"
    blocks: str = "were not counted"
    chains: str = "were not compared"
    transactions: str = "were not looked for"
    connections: str = "were not counted"
    stopped: str = "was not reached"
    logs: str = "were not read"
    failures: list[str] = field(default_factory=list)

    def summarise(self, elapsed_s: float) -> None:
        """Print the summary; the last line is ``ok`` or ``failed``."""
        kinds = ", ".join(f"{self.inflicted[kind]} {kind.value}" for kind in Kind)
        tell(f"faults        {self.inflicted.total()}: {kinds}")
        tell(f"one height    {self.settled}")
        tell(f"blocks        {self.blocks}")
        tell(f"chains        {self.chains}")
        tell(f"transactions  {self.transactions}")
        tell(f"connections   {self.connections}")
        tell(f"stop          {self.stopped}")
        tell(f"logs          {self.logs}")
        tell(f"time          {elapsed_s:.0f} s")
        for failure in self.failures:
            tell(f"FAILED        {failure}")
        tell("failed" if self.failures else "ok")

    def read_logs(self, logs: Iterable[Path]) -> None:
        """Count what nodes complained of. Faults are warnings at most; errors are our own."""
        warnings = 0
        errors = []
        for log in logs:
            for line in log.read_text("utf-8", "replace").splitlines():
                level = line.split(" ", 2)[1:2]
                warnings += level == ["WARNING"]
                if level == ["ERROR"] or line.startswith("Traceback"):
                    errors.append(f"{log.name}: {line}")
        self.logs = f"{warnings} warnings, {len(errors)} errors"
        self.failures += errors[:1]
