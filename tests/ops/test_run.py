"""The command ``aelf-p2p run``: nodes as processes of their own, on loopback."""

import io
import logging
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from nacl.pwhash import argon2id

from aelf_p2p import (
    AelfP2PError,
    Block,
    CloseReason,
    Endpoint,
    Event,
    GrpcTransport,
    HandshakeRefusedError,
    Identity,
    Node,
    PeerConnected,
    PeerDisconnected,
    StoreError,
    Subscription,
    TcpTransport,
    open_node,
    open_sqlite_state,
    open_sqlite_store,
)
from aelf_p2p.chain.block_maker import make_chain
from aelf_p2p.chain.chain_file import write_chain_file
from aelf_p2p.chain.sqlite_chain import SqliteChain
from aelf_p2p.chain.sqlite_store import DATABASE_NAME
from aelf_p2p.core.keyfile import seal_key, write_key_file
from aelf_p2p.core.options import NetworkOptions
from aelf_p2p.ops import cli, node_options
from aelf_p2p.ops import run as run_command
from aelf_p2p.ops.arguments import Parser
from aelf_p2p.ops.passwords import ENVIRONMENT_VARIABLE
from tests.chain.made import CHAIN_ID, MINER, TIME_NS, signed_block
from tests.ops.processes import (
    PROGRAM,
    WAIT_S,
    Process,
    in_thread,
    running_node,
    start,
    start_node,
)
from tests.ops.refusals import refusal

E = TypeVar("E", bound=Event)

either_signal = pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"]
)
EPHEMERAL = ("--ephemeral-key", "--listen", "127.0.0.1:0")


@pytest.fixture(autouse=True)
def no_password_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def chain() -> list[Block]:
    blocks = make_chain(MINER, 2000, chain_id=CHAIN_ID, transactions=[], last_time_ns=TIME_NS)
    return list(blocks)


@pytest.fixture(scope="module")
def files(chain: list[Block], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chains of three lengths, the key of MINER, its password, and what is none of these."""
    directory = tmp_path_factory.mktemp("files")
    for count in (60, 700, 2000):
        write_chain_file(directory / f"{count}.chain", chain[:count])
    write_chain_file(directory / "other.chain", [signed_block(None, chain_id=1931928)])
    sealed = seal_key(MINER, b"correct horse", opslimit=1, memlimit=argon2id.MEMLIMIT_MIN)
    write_key_file(directory / "miner.key", sealed)
    (directory / "password").write_text("correct horse\n")
    (directory / "wrong password").write_text("correct hose\n")
    (directory / "damaged").write_bytes(sealed[:-40])
    return directory


@pytest.fixture(scope="module")
def serving(files: Path) -> Iterator[Process]:
    """A node with a chain of 700 blocks."""
    with start_node("--blocks", files / "700.chain") as process:
        yield process


def best_height(data: Path) -> int:
    """Of a data directory that a process works with."""
    try:
        with closing(sqlite3.connect(f"file:{data / DATABASE_NAME}?mode=ro", uri=True)) as database:
            [height] = database.execute("SELECT max(height) FROM best_chain").fetchone()
    except sqlite3.OperationalError:  # not there yet
        return 0
    return height or 0


async def held_chain(data: Path) -> tuple[int, bytes]:
    """Height and hash of what a data directory holds."""
    async with open_sqlite_store(data, chain_id=CHAIN_ID) as store:
        assert await store.hash_at(store.status.best_height) == store.status.best_hash
        return store.status.best_height, store.status.best_hash


@asynccontextmanager
async def our_node(**arguments: Any) -> AsyncIterator[tuple[Node, Subscription]]:
    """A node of this process, and its events."""
    settings = {
        "identity": Identity.generate(),
        "transport": GrpcTransport(),
        "host": "127.0.0.1",
        "port": 0,
        **arguments,
    }
    async with open_node(**settings) as node:
        with node.subscribe() as events:
            yield node, events


async def wait_event(events: Subscription, kind: type[E]) -> E:
    """The next event of a kind."""
    with trio.fail_after(WAIT_S):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"the node ended before {kind.__name__}")


# --- a node's life --------------------------------------------------------------------------------


def test_one_line_on_stdout_and_the_log_on_stderr(files: Path) -> None:
    key = ("--key", files / "miner.key", "--password-file", files / "password")
    with start_node(key=key) as process:
        said = process.listening
        assert process.end() == 0
        assert len(process.printed()) == 1
        assert len(process.logged()) >= 2
        assert process.errors() == []
    assert set(said) == {"event", "address", "public_key"}
    assert said["event"] == "listening"
    assert said["public_key"] == MINER.public_key.hex()
    address = Endpoint.parse_untrusted(said["address"])
    assert (address.host, address.port > 0) == ("127.0.0.1", True)


@either_signal
async def test_a_signal_is_a_polite_goodbye(number: signal.Signals) -> None:
    async with running_node() as process, our_node() as (node, events):
        await node.connect(process.address)
        process.send(number)
        gone = await wait_event(events, PeerDisconnected)
        assert gone.peer.public_key == process.public_key
        assert gone.reason is CloseReason.DISCONNECTED_BY_PEER
        assert await in_thread(process.wait) == 0
        assert process.errors() == []


def test_two_signals_at_once_are_as_good_as_one() -> None:
    with start_node() as process:
        process.send(signal.SIGTERM, signal.SIGINT)
        assert process.wait() == 0
        assert process.errors() == []


@either_signal
def test_a_signal_between_the_nodes_end_and_the_processes(number: signal.Signals) -> None:
    ended = f"status = main(); import os; os.kill(os.getpid(), {number:d}); sys.exit(status)"
    program = PROGRAM.replace("sys.exit(main())", ended)
    with start("run", *EPHEMERAL, program=program) as process:
        assert process.address
        assert process.end() == 0
        assert process.errors() == []


def test_a_boot_node_that_is_down_is_logged_and_no_more() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with start_node("--boot-node", f"127.0.0.1:{port}") as process:
        line = process.wait_logged(f"boot node 127.0.0.1:{port}: ")
        assert "WARNING" in line
        assert process.end() == 0


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a node of this process tells of itself; when it has told something, it ends."""
    lines: list[str] = []

    class EndsIt(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            if "sync finished" in lines[-1] or "sync syncing" in lines[-1]:
                signal.raise_signal(signal.SIGTERM)

    caplog.set_level(logging.INFO, run_command.__name__)
    monkeypatch.setattr(logging.getLogger(run_command.__name__), "handlers", [EndsIt()])
    return lines


def test_it_tells_now_and_then_how_things_are(
    files: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_command, "STATUS_PERIOD_S", 0.01)
    monkeypatch.setattr(run_command, "SYNCING_STATUS_PERIOD_S", 0.01)
    assert cli.main(["run", *EPHEMERAL, "--blocks", str(files / "60.chain")]) == 0
    assert "height 60, irreversible 52, sync finished; peers: 0 inbound, 0 outbound" in told


def test_it_tells_more_often_while_it_syncs(
    serving: Process, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_command, "SYNCING_STATUS_PERIOD_S", 0.001)
    assert cli.main(["run", *EPHEMERAL, "--boot-node", serving.address]) == 0
    line, *_ = (line for line in told if "not started" not in line)
    assert line.endswith(", sync syncing to 692; peers: 0 inbound, 1 outbound")


# --- the chain ------------------------------------------------------------------------------------


def test_a_node_downloads_the_chain_of_another(
    serving: Process, chain: list[Block], tmp_path: Path
) -> None:
    with start_node("--data", tmp_path, "--boot-node", serving.address) as process:
        process.wait_until(lambda: best_height(tmp_path) == 700)
        process.wait_logged("syncing from height 0 to 692")  # which is irreversible
        assert process.end() == 0
        assert process.errors() == []
    assert trio.run(held_chain, tmp_path) == (700, chain[699].hash)


def test_a_killed_node_has_what_it_had(files: Path, chain: list[Block], tmp_path: Path) -> None:
    with start_node("--data", tmp_path, "--blocks", files / "60.chain") as process:
        assert process.end(signal.SIGKILL) == -signal.SIGKILL
    with start_node("--data", tmp_path) as process:
        process.wait_logged("synced: height 60")
        assert process.end() == 0
    assert trio.run(held_chain, tmp_path) == (60, chain[59].hash)


def test_an_import_that_was_ended_goes_on(files: Path, chain: list[Block], tmp_path: Path) -> None:
    path, database = files / "2000.chain", tmp_path / DATABASE_NAME
    arguments = ("--data", tmp_path, "--blocks", path)
    with start("run", *EPHEMERAL, *arguments) as process:
        process.wait_until(lambda: best_height(tmp_path) > 0)
        with closing(sqlite3.connect(database, isolation_level=None, timeout=WAIT_S)) as other:
            other.execute("BEGIN IMMEDIATE")  # nothing is imported meanwhile
            process.send(signal.SIGTERM)
            other.execute("ROLLBACK")
        assert process.wait() == 0
        assert process.printed() == []
        assert process.errors() == []
    height, block_hash = trio.run(held_chain, tmp_path)
    assert 0 < height < 2000
    assert block_hash == chain[height - 1].hash
    with start_node(*arguments) as process:
        process.wait_logged(f"{path}: 2000 blocks, {2000 - height} of them new")
        assert process.end() == 0
    assert trio.run(held_chain, tmp_path) == (2000, chain[-1].hash)


def test_a_pipe_that_gives_no_blocks_holds_nothing_up(files: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for content in (b"", (files / "60.chain").read_bytes()):
        with start("run", *EPHEMERAL, "--blocks", pipe, "--data", tmp_path / "data") as process:
            with pipe.open("wb", buffering=0) as writer:  # once it is read from
                writer.write(content)
                if content:
                    process.wait_until(lambda: best_height(tmp_path / "data") == 60)
                process.send(signal.SIGTERM)
                assert process.wait() == 0
            assert process.printed() == process.errors() == []


async def test_only_so_many_blocks_are_kept(files: Path, tmp_path: Path) -> None:
    arguments = ("--data", tmp_path, "--keep-blocks", 512, "--blocks", files / "700.chain")
    async with running_node(*arguments) as process:
        assert await in_thread(process.end) == 0
    async with open_sqlite_store(tmp_path, chain_id=CHAIN_ID) as store:
        assert store.status.lib_height == 692
        assert store.status.root.height == 180


def test_a_store_that_fails_ends_the_node(
    serving: Process,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(self: SqliteChain, block: Block) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(SqliteChain, "put_block", fail)
    arguments = ["--data", str(tmp_path), "--boot-node", serving.address]
    assert cli.main(["run", *EPHEMERAL, *arguments]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1
    assert said.err == "aelf-p2p run: the node ended: the disk is gone\n"


@pytest.mark.parametrize(("listens", "status"), [(True, 1), (False, 2)])
def test_each_of_several_errors_is_told(
    listens: bool, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail(options: object, identity: Identity, life: Any, ending: object) -> None:
        life.listens = listens
        raise ExceptionGroup("two", [StoreError("the disk is gone"), StoreError("and the other")])

    monkeypatch.setattr(run_command, "_live", fail)
    assert cli.main(["run", *EPHEMERAL]) == status
    before = "aelf-p2p run: the node ended" if listens else "aelf-p2p run"
    assert capsys.readouterr().err.splitlines() == [
        f"{before}: the disk is gone",
        f"{before}: and the other",
    ]


# --- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("insecure", [False, True], ids=["TLS", "insecure"])
@pytest.mark.parametrize("name", ["grpc", "tcp"])
async def test_transports(name: str, insecure: bool) -> None:
    transports = {
        ("grpc", False): GrpcTransport(),
        ("grpc", True): GrpcTransport(insecure=True),
        ("tcp", False): TcpTransport(),
        ("tcp", True): TcpTransport(tls=False),
    }
    transport = transports.pop((name, insecure))
    arguments = ("--transport", name, *(["--insecure"] if insecure else []))
    async with running_node(*arguments) as process:
        async with our_node(transport=transport) as (node, _):
            peer = await node.connect(process.address)
            assert peer.info.public_key == process.public_key
        for other in transports.values():
            async with our_node(transport=other) as (node, _):
                with pytest.raises(AelfP2PError):
                    await node.connect(process.address)


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
async def test_ipv6() -> None:
    async with (
        our_node(host="::1") as (node, events),
        running_node("--boot-node", node.endpoint, listen="[::1]:0") as process,
    ):
        connected = await wait_event(events, PeerConnected)
    assert process.address.startswith("[::1]:")
    assert str(connected.peer.endpoint) == process.address


async def test_only_authorized_keys_may_connect() -> None:
    friend, stranger = Identity.generate(), Identity.generate()
    keys = (MINER.public_key.hex(), friend.public_key.hex())
    async with running_node("--authorized-key", *keys) as process:
        async with our_node(identity=stranger) as (node, _):
            with pytest.raises(HandshakeRefusedError):
                await node.connect(process.address)
        async with our_node(identity=friend) as (node, _):
            peer = await node.connect(process.address)
            assert peer.info.public_key == process.public_key


async def test_only_so_many_peers_are_taken_in() -> None:
    async with (
        running_node("--max-peers", 1) as process,
        our_node() as (first, _),
        our_node() as (second, _),
    ):
        await first.connect(process.address)
        guest = await second.connect(process.address)
        with trio.fail_after(WAIT_S):
            await guest.wait_closed()
        assert guest.close_reason is CloseReason.DISCONNECTED_BY_PEER


async def options_of(
    monkeypatch: pytest.MonkeyPatch, *command_lines: Sequence[str]
) -> list[NetworkOptions]:
    """What nodes are given by each of some command lines."""
    given: list[NetworkOptions] = []

    @asynccontextmanager
    async def open_node(*, options: NetworkOptions, **arguments: Any) -> AsyncIterator[None]:
        given.append(options)
        yield

    monkeypatch.setattr(node_options, "open_node", open_node)
    parser = Parser()
    node_options.add_node_options(parser)
    for arguments in command_lines:
        options = parser.parse_args([*EPHEMERAL, *arguments])
        async with node_options.open_described_node(options, MINER):
            pass
    return given


async def test_how_many_peers_of_a_host_are_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of loopback is excepted, so that it is looked at on the way to the node."""
    given = await options_of(
        monkeypatch, [], ["--max-peers-per-host", "3"], ["--max-peers-per-host", "0"]
    )
    assert [each.max_peers_per_host for each in given] == [1, 3, 0]
    assert {each.max_peers for each in given} == {25}


async def test_nobody_is_asked_for_the_time_unless_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Endpoint | None] = []

    @asynccontextmanager
    async def open_node(*, ntp_server: Endpoint | None, **_: Any) -> AsyncIterator[None]:
        given.append(ntp_server)
        yield

    monkeypatch.setattr(node_options, "open_node", open_node)
    parser = Parser()
    node_options.add_node_options(parser)
    for arguments in ([], ["--ntp-server", "clock.example"], ["--ntp-server", "10.0.0.7:1123"]):
        options = parser.parse_args([*EPHEMERAL, *arguments])
        async with node_options.open_described_node(options, MINER):
            pass
    assert given == [None, Endpoint("clock.example", 123), Endpoint("10.0.0.7", 1123)]


async def test_how_often_the_workers_work(monkeypatch: pytest.MonkeyPatch) -> None:
    periods = (
        "--health-check-period=7",
        "--reconnection-period=0.5",
        "--discovery-period=9",
        "--dial-private",
    )
    default, given = await options_of(monkeypatch, [], periods)
    assert default == NetworkOptions()
    assert given == NetworkOptions(
        health_check_period_s=7.0,
        reconnection_period_s=0.5,
        discovery_period_s=9.0,
        dial_private=True,
    )


async def test_a_boot_node_that_said_goodbye_is_dialed_again() -> None:
    async with (
        our_node() as (node, events),
        running_node("--boot-node", node.endpoint, "--reconnection-period", 0.2) as process,
    ):
        await wait_event(events, PeerConnected)
        await node.disconnect(process.public_key)
        again = await wait_event(events, PeerConnected)
        assert again.peer.public_key == process.public_key


async def test_a_peer_that_was_killed_and_restarted_is_connected_again() -> None:
    """Within twice the period after the restart, which here is sooner than the first attempt."""
    options = NetworkOptions(reconnection_period_s=3.0)
    async with our_node(options=options) as (node, events):
        async with running_node() as process:
            address = process.address
            await node.connect(address)
            await in_thread(process.end, signal.SIGKILL)
        lost_at = trio.current_time()
        async with running_node(listen=address) as process:
            await wait_event(events, PeerDisconnected)
            again = await wait_event(events, PeerConnected)
            assert again.peer.public_key == process.public_key  # it has a new one
        assert trio.current_time() - lost_at > 2.5


def test_what_it_learns_of_its_network_is_in_its_directory(tmp_path: Path) -> None:
    nobody = "127.0.0.1:1"
    with start_node("--data", tmp_path, "--boot-node", nobody) as process:
        process.wait_logged(f"boot node {nobody}")
        assert process.end() == 0

    async def waiting() -> list[str]:
        async with open_sqlite_state(tmp_path) as state:
            return [str(entry.endpoint) for entry in (await state.load()).reconnections]

    assert trio.run(waiting) == [nobody]


async def test_a_node_before_1_4() -> None:
    """Over TLS, in both directions: it is dialed back, and there is no stream."""
    options = NetworkOptions(dial_private=True)
    async with (
        our_node(options=options) as (node, events),
        running_node(
            "--node-version", "1.3.0.0", "--dial-private", "--boot-node", node.endpoint
        ) as process,
    ):
        connected = await wait_event(events, PeerConnected)
        assert connected.peer.public_key == process.public_key
        assert (connected.peer.node_version, connected.peer.uses_stream) == ("1.3.0.0", False)
        [peer] = node.peers()
        await peer.check_health(timeout_s=WAIT_S)
        await node.disconnect(process.public_key)
        again = await node.connect(process.address)
        assert not again.info.inbound
        await again.check_health(timeout_s=WAIT_S)


async def test_what_a_handshake_says() -> None:
    async with our_node(chain_id="tDVW") as (node, events):
        said = ("--announce-port", 7001, "--node-version", "1.5.0.0", "--chain-id", "tDVW")
        async with running_node(*said, "--boot-node", node.endpoint):
            connected = await wait_event(events, PeerConnected)
    assert connected.peer.inbound
    assert connected.peer.endpoint == Endpoint("127.0.0.1", 7001)
    assert connected.peer.node_version == "1.5.0.0"


# --- what cannot be right -------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that is said instead of listening."""

    def listening_line(node: Node) -> str:
        raise AssertionError("it listens")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_command, "listening_line", listening_line)
        return refusal(capsys, "run", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments --key --ephemeral-key is required"),
        (
            ["--key", "a", "--ephemeral-key"],
            "argument --ephemeral-key: not allowed with argument --key",
        ),
        (["--listen", "127.0.0.1:70000"], "argument --listen: port 70000 is not between 0"),
        (["--announce-port", "0"], "argument --announce-port: 0 is not between 1 and 65535"),
        (["--boot-node", "a:b:c"], "argument --boot-node: 'a:b:c' is not a host"),
        (["--boot-node", "host:0"], "argument --boot-node: port 0 is not between 1"),
        (["--boot-node"], "argument --boot-node: expected at least one argument"),
        (["--ntp-server", "host:0"], "argument --ntp-server: port 0 is not between 1"),
        (["--authorized-key", "04"], "argument --authorized-key: a key of 1 bytes"),
        (["--authorized-key", "key"], "argument --authorized-key: 'key' is not hex"),
        (["--chain-id", "AELF0"], "argument --chain-id: chain id: 'AELF0'"),
        (["--max-peers", "-1"], "argument --max-peers: -1 is not between 0"),
        (["--keep-blocks", "511"], "argument --keep-blocks: 511 is not between 512 and "),
        (["--transport", "udp"], "argument --transport: invalid choice: 'udp'"),
        (["--log-level", "loud"], "argument --log-level: invalid choice: 'loud'"),
    ],
)
def test_arguments_that_are_wrong(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = [] if not arguments or "--key" in arguments else ["--ephemeral-key"]
    assert refused(capsys, *key, *arguments).startswith(message)


def test_a_version_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, *EPHEMERAL, "--node-version", "x")
    assert said.startswith(
        "argument --node-version: node version: 'x' is not a version of two to four numbers"
    )


def test_a_transport_whose_package_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, *EPHEMERAL, "--transport", "purerpc")
    assert said.startswith("the purerpc transport needs the package purerpc: install aelf-p2p[pure")


def test_keys_that_do_not_open(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    key, wrong = files / "miner.key", files / "wrong password"
    for arguments, message in (
        ([files / "nowhere"], f"{files / 'nowhere'}: No such file or directory"),
        ([files], f"{files}: Is a directory"),
        ([files / "damaged"], f"{files / 'damaged'}: not a key file, or a damaged one"),
        ([key], "a password is needed: "),
        ([key, "--password-file", wrong], f"{key}: the password is wrong"),
        ([key, "--password-file", files], f"{files}: Is a directory"),
    ):
        assert message in refused(capsys, "--key", *arguments)


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refused(capsys, "--ephemeral-key", "--listen", address)
    assert said == f"cannot listen on {address}: Address already in use"


def test_a_host_that_is_not_ours(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--ephemeral-key", "--listen", "192.0.2.1:0")
    assert said == "cannot listen on 192.0.2.1:0: Cannot assign requested address"


def test_chain_files_that_cannot_be_taken_in(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, message in (
        ("nowhere", "No such file or directory"),
        ("other.chain", "it holds the chain tDVW (1931928), not AELF (9992731)"),
        ("password", "block 1 of the file: it is cut short"),
    ):
        for data in ([], ["--data", tmp_path]):
            said = refused(capsys, *EPHEMERAL, "--blocks", files / name, *data)
            assert said == f"{files / name}: {message}"


async def begin_chain(data: Path) -> None:
    async with open_sqlite_store(data, chain_id=1931928):
        pass


def test_the_data_of_another_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trio.run(begin_chain, tmp_path)
    said = refused(capsys, *EPHEMERAL, "--data", tmp_path)
    assert said == (
        f"{tmp_path / DATABASE_NAME}: it holds the chain tDVW (1931928), not AELF (9992731)"
    )


def test_the_data_of_another_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with start_node("--data", tmp_path) as process:
        said = refused(capsys, *EPHEMERAL, "--data", tmp_path)
        assert said.startswith(f"{tmp_path} is in use by process {process.pid}: ")
        assert process.end() == 0  # the first one goes on until then


def test_data_that_is_no_directory(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, *EPHEMERAL, "--data", files / "password")
    assert said == f"{files / 'password'}: it is not a directory"


def test_keeping_blocks_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, *EPHEMERAL, "--keep-blocks", 999) == "--keep-blocks needs --data"


def test_a_process_says_the_same() -> None:
    with start("run", *EPHEMERAL, "--keep-blocks", 999) as process:
        assert process.wait() == 2
        assert process.printed() == []
        assert process.errors() == ["aelf-p2p run: --keep-blocks needs --data"]
