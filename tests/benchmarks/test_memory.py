"""Memory by peers: what is counted; and idle peers of a node."""

import pytest
import trio

from aelf_p2p import NetworkOptions
from benchmarks.memory import Grown
from benchmarks.memory_peers import IdlePeers
from benchmarks.memory_use import peak_bytes, resident_bytes
from benchmarks.our_nodes import our_node
from benchmarks.transports import make_transport
from benchmarks.workload import TransactionSource


def test_what_comes_with_the_first_peer_is_not_counted() -> None:
    grown = Grown("ours", tls=True, resident={0: 50_000_000, 1: 60_000_000, 101: 70_000_000})
    assert grown.kb_a_peer(101) == 100.0
    found = [(row.figure, row.parameters["peers"], row.median) for row in grown.rows()]
    assert found == [
        ("memory", 0, 50.0),
        ("memory", 1, 60.0),
        ("memory", 101, 70.0),
        ("memory a peer", 101, 100.0),
    ]


def test_what_is_in_use_is_counted_and_its_peak_stays() -> None:
    before = resident_bytes()
    held = bytearray(b"x" * 50_000_000)
    assert resident_bytes() - before > 40_000_000
    del held
    assert peak_bytes() - before > 40_000_000


@pytest.mark.parametrize("transport", ["grpc", "tcp"])
async def test_idle_peers_are_ready_and_answer_a_broadcast(transport: str) -> None:
    options = NetworkOptions(max_peers=0)
    wire = make_transport(transport, options, tls=True)
    async with our_node(wire, options) as node, trio.open_nursery() as nursery:
        peers = IdlePeers(wire, node.endpoint.port, nursery)
        assert await peers.grow(2) == 2
        assert await peers.grow(5) == 5
        assert len(node.peers()) == 5
        (transaction,) = TransactionSource(300).take(1)
        assert node.network.broadcast_transaction(transaction).queued == 5
        assert await peers.wait_acknowledged(5) == 5
        nursery.cancel_scope.cancel()
