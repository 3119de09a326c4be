"""Client streams of broadcasts: one that was opened to a foreign node, and one that it opens."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from queue import SimpleQueue
from threading import Event
from typing import Any

import grpc  # type: ignore[import-untyped]
import network_types_pb2 as types
import peer_service_pb2 as service
from aelf import core_pb2
from google.protobuf.message import DecodeError

from tests.wire_foreign.journal import WAIT_S, Journal

CLIENT_STREAMS: dict[str, int] = {
    "BlockBroadcastStream": service.BLOCK_BROADCAST,
    "TransactionBroadcastStream": service.TRANSACTION_BROADCAST,
    "AnnouncementBroadcastStream": service.ANNOUNCEMENT_BROADCAST,
    "LibAnnouncementBroadcastStream": service.LIB_ANNOUNCEMENT_BROADCAST,
}
"""The kind of what each of them carries."""

_MESSAGES: dict[int, Any] = {
    service.BLOCK_BROADCAST: types.BlockWithTransactions,
    service.TRANSACTION_BROADCAST: core_pb2.Transaction,
    service.ANNOUNCEMENT_BROADCAST: types.BlockAnnouncement,
    service.LIB_ANNOUNCEMENT_BROADCAST: types.LibAnnouncement,
}


class IncomingBroadcasts:
    """A client stream that came. One thread reads it, that of its handler acts on what was read."""

    def __init__(self, method: str, metadata: Mapping[str, str | bytes]) -> None:
        self.method = method
        self.kind = CLIENT_STREAMS[method]
        self.metadata = metadata
        self.payloads: Journal[bytes] = Journal()
        self.ended = Event()
        self._events: SimpleQueue[bytes | grpc.StatusCode] = SimpleQueue()

    def end(self, code: grpc.StatusCode) -> None:
        """Answer, or fail, without waiting for its end."""
        self._events.put(code)

    def read(self, incoming: Iterable[bytes]) -> None:
        """Take what comes, until there is no more or the caller is gone."""
        try:
            for payload in incoming:
                self._events.put(payload)
        except grpc.RpcError:  # the caller is gone
            self._events.put(grpc.StatusCode.CANCELLED)
        else:
            self._events.put(grpc.StatusCode.OK)

    def act(self, received: Callable[[int, bytes], None]) -> grpc.StatusCode:
        """Pass on what comes; the status to end with."""
        try:
            while isinstance(event := self._events.get(), bytes):
                try:
                    _MESSAGES[self.kind].FromString(event)
                except DecodeError:
                    return grpc.StatusCode.UNKNOWN
                self.payloads.append(event)
                received(self.kind, event)
            return event
        finally:
            self.ended.set()


class OutgoingBroadcasts:
    """A client stream of ours, open until either side ends it."""

    def __init__(self, stub: Any, metadata: Mapping[str, str | bytes]) -> None:
        self._payloads: SimpleQueue[bytes | None] = SimpleQueue()
        self._call = stub.future(
            iter(self._payloads.get, None), timeout=None, metadata=list(metadata.items())
        )

    def send(self, payload: bytes) -> bool:
        """Write an item, and say whether the stream still took it."""
        if self._call.done():
            return False
        self._payloads.put(payload)
        return True

    def wait_ended(self) -> grpc.StatusCode:
        """Wait for the status that the other side ends it with."""
        with suppress(grpc.RpcError):
            self._call.result(WAIT_S)
        return self._call.code()

    def end(self) -> grpc.StatusCode:
        """End it behind what was sent; the status of the answer."""
        self._payloads.put(None)
        return self.wait_ended()

    def cancel(self) -> None:
        """Break it off, so that the thread that sends ends too."""
        self._call.cancel()
        self._payloads.put(None)
