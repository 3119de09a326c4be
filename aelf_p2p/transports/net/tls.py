"""TLS of the socket transports: always on, and proof of nothing; the handshake above it is.

A node makes itself a key and a certificate when it starts, and every AElf certificate says the
same, ``CN=aelf`` (protocol §3). So there is no name to check and no authority to ask: TLS keeps out
those who only listen, and the signed handshake tells who the other side is. What binds the two is
the certificate itself, whose hash our own nodes sign in their handshakes.
"""

import datetime
import functools
import hashlib
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import ConnectionLostError, MisuseError
from aelf_p2p.transports.net.sockets import caller_of
from aelf_p2p.transports.net.tls_stream import TlsStream

COMMON_NAME = "aelf"
"""Subject and issuer of every certificate, and the name that C# dialers ask for (protocol §3)."""

_KEY_BITS = 2048
_PUBLIC_EXPONENT = 65537
_END_OF_TIME = datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """A private key and its self-signed certificate; it serves both as a server's and as a
    client's."""

    certificate: bytes
    """DER, as the other side is shown it."""
    key_pem: bytes = field(repr=False)
    """PKCS #8, not encrypted; it is never kept in a file."""

    @classmethod
    def generate(cls) -> Self:
        """A new one; takes some tenths of a second of computing."""
        key = rsa.generate_private_key(_PUBLIC_EXPONENT, _KEY_BITS)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, COMMON_NAME)])
        # The day that C# begins with too. At worst, just after midnight, a peer that checks dates
        # and whose clock is behind has to dial again.
        today = datetime.datetime.now(datetime.UTC).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today)
            .not_valid_after(_END_OF_TIME)
            .sign(key, hashes.SHA256())
        )
        return cls(
            certificate.public_bytes(serialization.Encoding.DER),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def server_context(self, alpn: Sequence[str]) -> ssl.SSLContext:
        """For any number of accepted connections. Raises MisuseError without a temporary file.

        ``alpn`` names what the server speaks, best first. A caller that offers none of it, or
        nothing at all as C#'s probe does, is accepted too.

        OpenSSL remembers each TLS 1.2 connection that was ended with our close_notify, 1 KiB each
        and 20,480 of them at most; Python has no switch for that. It forgets those that are closed
        without one.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # asks for no client certificate
        context.num_tickets = 0  # TLS 1.3's; OP_NO_TICKET is for 1.2
        return self._prepare(context, alpn)

    def client_context(self, alpn: Sequence[str]) -> ssl.SSLContext:
        """For any number of dialed connections. Raises MisuseError without a temporary file.

        ``alpn`` is what the client offers. Nothing of the server's certificate is checked.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Whoever holds a certificate made it, and wrote the same name into it: a check of names or
        # of the chain would refuse nobody. Identity is proved by the handshake above TLS.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return self._prepare(context, alpn)

    def _prepare(self, context: ssl.SSLContext, alpn: Sequence[str]) -> ssl.SSLContext:
        """What holds for both sides."""
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Nothing is resumed, so that each connection shows its certificate; compression leaks what
        # it compresses (CRIME); renegotiation lets the other side have us compute for nothing.
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        if alpn:
            context.set_alpn_protocols(list(alpn))
        self._load_into(context)
        return context

    def _load_into(self, context: ssl.SSLContext) -> None:
        """Give the context our key, which the ssl module takes only from a file."""
        try:
            with TemporaryDirectory(prefix="aelf-p2p-") as directory:  # mode 0700
                path = Path(directory, "identity.pem")
                path.touch(mode=0o600)
                path.write_bytes(self.key_pem + ssl.DER_cert_to_PEM_cert(self.certificate).encode())
                context.load_cert_chain(path)
        except OSError as error:
            raise MisuseError(
                f"the TLS key cannot go through a temporary file: {error.strerror or error}"
            ) from error


def process_identity() -> TlsIdentity:
    """The one that this process uses for everything, made at first use. Safe in any thread."""
    with _making:
        return _make_once()


_making = threading.Lock()
_make_once = functools.cache(TlsIdentity.generate)


async def handshake_server(stream: trio.SocketStream, context: ssl.SSLContext) -> TlsStream:
    """Shake hands with a caller; the deadline is the caller's of this function.

    Raises ConnectionLostError. The stream is then closed, as it is after a cancellation.
    """
    with _closed_unless_done(stream):
        tls = TlsStream(stream, context, server_side=True)
        await _shake_hands(tls, str(caller_of(stream) or "a caller that is gone"))
        return tls


async def handshake_client(
    stream: trio.SocketStream,
    context: ssl.SSLContext,
    *,
    alpn_required: str | None,
    endpoint: Endpoint,
) -> TlsStream:
    """Shake hands with a server at ``endpoint``; the deadline is the caller's of this function.

    Raises ConnectionLostError, also when the server does not agree on ``alpn_required``. The stream
    is then closed, as it is after a cancellation.
    """
    with _closed_unless_done(stream):
        # The name is for servers that choose by it; C# dialers send the same.
        tls = TlsStream(stream, context, server_hostname=COMMON_NAME)
        await _shake_hands(tls, str(endpoint))
        if alpn_required is not None and tls.alpn != alpn_required:
            raise ConnectionLostError(
                f"{endpoint} did not agree on the protocol {alpn_required} (ALPN)"
            )
        return tls


def shown_certificate_hash(stream: trio.abc.Stream) -> bytes | None:
    """SHA-256 of the certificate (DER) that a server showed on a dialed stream; None without TLS.

    TLS of Python's ``ssl`` always has one; ours asks for no anonymous cipher.
    """
    if not isinstance(stream, TlsStream) or stream.peer_certificate is None:
        return None
    return hashlib.sha256(stream.peer_certificate).digest()


async def _shake_hands(tls: TlsStream, other: str) -> None:
    try:
        await tls.do_handshake()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise ConnectionLostError(f"no TLS with {other}: {_reason(error)}") from error


def _reason(error: trio.BrokenResourceError | trio.ClosedResourceError) -> str:
    """Why a handshake failed, in a few words."""
    match error.__cause__:
        case ssl.SSLEOFError() | ssl.SSLSyscallError():
            return "the connection ended"
        case ssl.SSLError(reason=str(reason)):  # as WRONG_VERSION_NUMBER
            return reason.replace("_", " ").lower()
        case OSError() as cause:
            return cause.strerror or str(cause)
        case _:
            return "the connection was closed"


@contextmanager
def _closed_unless_done(stream: trio.SocketStream) -> Iterator[None]:
    """Close a stream at once, without a word to the other side, when the block fails."""
    try:
        yield
    except BaseException:
        stream.socket.close()
        raise
