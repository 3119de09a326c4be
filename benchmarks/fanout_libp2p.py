"""A rival's sender: py-libp2p, in an environment of its own.

It drops what a subscriber has not read, 32 messages behind. So that nothing is lost, and the figure
is what arrives, at most 16 are under way: the receivers say over a plain socket how far all are.
"""

# mypy: disable-error-code="import-not-found"

import trio

from benchmarks.libp2p_pubsub import TOPIC, open_pubsub
from benchmarks.worker import Parent
from benchmarks.workload import HOST, ROUND_TIMEOUT_S, Stopwatch, TransactionSource, Workload

UNDER_WAY = 16

_POLL_S = 0.05


async def _run(parent: Parent) -> None:
    """Say where the host and its pacing listen, then run a round for each question."""
    workload = Workload(**parent.setup["workload"])
    source = TransactionSource(workload.payload_bytes)
    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    async with open_pubsub(parent.setup["router"], workload.peers) as pubsub:
        (address,) = pubsub.host.get_addrs()
        parent.send({"host": str(address), "pace": listener.socket.getsockname()[1]})
        pace = await listener.accept()
        while len(pubsub.peer_topics.get(TOPIC, ())) < workload.peers:  # noqa: ASYNC110  # no event
            await trio.sleep(_POLL_S)
        while True:
            try:
                await trio.to_thread.run_sync(parent.receive, abandon_on_cancel=True)
            except EOFError:
                return
            transactions = source.take(workload.messages)
            stopwatch = Stopwatch()
            with trio.fail_after(ROUND_TIMEOUT_S), stopwatch.running():
                arrived = 0
                for number, transaction in enumerate(transactions, 1):
                    await pubsub.publish(TOPIC, transaction.raw)
                    while number - arrived >= UNDER_WAY:
                        arrived += len(await pace.receive_some())
                while arrived < workload.messages:
                    arrived += len(await pace.receive_some())
            parent.send(stopwatch.round.as_answer())


if __name__ == "__main__":
    trio.run(_run, Parent())
