import errno
import json
import os
import random
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.pwhash import argon2id

from aelf_p2p.core.errors import KeyFileError, MisuseError
from aelf_p2p.core.identity import Identity, Scheme
from aelf_p2p.core.keyfile import (
    MAX_FILE_SIZE,
    MAX_MEMLIMIT,
    MAX_OPSLIMIT,
    open_key,
    read_key_file,
    seal_key,
    write_key_file,
)
from aelf_p2p.testing.vectors import load_vectors

PASSWORD = b"correct horse"
IDENTITIES = {scheme: Identity.generate(random.Random(7), scheme) for scheme in Scheme}


def seal(
    scheme: Scheme = Scheme.SECP256K1, password: bytes | None = PASSWORD, seed: int = 0
) -> bytes:
    """A key file with the cheapest costs there are."""
    rng = random.Random(seed)
    return seal_key(IDENTITIES[scheme], password, rng, opslimit=1, memlimit=argon2id.MEMLIMIT_MIN)


def changed(data: bytes, **fields: object) -> bytes:
    content: dict[str, Any] = json.loads(data) | fields
    return json.dumps(content).encode()


SEALED = {scheme: seal(scheme) for scheme in Scheme}
PLAIN = {scheme: seal(scheme, None) for scheme in Scheme}
both_schemes = pytest.mark.parametrize("scheme", Scheme)


# --- in memory ------------------------------------------------------------------------------------


@both_schemes
@pytest.mark.parametrize("password", [PASSWORD, None])
def test_a_sealed_key_opens(scheme: Scheme, password: bytes | None) -> None:
    opened = open_key(seal(scheme, password), password)
    assert opened.scheme is scheme
    assert opened.private_key == IDENTITIES[scheme].private_key
    assert opened.public_key == IDENTITIES[scheme].public_key


@both_schemes
def test_what_the_file_shows(scheme: Scheme) -> None:
    private_key = IDENTITIES[scheme].private_key.hex().encode()
    assert json.loads(SEALED[scheme])["encryption"] == "argon2id-secretbox"
    assert private_key not in SEALED[scheme]
    assert json.loads(PLAIN[scheme])["encryption"] == "none"
    assert private_key in PLAIN[scheme]
    for data in (SEALED[scheme], PLAIN[scheme]):
        assert json.loads(data)["scheme"] == scheme.value
        assert json.loads(data)["public_key"] == IDENTITIES[scheme].public_key.hex()
        assert len(data) < 1000


def test_salt_and_nonce_are_drawn_anew() -> None:
    one, other = json.loads(seal(seed=1)), json.loads(seal(seed=2))
    assert one["salt"] != other["salt"]
    assert one["box"][:48] != other["box"][:48]


def test_default_costs_are_moderate() -> None:
    data = json.loads(seal_key(IDENTITIES[Scheme.ED25519], b"x", random.Random(0)))
    assert (data["opslimit"], data["memlimit"]) == (3, 256 << 20)


def test_an_unencrypted_file_needs_no_password_and_ignores_one() -> None:
    scheme = Scheme.SECP256K1
    assert open_key(PLAIN[scheme], b"any").private_key == IDENTITIES[scheme].private_key


@pytest.mark.parametrize("password", [b"", b"wrong", PASSWORD + b" ", PASSWORD.upper()])
def test_wrong_password(password: bytes) -> None:
    with pytest.raises(KeyFileError, match="password is wrong"):
        open_key(SEALED[Scheme.SECP256K1], password)


def test_a_password_may_be_a_function(tmp_path: Path) -> None:
    scheme = Scheme.ED25519
    assert open_key(SEALED[scheme], lambda: PASSWORD).public_key == IDENTITIES[scheme].public_key
    write_key_file(tmp_path / "node.key", SEALED[scheme])
    opened = read_key_file(tmp_path / "node.key", lambda: PASSWORD)
    assert opened.public_key == IDENTITIES[scheme].public_key
    with pytest.raises(KeyFileError, match="password is wrong"):
        open_key(SEALED[scheme], lambda: b"wrong")


def test_what_the_function_raises_leaves_as_it_is() -> None:
    def nobody_answers() -> bytes:
        raise MisuseError("nobody answers")

    with pytest.raises(MisuseError, match="nobody answers"):
        open_key(SEALED[Scheme.SECP256K1], nobody_answers)


def never_asked() -> bytes:
    raise AssertionError("a password was asked for")


def test_a_password_is_asked_for_only_when_it_is_needed(tmp_path: Path) -> None:
    scheme = Scheme.SECP256K1
    assert open_key(PLAIN[scheme], never_asked).public_key == IDENTITIES[scheme].public_key
    write_key_file(tmp_path / "node.key", PLAIN[scheme])
    assert read_key_file(tmp_path / "node.key", never_asked).scheme is scheme
    damaged = [
        b"",
        SEALED[scheme][:100],
        changed(SEALED[scheme], version=2),
        changed(SEALED[scheme], encryption="rot13"),
        changed(SEALED[scheme], salt="00"),
        changed(SEALED[scheme], box=""),
        changed(SEALED[scheme], opslimit=MAX_OPSLIMIT + 1),
        changed(SEALED[scheme], memlimit="much"),
        changed(PLAIN[scheme], private_key="00"),
    ]
    for data in damaged:
        with pytest.raises(KeyFileError):
            open_key(data, never_asked)
    with pytest.raises(KeyFileError, match="No such file"):
        read_key_file(tmp_path / "nowhere", never_asked)


def test_encrypted_but_no_password_given() -> None:
    with pytest.raises(KeyFileError, match="encrypted, and no password was given"):
        open_key(SEALED[Scheme.SECP256K1], None)


@pytest.mark.parametrize(
    ("opslimit", "memlimit"),
    [(0, 8192), (MAX_OPSLIMIT + 1, 8192), (1, 8191), (1, MAX_MEMLIMIT + 1), (10**400, 8192)],
    ids=["no passes", "passes", "little memory", "memory", "passes over a float"],
)
def test_costs_out_of_range_are_refused_before_they_are_paid(
    opslimit: int, memlimit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kdf(*args: object) -> bytes:
        raise AssertionError("the costs were paid")

    monkeypatch.setattr(argon2id, "kdf", kdf)
    identity = IDENTITIES[Scheme.SECP256K1]
    with pytest.raises(MisuseError, match="out of range"):
        seal_key(identity, PASSWORD, random.Random(0), opslimit=opslimit, memlimit=memlimit)
    data = changed(SEALED[Scheme.SECP256K1], opslimit=opslimit, memlimit=memlimit)
    with pytest.raises(KeyFileError, match="out of range"):
        open_key(data, PASSWORD)


def test_no_memory_for_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    def kdf(*args: object) -> bytes:
        raise RuntimeError("allocation failed")

    monkeypatch.setattr(argon2id, "kdf", kdf)
    with pytest.raises(KeyFileError, match="not enough memory"):
        open_key(SEALED[Scheme.SECP256K1], PASSWORD)
    with pytest.raises(KeyFileError, match="not enough memory"):
        seal()


def test_an_empty_password_is_misuse() -> None:
    with pytest.raises(MisuseError, match="empty password"):
        seal(password=b"")


@pytest.mark.parametrize("files", [SEALED, PLAIN], ids=["sealed", "plain"])
@both_schemes
def test_the_public_key_must_be_the_private_ones(
    files: dict[Scheme, bytes], scheme: Scheme
) -> None:
    other = load_vectors().keys[0].public_key.hex()
    with pytest.raises(KeyFileError, match="public key is not its private key's"):
        open_key(changed(files[scheme], public_key=other), PASSWORD)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "other"}, "no format mark"),
        ({"version": 2}, "version other than 1"),
        ({"version": "1"}, "version other than 1"),
        ({"scheme": "rsa"}, "no such private key or scheme"),
        ({"scheme": []}, "no such private key or scheme"),
        ({"scheme": "ed25519"}, "public key is not its private key's"),
        ({"public_key": "zz"}, "public_key is not hex"),
        ({"public_key": 4}, "public_key is not hex"),
        ({"encryption": "rot13"}, "encryption is unknown"),
        ({"encryption": None}, "encryption is unknown"),
        ({"encryption": "none"}, "private_key is not hex"),
        ({"encryption": "none", "private_key": "00"}, "private_key has not 32 bytes"),
        ({"encryption": "none", "private_key": "00" * 32}, "no such private key or scheme"),
        ({"salt": "00"}, "salt has not 16 bytes"),
        ({"salt": "é" * 32}, "salt is not hex"),
        ({"box": "00" * 71}, "box has not 72 bytes"),
        ({"box": "00" * 72}, "password is wrong, or the key file is damaged"),
        ({"opslimit": 1.0}, "not whole numbers"),
        ({"memlimit": "8192"}, "not whole numbers"),
        ({"memlimit": True}, "not whole numbers"),
        ({"opslimit": 2}, "password is wrong, or the key file is damaged"),
    ],
)
def test_wrong_fields(fields: dict[str, object], message: str) -> None:
    with pytest.raises(KeyFileError, match=message):
        open_key(changed(SEALED[Scheme.SECP256K1], **fields), PASSWORD)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * MAX_FILE_SIZE,
        b"9" * MAX_FILE_SIZE,
        b"{} " + b" " * MAX_FILE_SIZE,
        SEALED[Scheme.SECP256K1].decode().encode("utf-16"),
    ],
)
def test_what_is_no_key_file(data: bytes) -> None:
    with pytest.raises(KeyFileError, match="not a key file"):
        open_key(data, PASSWORD)


@both_schemes
@given(end=st.integers(0, 10_000))
def test_truncated_files(scheme: Scheme, end: int) -> None:
    for data in (SEALED[scheme], PLAIN[scheme]):
        whole = len(data.rstrip())
        with pytest.raises(KeyFileError):
            open_key(data[: end % whole], PASSWORD)


@both_schemes
@given(bit=st.integers(0, 10_000), sealed=st.booleans())
def test_flipped_bits(scheme: Scheme, bit: int, sealed: bool) -> None:
    data = bytearray(SEALED[scheme] if sealed else PLAIN[scheme])
    bit %= len(data) * 8
    data[bit // 8] ^= 1 << bit % 8
    try:
        opened = open_key(bytes(data), PASSWORD)
    except KeyFileError:
        return
    # A flip of hex's case or of a blank says the same; nothing may give another key.
    assert opened.private_key == IDENTITIES[scheme].private_key
    assert opened.public_key == IDENTITIES[scheme].public_key


@given(st.binary(max_size=200) | st.text('{}[]":,0e.tfn ', max_size=60).map(str.encode))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(KeyFileError):
        open_key(data, PASSWORD)


# --- on the disk ----------------------------------------------------------------------------------


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_written_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    write_key_file(path, SEALED[Scheme.ED25519])
    assert path.read_bytes() == SEALED[Scheme.ED25519]
    assert mode_of(path) == 0o600
    opened = read_key_file(str(path), PASSWORD)
    assert opened.public_key == IDENTITIES[Scheme.ED25519].public_key


def test_mode_is_0600_from_creation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "node.key"
    modes = []

    def fsync(descriptor: int) -> None:
        modes.append(mode_of(path))
        assert path.read_bytes() == b"data"  # flushed before it is synced

    monkeypatch.setattr(os, "fsync", fsync)
    before = os.umask(0)
    try:
        write_key_file(path, b"data")
    finally:
        os.umask(before)
    assert modes == [0o600]


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.write_bytes(b"precious")
    with pytest.raises(KeyFileError, match=r"node\.key: exists already"):
        write_key_file(path, b"new")
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match="link: exists already"):
        write_key_file(dangling, b"new")
    assert path.read_bytes() == b"precious"
    assert sorted(tmp_path.iterdir()) == [dangling, path]


@pytest.mark.parametrize("exists", [True, False])
def test_overwrite_replaces_in_one_step(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "node.key"
    if exists:
        path.write_bytes(b"old")
        path.chmod(0o644)
    write_key_file(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    assert mode_of(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_overwrite_does_not_write_to_a_leftover(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.write_bytes(b"old")
    leftover = tmp_path / "node.key.new"
    leftover.write_bytes(b"someone is writing")
    with pytest.raises(KeyFileError, match=r"node\.key\.new: exists already"):
        write_key_file(path, b"new", overwrite=True)
    assert path.read_bytes() == b"old"
    assert leftover.read_bytes() == b"someone is writing"


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.key"
    if overwrite:
        path.write_bytes(b"old")

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(KeyFileError, match=r"node\.key: No space left"):
        write_key_file(path, b"new", overwrite=overwrite)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([b"old"] if overwrite else [])


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_interruption_leaves_nothing_behind(
    tmp_path: Path, overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        write_key_file(tmp_path / "node.key", b"new", overwrite=overwrite)
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_path(tmp_path: Path) -> None:
    missing = tmp_path / "no-such-directory" / "node.key"
    with pytest.raises(KeyFileError, match=r"node\.key: No such file"):
        write_key_file(missing, b"data")
    with pytest.raises(KeyFileError, match=r"node\.key: No such file"):
        read_key_file(missing, None)
    with pytest.raises(KeyFileError, match="Is a directory"):
        read_key_file(tmp_path, None)
    path = tmp_path / "node.key"
    write_key_file(path, SEALED[Scheme.SECP256K1])
    with pytest.raises(KeyFileError, match=r"node\.key: the password is wrong"):
        read_key_file(path, b"wrong")


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(KeyFileError, match="over 4096 bytes"):
        read_key_file(path, None)
