"""The command ``aelf-p2p make-chain``."""

import itertools
import re
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from aelf_p2p.chain.chain_file import import_chain_file, read_chain_file
from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.chain.memory_store import MemoryChainStore
from aelf_p2p.core.block import Block
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.keyfile import seal_key, write_key_file
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.ops import cli, make_chain
from aelf_p2p.testing.vectors import load_vectors
from tests.chain.made import MINER, signed_transaction
from tests.ops.processes import start
from tests.ops.refusals import refusal

REAL = load_vectors().transactions
HALF_A_SECOND_NS = 500_000_000


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "chain"


def make(out: Path, *arguments: object, key: Path | None = None) -> int:
    whose = ["--ephemeral-key"] if key is None else ["--key", str(key)]
    return cli.main(["make-chain", *whose, "--out", str(out), *map(str, arguments)])


def made(out: Path, *arguments: object, key: Path | None = None) -> list[Block]:
    assert make(out, *arguments, key=key) == 0
    return list(read_chain_file(out))


def refused(capsys: pytest.CaptureFixture[str], out: Path, *arguments: object) -> str:
    return refusal(capsys, "make-chain", "--ephemeral-key", "--out", out, *arguments)


def set_clock(monkeypatch: pytest.MonkeyPatch, read: Callable[[], float]) -> None:
    clock = SimpleNamespace(monotonic=read, time_ns=time.time_ns)
    monkeypatch.setattr(make_chain, "time", clock)


# --- the chain ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(1, {64: 1}), (64, {1: 64}), (200, {0: 136, 1: 64}), (50, {1: 36, 2: 14})],
)
def test_real_transactions_spread_evenly(count: int, sizes: dict[int, int], out: Path) -> None:
    chain = made(out, "--count", count)
    assert len(chain) == count
    held = [len(block.transactions) for block in chain]
    assert {size: held.count(size) for size in held} == sizes
    assert [id_ for block in chain for id_ in block.transaction_ids] == [each.id for each in REAL]
    for part in (held[: count // 2], held[count // 2 :]):
        assert abs(sum(part) - 64 * len(part) / count) < 1


async def test_a_kernel_takes_it(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(out, "--count", 100) == 0
    store = MemoryChainStore()
    kernel = MinimalKernel(store, chain_id="AELF")
    report = await import_chain_file(out, kernel, store, chain_id=9992731)
    assert (report.blocks, report.new) == (100, 100)
    assert capsys.readouterr().out == (
        f"{out}: 100 blocks, 64 transactions\ntip {store.status.best_hash.hex()}\n"
    )


def test_the_last_block_has_the_time_of_now(out: Path) -> None:
    before = time.time_ns()
    chain = made(out, "--count", 5)
    assert before <= chain[-1].time_ns <= time.time_ns()
    ages = [chain[-1].time_ns - block.time_ns for block in chain]
    assert ages == [age * HALF_A_SECOND_NS for age in (4, 3, 2, 1, 0)]


@pytest.mark.parametrize(
    ("text", "number"), [("tDVW", 1931928), ("1931928", 1931928), ("AELF", 9992731), ("7", 7)]
)
def test_the_chain_id(text: str, number: int, out: Path) -> None:
    assert {block.header.chain_id for block in made(out, "--count", 3, "--chain-id", text)} == {
        number
    }


def test_aelf_is_the_chain_unless_told_otherwise(out: Path) -> None:
    [block] = made(out, "--count", 1)
    assert block.header.chain_id == 9992731


def test_the_key_signs_it(tmp_path: Path, out: Path) -> None:
    write_key_file(tmp_path / "miner.key", seal_key(MINER, None))
    chain = made(out, "--count", 2, key=tmp_path / "miner.key")
    assert {block.header.signer_pubkey for block in chain} == {MINER.public_key}


def test_ephemeral_keys_are_new_ones(tmp_path: Path) -> None:
    [one], [other] = (made(tmp_path / name, "--count", 1) for name in ("one", "other"))
    assert one.header.signer_pubkey != other.header.signer_pubkey


def test_progress_is_told_now_and_then(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_clock(monkeypatch, partial(next, itertools.count()))
    assert make(out, "--count", 5) == 0
    assert capsys.readouterr().err == "2 of 5 blocks\n4 of 5 blocks\n"


# --- transactions of one's own --------------------------------------------------------------------


def lines(path: Path, *texts: str) -> Path:
    path.write_text("".join(f"{text}\n" for text in texts), "utf-8")
    return path


def test_transactions_of_a_file(tmp_path: Path, out: Path) -> None:
    first, second, third = (signed_transaction() for _ in range(3))
    path = lines(
        tmp_path / "transactions",
        "# three of them",
        first.raw.hex(),
        "",
        f"  {second.raw.hex(' ')}  ",
        "   ",
        "#" + first.raw.hex(),
        third.raw.hex().upper(),
    )
    chain = made(out, "--count", 2, "--transactions", path)
    assert [block.transactions for block in chain] == [(first,), (second, third)]


def test_real_transactions_of_a_file(tmp_path: Path, out: Path) -> None:
    path = lines(tmp_path / "transactions", *(each.raw.hex() for each in REAL[:3]))
    [block] = made(out, "--count", 1, "--transactions", path)
    assert block.transaction_ids == tuple(each.id for each in REAL[:3])


RIGHT = signed_transaction()
OF_ANOTHER = Transaction.parse_untrusted(RIGHT.raw).with_signature(
    Identity.from_private_key(bytes(range(1, 33))).sign(RIGHT.id)
)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no hex", "non-hexadecimal number"),
        (RIGHT.raw.hex()[:-1], "non-hexadecimal number"),
        (RIGHT.raw.hex()[:-2], "is cut short"),
        ("00", "no field can have the number 0"),
        (
            RIGHT.raw.hex().replace(RIGHT.signature.hex(), "00" * 65),
            f"transaction {RIGHT.id.hex()}: its signature does not recover its signer",
        ),
        (
            OF_ANOTHER.raw.hex(),
            f"transaction {RIGHT.id.hex()}: its signer's address is not its sender",
        ),
        (REAL[0].raw.hex(), "the transaction was there before"),
    ],
    ids=["no hex", "half a byte", "cut", "no transaction", "no signature", "wrong signer", "twice"],
)
def test_a_line_that_is_wrong(
    line: str, message: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lines(tmp_path / "transactions", "# one", REAL[0].raw.hex(), "", line)
    said = refused(capsys, out, "--count", 1, "--transactions", path)
    assert said.startswith(f"{path}, line 4: ")
    assert message in said
    assert not out.exists()


@pytest.mark.parametrize("texts", [[], ["", "# none"]])
def test_a_file_without_transactions(
    texts: list[str], tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lines(tmp_path / "transactions", *texts)
    said = refused(capsys, out, "--count", 1, "--transactions", path)
    assert said == f"{path}: it holds no transaction"


def test_files_that_cannot_be_read(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    said = refused(capsys, out, "--count", 1, "--transactions", nowhere)
    assert said == f"{nowhere}: No such file or directory"
    said = refused(capsys, out, "--count", 1, "--transactions", tmp_path)
    assert said == f"{tmp_path}: Is a directory"
    path = lines(tmp_path / "transactions", "grün")
    said = refused(capsys, out, "--count", 1, "--transactions", path)
    assert said.startswith(f"{path}, line 1: 'ascii' codec can't decode")


def test_a_line_without_end(
    tmp_path: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = REAL[0].raw.hex()
    monkeypatch.setattr(make_chain, "MAX_LINE_BYTES", len(line) + 1)
    path = lines(tmp_path / "transactions", line, "0" * len(line) + "0")
    said = refused(capsys, out, "--count", 1, "--transactions", path)
    assert said == f"{path}, line 2: it is over {len(line) + 1} bytes"
    path.write_text(f"{line}\n" + "0" * (len(line) + 2))
    said = refused(capsys, out, "--count", 1, "--transactions", path)
    assert said == f"{path}, line 2: it is over {len(line) + 1} bytes"


# --- what is not done -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "message"),
    [
        ("0", "0 is not between 1 and 100000000"),
        ("-1", "-1 is not between 1 and 100000000"),
        ("100000001", "100000001 is not between 1 and 100000000"),
        ("ten", "'ten' is not a whole number"),
        ("1.5", "'1.5' is not a whole number"),
    ],
)
def test_no_such_count(
    count: str, message: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        make(out, f"--count={count}")
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"aelf-p2p make-chain: argument --count: (.*) \(see .*\)", line)
    assert message in line
    assert not out.exists()


def test_an_existing_file_is_left_as_it_is(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out.write_bytes(b"precious")
    said = refused(capsys, out, "--count", 1)
    assert said.startswith(f"argument --out: {out}: exists already and is left as it is (see ")
    assert out.read_bytes() == b"precious"
    assert list(out.parent.iterdir()) == [out]


def test_an_interrupted_one_leaves_no_file(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readings = itertools.count()

    def interrupt() -> float:
        if next(readings) == 3:
            assert len(list(out.parent.iterdir())) == 1  # it is being written
            raise KeyboardInterrupt
        return 0.0

    set_clock(monkeypatch, interrupt)
    assert make(out, "--count", 5) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    "numbers",
    [
        [signal.SIGTERM],
        [signal.SIGINT],
        [signal.SIGHUP],
        [signal.SIGTERM, signal.SIGHUP],
        [signal.SIGINT, signal.SIGTERM],
    ],
)
def test_signals_leave_no_file(numbers: list[signal.Signals], out: Path) -> None:
    arguments = ("--ephemeral-key", "--count", 100_000_000, "--out", out)
    with start("make-chain", *arguments) as process:
        process.wait_until(lambda: any(out.parent.iterdir()))
        process.send(*numbers)
        assert process.wait() in [128 + number for number in numbers]
        assert process.errors()[-1] == "interrupted"
    assert list(out.parent.iterdir()) == []
