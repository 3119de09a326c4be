"""Key files: a private key at rest, encrypted with a password unless told otherwise.

The file is ASCII JSON. Argon2id (RFC 9106) makes a key of the password, and a NaCl secret box
(XSalsa20-Poly1305) holds the private key under it::

    {"format": "aelf-p2p-key", "version": 1, "scheme": "secp256k1", "public_key": hex,
     "encryption": "argon2id-secretbox", "opslimit": passes, "memlimit": bytes, "salt": hex,
     "box": hex of nonce and ciphertext}

    {… "encryption": "none", "private_key": hex}
"""

import binascii
import contextlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import SecretBox

from aelf_p2p.core.errors import KeyFileError, MisuseError
from aelf_p2p.core.identity import PRIVATE_KEY_SIZE, Identity, Scheme

MAX_OPSLIMIT = 16
"""Argon2id passes that are accepted at most: a file must not be able to keep a node busy."""
MAX_MEMLIMIT = 1 << 30
"""Bytes of memory that Argon2id is allowed at most."""
MAX_FILE_SIZE = 4096
"""Bytes; a real key file has under 1000."""

Password = bytes | Callable[[], bytes] | None

_FORMAT = "aelf-p2p-key"
_VERSION = 1
_BOX_SIZE = SecretBox.NONCE_SIZE + SecretBox.MACBYTES + PRIVATE_KEY_SIZE


def seal_key(
    identity: Identity,
    password: bytes | None,
    rng: random.Random | None = None,
    *,
    opslimit: int = argon2id.OPSLIMIT_MODERATE,
    memlimit: int = argon2id.MEMLIMIT_MODERATE,
) -> bytes:
    """The bytes of a key file that holds ``identity``; without a password it is not encrypted.

    ``opslimit`` counts Argon2id's passes, ``memlimit`` its bytes of memory; the defaults, 3 and
    256 MiB, take about a second. Salt and nonce come from the system's randomness unless ``rng``
    is given. Raises MisuseError for an empty password, or costs that
    :func:`open_key` would refuse, KeyFileError when there is not so much memory.
    """
    rng = rng or random.SystemRandom()
    content: dict[str, object] = {
        "format": _FORMAT,
        "version": _VERSION,
        "scheme": identity.scheme.value,
        "public_key": identity.public_key.hex(),
    }
    if password is None:
        content |= {"encryption": "none", "private_key": identity.private_key.hex()}
    elif not password:
        raise MisuseError("an empty password protects nothing; give None for no encryption")
    elif not _is_affordable(opslimit, memlimit):
        raise MisuseError(f"opslimit {opslimit} or memlimit {memlimit} is out of range")
    else:
        salt = rng.randbytes(argon2id.SALTBYTES)
        box = _box_of(password, salt, opslimit, memlimit)
        sealed = box.encrypt(identity.private_key, rng.randbytes(SecretBox.NONCE_SIZE))
        content |= {
            "encryption": "argon2id-secretbox",
            "opslimit": opslimit,
            "memlimit": memlimit,
            "salt": salt.hex(),
            "box": sealed.hex(),
        }
    return json.dumps(content, indent=2).encode() + b"\n"


def open_key(data: bytes, password: Password) -> Identity:
    """The identity in the bytes of a key file; a file that is not encrypted needs no password.

    A password that is a function is called only when the file needs one. ``data`` may be anything:
    whatever is wrong with it raises KeyFileError and nothing else. The costs that it asks for are
    checked before they are paid.
    """
    content = _content_of(data)
    private_key = _private_key_of(content, password)
    try:
        identity = Identity.from_private_key(private_key, Scheme(content.get("scheme")))
    except (MisuseError, ValueError) as error:
        raise KeyFileError("the key file is damaged: no such private key or scheme") from error
    if identity.public_key != _hex_field(content, "public_key"):
        raise KeyFileError("the key file is damaged: its public key is not its private key's")
    return identity


def write_key_file(path: str | os.PathLike[str], data: bytes, *, overwrite: bool = False) -> None:
    """Write a key file and flush it to the disk; only its owner can ever read it (mode 0600).

    An existing file is never written to. With ``overwrite`` it is replaced in one step, once the
    new one, written beside it as ``<name>.new``, is complete. Raises KeyFileError.
    """
    target = Path(path)
    fresh = target.with_name(f"{target.name}.new") if overwrite else target
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyFileError(f"{fresh}: exists already and is left as it is") from error
    except OSError as error:
        raise KeyFileError(f"{fresh}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        if overwrite:
            fresh.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        if isinstance(error, OSError):
            raise KeyFileError(f"{target}: {error.strerror}") from error
        raise


def read_key_file(path: str | os.PathLike[str], password: Password) -> Identity:
    """The identity in the key file at ``path``, as :func:`open_key`. Raises KeyFileError."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    try:
        return open_key(data, password)
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from error


def _content_of(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_FILE_SIZE:
        raise KeyFileError(f"not a key file: over {MAX_FILE_SIZE} bytes")
    try:
        content = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise KeyFileError("not a key file, or a damaged one: it is not JSON") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise KeyFileError("not a key file, or a damaged one: it has no format mark")
    if content.get("version") != _VERSION:
        raise KeyFileError(f"the key file has a version other than {_VERSION}")
    return content


def _private_key_of(content: dict[str, Any], password: Password) -> bytes:
    encryption = content.get("encryption")
    if encryption == "none":
        return _hex_field(content, "private_key", PRIVATE_KEY_SIZE)
    if encryption != "argon2id-secretbox":
        raise KeyFileError("the key file is damaged: its encryption is unknown")
    if password is None:
        raise KeyFileError("the key file is encrypted, and no password was given")
    salt = _hex_field(content, "salt", argon2id.SALTBYTES)
    sealed = _hex_field(content, "box", _BOX_SIZE)
    opslimit, memlimit = content.get("opslimit"), content.get("memlimit")
    if type(opslimit) is not int or type(memlimit) is not int:
        raise KeyFileError("the key file is damaged: opslimit and memlimit are not whole numbers")
    if not _is_affordable(opslimit, memlimit):
        raise KeyFileError(
            "the key file's costs are out of range: allowed are"
            f" opslimit {MAX_OPSLIMIT} and memlimit {MAX_MEMLIMIT} bytes"
        )
    given = password() if callable(password) else password
    box = _box_of(given, salt, opslimit, memlimit)
    try:
        return box.decrypt(sealed)
    except CryptoError as error:
        raise KeyFileError("the password is wrong, or the key file is damaged") from error


def _is_affordable(opslimit: int, memlimit: int) -> bool:
    return (
        argon2id.OPSLIMIT_MIN <= opslimit <= MAX_OPSLIMIT
        and argon2id.MEMLIMIT_MIN <= memlimit <= MAX_MEMLIMIT
    )


def _box_of(password: bytes, salt: bytes, opslimit: int, memlimit: int) -> SecretBox:
    try:
        key = argon2id.kdf(SecretBox.KEY_SIZE, password, salt, opslimit, memlimit)
    except RuntimeError as error:
        raise KeyFileError(
            f"not enough memory for the password: it takes {memlimit} bytes"
        ) from error
    return SecretBox(key)


def _hex_field(content: dict[str, Any], name: str, size: int | None = None) -> bytes:
    try:
        # Unlike bytes.fromhex this takes no blanks.
        value = binascii.unhexlify(content[name])
    except (KeyError, TypeError, ValueError) as error:
        raise KeyFileError(f"the key file is damaged: {name} is not hex") from error
    if size is not None and len(value) != size:
        raise KeyFileError(f"the key file is damaged: {name} has not {size} bytes")
    return value
