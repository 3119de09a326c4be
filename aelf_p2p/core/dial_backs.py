"""Which nodes of the old kind are dialed back, at the port that they name (protocol §3.2).

Whoever shakes hands makes us dial its host. So that nobody has us look for open ports there, or
reach what only we can reach, private hosts are dialed when the operator says so, and a host where
nobody answered several times rests.
"""

from collections import OrderedDict

from aelf_p2p.core.endpoint import Endpoint, counted_host
from aelf_p2p.core.errors import RefusalReason
from aelf_p2p.core.options import NetworkOptions

MAX_HOSTS = 1024


class DialBacks:
    """Counts the dial-backs that failed, by host: of at most MAX_HOSTS, those that failed last.

    What one host is, ``counted_host`` says."""

    def __init__(self, options: NetworkOptions) -> None:
        self._private = options.dial_private
        self._most = options.max_failed_dial_backs
        self._period_s = options.failed_dial_backs_period_s
        self._failed: OrderedDict[str, tuple[float, int]] = OrderedDict()  # since when, how many

    def refuse(self, endpoint: Endpoint, now: float) -> RefusalReason | None:
        """Why an endpoint is not dialed at monotonic time ``now``; None when it may be."""
        if not (self._private or endpoint.is_global):
            return RefusalReason.PRIVATE
        _, count = self._recent(counted_host(endpoint.host), now)
        return RefusalReason.UNREACHABLE if count >= self._most else None

    def failed(self, endpoint: Endpoint, now: float) -> None:
        """It was dialed, and did not answer."""
        host = counted_host(endpoint.host)
        since, count = self._recent(host, now)
        self._failed[host] = since, count + 1
        self._failed.move_to_end(host)
        if len(self._failed) > MAX_HOSTS:
            self._failed.popitem(last=False)

    def _recent(self, host: str, now: float) -> tuple[float, int]:
        since, count = self._failed.get(host, (now, 0))
        return (since, count) if now - since < self._period_s else (now, 0)
