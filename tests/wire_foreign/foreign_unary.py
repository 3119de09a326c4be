"""A peer of the old kind: unary calls and client streams on a channel of its own (protocol §3.2).

Each of two nodes has one to the other, and speaks on its own alone.
"""

from threading import Event, Lock

import network_types_pb2 as types

from tests.wire_foreign.foreign_broadcasts import OutgoingBroadcasts
from tests.wire_foreign.foreign_dial import ForeignDial

TIMEOUTS_S = {
    "ConfirmHandshake": 3.0,
    "RequestBlock": 2.0,
    "RequestBlocks": 5.0,
    "GetNodes": 2.0,
    "CheckHealth": 2.0,
}
UNNAMED_TIMEOUT_S = 0.2


class ForeignUnaryPeer:
    """Whoever makes it has shaken hands, and gives it the channel on which it speaks."""

    def __init__(
        self,
        dial: ForeignDial,
        theirs: types.Handshake,
        *,
        session_in: bytes,
        inbound: bool,
    ) -> None:
        self.dial = dial
        self.peer_key = theirs.handshake_data.pubkey.hex()
        self.session_in: bytes | None = session_in
        self.session_out: bytes = theirs.session_id
        self.inbound = inbound
        self.handshake_ns = theirs.handshake_data.time.ToNanoseconds()
        self.confirmed = Event()
        self.disconnected = Event()
        self._streams: dict[str, OutgoingBroadcasts] = {}
        self._lock = Lock()

    @property
    def metadata(self) -> dict[str, str | bytes]:
        """Of each call: key and session."""
        return self.dial.metadata(self.session_out)

    def call(self, method: str, request: bytes = b"") -> bytes:
        """A unary call, once more when it fails. Raises grpc.RpcError of the second."""
        return self.dial.call_twice(
            method,
            request,
            metadata=self.metadata,
            timeout_s=TIMEOUTS_S.get(method, UNNAMED_TIMEOUT_S),
        )

    def confirm(self) -> None:
        assert self.call("ConfirmHandshake") == b""
        self.confirmed.set()

    def disconnect(self) -> None:
        reason = types.DisconnectReason(why=types.DisconnectReason.SHUTDOWN)
        assert self.call("Disconnect", reason.SerializeToString()) == b""

    def broadcast(self, method: str, payload: bytes) -> bool:
        """Send an item on the kind's one stream, which is opened at its first use.

        False when that one turns out to have ended: the item is lost, and the next one opens
        another.
        """
        with self._lock:
            stream = self._streams.get(method)
            if stream is None:
                stream = self._streams[method] = self.dial.open_broadcasts(
                    method, metadata=self.metadata
                )
            sent = stream.send(payload)
            if not sent:
                self._streams.pop(method).cancel()
            return sent

    def broadcasts(self, method: str) -> OutgoingBroadcasts:
        """The kind's stream, which is open."""
        with self._lock:
            return self._streams[method]

    def release(self) -> None:
        """Close the channel, and with it what runs on it."""
        with self._lock:
            streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.cancel()
        self.dial.close()
