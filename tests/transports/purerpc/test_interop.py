"""Our grpc transport and purerpc's talk to each other, as nodes of two environments."""

import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from aelf_p2p import DeliveryState, Endpoint, Node, PureRpcTransport, TransactionsReceived
from aelf_p2p.contracts import CallHandler, IncomingCall, OnFault, ignore_fault
from aelf_p2p.transports.net import messages
from tests.services.support import identity
from tests.transports.purerpc.told_node import OPTIONS, WAIT_S, do, told_node, transaction

ROOT = Path(__file__).parents[3]
PYTHON = os.environ.get("AELF_P2P_GRPC_PYTHON")
"""Of an environment where our grpc transport runs; ``make test-purerpc`` sets it."""

OURS, THEIRS = 1, 2
NEW, OLD = "1.12.3.0", "1.3.0.0"
"""Peers of a new node are streams; an old one is asked, and asks, by unary calls."""


class Recorded(PureRpcTransport):
    """Keeps the methods that are called here."""

    def __init__(self, *, insecure: bool) -> None:
        super().__init__(options=OPTIONS, insecure=insecure)
        self.called: list[str] = []

    async def serve(
        self,
        host: str,
        port: int,
        handler: CallHandler,
        *,
        on_fault: OnFault = ignore_fault,
        task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async def record(call: IncomingCall) -> None:
            self.called.append(call.method.name)
            await handler(call)

        await super().serve(host, port, record, on_fault=on_fault, task_status=task_status)


class GrpcNode:
    """The node of the other environment."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self._buffer = b""
        self._told: list[dict[str, Any]] = []

    async def hear(self, key: str, value: object = None) -> dict[str, Any]:
        """The next line with that key, and that value; others are kept for later."""
        while True:
            for at, told in enumerate(self._told):
                if key in told and value in (None, told[key]):
                    return self._told.pop(at)
            received = await self._stdout.receive_some()
            assert received, f"the other node ended before it told {key}"
            *lines, self._buffer = (self._buffer + received).split(b"\n")
            self._told += map(json.loads, lines)

    async def do(self, what: str, **arguments: object) -> dict[str, Any]:
        await self._stdin.send_all(json.dumps({"do": what, **arguments}).encode() + b"\n")
        return await self.hear("did", what)


@asynccontextmanager
async def grpc_node(version: str, *, insecure: bool) -> AsyncIterator[tuple[GrpcNode, str]]:
    """It, and where it listens; ended by the end of its stdin."""
    assert PYTHON, "AELF_P2P_GRPC_PYTHON names no Python: see make test-purerpc"
    process = await trio.lowlevel.open_process(
        [PYTHON, "-W", "error", "-m", "tests.transports.purerpc.told_node"]
        + ["--transport", "grpc", "--key", str(THEIRS), "--node-version", version]
        + ["--insecure"] * insecure,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests/foreign'}"},
    )
    try:
        node = GrpcNode(process)
        yield node, (await node.hear("endpoint"))["endpoint"]
        assert process.stdin is not None
        await process.stdin.aclose()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for pipe in process.stdin, process.stdout:
                if pipe is not None:
                    await pipe.aclose()


@asynccontextmanager
async def connected(
    version: str, direction: str, *, insecure: bool
) -> AsyncIterator[tuple[Node, GrpcNode, list[str]]]:
    """Both nodes, each with the other as its peer; and the methods that ours was called by."""
    transport = Recorded(insecure=insecure)
    with trio.fail_after(6 * WAIT_S):
        async with (
            grpc_node(version, insecure=insecure) as (theirs, endpoint),
            told_node(transport, key=OURS, version=version) as ours,
        ):
            if direction == "purerpc dials":
                await ours.connect(endpoint)
                await theirs.hear("met", ours.public_key.hex())
            else:
                with ours.subscribe() as events:
                    await theirs.do("connect", to=str(ours.endpoint))
                    async for _ in events:
                        if ours.peers():
                            break
            [peer] = ours.peers()
            assert peer.info.public_key == identity(THEIRS).public_key
            assert peer.info.uses_stream == (version == NEW)
            yield ours, theirs, transport.called


both_ways = pytest.mark.parametrize("direction", ["purerpc dials", "grpc dials"])
plain_and_tls = pytest.mark.parametrize("insecure", [True, False], ids=["plain", "tls"])


@both_ways
@plain_and_tls
async def test_nodes_talk_on_a_stream(direction: str, insecure: bool) -> None:
    async with connected(NEW, direction, insecure=insecure) as (ours, theirs, called):
        assert ("RequestByStream" in called) == (direction == "grpc dials")
        for number in range(5):
            told = await do(ours, {"do": "broadcast", "number": number})
            assert told["acknowledged"]
            await theirs.hear("received", transaction(number).id.hex())
        with ours.subscribe() as events:
            for number in range(5, 10):
                assert (await theirs.do("broadcast", number=number))["acknowledged"]
                async for event in events:
                    if isinstance(event, TransactionsReceived):
                        assert [each.id for each in event.transactions] == [transaction(number).id]
                        break
        heights = [4, 5, 6, 7, 8]
        told = await do(ours, {"do": "blocks", "after": 3, "count": 5})
        assert told["heights"] == heights
        assert (await theirs.do("blocks", after=3, count=5))["heights"] == heights


@both_ways
@plain_and_tls
async def test_nodes_talk_by_unary_calls(
    direction: str, insecure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gzipped: list[int] = []

    class Body(messages._GzipBody):
        def __init__(self, length: int, *arguments: Any) -> None:
            gzipped.append(length)
            super().__init__(length, *arguments)

    monkeypatch.setattr(messages, "_GzipBody", Body)
    async with connected(OLD, direction, insecure=insecure) as (ours, theirs, called):
        # Nothing is acknowledged here; what arrives is told.
        with ours.network.record_receipts(1) as book:
            ours.network.broadcast_transaction(transaction(1))
            await theirs.hear("received", transaction(1).id.hex())
            [receipt] = book
            assert receipt.count(DeliveryState.SENT) == 1
        heights = [4, 5, 6, 7, 8]
        assert gzipped == []
        told = await do(ours, {"do": "blocks", "after": 3, "count": 5})
        assert told["heights"] == heights
        assert len(gzipped) == 1  # as C# does, the server compresses the reply
        called.clear()
        assert (await theirs.do("blocks", after=3, count=5))["heights"] == heights
        assert called == ["RequestBlocks"]
        assert (await do(ours, {"do": "block", "height": 3}))["heights"] == [3]
        assert (await theirs.do("block", height=3))["heights"] == [3]
        assert called == ["RequestBlocks", "RequestBlock"]
