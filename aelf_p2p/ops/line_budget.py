"""How many lines of one kind a log may get: strangers decide how often most of them are written."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from aelf_p2p.core.budgets import EventBudget, Rate

MAX_KINDS = 1024


class LineBudget(logging.Filter):
    """Lets through ``rate`` lines of each kind: of one logger, level and text before its arguments
    are put in. The next one that goes through says how many did not.

    Give it to a handler, since a logger does not ask its filters about its children's lines:
    ``handler.addFilter(LineBudget())``.
    """

    def __init__(
        self,
        rate: Rate = Rate(20, 0.2),  # noqa: B008 - it is frozen
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._rate = rate
        self._clock = clock
        self._kinds: OrderedDict[tuple[str, int, str], _Kind] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kinds)

    def filter(self, record: logging.LogRecord) -> bool:
        """See ``logging.Filter``."""
        key = record.name, record.levelno, str(record.msg)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind(self._rate)
            if len(self._kinds) > MAX_KINDS:
                self._kinds.popitem(last=False)
        if not kind.budget.spend(self._clock()):
            kind.left_out += 1
            return False
        if kind.left_out:
            record.msg = f"{record.getMessage()} (and {kind.left_out} more like it)"
            record.args = ()
            kind.left_out = 0
        return True


class _Kind:
    def __init__(self, rate: Rate) -> None:
        self.budget = EventBudget(rate)
        self.left_out = 0
