"""Sends that do not wait, over a socket whose other end reads when it is told to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from aelf_p2p.transports.net.eager_stream import EagerStream, SendsNowait
from aelf_p2p.transports.net.tls import process_identity
from aelf_p2p.transports.net.tls_stream import TlsStream

KIB = 1024
Pair = tuple[EagerStream | TlsStream, EagerStream | TlsStream]


@asynccontextmanager
async def pair(*, tls: bool) -> AsyncIterator[Pair]:
    one, other = trio.socket.socketpair()
    near, far = trio.SocketStream(one), trio.SocketStream(other)
    async with near, far:
        if not tls:
            yield EagerStream(near), EagerStream(far)
            return
        identity = process_identity()
        client = TlsStream(near, identity.client_context([]), server_hostname="aelf")
        server = TlsStream(far, identity.server_context([]), server_side=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            nursery.start_soon(server.do_handshake)
        yield client, server


async def read(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await stream.receive_some()
        assert piece
        data += piece
    return data


@pytest.mark.parametrize("tls", [False, True])
async def test_it_is_there_without_a_turn(tls: bool) -> None:
    async with pair(tls=tls) as (ours, theirs):
        assert isinstance(ours, SendsNowait)
        assert ours.send_nowait(b"at ")
        assert ours.send_nowait(b"once")
        assert await theirs.receive_some() == b"at once"


@pytest.mark.parametrize("tls", [False, True])
async def test_what_there_was_no_room_for_goes_first(tls: bool) -> None:
    pieces = [bytes([number]) * 64 * KIB for number in range(256)]
    async with pair(tls=tls) as (ours, theirs), trio.open_nursery() as nursery:
        sent = 0
        while ours.send_nowait(pieces[sent]):
            sent += 1
        assert 0 < sent < 200
        assert not ours.send_nowait(pieces[sent + 1])  # there is still no room
        nursery.start_soon(ours.send_all, b"the end")
        expected = b"".join(pieces[: sent + 2]) + b"the end"
        assert await read(theirs, len(expected)) == expected
        await trio.testing.wait_all_tasks_blocked()
        assert ours.send_nowait(b"room again")
        assert await theirs.receive_some() == b"room again"


@pytest.mark.parametrize("tls", [False, True])
async def test_whoever_is_gone_is_an_error(tls: bool) -> None:
    async with pair(tls=tls) as (ours, theirs):
        await theirs.aclose()
        with pytest.raises(trio.BrokenResourceError):
            ours.send_nowait(b"anyone?")
        await ours.aclose()
        with pytest.raises(trio.BrokenResourceError):
            ours.send_nowait(b"anyone?")
