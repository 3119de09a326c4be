"""A foreign node's channel to another, as a C# node dials (protocol §3 and §3.1)."""

import ssl
from collections.abc import Mapping
from enum import Enum
from threading import Thread
from types import TracebackType
from typing import Any, Self

import grpc  # type: ignore[import-untyped]
import network_types_pb2 as types

from tests.wire_foreign.foreign_broadcasts import OutgoingBroadcasts
from tests.wire_foreign.foreign_certificate import certificate_of
from tests.wire_foreign.foreign_stream import ForeignStream, StreamOwner
from tests.wire_foreign.journal import WAIT_S

PROBE_TIMEOUT_S = 3.0
HANDSHAKE_TIMEOUT_S = 6.0


class StreamEncoding(Enum):
    """What a dialer does about compression on its stream."""

    IDENTITY = "no word of it"
    GZIP_NAMED = "gzip is the request encoding, and no message is compressed: C#"
    GZIP_USED = "messages are compressed when that makes them smaller"


class ForeignDial:
    """A channel to a node on 127.0.0.1, and what a dialer does on it. Leave its block to close.

    Raises OSError or ValueError when nobody shows a certificate there.
    """

    def __init__(self, node: StreamOwner, port: int, *, max_message_bytes: int) -> None:
        self._node = node
        # The bare probe: whatever certificate is shown, without ALPN.
        self.probed = ssl.get_server_certificate(("127.0.0.1", port), timeout=PROBE_TIMEOUT_S)
        own = certificate_of("client")
        self._channel = grpc.secure_channel(
            f"127.0.0.1:{port}",
            grpc.ssl_channel_credentials(
                root_certificates=self.probed.encode(),
                private_key=own.private_key,
                certificate_chain=own.certificate,
            ),
            options=[
                ("grpc.ssl_target_name_override", "aelf"),
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
                ("grpc.enable_http_proxy", 0),
                ("grpc.enable_retries", 0),  # what a node does is seen as it is
            ],
        )
        self._streams: list[tuple[ForeignStream, Thread]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Break every call off, and wait for the threads."""
        self._channel.close()
        for stream, reader in self._streams:
            stream.end()
            reader.join(WAIT_S)
            assert not reader.is_alive()

    def metadata(self, session_id: bytes | None = None) -> dict[str, str | bytes]:
        """Of a call; with a session when there is one."""
        metadata: dict[str, str | bytes] = {"public-key": self._node.key_hex}
        if session_id is not None:
            metadata["session-id-bin"] = session_id
        return metadata

    def call(
        self,
        method: str,
        request: bytes = b"",
        *,
        metadata: Mapping[str, str | bytes],
        timeout_s: float = WAIT_S,
    ) -> bytes:
        """A unary call. Raises grpc.RpcError."""
        stub = self._channel.unary_unary(f"/PeerService/{method}")
        reply: bytes = stub(request, timeout=timeout_s, metadata=list(metadata.items()))
        return reply

    def call_twice(
        self,
        method: str,
        request: bytes = b"",
        *,
        metadata: Mapping[str, str | bytes],
        timeout_s: float,
    ) -> bytes:
        """A unary call as C# makes it: once more, at once, after any fault (protocol §3)."""
        try:
            return self.call(method, request, metadata=metadata, timeout_s=timeout_s)
        except grpc.RpcError:
            return self.call(method, request, metadata=metadata, timeout_s=timeout_s)

    def open_broadcasts(
        self, method: str, *, metadata: Mapping[str, str | bytes]
    ) -> OutgoingBroadcasts:
        """A client stream that stays open."""
        return OutgoingBroadcasts(self._channel.stream_unary(f"/PeerService/{method}"), metadata)

    def send_all(
        self, method: str, payloads: list[bytes], *, metadata: Mapping[str, str | bytes]
    ) -> bytes:
        """A client-streaming call. Raises grpc.RpcError."""
        stub = self._channel.stream_unary(f"/PeerService/{method}")
        reply: bytes = stub(iter(payloads), timeout=WAIT_S, metadata=list(metadata.items()))
        return reply

    def do_handshake(self, **changes: Any) -> types.HandshakeReply:
        """DoHandshake with a handshake of ours, changed. Raises grpc.RpcError."""
        return self.send_handshake(self._node.new_handshake(**changes))

    def send_handshake(self, handshake: types.Handshake) -> types.HandshakeReply:
        """DoHandshake, once. Raises grpc.RpcError."""
        request = types.HandshakeRequest(handshake=handshake).SerializeToString()
        reply = self.call(
            "DoHandshake", request, metadata=self.metadata(), timeout_s=HANDSHAKE_TIMEOUT_S
        )
        return types.HandshakeReply.FromString(reply)

    def open_stream(
        self, encoding: StreamEncoding = StreamEncoding.GZIP_NAMED, *, key_hex: str | None = None
    ) -> ForeignStream:
        """RequestByStream, without a deadline; nothing is sent on it yet."""
        metadata = [("public-key", key_hex or self._node.key_hex)]
        compression = None
        if encoding is StreamEncoding.GZIP_NAMED:
            metadata.append(("grpc-encoding", "gzip"))
        elif encoding is StreamEncoding.GZIP_USED:
            compression = grpc.Compression.Gzip
        stream = ForeignStream(self._node, "", dialed=True)
        stub = self._channel.stream_stream("/PeerService/RequestByStream")
        call = stub(stream.outgoing(), metadata=metadata, compression=compression)

        def read() -> None:
            stream.read(call)
            stream.end()

        reader = Thread(target=read, name="foreign dialer's reader")
        self._streams.append((stream, reader))
        reader.start()
        return stream

    def connect(self, encoding: StreamEncoding = StreamEncoding.GZIP_NAMED) -> ForeignStream:
        """All of it: DoHandshake, the stream, its handshake, the confirmation."""
        assert self.do_handshake().error == types.HANDSHAKE_OK
        stream = self.open_stream(encoding)
        assert stream.shake_hands().error == types.HANDSHAKE_OK
        stream.confirm()
        return stream
