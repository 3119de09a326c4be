"""The transport that the documentation writes: it conforms, and keeps what no case asks for."""

import ast
import importlib.util
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from aelf_p2p import ClosedByUsError, ConnectionLostError, Endpoint, MisuseError, TransportError
from aelf_p2p.contracts import IncomingCall
from aelf_p2p.testing.conformance import (
    CASES,
    ConformanceCase,
    ConformanceError,
    SocketFixture,
    run_case,
)
from aelf_p2p.transports.byte_call import ByteCall
from aelf_p2p.wire.methods import PING, REQUEST_BY_STREAM, Method

DOCS = Path(__file__).parent.parent.parent / "docs"
EXAMPLE = DOCS / "examples/unix_transport.py"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it needs epoll")

_spec = importlib.util.spec_from_file_location("unix_transport", EXAMPLE)
assert _spec is not None
assert _spec.loader is not None
example = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(example)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_conforms(case: ConformanceCase, tmp_path: Path) -> None:
    run_case(SocketFixture(partial(example.UnixTransport, tmp_path)), case)
    assert list(tmp_path.iterdir()) == []


def test_its_main_runs() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLE],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    first, *others = ran.stdout.splitlines()
    assert first.startswith("bob shook hands with ")
    assert first.endswith(" at 127.0.0.1:6800")
    assert others == ["bob accepted block 1", "bob asked for it: True"]
    assert ran.stderr == ""


def test_it_has_under_200_lines_and_needs_what_is_public() -> None:
    source = EXAMPLE.read_text()
    assert len(source.splitlines()) < 200
    imported = [
        f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    ours = {name for name in imported if name.startswith("aelf_p2p")}
    assert ours == {"aelf_p2p", "aelf_p2p.transports.toolkit"}


async def test_all_calls_of_a_channel_have_one_caller(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    callers: list[Endpoint] = []

    async def handle(call: IncomingCall) -> None:
        callers.append(call.caller)
        assert call.metadata == {"key": "value"}
        await call.stream.send_many([b""])

    transport = example.UnixTransport(tmp_path)
    endpoint = await nursery.start(transport.serve, "0.0.0.0", 0, handle)
    async with transport.dial(endpoint, timeout_s=1) as channel:
        for _ in range(3):
            await channel.call(PING, b"", metadata={"key": "value"}, timeout_s=1)
    assert len(callers) == 3
    assert len(set(callers)) == 1
    nursery.cancel_scope.cancel()


async def test_a_handler_that_reads_nothing_is_cancelled_behind_unread_bytes(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    cancelled = trio.Event()

    async def handle(call: IncomingCall) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    transport = example.UnixTransport(tmp_path)
    endpoint = await nursery.start(transport.serve, "", 0, handle)
    async with transport.dial(endpoint, timeout_s=1) as channel:
        async with channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
            await stream.send_many([bytes(100_000)])
        with trio.fail_after(5):
            await cancelled.wait()
        assert channel.is_open
    nursery.cancel_scope.cancel()


async def test_a_handler_lives_on_when_both_halves_have_ended(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    left, ended = trio.Event(), trio.Event()

    async def handle(call: IncomingCall) -> None:
        assert await call.stream.receive_many() == []
        await call.stream.send_eof()
        await left.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)  # or it would be cancelled here
        ended.set()

    transport = example.UnixTransport(tmp_path)
    endpoint = await nursery.start(transport.serve, "", 0, handle)
    async with transport.dial(endpoint, timeout_s=1) as channel:
        async with channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
            await stream.send_eof()
            assert await stream.receive_many() == []
        left.set()
        with trio.fail_after(5):
            await ended.wait()
    nursery.cancel_scope.cancel()


async def test_a_cancelled_handler_says_goodbye_when_the_server_stops(tmp_path: Path) -> None:
    async def handle(call: IncomingCall) -> None:
        try:
            await call.stream.send_many([b"welcome"])
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
                await call.stream.send_many([b"goodbye"])

    transport = example.UnixTransport(tmp_path)
    async with trio.open_nursery() as nursery:
        endpoint = await nursery.start(transport.serve, "", 0, handle)
        async with (
            transport.dial(endpoint, timeout_s=1) as channel,
            channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream,
        ):
            assert await stream.receive_many() == [b"welcome"]
            nursery.cancel_scope.cancel()
            with trio.CancelScope(deadline=trio.current_time() + 5, shield=True):
                assert await stream.receive_many() == [b"goodbye"]
                with pytest.raises(ConnectionLostError):
                    await stream.receive_many()
                await channel.wait_draining()  # it stopped, and was not lost


async def test_leaving_a_channel_ends_what_others_wait_for_on_it(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    async def handle(call: IncomingCall) -> None:
        await trio.sleep_forever()

    transport = example.UnixTransport(tmp_path)
    endpoint = await nursery.start(transport.serve, "", 0, handle)
    async with trio.open_nursery() as waiting:
        async with transport.dial(endpoint, timeout_s=1) as channel:

            async def wait_on_a_stream() -> None:
                async with channel.open_stream(REQUEST_BY_STREAM, metadata={}) as stream:
                    with pytest.raises(ClosedByUsError):
                        await stream.receive_many()

            async def wait_draining() -> None:
                with pytest.raises(ClosedByUsError):
                    await channel.wait_draining()

            for task in wait_on_a_stream, wait_draining, wait_draining:
                waiting.start_soon(task)
            await trio.testing.wait_all_tasks_blocked()
        assert not channel.is_open
    with pytest.raises(TransportError):
        await channel.call(PING, b"", metadata={}, timeout_s=1)
    nursery.cancel_scope.cancel()


async def test_a_server_that_is_lost_is_told_from_one_that_stops(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "50000"))
        listening.listen()
        async with example.UnixTransport(tmp_path).dial(
            Endpoint("127.0.0.1", 50000), timeout_s=1
        ) as channel:
            assert channel.is_open
            listening.accept()[0].close()
            with pytest.raises(ConnectionLostError):
                await channel.wait_draining()
            assert not channel.is_open


async def test_a_caller_that_talks_nonsense_hurts_no_other(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    async def handle(call: IncomingCall) -> None:
        await call.stream.send_many(await call.stream.receive_many())

    transport = example.UnixTransport(tmp_path)
    endpoint = await nursery.start(transport.serve, "", 0, handle)
    path = str(tmp_path / str(endpoint.port))
    without_a_port = b'["/PeerService/Ping", {}]'
    for said in b"", b"nonsense", b"\xff" * 100, b"\xff\0\0\0\x19" + without_a_port:
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(said)
            if len(said) < 10:
                await stream.send_eof()
            with trio.fail_after(5):
                assert await stream.receive_some() == b""
    async with transport.dial(endpoint, timeout_s=1) as channel:
        assert await channel.call(PING, b"x", metadata={}, timeout_s=1) == b"x"
    nursery.cancel_scope.cancel()


async def test_what_a_killed_node_left_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "6800"))

    async def handle(call: IncomingCall) -> None:
        raise AssertionError("nobody calls")

    with pytest.raises(MisuseError, match=r"6800.*a socket that a killed node left"):
        await example.UnixTransport(tmp_path).serve("", 6800, handle)


async def test_who_is_elsewhere_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(ConnectionLostError, match=r"10\.0\.0\.7:6800 is not on this machine"):
        async with example.UnixTransport(tmp_path).dial(Endpoint("10.0.0.7", 6800), timeout_s=1):
            raise AssertionError("it was reached")


# --- what the page says of leaving something out --------------------------------------------------


async def flush_and_forget(call: ByteCall) -> None:
    """A cancelled send leaves nothing for the next."""
    await trio.lowlevel.checkpoint()
    unsent, call._unsent = call._unsent, bytearray()
    while unsent:
        del unsent[: await call.send_some(unsent)]


async def take_a_loss_for_an_end(call: ByteCall, most: int) -> list[bytes]:
    try:
        return await receive(call, most)
    except ConnectionLostError:
        return []


async def wait_for_ever(*arguments: object) -> None:
    await trio.sleep_forever()


def begin_trusting(call: ByteCall, method: Method | None, limit: Callable[..., int]) -> None:
    begin(call, method, limit)
    call.trust()


receive, begin = ByteCall._receive, ByteCall._begin
LEFT_OUT: dict[str, tuple[type, str, object]] = {
    "whole messages from a cancelled send": (ByteCall, "_flush", flush_and_forget),
    "limits of messages": (ByteCall, "limit_messages", lambda call, max_bytes: None),
    "the limit before trust": (ByteCall, "_begin", begin_trusting),
    "an end that is told from a loss": (ByteCall, "_receive", take_a_loss_for_an_end),
    "cancelling handlers": (ByteCall, "_cancel_when_left", wait_for_ever),
    "`is_open`": (example.UnixChannel, "is_open", True),
    "`wait_draining`": (example.UnixChannel, "wait_draining", wait_for_ever),
}
FINDS = dict(
    re.findall(
        r"^\| ([^|]+) \| [^|]+ \| `(\w+)` \|$", (DOCS / "writing-a-transport.md").read_text(), re.M
    )
)


def test_the_kernel_waits_and_the_page_tells_of_all_else() -> None:
    assert set(FINDS) == {*LEFT_OUT, "waiting for the reader", "waiting for each reader apart"}
    assert set(FINDS.values()) <= {case.name for case in CASES}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_is_left_out_is_found_by_the_case_that_the_page_names(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [case] = [case for case in CASES if case.name == FINDS[what]]
    monkeypatch.setattr("aelf_p2p.testing.conformance.runner.LIMIT_S", 2.0)  # for those that hang
    monkeypatch.setattr(*LEFT_OUT[what])
    with pytest.raises((ConformanceError, ExceptionGroup)):
        run_case(SocketFixture(partial(example.UnixTransport, tmp_path)), case)
