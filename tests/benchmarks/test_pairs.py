"""Servers and clients as processes, each contender's once, with next to nothing to do."""

from collections.abc import Iterator

import pytest

from benchmarks.children import ChildError, Children
from benchmarks.connect_ours import PEER, PING_ANSWER
from benchmarks.contenders import GRPC, GRPC_AIO
from benchmarks.download_ours import GZIP, PLAIN
from benchmarks.environments import Environment
from benchmarks.latency_ours import STREAM, UNARY
from benchmarks.memory import Grown, grow
from benchmarks.pairs import PAIRS, left_out, pair

CHAIN = {"blocks": 2, "transactions_each": 3}
LARGE_CHAIN = {"blocks": 2, "total_bytes": 200_000, "params_bytes": 80}


@pytest.fixture
def clean_ends(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No process complains, not even while it ends."""
    yield
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.usefixtures("clean_ends")
@pytest.mark.parametrize("name", PAIRS)
def test_pings_are_measured_both_ways(name: str) -> None:
    with pair("latency", name, tls=True) as client:
        for way in (STREAM, UNARY):
            assert len(client.ask([way, 2])) == 2


@pytest.mark.usefixtures("clean_ends")
@pytest.mark.parametrize("name", PAIRS)
def test_downloads_are_measured_in_both_encodings(name: str) -> None:
    with pair("download", name, tls=True, setup={"chain": CHAIN, "hashing": True}) as client:
        for encoding in (PLAIN, GZIP):
            assert client.ask([encoding, 2])["seconds"] > 0


@pytest.mark.usefixtures("clean_ends")
@pytest.mark.parametrize("encoding", [PLAIN, GZIP])
@pytest.mark.parametrize("name", [GRPC, GRPC_AIO])
def test_the_peak_of_a_download_is_measured(name: str, encoding: str) -> None:
    setup = {"encoding": encoding, "chain": LARGE_CHAIN}
    with pair("download_peak", name, tls=True, setup=setup) as client:
        before, most = client.ask(None)
    assert 0 < before < 1.5 * most  # the peak may be older than the download


@pytest.mark.usefixtures("clean_ends")
@pytest.mark.parametrize("name", PAIRS)
def test_dials_are_measured_for_both_ends(name: str) -> None:
    with pair("connect", name, tls=True) as client:
        for what in (PEER, PING_ANSWER):
            done = client.ask([what, 3])
            assert len(done) == 3
            assert done == sorted(done)


@pytest.mark.usefixtures("clean_ends")
@pytest.mark.parametrize("name", PAIRS)
def test_a_server_has_its_peers_and_broadcasts_to_them(name: str) -> None:
    grown = Grown(name, tls=True)
    with Children() as children:
        grow(children, grown, [2, 3])
    assert list(grown.resident) == [0, 1, 2, 3]
    assert list(grown.broadcast_s) == [3]


def test_who_lacks_a_package_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Environment, packages: list[str]) -> str | None:
        return "nothing there" if packages else None

    monkeypatch.setattr(Environment, "missing", missing)
    assert [(note.about, note.text) for note in left_out()] == [
        (GRPC_AIO, "left out: nothing there")
    ]


def test_a_server_that_fails_ends_the_pair() -> None:
    with (
        pytest.raises(ChildError, match="server has failed"),
        pair("download", GRPC, tls=True, setup={"chain": {"blocks": 0}}),
    ):
        pass
