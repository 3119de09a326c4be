"""Certificates as AElf's nodes make them, and TLS handshakes over loopback sockets."""

import datetime
import os
import ssl
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import ConnectionLostError, MisuseError
from aelf_p2p.transports.net.tls import (
    TlsIdentity,
    handshake_client,
    handshake_server,
    process_identity,
)
from aelf_p2p.transports.net.tls_stream import TlsStream

H2 = ["h2"]
SOMEWHERE = Endpoint("192.0.2.7", 6800)


@pytest.fixture(scope="module")
def identity() -> TlsIdentity:
    return TlsIdentity.generate()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """The dialing and the accepting end of a loopback connection, closed in the end."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        dialed = await trio.testing.open_stream_to_socket_listener(listener)
        accepted = await listener.accept()
    try:
        yield dialed, accepted
    finally:
        dialed.socket.close()
        accepted.socket.close()


async def shake_hands(
    client: ssl.SSLContext, server: ssl.SSLContext, *, alpn_required: str | None = "h2"
) -> tuple[TlsStream, TlsStream]:
    """Our client and our server, once they have shaken hands; nothing is closed."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    done: list[TlsStream] = []

    async def serve(stream: trio.SocketStream) -> None:
        done.append(await handshake_server(stream, server))

    async with listener, trio.open_nursery() as nursery:
        dialed = await trio.testing.open_stream_to_socket_listener(listener)
        nursery.start_soon(serve, await listener.accept())
        tls = await handshake_client(
            dialed, client, alpn_required=alpn_required, endpoint=SOMEWHERE
        )
    return tls, done[0]


async def close(*streams: TlsStream) -> None:
    for stream in streams:
        await trio.aclose_forcefully(stream)


# --- the certificate ------------------------------------------------------------------------------


def test_the_certificate_is_what_aelf_nodes_make() -> None:
    before = datetime.datetime.now(datetime.UTC).date()
    made = TlsIdentity.generate()
    after = datetime.datetime.now(datetime.UTC).date()

    found = x509.load_der_x509_certificate(made.certificate)
    assert found.version == x509.Version.v3
    assert found.subject.rfc4514_string() == "CN=aelf"
    assert found.issuer == found.subject
    assert list(found.extensions) == []  # no subject alternative name either
    assert found.signature_hash_algorithm is not None
    assert found.signature_hash_algorithm.name == "sha256"
    begins = found.not_valid_before_utc
    assert begins.time() == datetime.time()
    assert before <= begins.date() <= after
    assert found.not_valid_after_utc.date() == datetime.date(9999, 12, 31)
    key = found.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert (key.key_size, key.public_numbers().e) == (2048, 65537)
    found.verify_directly_issued_by(found)


def test_openssl_reads_the_certificate_too(identity: TlsIdentity) -> None:
    text = subprocess.run(
        ["openssl", "x509", "-noout", "-text"],
        input=ssl.DER_cert_to_PEM_cert(identity.certificate),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    for fact in (
        "Version: 3 (0x2)",
        "Signature Algorithm: sha256WithRSAEncryption",
        "Not After : Dec 31 00:00:00 9999 GMT",
        "Public-Key: (2048 bit)",
    ):
        assert fact in text
    assert "X509v3" not in text  # which begins the list of extensions


def test_every_identity_has_its_own_key_and_serial(identity: TlsIdentity) -> None:
    one, other = (
        x509.load_der_x509_certificate(each.certificate)
        for each in (identity, TlsIdentity.generate())
    )
    assert one.serial_number != other.serial_number
    assert one.public_key() != other.public_key()


def test_the_key_fits_the_certificate_and_is_not_shown(identity: TlsIdentity) -> None:
    key = load_pem_private_key(identity.key_pem, password=None)
    certificate = x509.load_der_x509_certificate(identity.certificate)
    assert key.public_key() == certificate.public_key()
    assert "PRIVATE" not in repr(identity)


def test_a_process_has_one_identity_in_all_its_threads() -> None:
    found: list[TlsIdentity] = []
    threads = [threading.Thread(target=lambda: found.append(process_identity())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(each) for each in found}) == 1
    assert len(found) == 4


# --- contexts -------------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go during the test, and nothing else does."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_key_is_in_a_private_file_only_while_it_is_loaded(
    identity: TlsIdentity, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []

    load = ssl.SSLContext.load_cert_chain

    def watch(context: ssl.SSLContext, path: Path) -> None:
        modes.append((path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o777))
        load(context, path)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watch)
    identity.server_context(H2)
    identity.client_context(H2)
    assert modes == [(0o700, 0o600)] * 2  # of the directory and of the file
    assert list(temporary.iterdir()) == []


def test_the_key_is_removed_when_it_cannot_be_loaded(temporary: Path) -> None:
    with pytest.raises(MisuseError, match="PEM"):
        TlsIdentity(certificate=b"", key_pem=b"not a key").server_context(H2)
    assert list(temporary.iterdir()) == []


def test_no_room_for_the_key_is_the_operators_to_mend(
    identity: TlsIdentity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(MisuseError, match=r"temporary file.*: No such file or directory"):
        identity.client_context(H2)


# --- handshakes -----------------------------------------------------------------------------------


async def test_both_sides_agree_and_the_dialer_sees_the_certificate(identity: TlsIdentity) -> None:
    other = TlsIdentity.generate()
    client, server = await shake_hands(other.client_context(H2), identity.server_context(H2))
    assert client.alpn == server.alpn == "h2"
    assert client._ssl.version() == "TLSv1.3"
    assert client.peer_certificate == identity.certificate
    assert server.peer_certificate is None  # a server does not ask
    assert client._ssl.compression() is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"hello")
        assert await server.receive_some() == b"hello"
    await close(client, server)


async def test_a_client_shows_its_certificate_to_a_server_that_asks(identity: TlsIdentity) -> None:
    other = TlsIdentity.generate()
    asking = identity.server_context(H2)
    asking.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(other.certificate))
    asking.verify_mode = ssl.CERT_REQUIRED
    client, server = await shake_hands(other.client_context(H2), asking)
    assert server.peer_certificate == other.certificate
    await close(client, server)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_dialer_that_checks_the_name_and_the_root_accepts_us(
    identity: TlsIdentity, version: ssl.TLSVersion
) -> None:
    """C#'s gRPC channel: our certificate is its only root, "aelf" the name that it expects."""
    checking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks both unless told otherwise
    checking.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(identity.certificate))
    checking.set_alpn_protocols(H2)
    checking.maximum_version = version
    client, server = await shake_hands(checking, identity.server_context(H2))
    assert server._ssl.version() == version.name.replace("_", ".")
    await close(client, server)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_gives_nothing_to_resume_with(
    identity: TlsIdentity, version: ssl.TLSVersion
) -> None:
    resuming = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    resuming.check_hostname = False
    resuming.verify_mode = ssl.CERT_NONE
    resuming.maximum_version = version
    client, server = await shake_hands(resuming, identity.server_context(H2), alpn_required=None)
    async with trio.open_nursery() as nursery:  # tickets of TLS 1.3 come with the first bytes
        nursery.start_soon(server.send_all, b"hello")
        await client.receive_some()
    assert client._ssl.session is None or not client._ssl.session.has_ticket
    await close(client, server)


async def test_a_version_before_1_2_is_refused(identity: TlsIdentity) -> None:
    """The server says so by itself: an old client is a hello in a record of that version."""
    assert identity.server_context(H2).minimum_version == ssl.TLSVersion.TLSv1_2
    assert identity.client_context(H2).minimum_version == ssl.TLSVersion.TLSv1_2
    # version 3.1 is TLS 1.0: one cipher suite (AES-128-CBC with SHA), no compression, no extensions
    hello = b"\x03\x01" + bytes(32) + b"\x00" + b"\x00\x02\x00\x2f" + b"\x01\x00"
    record = b"\x16\x03\x01" + (len(hello) + 4).to_bytes(2) + b"\x01" + len(hello).to_bytes(3)
    async with connected() as (dialed, accepted):
        await dialed.send_all(record + hello)
        with pytest.raises(ConnectionLostError, match="unsupported protocol"):
            await handshake_server(accepted, identity.server_context(H2))


async def test_the_bare_probe_is_accepted(identity: TlsIdentity) -> None:
    """C# first looks at the certificate, with neither ALPN nor a name (protocol §3)."""
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    probe.check_hostname = False
    probe.verify_mode = ssl.CERT_NONE
    client, server = await shake_hands(probe, identity.server_context(H2), alpn_required=None)
    assert client.peer_certificate == identity.certificate
    assert server.alpn is None
    await close(client, server)


@pytest.mark.parametrize("spoken", [[], ["http/1.1"]])
async def test_a_server_that_does_not_speak_h2_is_an_error(
    identity: TlsIdentity, spoken: list[str]
) -> None:
    async with connected() as (dialed, accepted), trio.open_nursery() as nursery:
        nursery.start_soon(handshake_server, accepted, identity.server_context(spoken))
        with pytest.raises(ConnectionLostError, match=r"192\.0\.2\.7:6800 did not agree .* h2"):
            await handshake_client(
                dialed, identity.client_context(H2), alpn_required="h2", endpoint=SOMEWHERE
            )
        assert dialed.socket.fileno() == -1


async def test_a_hundred_probes_leave_nothing_behind(identity: TlsIdentity) -> None:
    probe, server_context = identity.client_context([]), identity.server_context(H2)
    before = open_descriptors()
    for _ in range(100):
        client, server = await shake_hands(probe, server_context, alpn_required=None)
        await trio.aclose_forcefully(client)
        assert await server.receive_some() == b""  # without close_notify: https_compatible
        await trio.aclose_forcefully(server)
    assert open_descriptors() == before


# --- handshakes that fail -------------------------------------------------------------------------

GARBAGE = {
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: aelf\r\n\r\n",
    "HTTP/2 without TLS": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "zeros": bytes(64),
    "a record of nonsense": b"\x16\x03\x03\x00\x10" + b"\xff" * 16,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("side", ["server", "client"])
async def test_garbage_instead_of_tls(identity: TlsIdentity, garbage: bytes, side: str) -> None:
    async with connected() as (dialed, accepted):
        if side == "server":
            host, port = dialed.socket.getsockname()
            await dialed.send_all(garbage)
            with pytest.raises(
                ConnectionLostError, match=f"^no TLS with {host}:{port}: [a-z0-9 ]+$"
            ):
                await handshake_server(accepted, identity.server_context(H2))
            assert accepted.socket.fileno() == -1
        else:
            await accepted.send_all(garbage)
            with pytest.raises(ConnectionLostError, match=r"^no TLS with 192\.0\.2\.7:6800: "):
                await handshake_client(
                    dialed, identity.client_context(H2), alpn_required="h2", endpoint=SOMEWHERE
                )
            assert dialed.socket.fileno() == -1


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "a beginning"])
async def test_an_end_in_the_middle(identity: TlsIdentity, said: bytes) -> None:
    async with connected() as (dialed, accepted):
        await dialed.send_all(said)
        await dialed.send_eof()
        with pytest.raises(ConnectionLostError, match=r"the connection ended$"):
            await handshake_server(accepted, identity.server_context(H2))
        assert accepted.socket.fileno() == -1
    async with connected() as (dialed, accepted):
        await accepted.send_eof()
        with pytest.raises(ConnectionLostError, match=r"192\.0\.2\.7:6800: the connection ended$"):
            await handshake_client(
                dialed, identity.client_context(H2), alpn_required=None, endpoint=SOMEWHERE
            )
        assert dialed.socket.fileno() == -1


async def test_a_reset_in_the_middle(identity: TlsIdentity) -> None:
    async with connected() as (dialed, accepted):
        no_lingering = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # struct linger {1, 0}: close resets
        accepted.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, no_lingering)
        accepted.socket.close()
        with pytest.raises(ConnectionLostError, match=r"192\.0\.2\.7:6800: Connection reset"):
            await handshake_client(
                dialed, identity.client_context(H2), alpn_required=None, endpoint=SOMEWHERE
            )


async def test_a_stream_closed_under_the_handshake(identity: TlsIdentity) -> None:
    async with connected() as (_, accepted), trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(ConnectionLostError, match=r"the connection was closed$"):
                await handshake_server(accepted, identity.server_context(H2))

        nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
        accepted.socket.close()


async def test_a_cancelled_handshake_leaves_no_descriptor(identity: TlsIdentity) -> None:
    client, server = identity.client_context(H2), identity.server_context(H2)
    before = open_descriptors()
    async with connected() as (dialed, accepted), trio.open_nursery() as nursery:

        async def dial() -> None:
            await handshake_client(dialed, client, alpn_required="h2", endpoint=SOMEWHERE)

        nursery.start_soon(dial)  # it says hello, and nobody answers
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
    assert dialed.socket.fileno() == -1

    async with connected() as (_dialed, accepted):
        with trio.CancelScope() as scope:
            scope.cancel()
            await handshake_server(accepted, server)
        assert scope.cancelled_caught
        assert accepted.socket.fileno() == -1
    assert open_descriptors() == before
