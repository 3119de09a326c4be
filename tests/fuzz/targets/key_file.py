"""Key files that anyone may have written; those that ask for dear work are not given a password."""

import json
from collections.abc import Iterator
from random import Random

from nacl.pwhash import argon2id

from aelf_p2p.core.errors import KeyFileError
from aelf_p2p.core.identity import Identity, Scheme
from aelf_p2p.core.keyfile import open_key, seal_key
from tests.fuzz.mutation import AnyMutation

PASSWORD = b"correct horse"
CHEAP_MEMLIMIT = 64 * 1024
_VALUES: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    1,
    2**64,
    1.5,
    "",
    "none",
    "04",
    "ü",
    "zz",
    [],
    {},
    "ed25519",
    [[[]]],
)


def seeds() -> Iterator[bytes]:
    for scheme in Scheme:
        identity = Identity.generate(Random(1), scheme)
        for password in (PASSWORD, None):
            yield seal_key(
                identity, password, Random(1), opslimit=1, memlimit=argon2id.MEMLIMIT_MIN
            )
    yield b"{}"
    yield b"[" * 4000


def mutate(data: bytes, most: int, rng: Random, change: AnyMutation) -> bytes:
    """One member of the object anew, or anything."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not content or rng.randrange(4) == 0:
        return change(data, most)
    name = rng.choice(sorted(content))
    match rng.randrange(4):
        case 0:
            del content[name]
        case 1:
            content[name] = rng.choice(_VALUES)
        case 2:
            raw = str(content[name]).encode(errors="replace")  # JSON may hold half a surrogate pair
            content[name] = change(raw, most).decode(errors="replace")
        case _:
            content[name] = content[rng.choice(sorted(content))]
    return json.dumps(content).encode()[:most]


def target(data: bytes) -> bool:
    def password() -> bytes:
        """Asked for once the costs were found to be allowed."""
        content = json.loads(data)
        if content["opslimit"] > 1 or content["memlimit"] > CHEAP_MEMLIMIT:
            raise KeyFileError("too dear for this")
        return PASSWORD

    try:
        identity = open_key(data, password)
    except KeyFileError:
        return False
    again = open_key(seal_key(identity, None), None)
    assert (again.private_key, again.scheme) == (identity.private_key, identity.scheme)
    assert identity.private_key.hex() not in repr(identity)
    return True
