"""What waits to be sent to one unary peer: a client stream for each kind of broadcast (§3.2)."""

import logging
from collections import Counter

import trio

from aelf_p2p.contracts import MessageStream, Metadata, RpcChannel
from aelf_p2p.core.broadcast import BroadcastItem, BroadcastKind, DropReason
from aelf_p2p.core.errors import (
    CallFailedError,
    ConnectionLostError,
    StatusCode,
    TransportError,
    UnrecoverableError,
)
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.send_queues import SendQueues
from aelf_p2p.wire.methods import BROADCAST_STREAMS

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""What a stream did not take is sent once more, on a new one."""

STREAM_OF = {BroadcastKind(kind): method for method, kind in BROADCAST_STREAMS.items()}


class BroadcastStreams:
    """The broadcast queues, and a sender for each kind: no kind waits for another.

    A stream is opened when there is something to send, and again after it broke; what it did not
    take is then sent once more. Nothing on it is acknowledged: the transport's flow control holds
    the sender back, and the queues fill.
    """

    def __init__(
        self, channel: RpcChannel, metadata: Metadata, options: NetworkOptions, bit: int = 0
    ) -> None:
        self._bit = bit
        self._channel = channel
        self._metadata = metadata
        self._options = options
        self.queues = SendQueues(options, bit)
        self.sent: Counter[BroadcastKind] = Counter()
        self._in_hand: dict[BroadcastKind, list[BroadcastItem]] = {}  # out of its queue, not sent
        self._idle: dict[BroadcastKind, trio.Event] = {}  # of senders that wait for something to do

    def enqueue_nowait(self, item: BroadcastItem) -> DropReason | None:
        """Queue a broadcast; None, or why it was refused."""
        refused = self.queues.put_nowait(item)
        if refused is None and item.kind in self._idle:
            self._idle[item.kind].set()
        return refused

    async def send(self, kind: BroadcastKind) -> None:
        """Send the broadcasts of a kind until cancelled.

        Raises UnrecoverableError when the peer does not know us any more, or is gone.
        """
        failures = 0  # in a row
        while True:
            await self._take(kind)
            try:
                async with self._channel.open_stream(
                    STREAM_OF[kind], metadata=self._metadata
                ) as stream:
                    while True:
                        await _send_all(stream, self._in_hand[kind])
                        self._sent(kind)
                        failures = 0
                        await self._take(kind)
            except TransportError as exc:
                if not self._channel.is_open or _forgets_us(exc):
                    raise UnrecoverableError(f"its stream for {kind.name} ended: {exc}") from exc
                log.debug("the stream for %s broke: %s", kind.name, exc)
                failures += 1
                if failures == ATTEMPTS:
                    failures = 0
                    self._drop(kind, DropReason.REFUSED)

    def in_hand(self, *kinds: BroadcastKind) -> int:
        """How many of these kinds are out of their queues and not sent."""
        return sum(len(self._in_hand.get(kind, ())) for kind in kinds)

    def close(self) -> None:
        """The connection is gone: what waits is lost, and counted."""
        for kind in list(self._in_hand):
            self._drop(kind, DropReason.CLOSED)
        self.queues.clear()

    async def _take(self, kind: BroadcastKind) -> None:
        """Have something of the kind in hand; waits until there is."""
        options = self._options
        while kind not in self._in_hand:
            items = self.queues.take_kind(kind, options.batch_items, options.batch_bytes)
            if items:
                self._in_hand[kind] = items
                return
            self._idle[kind] = trio.Event()
            try:
                await self._idle[kind].wait()
            finally:
                del self._idle[kind]

    def _drop(self, kind: BroadcastKind, reason: DropReason) -> None:
        for item in self._in_hand.pop(kind):
            self.queues.drop(item, reason)

    def _sent(self, kind: BroadcastKind) -> None:
        for item in self._in_hand.pop(kind):
            self.sent[kind] += 1
            if item.watcher is not None:
                item.watcher.sent(self._bit)


async def _send_all(stream: MessageStream, items: list[BroadcastItem]) -> None:
    """Raises TransportError, of it CallFailedError with the status when the peer ended it."""
    try:
        await stream.send_many([item.payload for item in items])
    except ConnectionLostError:
        while await stream.receive_many():  # why it ended is what it was answered
            pass
        raise


def _forgets_us(error: TransportError) -> bool:
    """Whether a call ended as it does where our session is not known (protocol §3)."""
    return isinstance(error, CallFailedError) and error.code is StatusCode.CANCELLED
