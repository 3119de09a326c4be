"""The handshake: how ours is made, and the ordered checks that a received one must pass.

Source: protocol §3 ("Handshake content"); HandshakeError in peer_service.proto.
"""

import hashlib
import random
from dataclasses import dataclass, field
from typing import cast

from google.protobuf.message import DecodeError

from aelf_p2p.core.canonical import HANDSHAKE_DATA_SPEC, walk_untrusted
from aelf_p2p.core.chain_status import ChainStatus
from aelf_p2p.core.endpoint import MAX_PORT
from aelf_p2p.core.errors import HandshakeRefusedError, MalformedError, OwnHandshakeError
from aelf_p2p.core.fields import field_untrusted
from aelf_p2p.core.identity import Identity, verify
from aelf_p2p.core.options import PROTOCOL_VERSION, NetworkOptions
from aelf_p2p.core.sessions import new_session_id
from aelf_p2p.wire import (
    Handshake,
    HandshakeData,
    HandshakeError,
    HandshakeReply,
    HandshakeRequest,
)

AELF_P2P_REVISION = 1
"""What our nodes write into HandshakeData's extension field; a C# node keeps it as unknown."""

_NS = 1_000_000_000
_PUBLIC_KEY_LENGTHS = (32, 65)
_MAX_VERSION_CHARS = 64
_MAX_SESSION_ID_BYTES = 64


@dataclass(frozen=True)
class SentHandshake:
    """A handshake of ours: the message, the session id it announces, its time (unix ns)."""

    message: Handshake = field(repr=False)
    session_id: bytes = field(repr=False)
    time_ns: int

    def as_request(self) -> bytes:
        """The bytes of a HandshakeRequest."""
        return HandshakeRequest(handshake=self.message).SerializeToString()

    def as_reply(self) -> bytes:
        """The bytes of a HandshakeReply that accepts."""
        return HandshakeReply(
            handshake=self.message, error=HandshakeError.HANDSHAKE_OK
        ).SerializeToString()


@dataclass(frozen=True, kw_only=True)
class ReceivedHandshake:
    """What a checked handshake says. The public key signed all of it but the session id."""

    public_key: bytes
    session_id: bytes = field(repr=False)
    listening_port: int
    protocol_version: int
    node_version: str
    best_hash: bytes
    best_height: int
    lib_hash: bytes
    lib_height: int
    time_ns: int
    revision: int
    digest: bytes = field(repr=False)
    """SHA-256 of what is signed, 32 bytes: another for each handshake that is made."""


def refusal(code: int) -> bytes:
    """The bytes of a HandshakeReply that refuses."""
    return HandshakeReply(error=cast(HandshakeError, code)).SerializeToString()


@dataclass(frozen=True, kw_only=True)
class HandshakeRules:
    """What this node says of itself, and what it asks of others."""

    identity: Identity
    chain_id: int
    node_version: str
    options: NetworkOptions
    authorized_keys: frozenset[bytes] | None = field(default=None)
    """Whitelist mode: only these public keys may connect. None: everyone."""

    def make(
        self,
        *,
        listening_port: int,
        status: ChainStatus,
        now_ns: int,
        rng: random.Random,
        certificate_hash: bytes | None = None,
    ) -> SentHandshake:
        """A signed handshake of this moment, with a new session id, for a connection on which the
        dialed node shows a certificate of this SHA-256, or none."""
        data = HandshakeData(
            chain_id=self.chain_id,
            version=PROTOCOL_VERSION,
            listening_port=listening_port,
            pubkey=self.identity.public_key,
            best_chain_height=status.best_height,
            last_irreversible_block_height=status.lib_height,
            node_version=self.node_version,
            aelf_p2p_revision=AELF_P2P_REVISION,
            certificate_hash=certificate_hash or b"",
        )
        data.best_chain_hash.value = status.best_hash
        data.last_irreversible_block_hash.value = status.lib_hash
        data.time.FromNanoseconds(now_ns)
        raw = data.SerializeToString()
        session_id = new_session_id(rng)
        signature = self.identity.sign(hashlib.sha256(raw).digest())
        message = Handshake(handshake_data=data, signature=signature, session_id=session_id)
        return SentHandshake(message, session_id, now_ns)

    def check_request_untrusted(
        self, request: bytes, now_ns: int, certificate_hash: bytes | None = None
    ) -> ReceivedHandshake:
        """Check a HandshakeRequest. Raises MalformedError, or HandshakeRefusedError with the code
        to answer."""
        return self._check_untrusted(field_untrusted(request, 1), now_ns, certificate_hash)

    def check_reply_untrusted(
        self, reply: bytes, now_ns: int, certificate_hash: bytes | None = None
    ) -> ReceivedHandshake:
        """Check a HandshakeReply: what it says, then its handshake like that of a request.

        Raises MalformedError, or HandshakeRefusedError with their code or ours.
        """
        try:
            error = HandshakeReply.FromString(reply).error
        except DecodeError as exc:
            raise MalformedError(f"not a HandshakeReply: {exc}") from exc
        if error != HandshakeError.HANDSHAKE_OK:
            known = error in HandshakeError.values()
            name = HandshakeError.Name(error) if known else f"unknown error {error}"
            raise HandshakeRefusedError(error, f"the peer refused the handshake: {name}")
        return self._check_untrusted(field_untrusted(reply, 1), now_ns, certificate_hash)

    def _check_untrusted(
        self, raw: bytes | None, now_ns: int, certificate_hash: bytes | None
    ) -> ReceivedHandshake:
        if raw is None:
            raise MalformedError("no handshake in the message")
        raw_data = field_untrusted(raw, 1)
        if raw_data is None:
            raise MalformedError("a handshake without its data")
        walk_untrusted(raw_data, HANDSHAKE_DATA_SPEC)  # else there is no agreed digest
        try:
            shell, data = Handshake.FromString(raw), HandshakeData.FromString(raw_data)
        except DecodeError as exc:
            raise MalformedError(f"not a Handshake: {exc}") from exc
        self._check_shape(shell, data)
        digest = hashlib.sha256(raw_data).digest()
        self._check_rules(shell, data, digest, now_ns)
        _check_connection(data.certificate_hash, certificate_hash)
        return ReceivedHandshake(
            public_key=data.pubkey,
            session_id=shell.session_id,
            listening_port=data.listening_port,
            protocol_version=data.version,
            node_version=data.node_version,
            best_hash=data.best_chain_hash.value,
            best_height=data.best_chain_height,
            lib_hash=data.last_irreversible_block_hash.value,
            lib_height=data.last_irreversible_block_height,
            time_ns=data.time.ToNanoseconds(),
            revision=data.aelf_p2p_revision,
            digest=digest,
        )

    @staticmethod
    def _check_shape(shell: Handshake, data: HandshakeData) -> None:
        """What makes a C# node throw, or would make one of ours trip later."""
        if not data.HasField("time"):
            raise MalformedError("a handshake without a time")
        if len(data.pubkey) not in _PUBLIC_KEY_LENGTHS:
            raise MalformedError(f"a public key of {len(data.pubkey)} bytes")
        if not 1 <= data.listening_port <= MAX_PORT:
            raise MalformedError(f"listening port {data.listening_port}")
        if not 0 < len(shell.session_id) <= _MAX_SESSION_ID_BYTES:
            raise MalformedError(f"a session id of {len(shell.session_id)} bytes")
        if len(data.node_version) > _MAX_VERSION_CHARS:
            raise MalformedError("a node version of over 64 characters")
        for hash_, height in (
            (data.best_chain_hash.value, data.best_chain_height),
            (data.last_irreversible_block_hash.value, data.last_irreversible_block_height),
        ):
            if height > 0 and not hash_:
                raise MalformedError(f"a handshake with height {height} and no hash")
        if min(data.best_chain_height, data.last_irreversible_block_height) < 0:
            raise MalformedError("a handshake with a negative height")

    def _check_rules(
        self, shell: Handshake, data: HandshakeData, digest: bytes, now_ns: int
    ) -> None:
        """In the order of the C# node, since the first rule broken gives the answer."""
        if self.authorized_keys is not None and data.pubkey not in self.authorized_keys:
            raise HandshakeRefusedError(
                HandshakeError.CONNECTION_REFUSED, "its key is not authorized"
            )
        if data.chain_id != self.chain_id:
            raise HandshakeRefusedError(
                HandshakeError.CHAIN_MISMATCH, f"it is on chain {data.chain_id}"
            )
        if data.version != PROTOCOL_VERSION:
            raise HandshakeRefusedError(
                HandshakeError.PROTOCOL_MISMATCH, f"it speaks protocol version {data.version}"
            )
        age_s = (now_ns - data.time.ToNanoseconds()) / _NS
        ahead_s = self.options.handshake_max_ahead_s
        if age_s > self.options.handshake_max_age_s or (ahead_s and -age_s > ahead_s):
            raise HandshakeRefusedError(
                HandshakeError.SIGNATURE_TIMEOUT,
                f"its handshake is {age_s:+.3f} s old: check both clocks",
            )
        if not verify(data.pubkey, digest, shell.signature):
            raise HandshakeRefusedError(HandshakeError.WRONG_SIGNATURE, "its signature is wrong")
        if data.pubkey == self.identity.public_key:
            raise OwnHandshakeError(
                HandshakeError.CONNECTION_REFUSED, "it is this node itself", shell.session_id
            )


def _check_connection(said: bytes, certificate_hash: bytes | None) -> None:
    """What our own nodes sign beside C#'s fields. Without TLS there is none to compare."""
    if said and certificate_hash is not None and said != certificate_hash:
        raise HandshakeRefusedError(
            HandshakeError.INVALID_CONNECTION, "its handshake was made for another connection"
        )
