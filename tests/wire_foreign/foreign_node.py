"""A foreign AElf node of version 1.4 or later: grpc's C core, AElf's own messages, threads.

It shares no code with ``aelf_p2p``. Every wait has an end, and leaving its block leaves no thread.
"""

import hmac
import os
from collections.abc import Iterable, Sequence
from threading import Lock
from types import TracebackType
from typing import Any, Self

import network_types_pb2 as types
import peer_service_pb2 as service

from tests.wire_foreign.foreign_chain import ForeignChain
from tests.wire_foreign.foreign_dial import ForeignDial
from tests.wire_foreign.foreign_handshake import judge, make_handshake
from tests.wire_foreign.foreign_key import ForeignKey
from tests.wire_foreign.foreign_server import ForeignServer
from tests.wire_foreign.foreign_stream import ForeignStream
from tests.wire_foreign.journal import Journal

MAX_MESSAGE_BYTES = 100 * 1024 * 1024


class ForeignNode:
    """It listens on a free port of 127.0.0.1 while its block runs, and dials when it is told to."""

    def __init__(
        self,
        *,
        key: ForeignKey | None = None,
        blocks: Iterable[types.BlockWithTransactions] = (),
        nodes: Sequence[types.NodeInfo] = (),
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self.key = key or ForeignKey()
        self.chain = ForeignChain(blocks)
        self.nodes = nodes
        """What it answers to GetNodes."""
        self.refuse_handshake = types.HANDSHAKE_OK
        """What it answers to every DoHandshake that it would accept."""
        self.refuse_stream = types.HANDSHAKE_OK
        """The same, to HAND_SHAKE."""
        self.broadcasts: Journal[tuple[int, bytes]] = Journal()
        """Of client streams: type and payload."""
        self._max_message_bytes = max_message_bytes
        self._peers: dict[str, ForeignStream] = {}
        self._peers_lock = Lock()
        self.server = ForeignServer(self, max_message_bytes=max_message_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.server.close()

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def key_hex(self) -> str:
        return self.key.hex

    def dial(self, port: int) -> ForeignDial:
        """Probe a node on 127.0.0.1 and open a channel to it; a context manager."""
        return ForeignDial(self, port, max_message_bytes=self._max_message_bytes)

    def new_handshake(self, **changes: Any) -> types.Handshake:
        """A handshake of this moment, with changes, and a new session id of 5 bytes."""
        return make_handshake(
            self.key,
            **{
                "listening_port": self.port,
                "session_id": os.urandom(5),
                "tip": self.chain.tip,
                **changes,
            },
        )

    # --- as the one that is dialed ---

    def accept_handshake(self, request: bytes) -> bytes:
        """DoHandshake: a dialer of 1.4 or later is only judged, and answered."""
        asked = types.HandshakeRequest.FromString(request).handshake
        error = judge(asked, self.key) or self.refuse_handshake
        if error:
            return types.HandshakeReply(error=error).SerializeToString()
        return types.HandshakeReply(handshake=self.new_handshake()).SerializeToString()

    def accept_stream(self, stream: ForeignStream, request: bytes) -> bytes:
        """HAND_SHAKE: the dialer becomes a peer, in place of an older one of the same key."""
        asked = types.HandshakeRequest.FromString(request).handshake
        error = judge(asked, self.key) or self.refuse_stream
        if error:
            return types.HandshakeReply(error=error).SerializeToString()
        handshake = self.new_handshake()
        stream.session_in, stream.session_out = handshake.session_id, asked.session_id
        stream.peer_key = asked.handshake_data.pubkey.hex()
        with self._peers_lock:
            self._peers[stream.peer_key] = stream
        return types.HandshakeReply(handshake=handshake).SerializeToString()

    def stream_of(self, public_key: object, session_id: object) -> ForeignStream | None:
        """The stream of the peer that a unary call speaks for; None when it has no session."""
        with self._peers_lock:
            stream = self._peers.get(public_key) if isinstance(public_key, str) else None
        if stream is None or stream.session_in is None or not isinstance(session_id, bytes):
            return None
        return stream if hmac.compare_digest(stream.session_in, session_id) else None

    def answer(self, message_type: int, request: bytes) -> bytes:
        """The reply to a request for blocks or nodes."""
        if message_type == service.REQUEST_BLOCK:
            return self.chain.block_reply(request)
        if message_type == service.REQUEST_BLOCKS:
            return self.chain.block_list(request)
        most = min(types.NodesRequest.FromString(request).max_count, 10)
        return types.NodeList(nodes=self.nodes[:most]).SerializeToString()

    def received(self, message_type: int, payload: bytes) -> None:
        """A broadcast came on a client stream."""
        self.broadcasts.append((message_type, payload))
