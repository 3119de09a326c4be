"""The command ``aelf-p2p keygen``, and where passwords come from."""

import getpass
import io
import signal
import stat
import sys
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from coincurve import PublicKey
from nacl.pwhash import argon2id
from nacl.signing import SigningKey

from aelf_p2p.chain.chain_file import read_chain_file
from aelf_p2p.core.address import parse_address_untrusted
from aelf_p2p.core.errors import KeyFileError
from aelf_p2p.core.identity import Identity, Scheme
from aelf_p2p.core.keyfile import read_key_file, seal_key
from aelf_p2p.ops import cli, keygen
from aelf_p2p.ops.passwords import ENVIRONMENT_VARIABLE
from aelf_p2p.testing.vectors import load_vectors
from tests.ops.processes import start_at_terminal
from tests.ops.refusals import refusal

PASSWORD = b"correct horse"


@pytest.fixture(autouse=True)
def nobody_sits_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key files with the cheapest costs there are; those of other processes are the real ones."""
    cheapest = partial(seal_key, opslimit=1, memlimit=argon2id.MEMLIMIT_MIN)
    monkeypatch.setattr(keygen, "seal_key", cheapest)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "node.key"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_bytes(PASSWORD + b"\n")
    return path


class Terminal(io.StringIO):
    """Someone who sits there and answers."""

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._answers = iter(answers)

    def isatty(self) -> bool:
        return True

    def answer(self, prompt: str) -> str:
        self.asked.append(prompt)
        return next(self._answers)


def sits_there(monkeypatch: pytest.MonkeyPatch, *answers: str) -> Terminal:
    terminal = Terminal(*answers)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(getpass, "getpass", terminal.answer)
    return terminal


def make(*arguments: object) -> int:
    return cli.main(["keygen", *map(str, arguments)])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    return refusal(capsys, "keygen", *arguments)


# --- the key --------------------------------------------------------------------------------------


def test_a_key_pair(out: Path, password_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make("--out", out, "--password-file", password_file) == 0
    said = capsys.readouterr()
    identity = read_key_file(out, PASSWORD)
    assert identity.scheme is Scheme.SECP256K1
    public_key = PublicKey.from_secret(identity.private_key).format(compressed=False)
    first, second = said.out.splitlines()
    assert first == f"public key  {public_key.hex()}"
    label, address = second.split()
    assert label == "address"
    assert parse_address_untrusted(address) == sha256(sha256(public_key).digest()).digest()
    assert said.err == ""
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert PASSWORD not in out.read_bytes()
    with pytest.raises(KeyFileError, match="password is wrong"):
        read_key_file(out, b"correct horse\n")


def test_the_address_is_the_one_that_others_show(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, key in enumerate(load_vectors().keys):
        identity = Identity.from_private_key(key.private_key)
        monkeypatch.setattr(Identity, "generate", lambda scheme, known=identity: known)
        assert make("--out", f"{out}{index}", "--no-password") == 0
        assert capsys.readouterr().out == (
            f"public key  {key.public_key.hex()}\naddress     {key.address}\n"
        )


def test_a_key_pair_of_ed25519(
    out: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make("--out", out, "--scheme", "ed25519", "--password-file", password_file) == 0
    identity = read_key_file(out, PASSWORD)
    assert identity.scheme is Scheme.ED25519
    public_key = bytes(SigningKey(identity.private_key).verify_key)
    assert capsys.readouterr().out == f"public key  {public_key.hex()}\n"


def test_no_two_keys_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "other"):
        assert make("--out", tmp_path / name, "--no-password") == 0
    one, other = (read_key_file(tmp_path / name, None) for name in ("one", "other"))
    assert one.private_key != other.private_key


def test_without_a_password_it_says_so(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make("--out", out, "--no-password") == 0
    said = capsys.readouterr()
    assert said.err == f"{out} is not encrypted: whoever reads it has the key\n"
    assert read_key_file(out, None).public_key.hex() in said.out
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


# --- files that are in the way --------------------------------------------------------------------


def test_an_existing_file_is_left_as_it_is_and_nobody_is_asked(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = sits_there(monkeypatch)
    out.write_bytes(b"precious")
    said = refused(capsys, "--out", out)
    assert said.startswith(f"argument --out: {out}: exists already and is left as it is (see ")
    assert terminal.asked == []
    assert refused(capsys, "--out", out, "--no-password") == said
    assert out.read_bytes() == b"precious"


def test_places_where_no_key_can_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = tmp_path / "nowhere" / "node.key"
    said = refused(capsys, "--out", nowhere, "--no-password")
    assert said == f"{nowhere}: No such file or directory"
    said = refused(capsys, "--out", tmp_path, "--no-password")
    assert said.startswith(f"argument --out: {tmp_path}: exists already and is left as it is ")


def test_a_name_that_is_too_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--out", tmp_path / ("a" * 300), "--no-password")
    assert "File name too long" in said


# --- passwords from files and the environment -----------------------------------------------------


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"correct horse\n", PASSWORD),
        (b"correct horse", PASSWORD),
        (b"correct horse\r\nbattery staple\r\n", PASSWORD),
        (b" correct  horse \n", b" correct  horse "),
        ("größer\n".encode(), b"gr\xc3\xb6\xc3\x9fer"),
        (b"\xff\xfe\x00\n", b"\xff\xfe\x00"),
    ],
)
def test_the_first_line_of_a_file(
    content: bytes, password: bytes, out: Path, password_file: Path
) -> None:
    password_file.write_bytes(content)
    assert make("--out", out, "--password-file", password_file) == 0
    assert read_key_file(out, password).scheme is Scheme.SECP256K1


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n", b"\ncorrect horse\n"])
def test_an_empty_first_line_is_no_password(
    content: bytes, out: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    password_file.write_bytes(content)
    said = refused(capsys, "--out", out, "--password-file", password_file)
    assert said == f"{password_file}: its first line is empty, and no password"
    assert not out.exists()


def test_a_first_line_without_end(
    out: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    password_file.write_bytes(b"x" * 4096 + b"\r\n")
    assert make("--out", out, "--password-file", password_file) == 0
    assert read_key_file(out, b"x" * 4096).scheme is Scheme.SECP256K1
    out.unlink()
    capsys.readouterr()
    for content in (b"x" * 4097 + b"\n", b"x" * 10_000):
        password_file.write_bytes(content)
        said = refused(capsys, "--out", out, "--password-file", password_file)
        assert said == f"{password_file}: its first line is longer than 4096 bytes"
    assert not out.exists()


def test_a_file_that_cannot_be_read(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "--out", out, "--password-file", tmp_path / "nowhere")
    assert said == f"{tmp_path / 'nowhere'}: No such file or directory"
    said = refused(capsys, "--out", out, "--password-file", tmp_path)
    assert said == f"{tmp_path}: Is a directory"
    assert not out.exists()


@pytest.mark.parametrize(
    ("value", "password"),
    [("correct horse", PASSWORD), ("größer", "größer".encode()), ("\udcff", b"\xff")],
)
def test_the_environment_variable(
    value: str, password: bytes, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AELF_P2P_PASSWORD", value)
    assert make("--out", out) == 0
    assert read_key_file(out, password).scheme is Scheme.SECP256K1


def test_a_file_goes_before_the_environment_and_that_before_a_prompt(
    tmp_path: Path, password_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = sits_there(monkeypatch, "typed", "typed")
    monkeypatch.setenv("AELF_P2P_PASSWORD", "of the environment")
    assert make("--out", tmp_path / "one", "--password-file", password_file) == 0
    assert make("--out", tmp_path / "two") == 0
    monkeypatch.setenv("AELF_P2P_PASSWORD", "")  # as good as none
    assert terminal.asked == []
    assert make("--out", tmp_path / "three") == 0
    opened = [
        read_key_file(tmp_path / name, password)
        for name, password in [
            ("one", PASSWORD),
            ("two", b"of the environment"),
            ("three", b"typed"),
        ]
    ]
    assert len({identity.public_key for identity in opened}) == 3


def test_a_file_and_no_password_at_once(
    out: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        make("--out", out, "--no-password", "--password-file", password_file)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--password-file: not allowed with argument --no-password" in line
    assert not out.exists()


# --- passwords that are typed ---------------------------------------------------------------------


def test_a_new_password_is_asked_for_twice(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = sits_there(monkeypatch, "größer", "größer")
    assert make("--out", out) == 0
    assert terminal.asked == [f"Password for {out}: ", "Once more: "]
    assert read_key_file(out, "größer".encode()).scheme is Scheme.SECP256K1


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (["correct horse", "correct hose"], "the two passwords differ"),
        (["correct horse", ""], "the two passwords differ"),
        ([""], "no password was given"),
    ],
)
def test_passwords_that_will_not_do(
    answers: list[str],
    message: str,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal = sits_there(monkeypatch, *answers)
    assert refused(capsys, "--out", out) == message
    assert len(terminal.asked) == len(answers)
    assert not out.exists()


def test_nobody_to_ask(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "--out", out) == (
        "a password is needed: give it by --password-file or AELF_P2P_PASSWORD, "
        "or call this from a terminal"
    )
    assert not out.exists()


def test_nothing_to_ask_through(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as when it is called with <&-
    assert refused(capsys, "--out", out).startswith("a password is needed: ")


def test_at_a_terminal(out: Path) -> None:
    with start_at_terminal("keygen", "--out", out) as (process, terminal):
        terminal.wait_shown(f"Password for {out}: ")
        terminal.type("correct horse\n")
        terminal.wait_shown("Once more: ")
        terminal.type("correct horse\n")
        assert process.wait() == 0
        public_key = bytes.fromhex(process.printed()[0].removeprefix("public key  "))
        assert "horse" not in terminal.everything()
        assert process.errors() == []
    chain = out.with_name("chain")
    arguments = ("make-chain", "--count", 1, "--key", out, "--out", chain)
    with start_at_terminal(*arguments) as (process, terminal):
        terminal.wait_shown(f"Password of {out}: ")
        terminal.type("correct horse\n")
        assert process.wait() == 0
        assert "Once more" not in terminal.everything()
    [block] = read_chain_file(chain)
    assert block.header.signer_pubkey == public_key


def test_a_signal_at_the_prompt_leaves_the_terminal_in_order(out: Path) -> None:
    with start_at_terminal("keygen", "--out", out) as (process, terminal):
        terminal.wait_shown(f"Password for {out}: ")
        assert not terminal.echoes()
        assert process.end() == 128 + signal.SIGTERM
        assert process.errors() == ["interrupted"]
        assert terminal.echoes()
    assert not out.exists()


def test_what_is_typed_and_is_no_text(out: Path) -> None:
    with start_at_terminal("keygen", "--out", out) as (process, terminal):
        terminal.wait_shown(f"Password for {out}: ")
        terminal.type("gr\udcfcn\n")
        assert process.wait() == 2
        assert process.errors() == ["aelf-p2p keygen: the password is not text in utf-8"]


@pytest.mark.parametrize(
    ("key", "status", "line"),
    [
        ("\x03", 130, "interrupted"),
        ("\x04", 2, "aelf-p2p keygen: no password was given"),
    ],
    ids=["Ctrl-C", "Ctrl-D"],
)
def test_someone_who_gives_none(key: str, status: int, line: str, out: Path) -> None:
    with start_at_terminal("keygen", "--out", out) as (process, terminal):
        terminal.wait_shown(f"Password for {out}: ")
        terminal.type(key)
        assert process.wait() == status
        assert process.errors() == [line]
        assert process.printed() == []
    assert not out.exists()
