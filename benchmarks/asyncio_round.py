"""Rounds of a sender on asyncio."""

import asyncio
from collections.abc import Awaitable, Callable

from aelf_p2p import Transaction
from benchmarks.worker import Parent
from benchmarks.workload import ROUND_TIMEOUT_S, Stopwatch, TransactionSource, Workload

Broadcast = Callable[[list[Transaction]], Awaitable[None]]
"""Sends transactions to all peers, and waits until all have acknowledged."""


async def run_rounds(parent: Parent, workload: Workload, broadcast: Broadcast) -> None:
    """A round for each question, until the parent wants no more."""
    source = TransactionSource(workload.payload_bytes)
    while True:
        try:
            await asyncio.to_thread(parent.receive)
        except EOFError:
            return
        transactions = source.take(workload.messages)
        stopwatch = Stopwatch()
        async with asyncio.timeout(ROUND_TIMEOUT_S):
            with stopwatch.running():
                await broadcast(transactions)
        parent.send(stopwatch.round.as_answer())


class Waiter:
    """Wakes whoever waits for one peer's acknowledgements."""

    def __init__(self) -> None:
        self._lost = False
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """All is acknowledged."""
        self._wake.set()

    def lose(self) -> None:
        """The peer is gone."""
        self._lost = True
        self._wake.set()

    async def wait_empty(self, in_flight: dict[str, int]) -> None:
        """Wait until nothing is in flight. Raises RuntimeError when the peer is gone first."""
        while in_flight:
            if self._lost:
                raise RuntimeError(f"a peer is gone, {len(in_flight)} unacknowledged")
            self._wake.clear()
            await self._wake.wait()
