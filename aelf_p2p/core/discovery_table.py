"""The nodes that discovery knows, and those that it leaves alone (protocol §4, "Discovery")."""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace

from aelf_p2p.core.endpoint import Endpoint, counted_host
from aelf_p2p.core.network_state import KnownNode

MAX_AVOIDED = 1024


class DiscoveryTable:
    """At most ``capacity`` nodes that answered a ping, one entry an endpoint.

    A newcomer takes the place of an unavailable node, the one not seen for longest; when there is
    none it is not taken in. Of one host, as ``counted_host`` has it, there are at most
    ``per_host``, loopback excepted, so that none fills the table alone. Beside the nodes it holds
    at most ``MAX_AVOIDED`` endpoints that are to be left alone, some for a while; of more, the one
    that came first is forgotten.
    """

    def __init__(
        self, capacity: int, per_host: int, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._capacity = capacity
        self._per_host = per_host
        self._on_change = on_change
        self._nodes: OrderedDict[Endpoint, KnownNode] = OrderedDict()  # tried longest ago first
        self._resting: dict[Endpoint, float] = {}  # of the nodes: until, monotonic seconds
        self._avoided: OrderedDict[Endpoint, float] = OrderedDict()  # until, monotonic seconds

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, endpoint: Endpoint) -> bool:
        return endpoint in self._nodes

    @property
    def nodes(self) -> tuple[KnownNode, ...]:
        """All of them, those tried longest ago first."""
        return tuple(self._nodes.values())

    def answered(self, endpoint: Endpoint, wall_s: float, public_key: bytes | None = None) -> bool:
        """A node answered a ping, or a handshake that proved its key. False when it finds no
        place."""
        held = self._nodes.get(endpoint)
        if held is None and not self._make_room(endpoint):
            return False
        if held is not None and public_key is None:
            public_key = held.public_key
        self._nodes[endpoint] = KnownNode(
            endpoint=endpoint, public_key=public_key, seen_at=wall_s, available=True
        )
        self._nodes.move_to_end(endpoint)
        self._on_change()
        return True

    def failed(self, endpoint: Endpoint) -> None:
        """A known node did not answer: it stays, until another needs its place."""
        held = self._nodes.get(endpoint)
        if held is not None:
            self._nodes[endpoint] = replace(held, available=False)
            self._nodes.move_to_end(endpoint)
            self._on_change()

    def rest(self, endpoint: Endpoint, until: float) -> None:
        """Do not dial a known node again until a monotonic time."""
        if endpoint in self._nodes:
            self._resting[endpoint] = until

    def dialable(self, now: float) -> list[KnownNode]:
        """The nodes that are available and do not rest."""
        never = -math.inf
        return [
            node
            for node in self._nodes.values()
            if node.available and self._resting.get(node.endpoint, never) <= now
        ]

    def next_to_probe(self) -> KnownNode | None:
        """The node that was tried longest ago."""
        return next(iter(self._nodes.values()), None)

    def restore(self, nodes: Iterable[KnownNode]) -> None:
        """Take in what an earlier run left, as far as there is room."""
        for node in nodes:
            if node.endpoint in self._nodes or self._make_room(node.endpoint):
                self._nodes[node.endpoint] = node

    # --- what it leaves alone ---

    def avoid(self, endpoint: Endpoint, until: float) -> None:
        """Forget a node, and do not try its endpoint until a monotonic time."""
        self._avoided[endpoint] = until
        self._avoided.move_to_end(endpoint)
        if len(self._avoided) > MAX_AVOIDED:
            self._avoided.popitem(last=False)
        if endpoint in self._nodes:
            self._forget(endpoint)
            self._on_change()

    def is_avoided(self, endpoint: Endpoint, now: float) -> bool:
        """Whether an endpoint is not to be tried at ``now``."""
        until = self._avoided.get(endpoint)
        if until is not None and until <= now:
            del self._avoided[endpoint]
            until = None
        return until is not None

    def spare_hosts(
        self, told: Iterable[Endpoint], now: float, *, most_of_a_host: int, most_avoided: int
    ) -> list[Endpoint]:
        """Of endpoints that were told, those that may be tried at ``now``, in the same order.

        They are at most ``most_of_a_host`` of one host, and fewer where that could make it more
        than ``most_avoided`` endpoints of the host that are to be left alone, loopback excepted: so
        nobody has us look for open ports there. Who names dead ports of a host keeps us from trying
        others of it for that while, but not from nodes there that are known.
        """
        avoided = Counter(
            counted_host(endpoint.host) for endpoint, until in self._avoided.items() if until > now
        )
        chosen: Counter[str] = Counter()
        spared = []
        for endpoint in told:
            host = counted_host(endpoint.host)
            if not endpoint.is_loopback:
                if chosen[host] >= min(most_of_a_host, most_avoided - avoided[host]):
                    continue
                chosen[host] += 1
            spared.append(endpoint)
        return spared

    def _make_room(self, newcomer: Endpoint) -> bool:
        """Whether there is a place for one more, if need be that of an unavailable node."""
        rivals = list(self._nodes.values())
        if not newcomer.is_loopback:
            counted = counted_host(newcomer.host)
            on_host = [node for node in rivals if counted_host(node.endpoint.host) == counted]
            if len(on_host) >= self._per_host:
                return self._forget_unavailable(on_host)
        return len(rivals) < self._capacity or self._forget_unavailable(rivals)

    def _forget_unavailable(self, nodes: Iterable[KnownNode]) -> bool:
        unavailable = [node for node in nodes if not node.available]
        if not unavailable:
            return False
        self._forget(min(unavailable, key=lambda node: node.seen_at).endpoint)
        return True

    def _forget(self, endpoint: Endpoint) -> None:
        del self._nodes[endpoint]
        self._resting.pop(endpoint, None)
