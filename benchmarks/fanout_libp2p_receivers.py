"""The receivers of py-libp2p's fan-out: hosts that subscribe, in one process."""

# mypy: disable-error-code="import-not-found"

import time
from contextlib import AsyncExitStack
from typing import Any

import trio
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from benchmarks.libp2p_pubsub import TOPIC, open_pubsub
from benchmarks.worker import Parent
from benchmarks.workload import HOST


class _Receivers:
    """All hosts, and how much each has got."""

    def __init__(self, count: int, pace: trio.SocketStream) -> None:
        self._counts = [0] * count
        self._told = 0
        self._pace = pace

    @property
    def transactions(self) -> int:
        """Of all hosts."""
        return sum(self._counts)

    async def receive(self, number: int, subscription: Any) -> None:
        """Count what one host gets, and tell the sender how far all are: a byte a message."""
        async for _ in subscription:
            self._counts[number] += 1
            if (news := min(self._counts) - self._told) > 0:
                self._told += news
                await self._pace.send_all(bytes(news))


async def _run(parent: Parent) -> None:
    address, peers = parent.setup["address"], parent.setup["peers"]
    pace = await trio.open_tcp_stream(HOST, address["pace"])
    receivers = _Receivers(peers, pace)
    async with AsyncExitStack() as stack:
        subscriptions = []
        for _ in range(peers):
            pubsub = await stack.enter_async_context(open_pubsub(parent.setup["router"], peers))
            subscription = await pubsub.subscribe(TOPIC)
            await pubsub.host.connect(info_from_p2p_addr(Multiaddr(address["host"])))
            subscriptions.append(subscription)
        nursery = await stack.enter_async_context(trio.open_nursery())
        for number, subscription in enumerate(subscriptions):
            nursery.start_soon(receivers.receive, number, subscription)
        parent.send("connected")
        try:
            while True:
                await trio.to_thread.run_sync(parent.receive, abandon_on_cancel=True)
                parent.send(
                    {"cpu_seconds": time.process_time(), "transactions": receivers.transactions}
                )
        except EOFError:
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_run, Parent())
