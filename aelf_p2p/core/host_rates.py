"""How often one host may do something."""

from collections import OrderedDict

from aelf_p2p.core.budgets import EventBudget, Rate
from aelf_p2p.core.endpoint import counted_host, is_loopback_host

MAX_HOSTS = 4096


class HostRates:
    """A token bucket for each host, loopback excepted; what one host is, ``counted_host`` says.

    Of at most ``MAX_HOSTS``, some 300 bytes each, the one that was quiet for longest is forgotten:
    its bucket is then full again.
    """

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._budgets: OrderedDict[str, EventBudget] = OrderedDict()

    def __len__(self) -> int:
        return len(self._budgets)

    def spend(self, host: str, now: float) -> bool:
        """Whether the host may do it once more at ``now``, monotonic seconds."""
        if is_loopback_host(host):
            return True
        counted = counted_host(host)
        budget = self._budgets.setdefault(counted, EventBudget(self._rate))
        self._budgets.move_to_end(counted)
        if len(self._budgets) > MAX_HOSTS:
            self._budgets.popitem(last=False)
        return budget.spend(now)
