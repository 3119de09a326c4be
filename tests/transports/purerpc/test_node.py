"""Whole nodes on purerpc: in one process, and as processes of their own."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from aelf_p2p import (
    Block,
    BlockAccepted,
    MemoryChainStore,
    MinimalKernel,
    NetworkOptions,
    Node,
    PureRpcTransport,
    TransactionAccepted,
    open_node,
)
from tests.ops.processes import PROGRAM
from tests.services.support import identity, make_transaction

WAIT_S = 20.0


async def wait_for(node: Node, kind: type, happened: Callable[[], bool]) -> None:
    with node.subscribe() as events:
        if happened():
            return
        async for event in events:
            if isinstance(event, kind) and happened():
                return


async def test_a_network_in_one_process() -> None:
    """A line of five nodes: what one end broadcasts and mines comes to the other."""
    options = NetworkOptions(dial_private=True)
    transport = PureRpcTransport(options=options)
    nodes: list[Node] = []
    kernels: list[MinimalKernel] = []
    stores: list[MemoryChainStore] = []
    with trio.fail_after(3 * WAIT_S):
        async with AsyncExitStack() as opened:
            for number in range(5):
                stores.append(MemoryChainStore())
                kernels.append(MinimalKernel(stores[-1], chain_id="AELF"))
                node = open_node(
                    identity=identity(number + 1),
                    transport=transport,
                    host="127.0.0.1",
                    port=0,
                    store=stores[-1],
                    kernel=kernels[-1],
                    boot_nodes=[nodes[-1].endpoint] if nodes else [],
                    options=options,
                )
                nodes.append(await opened.enter_async_context(node))
                await nodes[-1].wait_initialized()
            transactions = [make_transaction(number) for number in range(20)]
            seen: set[bytes] = set()
            with nodes[-1].subscribe() as events:
                for each in transactions:
                    kernels[0].submit_transaction(each)
                async for event in events:
                    if isinstance(event, TransactionAccepted):
                        seen.add(event.transaction.id)
                    if len(seen) == len(transactions):
                        break
            mined: list[Block] = [await kernels[0].mine_block(identity(1)) for _ in range(3)]
            await wait_for(
                nodes[-1], BlockAccepted, lambda: stores[-1].status.best_hash == mined[-1].hash
            )
        assert not any(node.peers() for node in nodes)


@pytest.mark.parametrize("insecure", [True, False], ids=["plain", "tls"])
def test_a_network_of_processes(insecure: bool, tmp_path: Path) -> None:
    """One joins late, one is killed and comes back; at the end all hold one chain."""
    size = ["--nodes", "4", "--blocks", "12", "--block-interval", "0.02"]
    where = ["--transport", "purerpc", "--data", str(tmp_path / "data")]
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, "devnet", *size, *where, *["--insecure"] * insecure],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.startswith("4 nodes over purerpc, 12 blocks")
