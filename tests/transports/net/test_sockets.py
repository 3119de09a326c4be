"""Listening, accepting and dialing, over loopback sockets."""

import errno
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import ConnectionLostError, MisuseError
from aelf_p2p.transports.net.sockets import accept_forever, caller_of, connect, open_listeners


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="the machine has no ::1")


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def listening(
    host: str, port: int = 0
) -> AsyncIterator[tuple[list[trio.SocketListener], Endpoint]]:
    listeners, endpoint = await open_listeners(host, port)
    try:
        yield listeners, endpoint
    finally:
        for listener in listeners:
            listener.socket.close()


class Names(trio.abc.HostnameResolver):
    """A resolver that knows one name, ``node.test``."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(  # type: ignore[no-untyped-def]
        self, host, port, family=0, type=0, proto=0, flags=0
    ):
        if host != b"node.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            info
            for address in self.addresses
            for info in socket.getaddrinfo(address, port, family, type, proto, flags)
        ]

    async def getnameinfo(self, sockaddr, flags):  # type: ignore[no-untyped-def]
        raise AssertionError("nobody asks for a name")


@pytest.fixture
def names() -> Callable[..., None]:
    """Says what addresses ``node.test`` has; must be called inside the test's own trio run."""

    def are(*addresses: str) -> None:
        trio.socket.set_custom_hostname_resolver(Names(*addresses))

    return are


# --- listening ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_any_free_port_of_ipv4(host: str) -> None:
    async with listening(host) as (listeners, endpoint):
        [listener] = listeners
        assert listener.socket.family == socket.AF_INET
        assert (endpoint.host, endpoint.port) == listener.socket.getsockname()
        assert endpoint.host == host
        with socket.create_connection(("127.0.0.1", endpoint.port), timeout=5):
            pass


@needs_ipv6
@pytest.mark.parametrize("host", ["::1", "::"])
async def test_ipv6_is_not_ipv4_too(host: str) -> None:
    async with listening(host) as (_, endpoint):
        assert endpoint.host == host
        with socket.create_connection(("::1", endpoint.port), timeout=5):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", endpoint.port), timeout=5)


async def test_an_ipv4_address_in_ipv6_spelling_is_ipv4() -> None:
    async with listening("::ffff:127.0.0.1") as (listeners, endpoint):
        assert endpoint.host == "127.0.0.1"
        assert [each.socket.family for each in listeners] == [socket.AF_INET]


def link_local() -> tuple[str, str] | None:
    """A link-local address of this machine and its interface."""
    with suppress(FileNotFoundError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            address, _index, _prefix, scope, _flags, interface = line.split()
            if scope == "20":
                return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(address)), interface
    return None


async def test_a_scope_is_not_reported() -> None:
    if (found := link_local()) is None:
        pytest.skip("the machine has no link-local address")
    address, interface = found
    scoped = f"{address}%{interface}"
    async with listening(scoped) as (listeners, endpoint):
        assert endpoint.host == address
        with socket.create_connection((scoped, endpoint.port), timeout=5):
            accepted = await listeners[0].accept()
            caller = caller_of(accepted)
            await accepted.aclose()
        assert caller is not None
        assert caller.host == address


async def test_a_port_that_was_asked_for() -> None:
    async with listening("127.0.0.1") as (_, free):
        pass
    async with listening("127.0.0.1", free.port) as (_, endpoint):
        assert endpoint == free


async def test_localhost() -> None:
    """Whatever addresses it has here, they share the port that is reported."""
    async with listening("localhost") as (listeners, endpoint):
        assert endpoint.is_loopback
        assert {each.socket.getsockname()[1] for each in listeners} == {endpoint.port}
        addresses = {info[4][0] for info in socket.getaddrinfo("localhost", None)}
        assert {each.socket.getsockname()[0] for each in listeners} == addresses


@pytest.mark.parametrize(
    "second", ["127.0.0.2", pytest.param("::1", marks=needs_ipv6)], ids=["IPv4", "IPv6"]
)
async def test_all_addresses_of_a_name_share_one_port(
    names: Callable[..., None], second: str
) -> None:
    names("127.0.0.1", second, "127.0.0.1")  # as /etc/hosts may say twice
    async with listening("node.test") as (listeners, endpoint):
        bound = [each.socket.getsockname()[:2] for each in listeners]
        assert bound == [("127.0.0.1", endpoint.port), (second, endpoint.port)]
        assert endpoint.host == "127.0.0.1"


class Rivals:
    """Some number of times, another has on 127.0.0.2 the very port just chosen on 127.0.0.1."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, times: int) -> None:
        self.sockets: list[socket.socket] = []
        open_tcp_listeners = trio.open_tcp_listeners

        async def too_late(port: int, *, host: str) -> list[trio.SocketListener]:
            if host == "127.0.0.2" and len(self.sockets) < times:
                self.sockets.append(socket.create_server((host, port)))
            return await open_tcp_listeners(port, host=host)

        monkeypatch.setattr(trio, "open_tcp_listeners", too_late)

    def ports(self) -> list[int]:
        return [each.getsockname()[1] for each in self.sockets]

    def close(self) -> None:
        for each in self.sockets:
            each.close()


async def test_a_free_port_is_chosen_again_when_one_address_has_it_taken(
    names: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    names("127.0.0.1", "127.0.0.2")
    rivals = Rivals(monkeypatch, times=3)
    async with listening("node.test") as (listeners, endpoint):
        assert len(rivals.sockets) == 3
        assert endpoint.port not in rivals.ports()
        assert [each.socket.getsockname()[1] for each in listeners] == [endpoint.port] * 2
    rivals.close()


async def test_choosing_a_port_has_an_end(
    names: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    names("127.0.0.1", "127.0.0.2")
    before = open_descriptors()
    rivals = Rivals(monkeypatch, times=1000)
    with pytest.raises(MisuseError, match=r"node\.test:0: Address already in use"):
        await open_listeners("node.test", 0)
    assert 1 < len(rivals.sockets) < 20
    rivals.close()
    assert open_descriptors() == before


async def test_a_taken_port_is_named_and_nothing_leaks(names: Callable[..., None]) -> None:
    names("127.0.0.1", "127.0.0.2")
    with socket.create_server(("127.0.0.2", 0)) as rival:
        port = rival.getsockname()[1]
        before = open_descriptors()
        with pytest.raises(MisuseError, match=rf"node\.test:{port}: Address already in use$"):
            await open_listeners("node.test", port)
        assert open_descriptors() == before


async def test_an_address_of_a_name_that_is_not_here_is_left_out(
    names: Callable[..., None],
) -> None:
    names("192.0.2.77", "127.0.0.1")  # as ::1 where IPv6 is switched off
    async with listening("node.test") as (listeners, endpoint):
        assert len(listeners) == 1
        assert endpoint.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "port", "why"),
    [
        ("192.0.2.77", 6800, r"192\.0\.2\.77:6800: Cannot assign requested address"),
        ("2001:db8::77", 6800, r"\[2001:db8::77\]:6800: "),
        ("127.0.0.1", 65536, "no such port"),
        ("127.0.0.1", -1, "no such port"),
        ("unknown.test", 6800, r"unknown\.test:6800: Name or service not known"),
        ("a..b", 6800, r"a\.\.b:6800: "),
        ("x" * 70, 6800, "x:6800: "),
        ("", 6800, " :6800: "),
    ],
)
async def test_where_nobody_can_listen(
    names: Callable[..., None], host: str, port: int, why: str
) -> None:
    names("127.0.0.1")
    before = open_descriptors()
    with pytest.raises(MisuseError, match=why):
        await open_listeners(host, port)
    assert open_descriptors() == before


# --- accepting ------------------------------------------------------------------------------------


async def test_accepts_on_all_listeners_and_closes_them_in_the_end(
    names: Callable[..., None],
) -> None:
    names("127.0.0.1", "127.0.0.2")
    listeners, endpoint = await open_listeners("node.test", 0)
    send, receive = trio.open_memory_channel[trio.SocketStream](10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_forever, listeners, send.send_nowait)
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            dialed = await connect(Endpoint(host, endpoint.port))
            accepted = await receive.receive()
            assert accepted.socket.getsockname()[0] == host
            assert caller_of(accepted) == Endpoint(*dialed.socket.getsockname())
            for stream in (dialed, accepted):
                assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
                await stream.aclose()
        nursery.cancel_scope.cancel()
    assert [each.socket.fileno() for each in listeners] == [-1, -1]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((endpoint.host, endpoint.port), timeout=5)


async def test_listeners_are_closed_when_it_is_cancelled_before_it_begins() -> None:
    listeners, _ = await open_listeners("127.0.0.1", 0)
    with trio.CancelScope() as scope:
        scope.cancel()
        await accept_forever(listeners, lambda stream: None)
    assert [each.socket.fileno() for each in listeners] == [-1]


async def test_an_error_of_the_owner_leaves_as_itself() -> None:
    def started(stream: trio.SocketStream) -> None:
        stream.socket.close()
        raise ZeroDivisionError

    listeners, endpoint = await open_listeners("127.0.0.1", 0)
    with (
        socket.create_connection((endpoint.host, endpoint.port), timeout=5),
        pytest.raises(ZeroDivisionError),
    ):
        await accept_forever(listeners, started)
    assert [each.socket.fileno() for each in listeners] == [-1]


async def refuse_to_accept(
    monkeypatch: pytest.MonkeyPatch, answers: Callable[[float], OSError | None]
) -> list[float]:
    """Run ``accept_forever`` over a socket whose accept(2) fails as ``answers`` has it by the
    virtual time, until it says None; returns the times at which it was called."""
    times: list[float] = []
    with trio.CancelScope() as scope:
        began = trio.current_time()

        async def accept(self: object) -> tuple[trio.socket.SocketType, object]:
            await trio.lowlevel.checkpoint()
            times.append(round(trio.current_time() - began, 3))
            if (error := answers(times[-1])) is not None:
                raise error
            scope.cancel()
            return await trio.sleep_forever()

        listeners, _ = await open_listeners("127.0.0.1", 0)
        monkeypatch.setattr(type(listeners[0].socket), "accept", accept)
        await accept_forever(listeners, lambda stream: None)
    return times


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_accepting_pauses_when_the_system_has_no_room(
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    def answers(at: float) -> OSError | None:
        return OSError(number, os.strerror(number)) if at < 0.25 else None

    assert await refuse_to_accept(monkeypatch, answers) == [0.0, 0.1, 0.2, 0.3]
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert os.strerror(number) in record.getMessage()


async def test_a_long_shortage_is_told_once_a_minute(
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answers(at: float) -> OSError | None:
        return OSError(errno.EMFILE, "too many") if at < 150 else None

    times = await refuse_to_accept(monkeypatch, answers)
    assert len(times) > 1000
    assert len(caplog.records) == 3  # in the first, the second and the third minute


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EPERM])
async def test_a_connection_that_failed_before_it_was_accepted_is_passed_over(
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    errors = [OSError(number, os.strerror(number)) for _ in range(3)]

    def answers(at: float) -> OSError | None:
        return errors.pop() if errors else None

    assert await refuse_to_accept(monkeypatch, answers) == [0.0] * 4
    assert caplog.records == []


OUT_OF_DESCRIPTORS = """
import os, resource, socket, trio
from aelf_p2p.transports.net.sockets import accept_forever, open_listeners

async def main():
    listeners, endpoint = await open_listeners("127.0.0.1", 0)
    accepted = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_forever, listeners, accepted.append)
        callers = [socket.create_connection((endpoint.host, endpoint.port)) for _ in range(8)]
        room = max(map(int, os.listdir("/proc/self/fd"))) + 1 + 3  # the listing's own is free again
        resource.setrlimit(resource.RLIMIT_NOFILE, (room, room))
        await trio.sleep(0.3)
        short = len(accepted)
        for stream in accepted:
            stream.socket.close()
        with trio.fail_after(10):
            while len(accepted) < 8:
                await trio.sleep(0.01)
                for stream in accepted:
                    stream.socket.close()
        print(0 < short < 8, len(accepted))
        nursery.cancel_scope.cancel()
    for caller in callers:
        caller.close()

trio.run(main)
"""


@pytest.mark.fault(13)
def test_accepting_recovers_when_descriptors_are_free_again() -> None:
    """In a process of its own, whose limit is lowered for real."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", OUT_OF_DESCRIPTORS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "True 8\n", done.stderr
    assert "Too many open files" in done.stderr  # logging's last resort prints warnings
    assert "Traceback" not in done.stderr


# --- dialing --------------------------------------------------------------------------------------


async def test_dials_the_address_of_a_name_that_answers(names: Callable[..., None]) -> None:
    names("127.0.0.2", "127.0.0.1")
    async with listening("127.0.0.1") as (_, endpoint):
        stream = await connect(Endpoint("node.test", endpoint.port))
        assert stream.socket.getpeername() == ("127.0.0.1", endpoint.port)
        await stream.aclose()


@needs_ipv6
async def test_dials_ipv6() -> None:
    async with listening("::1") as (_, endpoint):
        stream = await connect(endpoint)
        assert stream.socket.getpeername()[:2] == ("::1", endpoint.port)
        await stream.aclose()


async def expect_unreachable(dial: Callable[[], Awaitable[object]], text: str) -> None:
    before = open_descriptors()
    with pytest.raises(ConnectionLostError) as caught:
        await dial()
    assert str(caught.value) == text
    assert isinstance(caught.value.__cause__, OSError)
    assert open_descriptors() == before


async def test_nobody_answers(names: Callable[..., None]) -> None:
    names("127.0.0.1", "127.0.0.2")
    async with listening("127.0.0.1") as (_, free):
        pass
    await expect_unreachable(
        lambda: connect(free), f"127.0.0.1:{free.port} cannot be reached: Connection refused"
    )
    await expect_unreachable(
        lambda: connect(Endpoint("node.test", free.port)),
        f"node.test:{free.port} cannot be reached: Connection refused",
    )
    await expect_unreachable(
        lambda: connect(Endpoint("unknown.test", 6800)),
        "unknown.test:6800 cannot be reached: Name or service not known",
    )


async def test_addresses_that_fail_differently_are_all_told(names: Callable[..., None]) -> None:
    names("127.0.0.1", "255.255.255.255")
    async with listening("127.0.0.1") as (_, free):
        pass
    with pytest.raises(ConnectionLostError) as caught:
        await connect(Endpoint("node.test", free.port))
    reasons = str(caught.value).partition("reached: ")[2].split(", ")
    assert "Connection refused" in reasons
    assert len(reasons) == 2


async def test_a_cancelled_dial_leaves_no_descriptor() -> None:
    before = open_descriptors()
    with trio.CancelScope() as scope:
        scope.cancel()
        await connect(Endpoint("127.0.0.1", 6800))
    assert scope.cancelled_caught
    assert open_descriptors() == before


# --- the caller -----------------------------------------------------------------------------------


@needs_ipv6
async def test_an_ipv4_caller_of_a_dual_stack_socket_is_ipv4() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5) as caller:
            accepted, _ = server.accept()
            accepted.setblocking(False)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
            assert stream.socket.getpeername()[0] == "::ffff:127.0.0.1"
            assert caller_of(stream) == Endpoint("127.0.0.1", caller.getsockname()[1])
            await stream.aclose()


async def test_a_caller_that_is_gone_has_no_endpoint() -> None:
    async with listening("127.0.0.1") as (listeners, endpoint):
        caller = socket.create_connection((endpoint.host, endpoint.port), timeout=5)
        stream = await listeners[0].accept()
        # struct linger {1, 0}: closing resets
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01" + bytes(3) + bytes(4))
        caller.close()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        assert caller_of(stream) is None
        await stream.aclose()
        assert caller_of(stream) is None
