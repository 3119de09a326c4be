"""One node of a devnet, as a process: ``aelf-p2p run`` with a driver at its pipes.

python -m aelf_p2p.ops.devnet.child [options of aelf-p2p run]
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict

import trio

from aelf_p2p.chain.kernel import MinimalKernel
from aelf_p2p.contracts import Peer
from aelf_p2p.core.errors import AelfP2PError
from aelf_p2p.core.identity import Identity
from aelf_p2p.core.kernel_events import BlockAccepted, TransactionAccepted
from aelf_p2p.core.network_events import PeerConnected
from aelf_p2p.core.single_error import each_error
from aelf_p2p.core.transaction import Transaction
from aelf_p2p.node import Node
from aelf_p2p.ops.arguments import Parser
from aelf_p2p.ops.devnet.messages import Lines, Status
from aelf_p2p.ops.exit_status import DONE, FAILED
from aelf_p2p.ops.logs import add_log_level, configure_logging
from aelf_p2p.ops.node_options import add_node_options, open_described_node
from aelf_p2p.ops.output import drop_unwritten, say, tell
from aelf_p2p.ops.passwords import identity_of
from aelf_p2p.ops.run import listening_line
from aelf_p2p.ops.signals import Ending, ended_by_signals
from aelf_p2p.services.events import Subscription
from aelf_p2p.testing.simulation import ANY_REF_BLOCK

STATUS_PERIOD_S = 0.25


def main() -> int:
    """Run the node until a signal or the end of stdin ends it; returns the exit status."""
    parser = Parser(prog="devnet node")
    add_node_options(parser)
    add_log_level(parser)
    options = parser.parse_args()
    configure_logging(options.log_level)
    status = DONE
    try:
        with ended_by_signals() as ending:
            trio.run(_live, options, identity_of(options), ending)
    except* AelfP2PError as group:
        for error in each_error(group):
            say(f"devnet node: {error}")
        status = FAILED
    finally:
        drop_unwritten()
    return status


async def _live(options: argparse.Namespace, identity: Identity, ending: Ending) -> None:
    with ending.cancels():
        await _obey_driver(options, identity)


async def _obey_driver(options: argparse.Namespace, identity: Identity) -> None:
    async with (
        open_described_node(options, identity, max_ref_block_ahead=ANY_REF_BLOCK) as node,
        trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as commands,
        trio.open_nursery() as nursery,
    ):
        with node.subscribe() as events:
            tell(listening_line(node))
            nursery.start_soon(_tell_status, node)
            nursery.start_soon(_tell_events, events)
            await _obey(Lines(commands), node, identity)
            nursery.cancel_scope.cancel()


async def _obey(commands: Lines, node: Node, identity: Identity) -> None:
    """Do what the driver says, until it is gone."""
    kernel = node.kernel
    assert isinstance(kernel, MinimalKernel)
    while command := await commands.receive():
        match command:
            case {"command": "mine"}:
                await kernel.mine_block(identity)
            case {"command": "submit", "transaction": raw}:
                kernel.submit_transaction(Transaction.parse_untrusted(bytes.fromhex(raw)))


async def _tell_events(events: Subscription) -> None:
    async for event in events:
        match event:
            case PeerConnected(peer) if not peer.inbound:
                _tell("dialed")
            case TransactionAccepted(transaction):
                _tell("transaction", id=transaction.id.hex())
            case BlockAccepted(block):
                _tell(
                    "block",
                    height=block.height,
                    hash=block.hash.hex(),
                    made_ns=block.time_ns,
                    at_ns=time.time_ns(),
                )


async def _tell_status(node: Node) -> None:
    counted: dict[Peer, tuple[int, int]] = {}  # of those that have left, too
    while True:
        queued = 0
        for peer in node.peers():
            statistics = peer.statistics()
            queued += statistics.queued_blocks
            queued += statistics.queued_announcements + statistics.queued_transactions
            counted[peer] = (
                sum(statistics.acknowledged.values()),
                sum(statistics.dropped.values()),
            )
        status = Status(
            height=node.store.status.best_height,
            tip=node.store.status.best_hash.hex(),
            peers=len(node.peers()),
            queued=queued,
            acknowledged=sum(acknowledged for acknowledged, _ in counted.values()),
            lost=sum(lost for _, lost in counted.values()),
        )
        _tell("status", **asdict(status))
        await trio.sleep(STATUS_PERIOD_S)


def _tell(event: str, **content: object) -> None:
    tell(json.dumps({"event": event, **content}))


if __name__ == "__main__":
    sys.exit(main())
