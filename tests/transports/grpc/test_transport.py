"""The grpc transport itself: which h2 it takes, TLS or not, and that its parts fit together."""

import logging

import h2
import pytest
import trio

from aelf_p2p.contracts import IncomingCall
from aelf_p2p.core.errors import ConnectionLostError, DeadlineExceededError, MisuseError
from aelf_p2p.transports.grpc.transport import GrpcTransport, check_h2_version
from aelf_p2p.transports.net.limits import WireLimits
from aelf_p2p.wire.methods import PING


@pytest.mark.parametrize("version", ["4.4.1", "4.4.10", "4.5.0", "4.10", "5.0.0", "4.4.1.post1"])
def test_an_h2_that_holds_floods_off(version: str) -> None:
    check_h2_version(version)


@pytest.mark.parametrize("version", ["3.2.0", "4.0.0", "4.4.0", "4.4", "2.6.2"])
def test_an_h2_that_is_too_old(version: str) -> None:
    with pytest.raises(MisuseError, match=rf"h2 4\.4\.1 or newer, not {version}"):
        check_h2_version(version)


def test_the_transport_looks_at_its_h2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h2, "__version__", "3.2.0")
    with pytest.raises(MisuseError, match=r"not 3\.2\.0"):
        GrpcTransport()


def test_only_insecure_warns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        GrpcTransport()
        assert not caplog.records
        GrpcTransport(insecure=True)
    assert ["without TLS" in record.getMessage() for record in caplog.records] == [True]


async def echo(call: IncomingCall) -> None:
    assert call.metadata == {"k": "v"}
    assert call.caller.host == "127.0.0.1"
    await call.stream.send_many(await call.stream.receive_many())


@pytest.mark.parametrize("insecure", [True, False])
async def test_a_call_over_a_socket(insecure: bool) -> None:
    transport = GrpcTransport(insecure=insecure)
    async with trio.open_nursery() as nursery:
        endpoint = await nursery.start(transport.serve, "127.0.0.1", 0, echo)
        async with transport.dial(endpoint, timeout_s=5) as channel:
            reply = await channel.call(PING, b"ping", metadata={"k": "v"}, timeout_s=5)
        assert reply == b"ping"
        nursery.cancel_scope.cancel()


async def test_without_tls_nobody_speaks_to_a_node_with_it() -> None:
    bare = GrpcTransport(insecure=True)
    secure = GrpcTransport(limits=WireLimits(stranger_timeout_s=1))
    async with trio.open_nursery() as nursery:
        endpoint = await nursery.start(secure.serve, "127.0.0.1", 0, echo)
        async with bare.dial(endpoint, timeout_s=5) as channel:
            with pytest.raises((ConnectionLostError, DeadlineExceededError)):
                await channel.call(PING, b"ping", metadata={}, timeout_s=5)
        nursery.cancel_scope.cancel()


async def test_more_connections_than_allowed_are_not_accepted() -> None:
    transport = GrpcTransport(insecure=True, limits=WireLimits(max_connections=1))
    async with trio.open_nursery() as nursery:
        endpoint = await nursery.start(transport.serve, "127.0.0.1", 0, echo)
        async with transport.dial(endpoint, timeout_s=5) as first:
            await first.call(PING, b"", metadata={"k": "v"}, timeout_s=5)
            async with transport.dial(endpoint, timeout_s=5) as second:
                with pytest.raises(ConnectionLostError):
                    await second.call(PING, b"", metadata={"k": "v"}, timeout_s=5)
            await first.call(PING, b"", metadata={"k": "v"}, timeout_s=5)
        nursery.cancel_scope.cancel()


async def test_a_body_that_fails_raises_its_own_error() -> None:
    transport = GrpcTransport(insecure=True)
    async with trio.open_nursery() as nursery:
        endpoint = await nursery.start(transport.serve, "127.0.0.1", 0, echo)
        with pytest.raises(KeyError):
            async with transport.dial(endpoint, timeout_s=5):
                raise KeyError
        nursery.cancel_scope.cancel()
