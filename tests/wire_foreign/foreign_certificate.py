"""The self-signed certificate that a C# node makes at its start, by ``cryptography``."""

from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificate:
    """A private key and its certificate, both PEM."""

    private_key: bytes
    certificate: bytes


@cache
def certificate_of(holder: str) -> Certificate:
    """RSA-2048, subject and issuer CN=aelf, no subject alternative name, from today to the year
    9999 (protocol §3); one for each holder."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "aelf")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.combine(datetime.now(UTC), time.min))
        .not_valid_after(datetime(9999, 12, 31))
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ),
        certificate.public_bytes(serialization.Encoding.PEM),
    )
