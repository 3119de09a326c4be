"""A relay on real sockets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from aelf_p2p.ops.perturb.relay import Relay

WAIT_S = 30.0


class Target:
    """What a relay leads to: it repeats what comes, and ends when the other side does."""

    def __init__(self) -> None:
        self.address: str | None = None
        self.ends: list[str] = []
        """How each connection ended, as seen from here."""
        self.ended = trio.Event()

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.address = "{}:{}".format(*listener.socket.getsockname())
        task_status.started()
        await trio.serve_listeners(self._repeat, [listener])

    async def _repeat(self, stream: trio.SocketStream) -> None:
        try:
            async for data in stream:
                await stream.send_all(data)
            self.ends.append("end")
        except trio.BrokenResourceError:
            self.ends.append("reset")
        self.ended.set()


@asynccontextmanager
async def relayed() -> AsyncIterator[tuple[Relay, Target]]:
    target = Target()
    relay = Relay(lambda: target.address)
    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(target.serve)
            await nursery.start(relay.serve)
            yield relay, target
            nursery.cancel_scope.cancel()


async def dial(relay: Relay) -> trio.SocketStream:
    host, port = relay.address.split(":")
    return await trio.open_tcp_stream(host, int(port))


async def ask(stream: trio.SocketStream, data: bytes) -> bytes:
    """What comes back for what is sent."""
    answer = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, data)
        while len(answer) < len(data):
            answer += await stream.receive_some()
    return answer


async def expect_reset(stream: trio.SocketStream) -> None:
    async with stream:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def expect_no_way(relay: Relay) -> None:
    """Reset, before or after who dials knows that it was connected."""
    with pytest.raises((trio.BrokenResourceError, OSError)):
        await dial_and_receive(relay)


async def dial_and_receive(relay: Relay) -> None:
    async with await dial(relay) as stream:
        await stream.receive_some()


async def test_bytes_and_ends_are_passed_on() -> None:
    async with relayed() as (relay, target), await dial(relay) as stream:
        large = bytes(range(256)) * 4000
        assert await ask(stream, large) == large
        await stream.send_eof()
        assert await stream.receive_some() == b""
        assert target.ends == ["end"]


async def test_a_reset_is_passed_on() -> None:
    async with relayed() as (relay, target), relay_between(relay) as between:
        stream = await dial(between)
        assert await ask(stream, b"before") == b"before"
        with between.cut():  # a reset, as the other relay sees it
            await target.ended.wait()
        assert target.ends == ["reset"]
        await expect_reset(stream)


@asynccontextmanager
async def relay_between(relay: Relay) -> AsyncIterator[Relay]:
    before = Relay(lambda: relay.address)
    async with trio.open_nursery() as nursery:
        await nursery.start(before.serve)
        yield before
        nursery.cancel_scope.cancel()


async def test_what_is_cut_is_reset_and_nothing_comes_through() -> None:
    async with relayed() as (relay, target):
        stream = await dial(relay)
        assert await ask(stream, b"before") == b"before"
        with relay.cut():
            await expect_reset(stream)
            await target.ended.wait()
            assert target.ends == ["reset"]
            with relay.cut():  # from its other end, too
                await expect_no_way(relay)
            await expect_no_way(relay)
        async with await dial(relay) as stream:
            assert await ask(stream, b"after") == b"after"
        assert target.ends[:1] == ["reset"]


async def test_it_leads_nowhere_while_there_is_no_target() -> None:
    async with relayed() as (relay, target):
        address, target.address = target.address, None
        await expect_no_way(relay)
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener:
            target.address = "{}:{}".format(*listener.socket.getsockname())
        await expect_no_way(relay)  # nobody listens there any more
        target.address = address
        async with await dial(relay) as stream:
            assert await ask(stream, b"now") == b"now"


async def test_its_end_resets_what_it_holds() -> None:
    async with relayed() as (_, target), trio.open_nursery() as nursery:
        relay = Relay(lambda: target.address)
        await nursery.start(relay.serve)
        stream = await dial(relay)
        assert await ask(stream, b"before") == b"before"
        nursery.cancel_scope.cancel()
    await expect_reset(stream)
