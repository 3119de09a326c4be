"""What a benchmark finds: rows of figures, ratios of two rows, and notes. One shape for all.

A benchmark yields these as it finds them; ``report`` and ``plots`` make everything else of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

Parameters = Mapping[str, str | int]
"""What a figure was measured under, such as ``{"wire": "TLS", "peers": 16}``. In a table they stand
in the given order. An int is a number that may be plotted over."""

OURS = "aelf-p2p"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of one contender."""

    contender: str
    """``aelf-p2p``, perhaps with the transport behind it, or the rival's name."""
    parameters: Parameters
    figure: str
    """What was measured, such as ``deliveries``."""
    unit: str
    """Of the rounds and samples, such as ``1/s`` or ``ms``."""
    rounds: tuple[float, ...]
    """The value of each round, in the order in which they were measured; at least one."""
    samples: tuple[float, ...] = ()
    """Single measurements behind the rounds, for the plot of their distribution; or none."""

    @property
    def median(self) -> float:
        """Of the rounds."""
        return median(self.rounds)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a ratio must reach."""

    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether a ratio is good enough."""
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )

    def __str__(self) -> str:
        parts = [f">= {self.at_least:g}"] if self.at_least is not None else []
        parts += [f"<= {self.at_most:g}"] if self.at_most is not None else []
        return " and ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """One figure of two contenders, or under two conditions, compared."""

    first: str
    second: str
    parameters: Parameters
    figure: str
    rounds: tuple[float, ...]
    """First divided by second, round by round: each of two neighbours in time."""
    target: Target | None = None

    @property
    def median(self) -> float:
        """Of the rounds."""
        return median(self.rounds)


@dataclass(frozen=True)
class Note:
    """Something to know about the figures: what was left out, or is not as one would expect."""

    about: str
    """A contender, or a parameter."""
    text: str


Result = Row | Ratio | Note


def ratio(
    first: Row,
    second: Row,
    *,
    target: Target | None = None,
    parameters: Parameters | None = None,
    names: tuple[str, str] | None = None,
) -> Ratio:
    """Divide two rows of the same figure, whose rounds took turns.

    ``parameters`` are those of the first row, ``names`` the contenders', unless given. Raises
    ValueError when the rows cannot be compared.
    """
    if (first.figure, first.unit) != (second.figure, second.unit):
        raise ValueError(f"{first.figure} in {first.unit} beside {second.figure} in {second.unit}")
    pairs = zip(first.rounds, second.rounds, strict=True)
    return Ratio(
        first=names[0] if names else first.contender,
        second=names[1] if names else second.contender,
        parameters=first.parameters if parameters is None else parameters,
        figure=first.figure,
        rounds=tuple(one / other for one, other in pairs),
        target=target,
    )
