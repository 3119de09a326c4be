import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelf_p2p.core.address import address_of, address_text
from aelf_p2p.core.errors import MalformedError, MisuseError
from aelf_p2p.core.identity import (
    Identity,
    Scheme,
    recover_untrusted,
    scheme_of_untrusted,
    short_key,
    verify,
)
from aelf_p2p.testing.vectors import load_vectors

VECTORS = load_vectors()
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
DIGEST = hashlib.sha256(b"digest").digest()
SECP = Identity.generate(random.Random(1), Scheme.SECP256K1)
ED = Identity.generate(random.Random(1), Scheme.ED25519)

both_schemes = pytest.mark.parametrize("identity", [SECP, ED], ids=["secp256k1", "ed25519"])
digests = st.binary(min_size=32, max_size=32)


class ScriptedRandom(random.Random):
    """Gives the byte strings it was made with, in order."""

    def __init__(self, *values: bytes) -> None:
        super().__init__()
        self.values = list(values)

    def randbytes(self, n: int) -> bytes:
        value = self.values.pop(0)
        assert len(value) == n
        return value


# --- against what others published ----------------------------------------------------------------


def test_known_private_keys() -> None:
    assert len(VECTORS.keys) == 7
    for vector in VECTORS.keys:
        identity = Identity.from_private_key(vector.private_key)
        assert identity.scheme is Scheme.SECP256K1
        assert identity.private_key == vector.private_key
        assert identity.public_key == vector.public_key
        assert address_text(address_of(identity.public_key)) == vector.address


def test_known_signatures() -> None:
    for vector in VECTORS.signatures:
        assert verify(vector.public_key, vector.digest, vector.signature)
        assert recover_untrusted(vector.digest, vector.signature) == vector.public_key


def test_known_transaction_and_block_signatures() -> None:
    for transaction in VECTORS.transactions:
        assert verify(transaction.signer_pubkey, transaction.id, transaction.signature)
    signed = [block for block in VECTORS.blocks if block.signature is not None]
    assert len(signed) == 5
    for block in signed:
        assert block.signature is not None
        assert verify(block.signer_pubkey, block.block_hash, block.signature)


def test_known_signatures_are_made_again() -> None:
    private_keys = {vector.public_key: vector.private_key for vector in VECTORS.keys}
    known = [
        (transaction.signer_pubkey, transaction.id, transaction.signature)
        for transaction in VECTORS.transactions
    ]
    known += [
        (vector.public_key, vector.digest, vector.signature)
        for vector in VECTORS.signatures
        if vector.private_key is not None
    ]
    reproducible = [item for item in known if item[0] in private_keys]
    assert len(reproducible) == 2
    for public_key, digest, signature in reproducible:
        assert Identity.from_private_key(private_keys[public_key]).sign(digest) == signature


def test_rfc_8032_key_pair() -> None:
    seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    public_key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    identity = Identity.from_private_key(bytes.fromhex(seed), Scheme.ED25519)
    assert identity.public_key.hex() == public_key
    assert identity.private_key.hex() == seed


# --- key pairs ------------------------------------------------------------------------------------


@both_schemes
def test_shapes(identity: Identity) -> None:
    is_secp = identity.scheme is Scheme.SECP256K1
    assert len(identity.private_key) == 32
    assert len(identity.public_key) == (65 if is_secp else 32)
    assert len(identity.sign(DIGEST)) == (65 if is_secp else 64)
    assert scheme_of_untrusted(identity.public_key) is identity.scheme


def test_the_default_is_aelfs_scheme_and_the_seed_decides_the_key() -> None:
    assert Identity.generate(random.Random(1)).public_key == SECP.public_key
    assert Identity.generate(random.Random(2)).public_key != SECP.public_key


@pytest.mark.parametrize("scalar", [0, ORDER, 2**256 - 1])
def test_scalars_out_of_range(scalar: int) -> None:
    private_key = scalar.to_bytes(32)
    with pytest.raises(MisuseError, match="range"):
        Identity.from_private_key(private_key)
    assert Identity.from_private_key(private_key, Scheme.ED25519).private_key == private_key


def test_generate_draws_again_when_out_of_range() -> None:
    good = (1).to_bytes(32)
    rng = ScriptedRandom(bytes(32), ORDER.to_bytes(32), good)
    assert Identity.generate(rng).private_key == good
    assert rng.values == []


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("size", [0, 1, 31, 33])
def test_private_keys_of_another_length(scheme: Scheme, size: int) -> None:
    with pytest.raises(MisuseError, match="32 bytes"):
        Identity.from_private_key(b"\1" * size, scheme)


@both_schemes
def test_repr_hides_the_private_key(identity: Identity) -> None:
    for text in (repr(identity), str(identity), f"{identity}"):
        assert text == f"<Identity {identity.scheme.value} {short_key(identity.public_key)}>"
        assert identity.private_key.hex()[:8] not in text


def test_short_key() -> None:
    public_key = VECTORS.keys[0].public_key
    assert short_key(public_key) == f"04eed00e..{public_key.hex()[-8:]}"


@given(st.binary(max_size=70))
def test_schemes_of_public_keys(public_key: bytes) -> None:
    if len(public_key) == 32:
        assert scheme_of_untrusted(public_key) is Scheme.ED25519
    elif len(public_key) == 65 and public_key[0] == 4:
        assert scheme_of_untrusted(public_key) is Scheme.SECP256K1
    else:
        with pytest.raises(MalformedError):
            scheme_of_untrusted(public_key)


@pytest.mark.parametrize("prefix", [2, 3, 5, 6, 7])
def test_other_prefixes_are_malformed(prefix: int) -> None:
    with pytest.raises(MalformedError):
        scheme_of_untrusted(bytes([prefix]) + SECP.public_key[1:])


# --- signatures -----------------------------------------------------------------------------------


@both_schemes
@given(digest=digests)
def test_own_signatures_verify_and_repeat(identity: Identity, digest: bytes) -> None:
    signature = identity.sign(digest)
    assert verify(identity.public_key, digest, signature)
    assert identity.sign(digest) == signature
    other = ED if identity is SECP else SECP
    assert not verify(other.public_key, digest, signature)


@both_schemes
@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_only_digests_are_signed(identity: Identity, size: int) -> None:
    with pytest.raises(MisuseError, match="32 bytes"):
        identity.sign(bytes(size))
    assert not verify(identity.public_key, bytes(size), identity.sign(DIGEST))


@both_schemes
@given(data=st.data())
def test_any_flipped_bit_is_noticed(identity: Identity, data: st.DataObject) -> None:
    parts = [identity.public_key, DIGEST, identity.sign(DIGEST)]
    which = data.draw(st.integers(0, 2))
    bit = data.draw(st.integers(0, len(parts[which]) * 8 - 1))
    flipped = bytearray(parts[which])
    flipped[bit // 8] ^= 1 << bit % 8
    parts[which] = bytes(flipped)
    assert not verify(*parts)


@both_schemes
def test_signatures_of_another_length(identity: Identity) -> None:
    signature = identity.sign(DIGEST)
    for wrong in (b"", signature[:-1], signature + b"\0"):
        assert not verify(identity.public_key, DIGEST, wrong)


@given(st.binary(max_size=70), st.binary(max_size=40), st.binary(max_size=70))
def test_verify_never_raises(public_key: bytes, digest: bytes, signature: bytes) -> None:
    assert verify(public_key, digest, signature) is False


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
def test_verify_never_raises_for_ed25519_shapes(public_key: bytes, signature: bytes) -> None:
    assert verify(public_key, DIGEST, signature) is False


@given(digests, st.binary(min_size=65, max_size=65) | st.binary(max_size=70))
def test_recovery_gives_a_key_or_malformed(digest: bytes, signature: bytes) -> None:
    try:
        public_key = recover_untrusted(digest, signature)
    except MalformedError:
        return
    assert scheme_of_untrusted(public_key) is Scheme.SECP256K1
    assert verify(public_key, digest, signature)


@pytest.mark.parametrize("recid", [*range(4, 10), 27, 28, 31, 127, 128, 255])
def test_recovery_ids_over_three(recid: int) -> None:
    signature = SECP.sign(DIGEST)[:64] + bytes([recid])
    with pytest.raises(MalformedError):
        recover_untrusted(DIGEST, signature)
    assert not verify(SECP.public_key, DIGEST, signature)


def test_other_recovery_ids_recover_another_key_or_none() -> None:
    signature = SECP.sign(DIGEST)
    other = signature[:64] + bytes([signature[64] ^ 1])
    assert recover_untrusted(DIGEST, other) != SECP.public_key
    for overflowed in (2, 3):  # r plus the order is over the field's size
        with pytest.raises(MalformedError):
            recover_untrusted(DIGEST, signature[:64] + bytes([overflowed]))


@pytest.mark.parametrize("value", [0, ORDER, 2**256 - 1])
@pytest.mark.parametrize("part", ["r", "s"])
def test_r_and_s_out_of_range(value: int, part: str) -> None:
    signature = SECP.sign(DIGEST)
    r, s, recid = signature[:32], signature[32:64], signature[64:]
    changed = value.to_bytes(32) + s if part == "r" else r + value.to_bytes(32)
    with pytest.raises(MalformedError):
        recover_untrusted(DIGEST, changed + recid)
    assert not verify(SECP.public_key, DIGEST, changed + recid)


def test_a_high_s_is_accepted_as_aelf_does() -> None:
    signature = SECP.sign(DIGEST)
    s = int.from_bytes(signature[32:64])
    assert s <= ORDER // 2  # what is signed here is always low
    high = signature[:32] + (ORDER - s).to_bytes(32) + bytes([signature[64] ^ 1])
    assert recover_untrusted(DIGEST, high) == SECP.public_key
    assert verify(SECP.public_key, DIGEST, high)


def test_a_key_off_the_curve_verifies_nothing() -> None:
    off_the_curve = b"\x04" + bytes(64)
    assert scheme_of_untrusted(off_the_curve) is Scheme.SECP256K1
    assert not verify(off_the_curve, DIGEST, SECP.sign(DIGEST))
    small_order = (1).to_bytes(32, "little")
    assert not verify(small_order, DIGEST, small_order + bytes(32))
