"""Handshakes, requests and replies: as they come, and signed anew so that what is inside counts."""

import hashlib
from collections.abc import Callable, Iterator
from random import Random

from google.protobuf.message import DecodeError

from aelf_p2p.core.chain_status import ChainRoot, ChainStatus
from aelf_p2p.core.encoders import encode_bytes_field, encode_message_field
from aelf_p2p.core.errors import HandshakeRefusedError, MalformedError
from aelf_p2p.core.fields import field_untrusted
from aelf_p2p.core.handshake import HandshakeRules, ReceivedHandshake, refusal
from aelf_p2p.core.identity import Identity, Scheme
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.core.version import uses_stream
from aelf_p2p.wire import HandshakeData, HandshakeReply, HandshakeRequest
from tests.fuzz.mutation import mutate_message

mutate = mutate_message

NOW_NS = 1_700_000_000 * 10**9
CERTIFICATE_HASH = bytes(32)
THEIRS = {
    identity.public_key: identity
    for identity in (Identity.generate(Random(2), scheme) for scheme in Scheme)
}


def _rules(identity: Identity) -> HandshakeRules:
    return HandshakeRules(
        identity=identity, chain_id=9992731, node_version="1.12.3.0", options=NetworkOptions()
    )


OURS = _rules(Identity.generate(Random(1)))


def seeds() -> Iterator[bytes]:
    status = ChainStatus.at_root(ChainRoot(bytes(32), 7))
    for identity in (*THEIRS.values(), OURS.identity):
        for age_ns in (0, 2 * 10**9):
            made = _rules(identity).make(
                listening_port=6800,
                status=status,
                now_ns=NOW_NS - age_ns,
                rng=Random(3),
                certificate_hash=CERTIFICATE_HASH,
            )
            yield made.as_request()
            yield made.as_reply()
    yield refusal(4)
    yield refusal(99)


def target(data: bytes) -> bool:
    checked = [
        _check(check, data) for check in (OURS.check_request_untrusted, OURS.check_reply_untrusted)
    ]
    signed = _signed_anew(data)
    if signed is not None:
        checked.append(_check(OURS.check_request_untrusted, signed))
    return any(checked)


def _check(check: Callable[[bytes, int, bytes], ReceivedHandshake], data: bytes) -> bool:
    try:
        received = check(data, NOW_NS, CERTIFICATE_HASH)
    except (MalformedError, HandshakeRefusedError):
        return False
    uses_stream(received.node_version)
    repr(received)
    raw = field_untrusted(field_untrusted(data, 1) or b"", 1)
    assert raw is not None
    assert received.digest == hashlib.sha256(raw).digest()
    said = HandshakeData.FromString(raw)
    assert (said.pubkey, said.best_chain_height) == (received.public_key, received.best_height)
    assert 1 <= received.listening_port <= 65535
    assert 1 <= len(received.session_id) <= 64
    assert abs(received.time_ns - NOW_NS) <= 1_500_000_000
    assert min(received.best_height, received.lib_height) >= 0
    return True


def _signed_anew(data: bytes) -> bytes | None:
    """A request with the same HandshakeData, signed, when it is in the name of one whom we can
    sign for."""
    try:
        raw = field_untrusted(field_untrusted(data, 1) or b"", 1)
        shell = HandshakeRequest.FromString(data).handshake
        identity = THEIRS.get(HandshakeData.FromString(raw or b"").pubkey)
    except (MalformedError, DecodeError):
        return None
    if raw is None or identity is None:
        return None
    signature = identity.sign(hashlib.sha256(raw).digest())
    parts = (encode_message_field(1, raw), encode_bytes_field(2, signature))
    handshake = b"".join((*parts, encode_bytes_field(3, shell.session_id)))
    HandshakeReply.FromString(encode_message_field(1, handshake))
    return encode_message_field(1, handshake)
