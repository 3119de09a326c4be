"""What a devnet shows: lines on the way, a summary at the end, and what went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from aelf_p2p.ops.devnet.processes import NodeProcess
from aelf_p2p.ops.figures import median_and_p99
from aelf_p2p.ops.output import tell

MOST_COLUMNS = 10
"""Of more nodes, only the lowest and the highest are shown."""


@dataclass
class Report:
    """What was measured, and what went wrong."""

    propagation_s: list[float] = field(default_factory=list)
    """Of each block, from its maker's clock to each other node that was up all the time."""
    expected_deliveries: int = 0
    """How many those are, if none is missing."""
    late: str = "was not reached"
    back: str = "was not reached"
    chains: str = "were not compared"
    transactions: str = "were not looked for"
    stopped: str = "was not reached"
    faults: list[str] = field(default_factory=list)

    def summarise(self, nodes: Sequence[NodeProcess], elapsed_s: float) -> None:
        """Print the summary; the last line is ``ok`` or ``failed``."""
        propagation = "was not measured"
        if self.propagation_s:
            median_s, p99_s = median_and_p99(self.propagation_s)
            propagation = (
                f"p50 {median_s * 1000:.0f} ms, p99 {p99_s * 1000:.0f} ms "
                f"({len(self.propagation_s)} of {self.expected_deliveries} deliveries of blocks)"
            )
        acknowledged = sum(node.status.acknowledged for node in nodes)
        lost = sum(node.status.lost for node in nodes)
        tell(f"chains          {self.chains}")
        tell(f"transactions    {self.transactions}")
        tell(f"propagation     {propagation}")
        tell(f"late joiner     {self.late}")
        tell(f"killed and back {self.back}")
        tell(f"broadcasts      {acknowledged} acknowledged, {lost} lost")
        tell(f"stop            {self.stopped}")
        tell(f"time            {elapsed_s:.0f} s")
        for fault in self.faults:
            tell(f"FAILED          {fault}")
        tell("failed" if self.faults else "ok")


def heading(nodes: Sequence[NodeProcess]) -> str:
    """The names of the progress's columns."""
    wide = 5 * min(len(nodes), MOST_COLUMNS)
    return f"{'time':>7}  {'heights':>{wide}}  {'peers':>{wide}}  queued  delivered"


def progress(nodes: Sequence[NodeProcess], elapsed_s: float) -> str:
    """One line: the height and the peers of each node, what waits in queues, and deliveries."""
    heights = _columns([node.status.height if node.is_up else None for node in nodes])
    peers = _columns([node.status.peers if node.is_up else None for node in nodes])
    queued = sum(node.status.queued for node in nodes if node.is_up)
    delivered = sum(node.status.acknowledged for node in nodes)
    return f"{elapsed_s:6.1f}s  {heights}  {peers}  {queued:6d}  {delivered:9d}"


def _columns(values: Sequence[int | None]) -> str:
    if len(values) > MOST_COLUMNS:
        up = [value for value in values if value is not None]
        return f"{min(up)} to {max(up)}".rjust(5 * MOST_COLUMNS)
    return "".join("    -" if value is None else f"{value:5d}" for value in values)
