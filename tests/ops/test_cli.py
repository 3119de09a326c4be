"""The command ``aelf-p2p``: what all its commands have in common."""

import os
import re
import signal
from argparse import Namespace
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

from aelf_p2p.core.errors import (
    ConnectionLostError,
    KeyFileError,
    MalformedError,
    MisuseError,
    StoreError,
)
from aelf_p2p.ops import cli, keygen
from aelf_p2p.testing.simulation import Simulation
from tests.ops.processes import PROGRAM, start

COMMANDS = ["run", "keygen", "make-chain", "devnet", "perturb", "simulate"]


def leave(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """What ends at its arguments: the status, and what is said on stdout and stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert isinstance(ended.value.code, int)
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


# --- help -----------------------------------------------------------------------------------------


def test_the_program_is_installed_under_its_name() -> None:
    [script] = entry_points(group="console_scripts", name="aelf-p2p")
    assert script.load() is cli.main


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(capsys, "--version") == (0, version("aelf-p2p") + "\n", "")


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = leave(capsys, "--help")
    assert (status, err) == (0, "")
    listed = re.findall(r"^    ([a-z-]+)\b", out, re.MULTILINE)
    assert listed == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = leave(capsys, command, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: aelf-p2p {command} [-h]")
    usage, explained = out.split("\n\n", 1)
    options = re.findall(r" {2,}(--[a-z-]+)", explained)
    assert len(options) >= 3
    assert set(options) == set(re.findall(r"--[a-z-]+", usage))


# --- wrong arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "aelf-p2p: the following arguments are required: COMMAND"),
        (["simulat"], "aelf-p2p: argument COMMAND: invalid choice: 'simulat'"),
        (["--size", "3"], "aelf-p2p: "),
        (["keygen"], "aelf-p2p keygen: the following arguments are required: --out"),
        (
            ["make-chain", "--ephemeral-key"],
            "aelf-p2p make-chain: the following arguments are required: --count, --out",
        ),
        (["simulate", "extra"], "aelf-p2p: unrecognized arguments: extra"),
        (["run", "--eph"], "aelf-p2p run: one of the arguments --key --ephemeral-key is required"),
        (["devnet", "--nodes", "3"], "aelf-p2p devnet: argument --nodes: 3 is not between 4 and"),
        (
            ["perturb", "--faults", "3"],
            "aelf-p2p perturb: argument --faults: 3 is not between 4 and 10000",
        ),
        (
            ["devnet", "--block-interval", "nan"],
            "aelf-p2p devnet: argument --block-interval: 'nan' is not a number of seconds",
        ),
        (
            ["devnet", "--block-interval", "0"],
            "aelf-p2p devnet: argument --block-interval: 0 is not above 0 and finite",
        ),
        (
            ["run", "--ephemeral-key", "--data", ""],
            "aelf-p2p run: argument --data: an empty path names nothing",
        ),
        *(
            (
                [command, *required, "--sise", "3"],
                "aelf-p2p: unrecognized arguments: --sise 3 (see aelf-p2p --help)",
            )
            for command, required in [
                ("run", ["--ephemeral-key"]),
                ("keygen", ["--out", "node.key"]),
                ("make-chain", ["--ephemeral-key", "--count", "1", "--out", "chain"]),
                ("devnet", []),
                ("perturb", []),
                ("simulate", []),
            ]
        ),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = leave(capsys, *arguments)
    assert (status, out) == (2, "")
    [line] = err.splitlines()
    assert line.startswith(message)


# --- errors ---------------------------------------------------------------------------------------


def ends_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """The status when a command ends with an exception."""

    def run(options: Namespace) -> int:
        raise error

    monkeypatch.setattr(keygen, "run", run)
    return cli.main(["keygen", "--out", "node.key"])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MisuseError("why"), 2),
        (MalformedError("why"), 2),
        (KeyFileError("why"), 2),
        (StoreError("why"), 2),
        (ConnectionLostError("why"), 1),
        (ExceptionGroup("group", [MisuseError("why")]), 2),
        (ExceptionGroup("group", [ExceptionGroup("inner", [ConnectionLostError("why")])]), 1),
    ],
)
def test_an_error_is_told_in_one_line(
    error: Exception,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ends_with(monkeypatch, error) == status
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "aelf-p2p keygen: why\n")


@pytest.mark.parametrize(
    ("second", "status"), [(StoreError("two"), 2), (ConnectionLostError("two"), 1)]
)
def test_each_of_several_errors_is_told(
    second: Exception,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    group = ExceptionGroup("group", [MisuseError("one"), ExceptionGroup("inner", [second])])
    assert ends_with(monkeypatch, group) == status
    assert capsys.readouterr().err == "aelf-p2p keygen: one\naelf-p2p keygen: two\n"


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), BaseExceptionGroup("group", [KeyboardInterrupt()])]
)
def test_an_interruption_is_told_in_one_line(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends_with(monkeypatch, error) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_the_signal_is_told_by_the_status(
    number: signal.Signals, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(options: Namespace) -> int:
        signal.raise_signal(number)
        raise AssertionError

    monkeypatch.setattr(keygen, "run", run)
    assert cli.main(["keygen", "--out", "node.key"]) == status


def test_interrupting_what_runs_in_trio(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupt(self: Simulation, index: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Simulation, "mine", interrupt)
    assert cli.main(["simulate", "--nodes", "6", "--blocks", "12"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_interrupts_a_simulation(number: signal.Signals) -> None:
    with start("simulate", "--nodes", 6, "--blocks", 100_000) as process:
        process.wait_printed("6 nodes")
        assert process.end(number) == 128 + number
        assert process.errors() == ["interrupted"]
        assert "ok" not in process.printed()


def test_faults_of_our_own_leave_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        ends_with(monkeypatch, ExceptionGroup("group", [KeyError("fault")]))
    assert caught.group_contains(KeyError, match="fault")


@pytest.mark.parametrize("status", [0, 1, 7])
def test_the_status_is_the_commands_own(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keygen, "run", lambda options: status)
    assert cli.main(["keygen", "--out", "node.key"]) == status


def test_the_status_is_the_processes(tmp_path: Path) -> None:
    with start("keygen", "--no-password", "--out", tmp_path) as process:
        assert process.wait() == 2
        assert process.printed() == []
        assert process.errors() == [
            f"aelf-p2p keygen: argument --out: {tmp_path}: exists already and is left as it is "
            "(see aelf-p2p keygen --help)"
        ]


# --- a stdout that takes nothing ------------------------------------------------------------------

PRINTING = [
    ["--help"],
    ["--version"],
    ["run", "--help"],
    ["run", "--ephemeral-key", "--listen", "127.0.0.1:0"],
    ["keygen", "--no-password", "--out", "node.key"],
    ["make-chain", "--ephemeral-key", "--count", "1", "--out", "chain"],
    ["devnet"],
    ["simulate"],
]


def name_of(arguments: list[str]) -> str:
    [first, *rest] = arguments
    return "aelf-p2p" if first.startswith("--") or "--help" in rest else f"aelf-p2p {first}"


@pytest.mark.parametrize("unbuffered", [[], ["-u"]], ids=["", "unbuffered"])
@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_stdout_that_is_full(arguments: list[str], unbuffered: list[str], tmp_path: Path) -> None:
    with (
        Path("/dev/full").open("wb") as full,
        start(*arguments, python=unbuffered, stdout=full, cwd=tmp_path) as process,
    ):
        assert process.wait() == 1
        [line] = [line for line in process.errors() if "is not encrypted" not in line]
    assert line == f"{name_of(arguments)}: stdout: No space left on device"


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_stdout_that_is_closed(arguments: list[str], tmp_path: Path) -> None:
    program = f"import os, sys; os.close(1); sys.stdout = None; {PROGRAM}"
    with start(*arguments, program=program, cwd=tmp_path) as process:
        assert process.wait() == 1
        [line] = [line for line in process.errors() if "is not encrypted" not in line]
    assert line == f"{name_of(arguments)}: stdout: it is closed"


def test_a_stderr_that_takes_nothing(tmp_path: Path) -> None:
    """What is said beside the result is not heard, and that is all."""
    arguments = ("make-chain", "--ephemeral-key", "--count", 2, "--out")
    with Path("/dev/full").open("wb") as full:
        with start(*arguments, tmp_path / "one", stderr=full) as process:
            assert process.wait() == 0
            assert len(process.printed()) == 2
        with start("keygen", "--out", tmp_path / "one", stderr=full) as process:
            assert process.wait() == 2
    program = f"import os, sys; os.close(2); sys.stderr = None; {PROGRAM}"
    with start("keygen", "--out", tmp_path / "one", program=program) as process:
        assert process.wait() == 2
        assert process.printed() == []


def test_a_name_that_stdout_cannot_show(tmp_path: Path) -> None:
    out = os.fsencode(tmp_path) + b"/gr\xfcn"
    with start("make-chain", "--ephemeral-key", "--count", 1, "--out", os.fsdecode(out)) as process:
        assert process.wait() == 0
        first, _ = process.printed()
    assert first == f"{tmp_path}/gr\\udcfcn: 1 blocks, 64 transactions"
    assert Path(os.fsdecode(out)).exists()
