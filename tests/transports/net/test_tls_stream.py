"""Our TLS stream against trio's, which is the other side of every connection here."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from aelf_p2p.transports.net.tls import process_identity
from aelf_p2p.transports.net.tls_stream import TlsStream

KIB = 1024
Theirs = trio.SSLStream[trio.SocketStream]


async def sockets() -> tuple[trio.SocketStream, trio.SocketStream]:
    one, other = trio.socket.socketpair()
    return trio.SocketStream(one), trio.SocketStream(other)


@asynccontextmanager
async def pair(*, we_serve: bool = False) -> AsyncIterator[tuple[TlsStream, Theirs]]:
    """Our side and trio's, after the handshake."""
    near, far = await sockets()
    identity = process_identity()
    server, client = identity.server_context(["h2"]), identity.client_context(["h2"])
    if we_serve:
        ours = TlsStream(near, server, server_side=True)
        theirs: Theirs = trio.SSLStream(far, client, server_hostname="aelf")
    else:
        ours = TlsStream(near, client, server_hostname="aelf")
        theirs = trio.SSLStream(far, server, server_side=True)
    async with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.do_handshake)
            nursery.start_soon(theirs.do_handshake)
        yield ours, theirs


async def read(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await stream.receive_some()
        assert piece
        data += piece
    return data


@pytest.mark.parametrize("we_serve", [True, False])
@pytest.mark.parametrize("size", [0, 1, 16 * KIB, 16 * KIB + 1, 300 * KIB])
async def test_bytes_go_both_ways(we_serve: bool, size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    async with pair(we_serve=we_serve) as (ours, theirs), trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, data)
        assert await read(theirs, size) == data
        nursery.start_soon(theirs.send_all, data)
        assert await read(ours, size) == data


async def test_what_the_handshake_agreed_on() -> None:
    async with pair() as (ours, theirs):
        assert ours.alpn == theirs.selected_alpn_protocol() == "h2"
        assert ours.peer_certificate == process_identity().certificate


async def test_several_records_come_at_once() -> None:
    async with pair() as (ours, theirs):
        for part in (b"one", b"two", b"three"):
            await theirs.send_all(part)
        await trio.testing.wait_all_tasks_blocked()
        assert await ours.receive_some() == b"onetwothree"


async def test_no_more_than_asked_for_and_the_rest_without_waiting() -> None:
    async with pair() as (ours, theirs):
        await theirs.send_all(bytes(range(100)))
        assert await ours.receive_some(30) == bytes(range(30))
        assert await ours.receive_some(1) == bytes([30])
        await theirs.aclose()
        assert await ours.receive_some() == bytes(range(31, 100))


@pytest.mark.parametrize("says_goodbye", [True, False])
async def test_the_end_is_an_end_with_and_without_a_goodbye(says_goodbye: bool) -> None:
    async with pair() as (ours, theirs):
        await theirs.send_all(b"last")
        if says_goodbye:
            with trio.move_on_after(0.05):  # it waits for ours, which never comes
                await theirs.unwrap()
        else:
            await theirs.transport_stream.send_eof()
        assert await ours.receive_some() == b"last"
        assert await ours.receive_some() == b""
        assert await ours.receive_some() == b""


async def test_what_is_no_tls_breaks_it_after_what_was() -> None:
    async with pair() as (ours, theirs):
        await theirs.send_all(b"good")
        await theirs.transport_stream.send_all(b"bad" * 20)
        assert await ours.receive_some() == b"good"
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError) as caught:
                await ours.receive_some()
            assert isinstance(caught.value.__cause__, ssl.SSLError)


async def test_who_asks_for_answers_without_end_breaks_it() -> None:
    """As with updates of keys (RFC 8446 §4.6.3), which Python's ssl cannot make: each leaves an
    answer behind, which is here put there by hand."""
    async with pair() as (ours, theirs):
        ours._outgoing.write(bytes(1000))
        await theirs.send_all(b"some")
        assert await ours.receive_some() == b"some"
        ours._outgoing.write(bytes(1000))
        await theirs.send_all(b"too many")
        with pytest.raises(trio.BrokenResourceError):
            await ours.receive_some()


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with pair() as (ours, theirs):
        with trio.move_on_after(0) as scope:
            await ours.receive_some()
        assert scope.cancelled_caught
        await theirs.send_all(b"here")
        with trio.move_on_after(0) as scope:
            await ours.receive_some()
        assert scope.cancelled_caught
        assert await ours.receive_some() == b"here"


async def test_our_half_ends_and_theirs_goes_on() -> None:
    async with pair() as (ours, theirs):
        await ours.send_eof()
        with pytest.raises(trio.BrokenResourceError):  # no goodbye, and trio asks for one
            await theirs.receive_some()


async def test_a_connection_that_is_gone_breaks_a_send() -> None:
    async with pair() as (ours, theirs):
        await theirs.transport_stream.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await ours.send_all(bytes(8 * 1024 * KIB))


async def send_garbage(stream: trio.SocketStream) -> None:
    await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")


async def end(stream: trio.SocketStream) -> None:
    await stream.send_eof()


@pytest.mark.parametrize(
    ("act", "cause"), [(send_garbage, ssl.SSLError), (end, ssl.SSLEOFError)], ids=["garbage", "end"]
)
async def test_a_handshake_that_fails(
    act: Callable[[trio.SocketStream], object], cause: type[ssl.SSLError]
) -> None:
    near, far = await sockets()
    async with near, far:
        ours = TlsStream(near, process_identity().server_context(["h2"]), server_side=True)
        await act(far)  # type: ignore[misc]
        with pytest.raises(trio.BrokenResourceError) as caught:
            await ours.do_handshake()
        assert isinstance(caught.value.__cause__, cause)


async def test_a_handshake_that_fails_is_told_why() -> None:
    """Nothing in common: the server's alert arrives before the connection ends."""
    near, far = await sockets()
    context = process_identity().server_context(["h2"])
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    theirs_context = process_identity().client_context(["h2"])
    theirs_context.maximum_version = ssl.TLSVersion.TLSv1_2
    ours = TlsStream(near, context, server_side=True)
    theirs = trio.SSLStream(far, theirs_context, server_hostname="aelf")

    async def fail() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await ours.do_handshake()
        await near.aclose()

    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await theirs.do_handshake()
        assert "ALERT" in str(caught.value.__cause__)
