"""One datagram to a server and one back, on real sockets."""

import itertools
import socket as stdlib_socket
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from aelf_p2p.core.endpoint import Endpoint
from aelf_p2p.core.errors import ConnectionLostError
from aelf_p2p.transports.udp import MAX_REPLY_BYTES, ask_over_udp

WAIT_S = 5


@pytest.fixture
async def server() -> AsyncIterator[trio.socket.SocketType]:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", 0))
        yield server


def endpoint_of(server: trio.socket.SocketType, host: str = "127.0.0.1") -> Endpoint:
    return Endpoint(host, server.getsockname()[1])


class Resolver(trio.abc.HostnameResolver):
    """Knows one name, for ever looks for another, and knows no others."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # type: ignore[no-untyped-def]
        if host == b"slow.example":
            await trio.sleep_forever()
        if host != b"clock.example":
            raise stdlib_socket.gaierror(stdlib_socket.EAI_NONAME, "Name or service not known")
        return [(trio.socket.AF_INET, type, 0, "", (address, port)) for address in self.addresses]

    async def getnameinfo(self, sockaddr, flags):  # type: ignore[no-untyped-def]
        raise NotImplementedError


async def test_the_first_answer_is_told_with_both_times(server: trio.socket.SocketType) -> None:
    clock = itertools.count(100)

    async def answer() -> None:
        request, caller = await server.recvfrom(100)
        assert request == b"what time is it?"
        next(clock)  # time goes on
        await server.sendto(b"late", caller)
        await server.sendto(b"later", caller)

    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            reply = await ask_over_udp(
                endpoint_of(server), b"what time is it?", wall_ns=lambda: next(clock)
            )
    assert (reply.payload, reply.sent_ns, reply.received_ns) == (b"late", 100, 102)


async def test_what_others_send_is_not_an_answer(server: trio.socket.SocketType) -> None:
    async def answer() -> None:
        _, caller = await server.recvfrom(100)
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as other:
            await other.sendto(b"forged", caller)
        await server.sendto(b"answer", caller)

    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            reply = await ask_over_udp(endpoint_of(server), b"?", wall_ns=lambda: 0)
    assert reply.payload == b"answer"


async def test_an_answer_is_cut(server: trio.socket.SocketType) -> None:
    async def answer() -> None:
        _, caller = await server.recvfrom(100)
        await server.sendto(bytes(10_000), caller)

    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            reply = await ask_over_udp(endpoint_of(server), b"?", wall_ns=lambda: 0)
    assert reply.payload == bytes(MAX_REPLY_BYTES)


async def test_a_port_where_nobody_listens(server: trio.socket.SocketType) -> None:
    endpoint = endpoint_of(server)
    server.close()
    with trio.fail_after(WAIT_S), pytest.raises(ConnectionLostError, match="refused"):
        await ask_over_udp(endpoint, b"?", wall_ns=lambda: 0)


async def test_the_next_address_is_tried_when_one_cannot_be_sent_to(
    server: trio.socket.SocketType,
) -> None:
    # Nobody listens at 127.0.0.2; what is sent there comes back as an error.
    trio.socket.set_custom_hostname_resolver(Resolver(["127.0.0.2", "127.0.0.1"]))

    async def answer() -> None:
        _, caller = await server.recvfrom(100)
        await server.sendto(b"answer", caller)

    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            endpoint = endpoint_of(server, "clock.example")
            reply = await ask_over_udp(endpoint, b"?", wall_ns=lambda: 0)
    assert reply.payload == b"answer"


@pytest.mark.parametrize("host", ["nobody.example", "clock.example"])
async def test_a_name_without_addresses(host: str) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver([]))
    with pytest.raises(ConnectionLostError, match=f"{host}:123"):
        await ask_over_udp(Endpoint(host, 123), b"?", wall_ns=lambda: 0)


async def test_a_deadline_bounds_the_resolution_too(autojump_clock: MockClock) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver([]))
    with trio.move_on_after(3) as scope:
        await ask_over_udp(Endpoint("slow.example", 123), b"?", wall_ns=lambda: 0)
    assert scope.cancelled_caught
