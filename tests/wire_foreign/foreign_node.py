"""A foreign AElf node of either kind: grpc's C core, AElf's own messages, threads.

It shares no code with ``aelf_p2p``. Every wait has an end, and leaving its block leaves no thread.
"""

import os
from collections.abc import Iterable, Sequence
from threading import Event
from types import TracebackType
from typing import Any, Self

import network_types_pb2 as types
import peer_service_pb2 as service

from tests.wire_foreign.foreign_chain import ForeignChain
from tests.wire_foreign.foreign_connect import accept_by_dialing_back, connect
from tests.wire_foreign.foreign_dial import ForeignDial
from tests.wire_foreign.foreign_handshake import BrokenHandshakeError, judge, make_handshake
from tests.wire_foreign.foreign_key import ForeignKey
from tests.wire_foreign.foreign_pool import ForeignPeer, ForeignPool
from tests.wire_foreign.foreign_server import ForeignServer
from tests.wire_foreign.foreign_stream import ForeignStream
from tests.wire_foreign.foreign_version import uses_stream
from tests.wire_foreign.journal import WAIT_S, Journal

MAX_MESSAGE_BYTES = 100 * 1024 * 1024
OLD_VERSION = "1.3.0.0"
"""Of a node that speaks by unary calls and client streams (protocol §3.2)."""
NEW_VERSION = "1.12.3.0"


class ForeignNode:
    """It listens on a free port of 127.0.0.1 while its block runs, and dials when it is told to."""

    def __init__(
        self,
        *,
        key: ForeignKey | None = None,
        blocks: Iterable[types.BlockWithTransactions] = (),
        nodes: Sequence[types.NodeInfo] = (),
        node_version: str = NEW_VERSION,
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
        self.pool = ForeignPool()
        self.may_judge, self.may_answer = Event(), Event()
        """While they are not set, a DoHandshake is not judged yet, or judged and not answered."""
        for gate in (self.may_judge, self.may_answer):
            gate.set()
        self.node_version = node_version
        self._max_message_bytes = max_message_bytes
        self._dials: list[ForeignDial] = []
        self.server = ForeignServer(self, max_message_bytes=max_message_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for gate in (self.may_judge, self.may_answer):
            gate.set()
        self.server.close()
        for peer in self.pool.peers():
            peer.release()
        for dial in self._dials:
            dial.close()

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
                "node_version": self.node_version,
                "listening_port": self.port,
                "session_id": os.urandom(5),
                "tip": self.chain.tip,
                **changes,
            },
        )

    def speaks_by_stream_with(self, data: types.HandshakeData) -> bool:
        """Whether both sides are of the new kind. An old node looks at no version; a new one
        throws at text that is none: BrokenHandshakeError."""
        try:
            own = uses_stream(self.node_version)
        except ValueError:
            own = False
        try:
            return own and uses_stream(data.node_version)
        except ValueError as exc:
            raise BrokenHandshakeError(str(exc)) from exc

    # --- as a dialer ---

    def connect(self, port: int, **changes: Any) -> ForeignPeer:
        """Dial a node, and be its peer; or stay the peer that it is by then. Raises RefusedError,
        grpc.RpcError."""
        dial = self.dial(port)
        self._dials.append(dial)
        return connect(self, dial, **changes)

    def disconnect(self, peer: ForeignPeer) -> None:
        """Say goodbye, and let it go."""
        peer.disconnect()
        self.pool.remove(peer)
        peer.release()

    # --- as the one that is dialed ---

    def accept_handshake(self, request: bytes) -> bytes:
        """DoHandshake. A dialer of 1.4 or later is only judged; where either side is older, the
        dialer is dialed back, and becomes a peer."""
        asked = types.HandshakeRequest.FromString(request).handshake
        self.may_judge.wait(WAIT_S)
        error = judge(asked, self.key) or self.refuse_handshake
        if error:
            reply = types.HandshakeReply(error=error)
        elif self.speaks_by_stream_with(asked.handshake_data):
            reply = types.HandshakeReply(handshake=self.new_handshake())
        else:
            reply = accept_by_dialing_back(self, asked)
        self.may_answer.wait(WAIT_S)
        return reply.SerializeToString()

    def accept_stream(self, stream: ForeignStream, request: bytes) -> bytes:
        """HAND_SHAKE: the dialer becomes a peer, in place of an older one of the same key."""
        asked = types.HandshakeRequest.FromString(request).handshake
        error = judge(asked, self.key) or self.refuse_stream
        if error:
            return types.HandshakeReply(error=error).SerializeToString()
        handshake = self.new_handshake()
        stream.session_in, stream.session_out = handshake.session_id, asked.session_id
        stream.peer_key = asked.handshake_data.pubkey.hex()
        stream.handshake_ns = asked.handshake_data.time.ToNanoseconds()
        self.pool.put(stream)
        return types.HandshakeReply(handshake=handshake).SerializeToString()

    def left(self, peer: ForeignPeer) -> None:
        """A peer said goodbye by a unary call. One of the old kind has said all with that."""
        if not isinstance(peer, ForeignStream):
            self.pool.remove(peer)
            peer.release()
        peer.disconnected.set()

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
