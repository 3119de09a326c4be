"""Who dials whom in a network under faults: each dialer over a relay of its own to each other node,
so that a node can be cut off in both directions."""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import trio

from aelf_p2p.ops.devnet.processes import NodeProcess
from aelf_p2p.ops.perturb.relay import Relay

BOOT_NODES = 3
"""Random ones of those before it in the list."""


class Links:
    """The relays between nodes, in ``run``'s task.

    Nodes know one another by the relays' addresses, which stay when a process comes back on another
    port.
    """

    def __init__(self, nodes: Sequence[NodeProcess], rng: random.Random) -> None:
        self._relays: dict[tuple[int, int], Relay] = {
            (dialer, target): Relay(partial(_address_of, nodes[target]))
            for dialer in range(len(nodes))
            for target in rng.sample(range(dialer), min(BOOT_NODES, dialer))
        }

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Relay until cancelled; started when all listen."""
        async with trio.open_nursery() as nursery:
            for relay in self._relays.values():
                await nursery.start(relay.serve)
            task_status.started()

    def boot_nodes(self, index: int) -> list[str]:
        """The addresses at which a node is to dial others."""
        return [relay.address for (dialer, _), relay in self._relays.items() if dialer == index]

    @contextmanager
    def cut(self, index: int) -> Iterator[None]:
        """Cut a node off from all others, and them from it, until the block ends."""
        with ExitStack() as cuts:
            for ends, relay in self._relays.items():
                if index in ends:
                    cuts.enter_context(relay.cut())
            yield


def _address_of(node: NodeProcess) -> str | None:
    return node.address if node.is_up else None
