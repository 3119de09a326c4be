"""The command ``aelf-p2p simulate``."""

import re

import pytest

from aelf_p2p.ops import cli
from aelf_p2p.testing.simulation import Simulation

SMALL = ["simulate", "--nodes", "6", "--blocks", "12"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = cli.main(arguments)
    return status, re.sub(r"[0-9.]+ s real", "", capsys.readouterr().out)


def test_a_small_network_ends_with_one_chain(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = run(capsys, *SMALL)
    assert status == 0
    lines = printed.splitlines()
    assert lines[0] == "6 nodes, 12 blocks, 64 transactions"
    assert "nodes               6, the lowest at height 12" in lines
    assert lines[-1] == "ok"
    # the late joiner and the one that came back were measured, in virtual seconds
    for who in ("late joiner", "killed and back"):
        [line] = [line for line in lines if line.startswith(who)]
        assert 0 < float(line.split("caught up in ")[1].split()[0]) < 30


def test_the_seed_decides(capsys: pytest.CaptureFixture[str]) -> None:
    first = run(capsys, *SMALL, "--seed", "5")
    assert run(capsys, *SMALL, "--seed", "5") == first
    assert run(capsys, *SMALL, "--seed", "6") != first


def test_what_goes_wrong_is_said_and_is_the_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(self: Simulation, index: int, transaction: object) -> bool:
        return False

    monkeypatch.setattr(Simulation, "submit", lose)
    status, printed = run(capsys, *SMALL)
    assert status == 1
    assert "FAILED              64 transactions are in no block" in printed
    assert printed.splitlines()[-1] == "failed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nodes", "3"], "--nodes: 3 is not between 4 and 500"),
        (["--blocks", "9"], "--blocks: 9 is not between 10 and 100000"),
        (["--blocks", "ten"], "--blocks: 'ten' is not a whole number"),
        (["--seed", "x"], "--seed: 'x' is not a whole number"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["simulate", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
