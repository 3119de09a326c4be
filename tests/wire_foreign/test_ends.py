"""How a connection ends when one side stops or dies: what the other sees, and how soon."""

from contextlib import AsyncExitStack
from functools import partial

import grpc  # type: ignore[import-untyped]
import pytest
import trio

from aelf_p2p import CloseReason, PeerDisconnected
from tests.wire_foreign.journal import WAIT_S
from tests.wire_foreign.relay import Relay
from tests.wire_foreign.support import (
    foreign_dials,
    in_thread,
    open_foreign,
    open_ours,
    ours_dials,
    threaded,
    wait_event,
)

GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_a_foreign_dialer_sees_ours_stop() -> None:
    async with open_foreign() as foreign, AsyncExitStack() as later:
        async with open_ours() as node:
            dial = await later.enter_async_context(
                threaded(partial(foreign.dial, node.endpoint.port))
            )
            stream = await in_thread(dial.connect)
            # A dialer that neither answers the goodbye nor closes.
            silent = await later.enter_async_context(
                threaded(partial(foreign.dial, node.endpoint.port))
            )
            await in_thread(silent.call, "Ping", metadata={})
            unused = silent.open_stream()
            stopping = trio.current_time()
        assert await in_thread(stream.disconnected.wait, WAIT_S)
        assert await in_thread(stream.ended.result, WAIT_S) is grpc.StatusCode.OK
        assert await in_thread(unused.ended.result, WAIT_S) in GONE
        assert trio.current_time() - stopping < 4
        for each in (dial, silent):
            with pytest.raises(grpc.RpcError) as caught:
                await in_thread(each.call, "Ping", metadata={}, timeout_s=1)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_foreign_acceptor_sees_ours_stop() -> None:
    async with open_foreign() as foreign:
        async with open_ours() as node, ours_dials(node, foreign) as connection:
            stopping = trio.current_time()
        assert await in_thread(connection.stream.disconnected.wait, WAIT_S)
        assert await in_thread(connection.stream.ended.result, WAIT_S) is grpc.StatusCode.OK
        assert trio.current_time() - stopping < 4


@pytest.mark.fault(4)
@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_ours_sees_a_foreign_acceptor_die(reset: bool) -> None:
    async with (
        open_foreign() as foreign,
        open_ours() as node,
        threaded(partial(Relay, foreign.port)) as relay,
        ours_dials(node, foreign, port=relay.port) as connection,
    ):
        await in_thread(relay.cut, reset=reset)
        gone = await wait_event(connection.events, PeerDisconnected, timeout_s=4)
        assert gone.reason is CloseReason.LOST


@pytest.mark.fault(4)
@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_ours_sees_a_foreign_dialer_die(reset: bool) -> None:
    async with (
        open_foreign() as foreign,
        open_ours() as node,
        threaded(partial(Relay, node.endpoint.port)) as relay,
        foreign_dials(node, foreign, port=relay.port) as (connection, _),
    ):
        await in_thread(relay.cut, reset=reset)
        await wait_event(connection.events, PeerDisconnected, timeout_s=4)
        assert node.peers() == []


async def test_ours_sees_a_foreign_dialer_close_its_channel() -> None:
    async with (
        open_foreign() as foreign,
        open_ours() as node,
        foreign_dials(node, foreign) as (connection, dial),
    ):
        await in_thread(dial.close)
        await wait_event(connection.events, PeerDisconnected, timeout_s=4)
        assert node.peers() == []


async def test_a_dialer_that_is_gone_is_lost() -> None:
    async with (
        open_foreign() as foreign,
        open_ours() as node,
        foreign_dials(node, foreign) as (connection, dial),
    ):
        await in_thread(dial.close)
        gone = await wait_event(connection.events, PeerDisconnected)
        assert gone.reason is CloseReason.LOST


async def test_ours_sees_a_foreign_acceptor_stop_at_once() -> None:
    async with (
        open_foreign() as foreign,
        open_ours() as node,
        ours_dials(node, foreign) as connection,
    ):
        foreign.server.stop()
        gone = await wait_event(connection.events, PeerDisconnected, timeout_s=4)
        # GOAWAY and the stream's end come one right after the other.
        assert gone.reason in (CloseReason.DISCONNECTED_BY_PEER, CloseReason.LOST)


async def test_ours_does_not_keep_a_foreign_acceptor_that_stops_from_it() -> None:
    """At its stop a C# node says GOAWAY and waits for open streams (protocol §3.4)."""
    async with (
        open_foreign() as foreign,
        open_ours() as node,
        ours_dials(node, foreign) as connection,
    ):
        stopped = foreign.server.stop(grace_s=60)
        gone = await wait_event(connection.events, PeerDisconnected, timeout_s=4)
        assert gone.reason is CloseReason.DISCONNECTED_BY_PEER
        assert await in_thread(stopped.wait, WAIT_S)
