"""TLS over a socket, with no more turns of the loop than the socket itself takes.

``trio.SSLStream`` gives one record of 16 KiB at a time, each with a turn of its own, and guards
every step against a renegotiation, which we do not allow. Of a connection that is busy it costs a
fifth. OpenSSL does all of TLS here too; this carries its bytes.
"""

import ssl
from contextlib import suppress
from typing import Final

import trio

from aelf_p2p.transports.net.eager_stream import EagerStream

RECEIVE_BYTES: Final = 64 * 1024
"""Of ciphertext at once, and what one ``receive_some`` gives unless it is told otherwise."""

_NOTHING: Final = memoryview(b"")
_MAX_OWED_BYTES: Final = 1024
"""What OpenSSL may have to answer by itself, to updates of keys above all, until we send next."""
_PIECE_BYTES: Final = 16 * 1024  # a record: OpenSSL's buffers stay as large as they ever were


class TlsStream(trio.abc.HalfCloseableStream):
    """One side of a connection. One task sends and one receives at a time.

    An end of file without TLS's own goodbye is taken for an end of file, and we say no such goodbye
    either: what is above knows whether anything is missing.

    What OpenSSL has to say by itself goes out with what is sent next. A send in the midst of a late
    handshake message, which nobody cuts in two, breaks the connection.
    """

    def __init__(
        self,
        socket_stream: trio.SocketStream,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        self.socket_stream: Final = EagerStream(socket_stream)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(
            self._incoming, self._outgoing, server_side, server_hostname=server_hostname
        )
        self._waiting = _NOTHING  # came over the socket, and OpenSSL has not seen it
        self._ended = False  # the other side has said that nothing follows
        self._failure: ssl.SSLError | None = None

    async def do_handshake(self) -> None:
        """Shake hands; must come first. Raises trio.BrokenResourceError, whose cause tells why."""
        while not self._shake_hands():
            await self._send_outgoing()
            self._take(await self.socket_stream.receive_some(RECEIVE_BYTES))
        if self._failure is None:
            await self._send_outgoing()
            return
        with suppress(trio.BrokenResourceError):  # an alert, for whoever is still there
            await self._send_outgoing()
        raise trio.BrokenResourceError("no TLS") from self._failure

    @property
    def peer_certificate(self) -> bytes | None:
        """What the other side has shown, DER; None when it has shown none."""
        return self._ssl.getpeercert(binary_form=True)

    @property
    def alpn(self) -> str | None:
        """The protocol that both sides agreed on, or None."""
        return self._ssl.selected_alpn_protocol()

    # --- trio's stream ---

    @property
    def has_rest(self) -> bool:
        """See ``SendsNowait``."""
        return self.socket_stream.has_rest

    def send_nowait(self, data: bytes) -> bool:
        """See ``SendsNowait``."""
        return self.socket_stream.send_nowait(self._encrypt(data))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it. When that is cancelled, nothing more can be sent."""
        await self.socket_stream.send_all(self._encrypt(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until ``send_all`` might not have to wait."""
        await self.socket_stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has come, of several records at once; waits for some. Empty at the end."""
        most = RECEIVE_BYTES if max_bytes is None else max_bytes
        data = self._decrypt(most)
        if data:
            await trio.lowlevel.checkpoint()
        while not data:
            if self._failure is not None:
                raise trio.BrokenResourceError("TLS broke") from self._failure
            if self._ended:
                await trio.lowlevel.checkpoint()
                break
            self._take(await self.socket_stream.receive_some(RECEIVE_BYTES))
            data = self._decrypt(most)
        return data

    async def send_eof(self) -> None:
        """End our half, below TLS."""
        await self.socket_stream.send_eof()

    async def aclose(self) -> None:
        """Close at once, without a word."""
        await self.socket_stream.aclose()

    # --- OpenSSL's part ---

    def _shake_hands(self) -> bool:
        """Whether the handshake is over, well or not."""
        while True:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                if not self._waiting:
                    return False
                self._feed()
                continue
            except ssl.SSLError as exc:
                self._failure = exc
            return True

    def _encrypt(self, data: bytes | bytearray | memoryview) -> bytes:
        """What goes over the socket: what OpenSSL has to say by itself, too."""
        rest = memoryview(data)
        records: list[bytes] = []
        try:
            while rest:
                rest = rest[self._ssl.write(rest[:_PIECE_BYTES]) :]
                records.append(self._outgoing.read())
        except ssl.SSLError as exc:
            raise trio.BrokenResourceError("TLS broke") from exc
        return b"".join(records)

    def _take(self, ciphertext: bytes | bytearray) -> None:
        """What came over the socket; empty at its end."""
        if ciphertext:
            self._waiting = memoryview(ciphertext)
        else:
            self._incoming.write_eof()

    def _decrypt(self, most: int) -> bytes:
        """What is there, at most so much. Empty when more is needed, at the end, and when it is
        broken."""
        pieces: list[bytes] = []
        try:
            while most > 0:
                try:
                    piece = self._ssl.read(most)
                except ssl.SSLWantReadError:
                    if self._outgoing.pending > _MAX_OWED_BYTES:
                        raise ssl.SSLError("it asks for answers and does not read them") from None
                    if not self._waiting:
                        break
                    self._feed()
                    continue
                if not piece:
                    self._ended = True
                    break
                pieces.append(piece)
                most -= len(piece)
        except ssl.SSLEOFError:  # no more comes, and no goodbye came
            self._ended = True
        except ssl.SSLError as exc:
            self._failure = exc
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _feed(self) -> None:
        """Give OpenSSL some of what came."""
        self._incoming.write(self._waiting[:_PIECE_BYTES])
        # Even an empty view would keep all that it is a view of.
        self._waiting = self._waiting[_PIECE_BYTES:] or _NOTHING

    async def _send_outgoing(self) -> None:
        """What OpenSSL wants sent: our records, and what it has to say by itself."""
        await self.socket_stream.send_all(self._outgoing.read())
