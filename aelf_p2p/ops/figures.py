"""Figures out of many measured values."""

import math
from collections.abc import Iterable


def median_and_p99(values: Iterable[float]) -> tuple[float, float]:
    """The least that half of them are not above, and that 99 % are not; NaN without any."""
    ranked = sorted(values)
    if not ranked:
        return math.nan, math.nan
    return ranked[math.ceil(len(ranked) * 0.5) - 1], ranked[math.ceil(len(ranked) * 0.99) - 1]
