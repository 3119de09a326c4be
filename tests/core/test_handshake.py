"""Handshakes: what is made is accepted, and each fault has its own answer, in C#'s order."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

import coincurve
import nacl.exceptions
import nacl.signing
import network_types_pb2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aelf_p2p.core.chain_status import ChainRoot, ChainStatus
from aelf_p2p.core.errors import HandshakeRefusedError, MalformedError, OwnHandshakeError
from aelf_p2p.core.handshake import (
    HandshakeRules,
    ReceivedHandshake,
    SentHandshake,
    refusal,
)
from aelf_p2p.core.identity import Identity, Scheme
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.testing.vectors import load_vectors
from aelf_p2p.wire import HandshakeData

# The codes of HandshakeError (protocol §1).
CHAIN_MISMATCH, PROTOCOL_MISMATCH, WRONG_SIGNATURE = 1, 2, 3
CONNECTION_REFUSED, INVALID_CONNECTION, SIGNATURE_TIMEOUT = 5, 6, 7

AELF = 9992731
NOW = 1_763_800_000_123_456_789
SECOND = 10**9
AGE_LIMIT = 1_500_000_000

OWN = {scheme: Identity.generate(random.Random(1), scheme) for scheme in Scheme}
PEER = {scheme: Identity.generate(random.Random(2), scheme) for scheme in Scheme}
THIRD = Identity.generate(random.Random(3))
SECP = PEER[Scheme.SECP256K1]

BEST, LIB = (load_vectors().blocks[index] for index in (3, 0))
STATUS = replace(
    ChainStatus.at_root(ChainRoot()),
    best_hash=BEST.block_hash,
    best_height=BEST.height,
    lib_hash=LIB.block_hash,
    lib_height=LIB.height,
)
SESSION = b"\x00\x07\xfe\xff\x80"  # 5 bytes, as a C# node makes them

both_schemes = pytest.mark.parametrize("scheme", Scheme, ids=lambda scheme: scheme.value)


def rules_of(
    identity: Identity = OWN[Scheme.SECP256K1],
    authorized_keys: frozenset[bytes] | None = None,
    **options: float,
) -> HandshakeRules:
    return HandshakeRules(
        identity=identity,
        chain_id=AELF,
        node_version="1.12.3.0",
        options=NetworkOptions(**options),  # type: ignore[arg-type]
        authorized_keys=authorized_keys,
    )


RULES = rules_of()


# --- handshakes laid out by hand ------------------------------------------------------------------


def varint(value: int) -> bytes:
    value %= 1 << 64
    low, rest = value % 128, value // 128
    return bytes([low]) if rest == 0 else bytes([low + 128]) + varint(rest)


def number_field(number: int, value: int) -> bytes:
    return varint(number * 8) + varint(value)


def bytes_field(number: int, body: bytes) -> bytes:
    return varint(number * 8 + 2) + varint(len(body)) + body


def data_parts(identity: Identity = SECP, time_ns: int = NOW) -> dict[int, bytes]:
    """The fields of a HandshakeData as a C# node writes them."""
    seconds, nanos = divmod(time_ns, SECOND)
    time = number_field(1, seconds) if seconds else b""
    if nanos:
        time += number_field(2, nanos)
    return {
        1: number_field(1, AELF),
        2: number_field(2, 1),
        3: number_field(3, 6800),
        4: bytes_field(4, identity.public_key),
        5: bytes_field(5, bytes_field(1, BEST.block_hash)),
        6: number_field(6, BEST.height),
        7: bytes_field(7, bytes_field(1, LIB.block_hash)),
        8: number_field(8, LIB.height),
        9: bytes_field(9, time),
        10: bytes_field(10, b"1.4.0.0"),
    }


def signature_over(data: bytes, identity: Identity = SECP) -> bytes:
    digest = hashlib.sha256(data).digest()
    if identity.scheme is Scheme.SECP256K1:
        return coincurve.PrivateKey(identity.private_key).sign_recoverable(digest, hasher=None)
    return nacl.signing.SigningKey(identity.private_key).sign(digest).signature


def request_of(data: bytes, signature: bytes, session_id: bytes = SESSION) -> bytes:
    shell = bytes_field(1, data) + bytes_field(2, signature)
    return bytes_field(1, shell + (bytes_field(3, session_id) if session_id else b""))


def signed(parts: dict[int, bytes], identity: Identity = SECP) -> bytes:
    """A HandshakeRequest whose signature is right."""
    data = b"".join(parts.values())
    return request_of(data, signature_over(data, identity))


def refused_code(rules: HandshakeRules, request: bytes, now_ns: int = NOW) -> int:
    with pytest.raises(HandshakeRefusedError) as caught:
        rules.check_request_untrusted(request, now_ns)
    return caught.value.code


def made_by(identity: Identity, now_ns: int = NOW) -> SentHandshake:
    return rules_of(identity).make(
        listening_port=6801, status=STATUS, now_ns=now_ns, rng=random.Random(4)
    )


# --- what we make ---------------------------------------------------------------------------------


@both_schemes
def test_what_we_make_is_read_by_aelfs_schema(scheme: Scheme) -> None:
    sent = made_by(PEER[scheme])
    request = network_types_pb2.HandshakeRequest.FromString(sent.as_request())
    data = request.handshake.handshake_data
    assert (data.chain_id, data.version, data.listening_port) == (AELF, 1, 6801)
    assert data.pubkey == PEER[scheme].public_key
    assert (data.best_chain_hash.value, data.best_chain_height) == (BEST.block_hash, BEST.height)
    assert data.last_irreversible_block_hash.value == LIB.block_hash
    assert data.last_irreversible_block_height == LIB.height
    assert (data.time.seconds, data.time.nanos) == (1_763_800_000, 123_456_789)
    assert data.node_version == "1.12.3.0"
    assert request.handshake.session_id == sent.session_id
    assert len(sent.session_id) == 16
    assert sent.time_ns == NOW


@both_schemes
def test_what_we_make_is_signed_over_what_aelf_would_serialise(scheme: Scheme) -> None:
    """A C# node does not know our extension field and hashes what it would write itself."""
    shell = network_types_pb2.HandshakeRequest.FromString(
        made_by(PEER[scheme]).as_request()
    ).handshake
    digest = hashlib.sha256(shell.handshake_data.SerializeToString()).digest()
    if scheme is Scheme.SECP256K1:
        key = coincurve.PublicKey.from_signature_and_message(shell.signature, digest, hasher=None)
        assert key.format(compressed=False) == PEER[scheme].public_key
    else:
        verify_key = nacl.signing.VerifyKey(PEER[scheme].public_key)
        assert verify_key.verify(digest, shell.signature) == digest
        with pytest.raises(nacl.exceptions.BadSignatureError):
            verify_key.verify(bytes(32), shell.signature)


@both_schemes
@pytest.mark.parametrize("own", Scheme, ids=lambda scheme: f"to {scheme.value}")
def test_what_we_make_is_accepted(scheme: Scheme, own: Scheme) -> None:
    sent = made_by(PEER[scheme])
    expected = ReceivedHandshake(
        public_key=PEER[scheme].public_key,
        session_id=sent.session_id,
        listening_port=6801,
        protocol_version=1,
        node_version="1.12.3.0",
        best_hash=BEST.block_hash,
        best_height=BEST.height,
        lib_hash=LIB.block_hash,
        lib_height=LIB.height,
        time_ns=NOW,
        revision=1,
        digest=hashlib.sha256(sent.message.handshake_data.SerializeToString()).digest(),
    )
    rules = rules_of(OWN[own])
    assert rules.check_request_untrusted(sent.as_request(), NOW + 5_000_000) == expected
    assert rules.check_reply_untrusted(sent.as_reply(), NOW + 5_000_000) == expected


@given(
    chain_id=st.integers(-(2**31), 2**31 - 1),
    port=st.integers(1, 65535),
    heights=st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)),
    hashes=st.tuples(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32)),
    now_ns=st.integers(0, 253_402_300_799 * SECOND),
    seed=st.integers(0, 2**32),
    scheme=st.sampled_from(Scheme),
)
@example(0, 1, (0, 0), (bytes(32), bytes(32)), 0, 0, Scheme.SECP256K1)
def test_whatever_we_make_is_accepted(
    chain_id: int,
    port: int,
    heights: tuple[int, int],
    hashes: tuple[bytes, bytes],
    now_ns: int,
    seed: int,
    scheme: Scheme,
) -> None:
    status = replace(
        STATUS,
        best_hash=hashes[0],
        best_height=heights[0],
        lib_hash=hashes[1],
        lib_height=heights[1],
    )
    peer = replace(rules_of(PEER[scheme]), chain_id=chain_id)
    sent = peer.make(listening_port=port, status=status, now_ns=now_ns, rng=random.Random(seed))
    received = replace(RULES, chain_id=chain_id).check_request_untrusted(sent.as_request(), now_ns)
    assert (received.best_hash, received.lib_hash) == hashes
    assert (received.best_height, received.lib_height) == heights
    assert (received.listening_port, received.time_ns) == (port, now_ns)


def test_every_handshake_has_a_new_session_id() -> None:
    rng = random.Random(5)
    sent = [RULES.make(listening_port=6800, status=STATUS, now_ns=NOW, rng=rng) for _ in range(100)]
    assert len({each.session_id for each in sent}) == 100
    assert len({each.message.handshake_data.SerializeToString() for each in sent}) == 1


def test_a_handshake_of_a_csharp_node_is_accepted() -> None:
    received = RULES.check_request_untrusted(signed(data_parts()), NOW)
    assert received == ReceivedHandshake(
        public_key=SECP.public_key,
        session_id=SESSION,
        listening_port=6800,
        protocol_version=1,
        node_version="1.4.0.0",
        best_hash=BEST.block_hash,
        best_height=BEST.height,
        lib_hash=LIB.block_hash,
        lib_height=LIB.height,
        time_ns=NOW,
        revision=0,
        digest=hashlib.sha256(b"".join(data_parts().values())).digest(),
    )


# --- the refusals, in their order -----------------------------------------------------------------


@dataclass
class Draft:
    """A handshake about to be made, and the rules that will judge it."""

    rules: HandshakeRules
    identity: Identity
    chain: int = AELF
    version: int = 1
    time_ns: int = NOW
    flip_signature: bool = False

    def request(self) -> bytes:
        parts = data_parts(self.identity, self.time_ns)
        parts[1] = number_field(1, self.chain)
        parts[2] = number_field(2, self.version)
        data = b"".join(parts.values())
        signature = bytearray(signature_over(data, self.identity))
        signature[10] ^= self.flip_signature
        return request_of(data, bytes(signature))


def not_on_the_whitelist(draft: Draft) -> None:
    draft.rules = replace(draft.rules, authorized_keys=frozenset({THIRD.public_key}))


def another_chain(draft: Draft) -> None:
    draft.chain = 1931928


def another_protocol_version(draft: Draft) -> None:
    draft.version = 2


def too_old(draft: Draft) -> None:
    draft.time_ns = NOW - AGE_LIMIT - 1


def wrong_signature(draft: Draft) -> None:
    draft.flip_signature = True


def own_key(draft: Draft) -> None:
    draft.identity = draft.rules.identity


# whitelist → chain id → protocol version → time → signature → own key (protocol §3)
FAULTS: list[tuple[Callable[[Draft], None], int, str]] = [
    (not_on_the_whitelist, CONNECTION_REFUSED, "not authorized"),
    (another_chain, CHAIN_MISMATCH, "on chain 1931928"),
    (another_protocol_version, PROTOCOL_MISMATCH, "protocol version 2"),
    (too_old, SIGNATURE_TIMEOUT, r"\+1\.500 s old"),
    (wrong_signature, WRONG_SIGNATURE, "signature is wrong"),
    (own_key, CONNECTION_REFUSED, "this node itself"),
]


def check_faults(scheme: Scheme, chosen: list[int]) -> None:
    draft = Draft(rules_of(OWN[scheme]), PEER[scheme])
    for index in chosen:
        FAULTS[index][0](draft)
    _, code, why = FAULTS[min(chosen)]
    with pytest.raises(HandshakeRefusedError, match=why) as caught:
        draft.rules.check_request_untrusted(draft.request(), NOW)
    assert caught.value.code == code


@both_schemes
def test_without_a_fault_it_is_accepted(scheme: Scheme) -> None:
    draft = Draft(rules_of(OWN[scheme]), PEER[scheme])
    draft.rules.check_request_untrusted(draft.request(), NOW)


@both_schemes
@pytest.mark.parametrize("fault", range(6), ids=lambda index: FAULTS[index][0].__name__)
def test_each_fault_has_its_code(scheme: Scheme, fault: int) -> None:
    check_faults(scheme, [fault])


@both_schemes
@pytest.mark.parametrize(
    "pair",
    list(combinations(range(6), 2)),
    ids=lambda pair: " and ".join(FAULTS[index][0].__name__ for index in pair),
)
def test_of_two_faults_the_earlier_one_is_told(scheme: Scheme, pair: tuple[int, int]) -> None:
    check_faults(scheme, [pair[1], pair[0]])


@given(st.sampled_from(Scheme), st.sets(st.integers(0, 5), min_size=3))
def test_of_many_faults_the_first_one_is_told(scheme: Scheme, chosen: set[int]) -> None:
    check_faults(scheme, sorted(chosen, reverse=True))


def test_who_is_on_the_whitelist_may_come() -> None:
    rules = rules_of(authorized_keys=frozenset({THIRD.public_key, SECP.public_key}))
    rules.check_request_untrusted(signed(data_parts()), NOW)
    nobody = rules_of(authorized_keys=frozenset())
    assert refused_code(nobody, signed(data_parts())) == CONNECTION_REFUSED


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_ns", "accepted"),
    [
        (0, True),
        (AGE_LIMIT - 1, True),
        (AGE_LIMIT, True),
        (AGE_LIMIT + 1, False),
        (3600 * SECOND, False),
        (NOW, False),
        (-AGE_LIMIT + 1, True),
        (-AGE_LIMIT, True),
        (-AGE_LIMIT - 1, False),
        (-3600 * SECOND, False),
    ],
)
def test_the_time_of_a_handshake(age_ns: int, accepted: bool) -> None:
    request = signed(data_parts(time_ns=NOW - age_ns))
    if accepted:
        assert RULES.check_request_untrusted(request, NOW).time_ns == NOW - age_ns
    else:
        assert refused_code(RULES, request) == SIGNATURE_TIMEOUT


@pytest.mark.parametrize("ahead_ns", [AGE_LIMIT + 1, 3600 * SECOND, 250_000_000_000 * SECOND])
def test_future_times_may_be_allowed(ahead_ns: int) -> None:
    request = signed(data_parts(time_ns=NOW + ahead_ns))
    like_csharp = rules_of(handshake_max_ahead_s=0)
    assert like_csharp.check_request_untrusted(request, NOW).time_ns == NOW + ahead_ns
    old = signed(data_parts(time_ns=NOW - AGE_LIMIT - 1))
    assert refused_code(like_csharp, old) == SIGNATURE_TIMEOUT


def test_both_limits_of_time_are_options() -> None:
    rules = rules_of(handshake_max_age_s=10, handshake_max_ahead_s=60)
    for offset, accepted in ((-10, True), (60, True), (-11, False), (61, False)):
        request = signed(data_parts(time_ns=NOW + offset * SECOND))
        if accepted:
            rules.check_request_untrusted(request, NOW)
        else:
            assert refused_code(rules, request) == SIGNATURE_TIMEOUT


def test_a_reply_is_judged_by_its_age_too() -> None:
    reply = made_by(SECP).as_reply()
    RULES.check_reply_untrusted(reply, NOW + AGE_LIMIT)
    with pytest.raises(HandshakeRefusedError) as caught:
        RULES.check_reply_untrusted(reply, NOW + AGE_LIMIT + 1)
    assert caught.value.code == SIGNATURE_TIMEOUT


def test_the_year_1970_and_before() -> None:
    assert refused_code(RULES, signed(data_parts() | {9: b"\x4a\x00"})) == SIGNATURE_TIMEOUT
    assert refused_code(RULES, signed(data_parts(time_ns=-62_135_596_800 * SECOND))) == (
        SIGNATURE_TIMEOUT
    )


@pytest.mark.parametrize(
    "time",
    [
        number_field(1, -62_135_596_801),  # the year 0
        number_field(1, 253_402_300_800),  # the year 10000
        number_field(1, 2**63 - 1),
        number_field(1, 5) + number_field(2, 10**9),
        number_field(1, 5) + number_field(2, -1),
    ],
)
def test_times_that_are_none(time: bytes) -> None:
    with pytest.raises(MalformedError):
        RULES.check_request_untrusted(signed(data_parts() | {9: bytes_field(9, time)}), NOW)


# --- signatures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("recid", [4, 5, 6, 7, 27, 28, 31, 255])
def test_recovery_ids_over_three(recid: int) -> None:
    data = b"".join(data_parts().values())
    signature = signature_over(data)
    assert signature[64] < 4
    request = request_of(data, signature[:64] + bytes([recid]))
    assert refused_code(RULES, request) == WRONG_SIGNATURE


@both_schemes
@pytest.mark.parametrize("change", ["missing", "short", "long", "of another key", "zeros"])
def test_wrong_signatures(scheme: Scheme, change: str) -> None:
    data = b"".join(data_parts(PEER[scheme]).values())
    signature = signature_over(data, PEER[scheme])
    wrong = {
        "missing": b"",
        "short": signature[:-1],
        "long": signature + b"\0",
        "of another key": signature_over(data, OWN[scheme]),
        "zeros": bytes(len(signature)),
    }[change]
    rules = rules_of(THIRD)
    rules.check_request_untrusted(request_of(data, signature), NOW)
    assert refused_code(rules, request_of(data, wrong)) == WRONG_SIGNATURE


def test_a_signature_field_that_is_absent() -> None:
    data = b"".join(data_parts().values())
    request = bytes_field(1, bytes_field(1, data) + bytes_field(3, SESSION))
    assert refused_code(RULES, request) == WRONG_SIGNATURE


def test_a_key_that_is_no_point() -> None:
    for key in (b"\x04" + bytes(64), b"\x05" + SECP.public_key[1:]):
        request = signed(data_parts() | {4: bytes_field(4, key)})
        assert refused_code(RULES, request) == WRONG_SIGNATURE


@both_schemes
@given(data=st.data())
def test_every_bit_of_the_data_is_signed(scheme: Scheme, data: st.DataObject) -> None:
    raw = b"".join(data_parts(PEER[scheme]).values()) + number_field(1000, 1)
    signature = signature_over(raw, PEER[scheme])
    changed = bytearray(raw)
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises((HandshakeRefusedError, MalformedError)):
        RULES.check_request_untrusted(request_of(bytes(changed), signature), NOW)


@both_schemes
@pytest.mark.parametrize("size", [1, 5, 16, 64])
def test_the_session_id_is_not_signed(scheme: Scheme, size: int) -> None:
    data = b"".join(data_parts(PEER[scheme]).values())
    request = request_of(data, signature_over(data, PEER[scheme]), b"\xee" * size)
    assert RULES.check_request_untrusted(request, NOW).session_id == b"\xee" * size


# --- extension fields -----------------------------------------------------------------------------

EXTENSIONS = [
    pytest.param(number_field(1000, 3), id="a later revision of ours"),
    pytest.param(bytes_field(1001, b"certificate hash"), id="of a connection"),
    pytest.param(number_field(1000, 1) + bytes_field(2000, b"\x00\xff"), id="two"),
    pytest.param(varint(1234 * 8 + 5) + b"abcd", id="fixed 32"),
    pytest.param(varint((2**29 - 1) * 8 + 1) + b"abcdefgh", id="fixed 64, the last number"),
]


@both_schemes
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_extension_fields_are_accepted_and_signed(scheme: Scheme, extension: bytes) -> None:
    identity = PEER[scheme]
    plain = b"".join(data_parts(identity).values())
    with_it = plain + extension
    signature = signature_over(with_it, identity)
    received = RULES.check_request_untrusted(request_of(with_it, signature), NOW)
    assert received.public_key == identity.public_key
    mutated = with_it[:-1] + bytes([with_it[-1] ^ 1])
    for unsigned in (mutated, plain):
        assert refused_code(RULES, request_of(unsigned, signature)) == WRONG_SIGNATURE
    added = request_of(with_it, signature_over(plain, identity))
    assert refused_code(RULES, added) == WRONG_SIGNATURE


@pytest.mark.parametrize(("field", "revision"), [(b"", 0), (number_field(1000, 7), 7)])
def test_the_revision_tells_our_nodes(field: bytes, revision: int) -> None:
    request = signed(data_parts() | {1000: field})
    assert RULES.check_request_untrusted(request, NOW).revision == revision


CERTIFICATE, ANOTHER = b"c" * 32, b"d" * 32


@both_schemes
def test_a_handshake_is_for_the_connection_that_it_was_made_for(scheme: Scheme) -> None:
    """The hash of the certificate is signed with it, on both sides (weak spot: it covers no
    channel)."""
    sent = rules_of(PEER[scheme]).make(
        listening_port=6801,
        status=STATUS,
        now_ns=NOW,
        rng=random.Random(1),
        certificate_hash=CERTIFICATE,
    )
    for check, message in (
        (RULES.check_request_untrusted, sent.as_request()),
        (RULES.check_reply_untrusted, sent.as_reply()),
    ):
        assert check(message, NOW, CERTIFICATE).public_key == PEER[scheme].public_key
        assert check(message, NOW, None).public_key == PEER[scheme].public_key  # without TLS
        with pytest.raises(HandshakeRefusedError, match="for another connection") as raised:
            check(message, NOW, ANOTHER)
        assert raised.value.code == INVALID_CONNECTION
    stripped = sent.message.SerializeToString().replace(bytes_field(1001, CERTIFICATE), b"")
    data = HandshakeData.FromString(sent.message.handshake_data.SerializeToString())
    data.ClearField("certificate_hash")
    assert bytes_field(1001, CERTIFICATE) not in stripped
    request = request_of(data.SerializeToString(), sent.message.signature)
    assert refused_code(RULES, request) == WRONG_SIGNATURE


def test_csharp_signs_no_connection() -> None:
    assert RULES.check_request_untrusted(signed(data_parts()), NOW, CERTIFICATE).revision == 0


def test_the_digest_is_over_the_bytes_that_came() -> None:
    # C# writes unknown fields in the order in which they came; protobuf here in another.
    data = b"".join(data_parts().values()) + bytes_field(2001, b"x") + number_field(1000, 1)
    again = HandshakeData.FromString(data).SerializeToString()
    assert sorted(again) == sorted(data)
    assert again != data
    assert RULES.check_request_untrusted(request_of(data, signature_over(data)), NOW).revision == 1
    encoded_again = request_of(data, signature_over(again))
    assert refused_code(RULES, encoded_again) == WRONG_SIGNATURE


@pytest.mark.parametrize(
    "parts",
    [
        {1: b"", 11: number_field(1, AELF)},  # out of order
        {1: number_field(1, AELF) * 2},
        {8: number_field(8, 0)},  # a default written out
        {3: b"\x18\x90\xb5\x00"},  # a varint longer than it need be
        {1: bytes_field(1000, b"x") + number_field(1, AELF)},
        {4: bytes_field(4, SECP.public_key) * 2},
    ],
)
def test_data_without_an_agreed_digest(parts: dict[int, bytes]) -> None:
    with pytest.raises(MalformedError):
        RULES.check_request_untrusted(signed(data_parts() | parts), NOW)


# --- missing and impossible parts -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_bytes", "why"),
    [
        (b"", "no handshake"),
        (bytes_field(1, b""), "without its data"),
        (bytes_field(1, bytes_field(2, bytes(65)) + bytes_field(3, SESSION)), "without its data"),
        (bytes_field(1, bytes_field(1, b"") + bytes_field(3, SESSION)), "without a time"),
    ],
)
def test_missing_messages(request_bytes: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        RULES.check_request_untrusted(request_bytes, NOW)
    if request_bytes:
        with pytest.raises(MalformedError, match=why):
            RULES.check_reply_untrusted(request_bytes, NOW)


@pytest.mark.parametrize(
    ("number", "why"),
    [(3, "listening port 0"), (4, "public key of 0 bytes"), (9, "without a time")],
)
def test_missing_fields_that_are_malformed(number: int, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        RULES.check_request_untrusted(signed(data_parts() | {number: b""}), NOW)


@pytest.mark.parametrize(("number", "code"), [(1, CHAIN_MISMATCH), (2, PROTOCOL_MISMATCH)])
def test_missing_fields_that_are_refused(number: int, code: int) -> None:
    assert refused_code(RULES, signed(data_parts() | {number: b""})) == code


def test_missing_fields_with_a_default() -> None:
    request = signed(data_parts() | {6: b"", 8: b"", 10: b""})
    received = RULES.check_request_untrusted(request, NOW)
    assert (received.best_height, received.lib_height, received.node_version) == (0, 0, "")


@pytest.mark.parametrize("port", [-1, 0, 65536, 2**31 - 1, -(2**31), 2**31, 2**32 + 6800])
def test_listening_ports_that_are_none(port: int) -> None:
    parts = data_parts() | {3: number_field(3, port) if port else b""}
    with pytest.raises(MalformedError):
        RULES.check_request_untrusted(signed(parts), NOW)


@pytest.mark.parametrize("port", [1, 80, 65535])
def test_listening_ports(port: int) -> None:
    received = RULES.check_request_untrusted(signed(data_parts() | {3: number_field(3, port)}), NOW)
    assert received.listening_port == port


@pytest.mark.parametrize("size", [1, 31, 33, 64, 66, 1000])
def test_public_keys_of_no_scheme(size: int) -> None:
    with pytest.raises(MalformedError, match=f"public key of {size} bytes"):
        RULES.check_request_untrusted(signed(data_parts() | {4: bytes_field(4, bytes(size))}), NOW)


@pytest.mark.parametrize("size", [0, 65, 100_000])
def test_session_ids_of_an_impossible_length(size: int) -> None:
    data = b"".join(data_parts().values())
    request = request_of(data, signature_over(data), bytes(size))
    with pytest.raises(MalformedError, match=f"session id of {size} bytes"):
        RULES.check_request_untrusted(request, NOW)


@pytest.mark.parametrize("number", [5, 7])
def test_a_height_needs_its_hash(number: int) -> None:
    parts = data_parts()
    del parts[number]
    with pytest.raises(MalformedError, match="and no hash"):
        RULES.check_request_untrusted(signed(parts), NOW)
    parts[number + 1] = b""  # at height 0 there is no block yet, and no hash to tell
    assert RULES.check_request_untrusted(signed(parts), NOW).best_height in (0, BEST.height)


@pytest.mark.parametrize("number", [6, 8])
@pytest.mark.parametrize("height", [-1, -(2**63)])
def test_negative_heights(number: int, height: int) -> None:
    parts = data_parts() | {number: number_field(number, height)}
    with pytest.raises(MalformedError, match="negative height"):
        RULES.check_request_untrusted(signed(parts), NOW)


@pytest.mark.parametrize("number", [5, 7])
@pytest.mark.parametrize("size", [0, 1, 31, 33])
def test_hashes_have_32_bytes(number: int, size: int) -> None:
    body = bytes_field(1, bytes(size)) if size else b""
    with pytest.raises(MalformedError, match="32 bytes"):
        RULES.check_request_untrusted(
            signed(data_parts() | {number: bytes_field(number, body)}), NOW
        )


@pytest.mark.parametrize(
    "text", ["x", "1.4", "1.12.3.0", "v1.4.0.0", "é" * 64, "9" * 64, " ", "1.4.0.0-beta\n"]
)
def test_a_node_version_is_not_judged(text: str) -> None:
    request = signed(data_parts() | {10: bytes_field(10, text.encode())})
    assert RULES.check_request_untrusted(request, NOW).node_version == text


@pytest.mark.parametrize("text", [b"9" * 65, b"1.4.0.0" * 10_000, "é".encode() * 65, b"1.\xff"])
def test_node_versions_too_long_or_no_text(text: bytes) -> None:
    with pytest.raises(MalformedError):
        RULES.check_request_untrusted(signed(data_parts() | {10: bytes_field(10, text)}), NOW)


def test_an_own_handshake_tells_which_one_it_is() -> None:
    sent = RULES.make(listening_port=6800, status=STATUS, now_ns=NOW, rng=random.Random(4))
    with pytest.raises(OwnHandshakeError) as caught:
        RULES.check_request_untrusted(sent.as_request(), NOW)
    assert caught.value.session_id == sent.session_id


# --- replies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (1, "CHAIN_MISMATCH"),
        (2, "PROTOCOL_MISMATCH"),
        (3, "WRONG_SIGNATURE"),
        (4, "REPEATED_CONNECTION"),
        (5, "CONNECTION_REFUSED"),
        (6, "INVALID_CONNECTION"),
        (7, "SIGNATURE_TIMEOUT"),
    ],
)
def test_a_refusal_is_told_with_its_code(code: int, name: str) -> None:
    reply = refusal(code)
    message = network_types_pb2.HandshakeReply.FromString(reply)
    assert message.error == code
    assert not message.HasField("handshake")
    # It counts also beside a handshake that is right.
    for refused in (reply, made_by(SECP).as_reply() + reply):
        with pytest.raises(HandshakeRefusedError, match=name) as caught:
            RULES.check_reply_untrusted(refused, NOW)
        assert caught.value.code == code


@pytest.mark.parametrize("code", [8, 99, -1, 2**31 - 1])
def test_a_refusal_that_nobody_knows(code: int) -> None:
    with pytest.raises(HandshakeRefusedError, match=f"unknown error {code}$") as caught:
        RULES.check_reply_untrusted(number_field(2, code), NOW)
    assert caught.value.code == code


def test_a_reply_that_accepts() -> None:
    sent = made_by(SECP)
    reply = network_types_pb2.HandshakeReply.FromString(sent.as_reply())
    assert reply.error == 0
    assert reply.handshake.session_id == sent.session_id
    assert RULES.check_reply_untrusted(sent.as_reply(), NOW).session_id == sent.session_id


def test_an_empty_reply() -> None:
    with pytest.raises(MalformedError, match="no handshake"):
        RULES.check_reply_untrusted(b"", NOW)


def test_a_replys_handshake_is_judged_like_a_requests() -> None:
    for fault, code, _ in FAULTS:
        draft = Draft(RULES, SECP)
        fault(draft)
        with pytest.raises(HandshakeRefusedError) as caught:
            draft.rules.check_reply_untrusted(draft.request(), NOW)  # both have it in field 1
        assert caught.value.code == code


# --- whatever comes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damaged",
    [
        b"\xff",
        b"\x0a\x05ab",
        b"\x0b\x0c",  # a group
        b"\x08\x01",
        bytes_field(1, b"\x0a\x01"),
        bytes_field(1, bytes_field(1, b"\x08")),
        bytes_field(1, bytes_field(1, b"\x08\x01") * 2),
        signed(data_parts()) * 2,
        signed(data_parts())[:-1],
    ],
)
def test_damaged_handshakes(damaged: bytes) -> None:
    with pytest.raises(MalformedError):
        RULES.check_request_untrusted(damaged, NOW)
    with pytest.raises(MalformedError):
        RULES.check_reply_untrusted(damaged, NOW)


def checked(check: Callable[[bytes, int], ReceivedHandshake], data: bytes) -> None:
    """Whatever happens, it is one of our two errors, or the handshake that was signed."""
    try:
        received = check(data, NOW)
    except (MalformedError, HandshakeRefusedError):
        return
    original = RULES.check_request_untrusted(signed(data_parts()), NOW)
    assert replace(received, session_id=SESSION) == original


@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    checked(RULES.check_request_untrusted, data)
    checked(RULES.check_reply_untrusted, data)
    checked(RULES.check_request_untrusted, bytes_field(1, data))
    checked(RULES.check_request_untrusted, bytes_field(1, bytes_field(1, data)))


@given(st.data())
def test_a_handshake_changed_on_its_way(data: st.DataObject) -> None:
    changed = bytearray(signed(data_parts()))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(changed)))
        end = start + data.draw(st.integers(0, 3))
        changed[start:end] = data.draw(st.binary(max_size=3))
    checked(RULES.check_request_untrusted, bytes(changed))
    checked(RULES.check_reply_untrusted, bytes(changed))


@given(st.dictionaries(st.sampled_from([*range(1, 13), 1000]), st.binary(max_size=20), max_size=3))
def test_handshakes_of_strange_parts(strange: dict[int, bytes]) -> None:
    parts = data_parts() | {number: bytes_field(number, body) for number, body in strange.items()}
    data = b"".join(parts.values())
    try:
        RULES.check_request_untrusted(request_of(data, signature_over(data)), NOW)
    except (MalformedError, HandshakeRefusedError):
        return
    # Only additions, and another version text, leave it acceptable.
    assert set(strange) <= {10, 11, 12, 1000}
