"""Public keys and signatures of anyone, in both schemes."""

from collections.abc import Iterator
from contextlib import suppress

from aelf_p2p.core.errors import MalformedError
from aelf_p2p.core.identity import Identity, Scheme, recover_untrusted, scheme_of_untrusted, verify
from aelf_p2p.testing.vectors import load_vectors
from tests.fuzz.inputs import join_list, list_of, split_list

mutate = list_of(lambda data, most, rng, change: change(data, most))


def seeds() -> Iterator[bytes]:
    for vector in load_vectors().signatures[:3]:
        yield join_list(vector.public_key, vector.digest, vector.signature)
    ed25519 = Identity.from_private_key(bytes(32), Scheme.ED25519)
    yield join_list(ed25519.public_key, bytes(32), ed25519.sign(bytes(32)))
    yield join_list(ed25519.public_key, bytes(32), bytes(64))


def target(data: bytes) -> bool:
    key, digest, signature, *_ = [*split_list(data), b"", b"", b""]
    with suppress(MalformedError):
        scheme_of_untrusted(key)
    with suppress(MalformedError):
        recovered = recover_untrusted(digest, signature)
        assert scheme_of_untrusted(recovered) is Scheme.SECP256K1
        assert verify(recovered, digest, signature)
    return verify(key, digest, signature)
