"""The runner's command line, where nothing is fuzzed: atheris need not be there."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fuzz import cli
from tests.fuzz.campaign import Outcome, Plan
from tests.fuzz.harness import load, names
from tests.fuzz.imported import instrumented, left_alone
from tests.fuzz.libfuzzer import Progress


def test_all_targets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names()
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "no such target: nothing; there are: announcements, "),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--inputs", "0"], "--inputs must be at least 1"),
        (["--seconds", "0"], "0 is not above zero"),
        (["--seconds", "1", "--in-all", "1"], "not allowed with"),
        (["--replay", "x"], "--replay needs the one target"),
    ],
)
def test_misuse_is_told(
    arguments: Sequence[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == cli.MISUSE
    assert says in capsys.readouterr().err


def test_without_atheris_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert cli.main(["version"]) == cli.MISUSE
    assert "make .venv-fuzz/installed" in capsys.readouterr().err


def test_an_input_is_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"1.4.0.0")
    assert cli.main(["version", "--replay", str(path)]) == 0
    assert capsys.readouterr().out == "7 bytes: accepted, as is right\n"
    path.write_bytes(b"one")
    assert cli.main(["version", "--replay", str(path)]) == 0
    assert capsys.readouterr().out == "3 bytes: refused, as is right\n"
    assert cli.main(["version", "--replay", str(tmp_path / "none")]) == cli.MISUSE
    assert "No such file" in capsys.readouterr().err


LOG = """\
INFO: Seed: 1688485778
#7	INITED cov: 15 ft: 18 corp: 6/45b exec/s: 0 rss: 74Mb
#9	NEW    cov: 16 ft: 20 corp: 7/50b lim: 4 exec/s: 0 rss: 74Mb L: 5/8 MS: 1 Custom-
#1024	pulse  cov: 16 ft: 20 corp: 7/50b lim: 4 exec/s: 512 rss: 74Mb
stat::number_of_executed_units: 1500
"""
FAULT = """\
 === Uncaught Python exception: ===
AssertionError: it is wrong
Traceback (most recent call last):
==12== ERROR: libFuzzer: fuzz target exited
artifact_prefix='/x/'; Test unit written to /x/crash-aa
"""


def progress_of(log: str) -> Progress:
    progress = Progress()
    for line in log.splitlines():
        progress.take(line)
    return progress


def test_what_libfuzzer_tells_is_understood() -> None:
    progress = progress_of(LOG)
    assert (progress.executions, progress.new_inputs, progress.problem) == (1500, 1, "")
    assert (progress.edges_at_first, progress.edges) == (15, 16)
    assert (progress.features_at_first, progress.features) == (18, 20)
    progress = progress_of(LOG + FAULT)
    assert progress.problem == "AssertionError: it is wrong"
    assert progress.artifact == "/x/crash-aa"
    assert progress_of("==7== ERROR: libFuzzer: out-of-memory (x)").problem == "out-of-memory (x)"


def test_the_table_tells_all_of_it() -> None:
    good = Outcome("version", progress_of(LOG), took_s=2.0, note="")
    bad = Outcome("transaction", progress_of(LOG + FAULT), took_s=2.0, note="")
    assert good.is_good
    assert not bad.is_good
    assert cli.table([good, bad, Outcome("block")]).splitlines() == [
        "target       executions  1/s    edges  features  new inputs  found",
        "version            1500  750  15 > 16   18 > 20           1  nothing",
        "transaction        1500  750  15 > 16   18 > 20           1  AssertionError: it is wrong",
        "block                 0         0 > 0     0 > 0           0  not run",
    ]
    assert (
        cli.replay_command("transaction", Path("/x/crash-aa"))
        == "python -m tests.fuzz transaction --replay /x/crash-aa"
    )


def test_time_is_shared() -> None:
    assert Plan(jobs=1, seconds=7).share_s(left_s=1, targets_left=3) == 7
    shared = Plan(jobs=2, in_all_s=60)
    assert shared.share_s(left_s=60, targets_left=30) == 2.5
    assert shared.share_s(left_s=10, targets_left=1) == 8.5
    assert shared.share_s(left_s=1, targets_left=30) == 1


def test_what_a_target_imports_is_what_it_tries() -> None:
    tried = instrumented("transaction")
    assert "aelf_p2p.core.canonical" in tried
    assert "aelf_p2p.transports.grpc.codec" not in tried
    assert "aelf_p2p.transports.grpc.codec" in left_alone("transaction")
    assert {"aelf_p2p.transports.grpc.codec", "h2", "hpack"} <= set(instrumented("grpc_server"))
    assert not any(name.startswith("tests.") for name in tried)


@pytest.mark.parametrize("name", names())
def test_seeds_are_the_same_each_time_and_fit(name: str) -> None:
    harness = load(name)
    assert list(harness.seeds()) == list(harness.seeds()), "other inputs each time"
    assert all(len(data) <= harness.max_bytes for data in harness.seeds())
