"""The purerpc transport itself: when it can be used, and TLS."""

import logging
import subprocess
import sys
from importlib import metadata

import pytest

from aelf_p2p import ConnectionLostError, MisuseError, WireLimits
from aelf_p2p.contracts import IncomingCall
from aelf_p2p.transports.purerpc import PureRpcTransport
from aelf_p2p.wire.methods import PING
from tests.transports.purerpc.support import WAIT_S, echo, serving

# --- whether it can be used -----------------------------------------------------------------------


def test_purerpc_is_imported_when_it_is_used() -> None:
    program = """
import sys
from aelf_p2p import PureRpcTransport
from aelf_p2p.ops import cli
assert not {"purerpc", "anyio"} & set(sys.modules)
PureRpcTransport()
assert "purerpc" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("purerpc", None, r"needs the package purerpc: install aelf-p2p\[purerpc\]"),
        ("anyio", None, r"needs the package anyio: install aelf-p2p\[purerpc\]"),
        ("purerpc", "0.7.1", r"needs purerpc 0\.8 or newer, not 0\.7\.1: install"),
        ("anyio", "3.7.1", r"needs anyio 4 or newer, not 3\.7\.1: install"),
        ("h2", "3.0.1", r"needs h2 3\.1 or newer, not 3\.0\.1: install"),
        ("h2", "4.4.1", r"needs h2 below 4, not 4\.4\.1: .* in an environment of its own"),
    ],
)
def test_a_package_that_is_missing_or_another(
    name: str, version: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = metadata.version

    def version_of(asked: str) -> str:
        if asked != name:
            return found(asked)
        if version is None:
            raise metadata.PackageNotFoundError(asked)
        return version

    monkeypatch.setattr(metadata, "version", version_of)
    with pytest.raises(MisuseError, match=message):
        PureRpcTransport()


def test_something_that_purerpc_needs_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "aelf_p2p.transports.purerpc.binding", raising=False)
    monkeypatch.setitem(sys.modules, "purerpc.grpc_socket", None)
    with pytest.raises(MisuseError, match=r"cannot be used: .*purerpc\.grpc_socket"):
        PureRpcTransport()


def test_a_window_that_callers_may_overrun_at_once() -> None:
    with pytest.raises(MisuseError, match="call_window_bytes must be at least 65535"):
        PureRpcTransport(limits=WireLimits(call_window_bytes=65_534))


def test_only_insecure_warns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        PureRpcTransport()
        assert not caplog.records
        PureRpcTransport(insecure=True)
    assert ["without TLS" in record.getMessage() for record in caplog.records] == [True]


# --- TLS ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("insecure", [True, False])
async def test_both_sides_see_one_certificate(insecure: bool) -> None:
    seen: list[bytes | None] = []

    async def handle(call: IncomingCall) -> None:
        seen.append(call.certificate_hash)
        await echo(call)

    async with (
        serving(handle, insecure=insecure) as endpoint,
        PureRpcTransport(insecure=insecure).dial(endpoint, timeout_s=WAIT_S) as channel,
    ):
        assert await channel.call(PING, b"x", metadata={}, timeout_s=WAIT_S) == b"x"
        assert seen == [channel.certificate_hash]
        assert (channel.certificate_hash is None) == insecure


async def test_without_tls_nobody_speaks_to_a_node_with_it() -> None:
    async with serving(echo, insecure=False) as endpoint:
        with pytest.raises(ConnectionLostError):
            async with PureRpcTransport(insecure=True).dial(endpoint, timeout_s=WAIT_S) as channel:
                await channel.call(PING, b"", metadata={}, timeout_s=WAIT_S)
    async with serving(echo) as endpoint:
        with pytest.raises(ConnectionLostError, match="no TLS with"):
            async with PureRpcTransport().dial(endpoint, timeout_s=WAIT_S):
                pytest.fail("it connected")
