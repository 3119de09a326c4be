"""Contenders of fan-out: each goes through a small round, and who cannot run is left out."""

from contextlib import ExitStack

import pytest

from benchmarks import bothends, contenders
from benchmarks.children import ChildError
from benchmarks.contenders import CEILING, GRPC, How, join
from benchmarks.environments import MAIN, ROOT, Environment
from benchmarks.results import OURS, Note
from benchmarks.workload import Workload

SMALL = Workload(peers=2, payload_bytes=300, messages=40, tls=True)

# Those of other environments need what no test installs.
HERE = {
    **{f"{name}, sinks": how for name, how in contenders.CONTENDERS.items()},
    **{f"{name}, both ends": how for name, how in bothends.CONTENDERS.items()},
}
HERE = {name: how for name, how in HERE.items() if how.environment is MAIN}

NOWHERE = Environment("none", ROOT / "none/bin/python", (), "none/installed")


@pytest.mark.parametrize("name", HERE)
def test_every_delivery_of_a_round_arrives(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    how = HERE[name]
    if missing := how.environment.missing(how.packages):
        pytest.skip(missing)
    with ExitStack() as stack:
        contender = join(stack, f"{OURS}, or {name}", how, SMALL)
        assert not isinstance(contender, Note)
        contender.run_round()  # fails unless the receivers count all
        assert len(contender.rates) == 1
        assert contender.workload.messages == max(1, round(SMALL.messages * how.part))
    assert "Traceback" not in capfd.readouterr().err


def test_a_rival_that_is_not_installed_is_left_out() -> None:
    how = How(sender="fanout_purerpc", packages=["purerpc"], environment=NOWHERE)
    with ExitStack() as stack:
        joined = join(stack, "purerpc", how, SMALL)
    assert joined == Note(
        "purerpc", "left out: purerpc not installed in none (make none/installed)"
    )


def test_a_rival_that_fails_is_left_out_and_ours_is_not() -> None:
    broken = How(sender="fanout_ours", setup={"transport": "pigeons"})
    with ExitStack() as stack:
        joined = join(stack, "a rival", broken, SMALL)
        assert joined == Note("a rival", "left out: a rival's sender has failed")
        with pytest.raises(ChildError, match="aelf-p2p grpc's sender has failed"):
            join(stack, GRPC, broken, SMALL)


def test_what_does_not_arrive_is_no_round(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        contender = join(stack, CEILING, contenders.CONTENDERS[CEILING], SMALL)
        assert not isinstance(contender, Note)
        so_far = contender.receivers.ask("so far")
        monkeypatch.setattr(contender.receivers, "ask", lambda _question: so_far)
        with pytest.raises(ChildError, match="0 of 80 arrived"):
            contender.run_round()
