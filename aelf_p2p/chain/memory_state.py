"""A state store in memory: it outlives the node, not the process."""

import trio

from aelf_p2p.core.network_state import NetworkState


class MemoryStateStore:
    """A ``StateStore`` that holds what it was given."""

    def __init__(self, state: NetworkState = NetworkState()) -> None:  # noqa: B008 - immutable
        self.state = state
        """What was saved last."""

    async def load(self) -> NetworkState:
        """What was saved last."""
        await trio.lowlevel.checkpoint()
        return self.state

    async def save(self, state: NetworkState) -> None:
        """Keep a state in place of the one before."""
        await trio.lowlevel.checkpoint()
        self.state = state
